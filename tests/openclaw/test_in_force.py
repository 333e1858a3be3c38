"""What a gateway has in force, beside its saved config: each difference is named with the command that ends it."""

from __future__ import annotations

from typing import Any

import pytest

from flux2_tool.credentials import DEFAULT_BASE_URL, URL_VARIABLE
from flux2_tool.openclaw.gateway_report import AccountReport, KeyReport, PluginReport
from flux2_tool.openclaw.in_force import address_in_use, differences, in_force_text, unknown_problems
from flux2_tool.schema.manifest import load_manifest

MANIFEST = load_manifest()
CONFIG = "plugins.entries.flux2.config"
RELOAD = "openclaw plugins reload flux2 --accept-capabilities"
SECRET = "c2VjcmV0"


def told(saved: dict[str, Any], **report: Any) -> list[tuple[str, str]]:
    """Return the message and the command of each difference."""
    found = differences(PluginReport(**report), saved, MANIFEST)
    return [(problem.message, problem.fix) for problem in found]


def test_equal_settings_and_defaults_that_are_filled_in_are_no_difference() -> None:
    """OpenClaw's `config get` shows the defaults, and the plugin only what is set."""
    assert told({"daily_cap_usd": 5, "wait_s": 9}, settings={"wait_s": 9}) == []


def test_a_plugin_that_does_not_say_is_not_judged() -> None:
    """An earlier version reports no settings."""
    assert told({"wait_s": 9}) == []


@pytest.mark.parametrize(
    ("live", "saved", "message"),
    [
        pytest.param(
            {}, {"daily_cap_usd": 1}, f"{CONFIG}.daily_cap_usd is 1, but 5 is in force in the gateway", id="cap"
        ),
        pytest.param({"wait_s": 9}, {}, f"{CONFIG}.wait_s is unset, but 9 is in force in the gateway", id="unset"),
        pytest.param(
            {"callback_secret": None},
            {"callback_secret": SECRET},
            f"{CONFIG}.callback_secret is saved but not in force, or the reverse",
            id="secret",
        ),
    ],
)
def test_a_value_that_is_not_in_force_is_named_and_a_reload_ends_it(
    live: dict[str, Any], saved: dict[str, Any], message: str
) -> None:
    """A secret by its name alone."""
    assert told(saved, settings=live) == [(message, RELOAD)]


def test_masked_secrets_and_references_are_not_compared() -> None:
    """Neither side shows the value: one is stars, the other is filled in by OpenClaw."""
    live = {"callback_secret": SECRET, "base_url": "https://runapi.example"}
    assert told({"callback_secret": "__OPENCLAW_REDACTED__", "base_url": "${RUNAPI_BASE_URL}"}, settings=live) == []


def test_a_guard_that_the_config_lost_is_named_with_both_ways_out() -> None:
    """To set it again, or to go without on purpose."""
    [(message, fix)] = told({}, settings={"max_image_usd": 0.1}, kept=["max_image_usd"])

    assert message == f"{CONFIG}.max_image_usd is gone from the config; 0.1 stays in force, as it was last"
    assert fix.startswith(f"openclaw config set {CONFIG}.max_image_usd '0.1'")
    assert "flux2-tool openclaw install --accept-looser-settings" in fix


def test_what_only_a_reload_changes_is_named() -> None:
    """OpenClaw reads what its own image tool offers once."""
    [(message, fix)] = told({}, settings={}, needs_reload=["tiers"])

    assert "image_generate still offers what tiers was" in message
    assert fix == RELOAD


@pytest.mark.parametrize(
    ("name", "ends", "fix"),
    [
        pytest.param(
            "dayly_cap_usd",
            "is not a setting (nearest: daily_cap_usd); it may be meant to guard money, so no image is made",
            f"openclaw config set {CONFIG}.daily_cap_usd VALUE, then: openclaw config unset {CONFIG}.dayly_cap_usd",
            id="a misspelt cap",
        ),
        pytest.param(
            "colour", "is not a setting; it has no effect", f"openclaw config unset {CONFIG}.colour", id="anything else"
        ),
    ],
)
def test_a_key_that_is_no_setting_is_named(name: str, ends: str, fix: str) -> None:
    """One that may be meant as a cap stops every new image, so it must not look harmless."""
    [problem] = unknown_problems({name: 1}, MANIFEST)

    assert problem.message == f"{CONFIG}.{name} {ends}"
    assert problem.fix == fix


KEY_SET = KeyReport(source="environment", state="set")


@pytest.mark.parametrize(
    ("running", "saved", "environ", "shown"),
    [
        pytest.param(
            PluginReport(key=KEY_SET, base_url="https://a.example/v1"),
            {},
            {},
            "https://a.example (the gateway's)",
            id="gateway",
        ),
        pytest.param(PluginReport(key=KEY_SET), {}, {}, f"{DEFAULT_BASE_URL} (the gateway's)", id="its default"),
        pytest.param(
            PluginReport(account=AccountReport(source="file")),
            {"base_url": "https://b.example/"},
            {},
            "https://b.example (the setting base_url)",
            id="an older plugin",
        ),
        pytest.param(
            "no gateway", {}, {URL_VARIABLE: "https://c.example"}, "https://c.example (seen from here)", id="shell"
        ),
        pytest.param(
            "no gateway", {"base_url": "nonsense"}, {}, f"{DEFAULT_BASE_URL} (the default)", id="nothing usable"
        ),
    ],
)
def test_the_address_says_who_says_so(
    running: PluginReport | str, saved: dict[str, Any], environ: dict[str, str], shown: str
) -> None:
    """The gateway's own word counts most: a service has another environment than this shell."""
    assert address_in_use(running, saved, environ) == shown


def test_the_guards_in_force_are_shown_in_one_line() -> None:
    """Settings that guard nothing, and what another version calls a setting, are left out."""
    assert in_force_text({"daily_cap_usd": 2, "wait_s": 9, "later_setting": 1}) == "daily_cap_usd 2"
    assert in_force_text({"wait_s": 9}) == "nothing but the defaults"
