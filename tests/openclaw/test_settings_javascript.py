"""Which settings are in force in the running plugin: OpenClaw's now, and never looser by an accident."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.openclaw.conftest import PluginHost

MakePlugin = Callable[..., Path]
STRICT = {"daily_cap_usd": 1, "spenders": "owner"}
RECORD = Path("flux2-tool") / "settings.json"
GUARDS = str(files("flux2_tool.openclaw") / "plugin" / "guards.js")


def configured(host: PluginHost, config: Mapping[str, Any]) -> None:
    """Change the plugin's config in a host that loads nothing anew for it."""
    host.ask("configure", changed={"enabled": True, "config": config})


def in_force(host: PluginHost) -> dict[str, Any]:
    """What the next call's worker has as its config."""
    found: dict[str, Any] = host.call("fox")["details"]["result"]["seen"]["hello"]["config"]
    return found


def warnings(host: PluginHost) -> list[str]:
    return [line for level, line in host.ask("logs") if level == "warn"]


def test_a_changed_setting_holds_from_the_next_call(host: PluginHost, make_plugin: MakePlugin) -> None:
    """OpenClaw refuses to load a plugin anew while a call waits, and never tries again."""
    host.register(make_plugin(), config={"daily_cap_usd": 3})
    call = host.begin("until-cancelled")
    host.wait_for_progress(call)

    configured(host, STRICT)
    bound = in_force(host)
    host.ask("abort", call=call)

    assert bound == STRICT
    assert host.ask("end", call=call)["details"]["result"]["error"]["code"] == "cancelled"
    assert host.ask("reloads") == [{"noopPrefixes": ["plugins.entries.flux2.config"]}]


@pytest.mark.parametrize(
    ("saved", "left"),
    [(["pro"], ["pro"]), (["max", "pro"], ["pro"]), (["max"], ["pro", "flex"]), (None, ["pro", "flex"])],
    ids=["fewer", "one of them", "none of them", "as many"],
)
def test_of_two_lists_of_tiers_only_what_both_have_is_stricter(
    node: str, saved: list[str] | None, left: list[str]
) -> None:
    """A dearer tier that is saved and not yet in force must not be offered sooner for it."""
    rules = json.dumps({"tiers": {"guards": "fewer", "default": ["pro", "flex"]}})
    other = json.dumps({} if saved is None else {"tiers": saved})
    script = f"const {{ strictest }} = await import({json.dumps(GUARDS)}); "
    script += f"console.log(JSON.stringify(strictest({{ tiers: ['pro', 'flex'] }}, {other}, {rules})));"

    printed = subprocess.run([node, "--input-type=module", "-e", script], capture_output=True, text=True, check=True)

    assert json.loads(printed.stdout) == {"tiers": left}


def test_a_changed_tier_is_offered_in_the_next_turn(host: PluginHost, make_plugin: MakePlugin) -> None:
    """Nothing that a model is offered may wait for a reload that does not come."""
    host.register(make_plugin(), config={})

    configured(host, {"tiers": ["flex"]})

    [first, *_] = host.ask("definitions", plugin="plugin")
    assert first["parameters"]["properties"]["model"]["enum"] == ["flux-2-flex-text-to-image"]


@pytest.mark.parametrize(
    "entry", [None, {"enabled": True}, {"enabled": False, "config": {}}], ids=["none", "no config", "disabled"]
)
def test_a_vanished_config_leaves_the_last_settings_in_force(
    host: PluginHost, make_plugin: MakePlugin, tmp_path: Path, entry: dict[str, Any] | None
) -> None:
    """One that is gone says nothing about what an operator allows: `openclaw doctor --fix` leaves such an entry."""
    host.register(make_plugin(), config={})
    configured(host, STRICT)
    in_force(host)

    host.ask("configure", **({} if entry is None else {"changed": entry}))

    assert in_force(host) == STRICT
    assert json.loads((tmp_path / RECORD).read_text()) == {"guards": STRICT}


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        pytest.param({}, STRICT, id="emptied"),
        pytest.param({"daily_cap_usd": 5, "spenders": "everyone"}, STRICT, id="filled with defaults"),
        pytest.param({"wait_s": 9}, {"wait_s": 9, **STRICT}, id="no guard left"),
        pytest.param({"daily_cap_usd": 8}, {"daily_cap_usd": 8}, id="another guard set"),
    ],
)
def test_a_config_emptied_meanwhile_keeps_what_guarded_money(
    start_host: Callable[..., PluginHost],
    make_plugin: MakePlugin,
    tmp_path: Path,
    config: dict[str, Any],
    kept: dict[str, Any],
) -> None:
    """`openclaw doctor --fix` empties the entry of a plugin; enabled again, it would spend by the defaults."""
    record = tmp_path / RECORD
    record.parent.mkdir()
    record.write_text(json.dumps({"guards": STRICT}))
    host = start_host(RUNAPI_API_KEY="sk-secret")
    host.register(make_plugin(), config=config)

    host.ask("start", plugin="plugin")

    assert in_force(host) == {**config, **kept}
    recorded = json.loads(record.read_text())["guards"]
    assert recorded == {name: value for name, value in kept.items() if name != "wait_s"}
    said = "\n".join(warnings(host))
    if kept.items() >= STRICT.items():
        assert "openclaw config set plugins.entries.flux2.config.daily_cap_usd '1'" in said
    else:
        assert "daily_cap_usd is looser than before: 8 instead of 1" in said


def test_what_is_kept_holds_until_it_is_set(
    start_host: Callable[..., PluginHost], make_plugin: MakePlugin, tmp_path: Path
) -> None:
    """Whoever restores one guard, or changes something else, has not given up the others; nor has a restart."""
    record = tmp_path / RECORD
    record.parent.mkdir()
    record.write_text(json.dumps({"guards": {**STRICT, "max_image_usd": 0.1}}))
    first = start_host(RUNAPI_API_KEY="sk-secret")
    first.register(make_plugin(), config={})
    first.ask("start", plugin="plugin")

    configured(first, {"wait_s": 9})
    assert in_force(first)["daily_cap_usd"] == 1
    configured(first, {"wait_s": 9, "daily_cap_usd": 8})
    at_first = in_force(first)
    again = start_host(RUNAPI_API_KEY="sk-secret")
    again.register(make_plugin(), config={"daily_cap_usd": 8})
    again.ask("start", plugin="plugin")
    restarted = in_force(again)
    configured(again, {"daily_cap_usd": 8, "max_image_usd": 0.2, "spenders": "everyone"})

    assert at_first == {"wait_s": 9, "daily_cap_usd": 8, "spenders": "owner", "max_image_usd": 0.1}
    assert restarted == {"daily_cap_usd": 8, "spenders": "owner", "max_image_usd": 0.1}
    assert in_force(again) == {"daily_cap_usd": 8, "max_image_usd": 0.2, "spenders": "everyone"}


def test_a_running_plugins_guards_may_be_taken_away(host: PluginHost, make_plugin: MakePlugin, tmp_path: Path) -> None:
    """Whoever edits the config of a running plugin means it; the log says what became looser."""
    host.register(make_plugin(), config=STRICT)
    host.ask("start", plugin="plugin")

    configured(host, {})

    assert in_force(host) == {}
    assert json.loads((tmp_path / RECORD).read_text()) == {"guards": {}}
    assert any("spenders is looser than before" in line for line in warnings(host))


def test_a_key_that_is_no_setting_is_in_the_log(host: PluginHost, make_plugin: MakePlugin) -> None:
    """A misspelt cap limits nothing; whoever reads the gateway's log should see which was meant."""
    host.register(make_plugin(), config={"dayly_cap_usd": 1})

    host.ask("start", plugin="plugin")

    [said] = [line for line in warnings(host) if "is not a setting" in line]
    assert said.endswith("plugins.entries.flux2.config.dayly_cap_usd is not a setting (nearest: daily_cap_usd)")


def test_the_report_names_what_is_in_force(host: PluginHost, make_plugin: MakePlugin) -> None:
    """Only the running plugin knows; a secret is not shown."""
    host.register(make_plugin(image_generate=True), config={"tiers": ["pro"]})
    configured(host, {**STRICT, "callback_secret": "c2VjcmV0"})

    found = host.ask("gatewayMethod", plugin="plugin", method="flux2.doctor")["answer"]

    assert found["settings"] == {**STRICT, "callback_secret": "…"}
    assert found["needs_reload"] == ["tiers"]


SECRET_URL = "postgresql://flux2:hunter2@db.example/flux2"


def test_the_password_of_a_shared_journal_is_neither_recorded_nor_logged(
    start_host: Callable[..., PluginHost], make_plugin: MakePlugin, tmp_path: Path
) -> None:
    """The record is in OpenClaw's backups; a config without the address must not begin every cap anew."""
    host = start_host(RUNAPI_API_KEY="sk-secret")
    host.register(make_plugin(), config={"journal_url": SECRET_URL})
    host.ask("start", plugin="plugin")
    with_url = in_force(host)
    recorded = (tmp_path / RECORD).read_text()
    configured(host, {"wait_s": 9})
    in_force(host)
    (tmp_path / RECORD).write_text(recorded)  # as a config that was emptied while the plugin did not run leaves it
    again = start_host(RUNAPI_API_KEY="sk-secret")
    again.register(make_plugin(), config={"wait_s": 9})
    again.ask("start", plugin="plugin")

    assert with_url == {"journal_url": SECRET_URL}
    assert json.loads(recorded) == {"guards": {"journal_url": "\N{HORIZONTAL ELLIPSIS}"}}
    assert in_force(again)["journal_url"] == "\N{HORIZONTAL ELLIPSIS}"
    assert "journal_url is looser than before: unset instead of" in "\n".join(warnings(host))
    [gone] = [line for line in warnings(again) if "is gone" in line]
    assert "no image is made until it is set again" in gone
    assert "config.journal_url '${FLUX2_TOOL_JOURNAL_URL}'" in gone
    assert "hunter2" not in json.dumps([host.ask("logs"), again.ask("logs")])
