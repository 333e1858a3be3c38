"""`flux2-tool openclaw install` names what guards money, and loosens none of it unasked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.cli import main
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.guards import loosened, unknown_settings
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.settings import load_settings
from tests.openclaw.conftest import FakeOpenClaw

SETTINGS = load_manifest().settings
CONFIG = "plugins.entries.flux2.config"


def record_of(openclaw: FakeOpenClaw) -> Path:
    return openclaw.command.parent / ".openclaw" / "flux2-tool" / "settings.json"


def test_install_names_the_guards_in_force_and_records_them(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a bill can come to should be known before the first image."""
    openclaw.change(config={CONFIG: {"daily_cap_usd": 1, "spenders": "owner", "wait_s": 9}})

    assert main(["openclaw", "install", "--yes"]) == 0

    assert "In force after it: daily_cap_usd 1, spenders owner." in capsys.readouterr().err
    assert json.loads(record_of(openclaw).read_text()) == {"guards": {"daily_cap_usd": 1, "spenders": "owner"}}
    assert record_of(openclaw).stat().st_mode & 0o077 == 0


def test_each_profile_has_a_record_of_its_own(openclaw: FakeOpenClaw) -> None:
    """What guarded money in one gateway says nothing of another, and is not overwritten from there."""
    usual = record_of(openclaw)
    usual.parent.mkdir(parents=True)
    usual.write_text(json.dumps({"guards": {"daily_cap_usd": 1}}))
    openclaw.change(config={CONFIG: {"spenders": "owner"}})

    assert main(["openclaw", "install", "--yes", "--profile", "work"]) == 0

    assert json.loads(usual.read_text()) == {"guards": {"daily_cap_usd": 1}}
    work = usual.parent.parent.with_name(".openclaw-work") / "flux2-tool" / "settings.json"
    assert json.loads(work.read_text()) == {"guards": {"spenders": "owner"}}


@pytest.mark.parametrize("is_recorded", [True, False], ids=["by the record", "by a copy of OpenClaw's config"])
def test_an_emptied_config_is_installed_only_when_agreed(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], is_recorded: bool
) -> None:
    """`openclaw doctor --fix` empties it; the plugin enabled again would spend by the defaults."""
    before = {"daily_cap_usd": 1, "spenders": "owner"}
    record = record_of(openclaw)
    record.parent.mkdir(parents=True)
    if is_recorded:
        record.write_text(json.dumps({"guards": before}))
    else:
        copies: list[dict[str, Any]] = [{"enabled": False}, {"enabled": True, "config": before}, {"config": {}}]
        for number, entry in enumerate(copies):
            path = record.parent.parent / ("openclaw.json.bak" + (f".{number}" if number else ""))
            path.write_text(json.dumps({"plugins": {"entries": {"flux2": entry}}}))

    refused = main(["openclaw", "install", "--yes"])
    said = capsys.readouterr().err
    is_there = openclaw.state["plugin"] is not None
    accepted = main(["openclaw", "install", "--yes", "--accept-looser-settings"])
    again = main(["openclaw", "install", "--yes"])

    assert (refused, is_there, accepted, again) == (3, False, 0, 0)
    assert "daily_cap_usd was 1 and would be 5; to keep it:" in said
    assert f"openclaw config set {CONFIG}.daily_cap_usd '1'" in said
    assert f"""openclaw config set {CONFIG}.spenders '"owner"'""" in said
    assert "--accept-looser-settings" in said
    assert json.loads(record.read_text()) == {"guards": {}}


def test_a_cap_that_was_raised_on_purpose_is_no_question(openclaw: FakeOpenClaw) -> None:
    """Only what is gone from the config is asked about."""
    record = record_of(openclaw)
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"guards": {"daily_cap_usd": 1}}))
    openclaw.change(config={CONFIG: {"daily_cap_usd": 9}})

    assert main(["openclaw", "install", "--yes"]) == 0
    assert json.loads(record.read_text()) == {"guards": {"daily_cap_usd": 9}}


@pytest.mark.parametrize("text", ["[]", "{", '{"guards": 7}', "\udcff", "[" * 100_000], ids=str)
def test_a_record_that_cannot_be_read_stops_nothing(openclaw: FakeOpenClaw, text: str) -> None:
    """It is a help, and no lock."""
    record = record_of(openclaw)
    record.parent.mkdir(parents=True)
    record.write_bytes(text.encode("utf-8", "surrogateescape"))

    assert main(["openclaw", "install", "--yes"]) == 0


@pytest.mark.parametrize(
    ("before", "after", "looser"),
    [
        pytest.param({"daily_cap_usd": 1}, {}, ["daily_cap_usd"], id="back to a higher default"),
        pytest.param({"daily_cap_usd": 9}, {}, [], id="back to a lower default"),
        pytest.param({"max_image_usd": 0.1}, {}, ["max_image_usd"], id="no limit any more"),
        pytest.param({}, {"max_image_usd": 0.1}, [], id="a limit where there was none"),
        pytest.param(
            {"unknown_price_usd": 2}, {"unknown_price_usd": 1}, ["unknown_price_usd"], id="higher is stricter"
        ),
        pytest.param({"spenders": "owner"}, {"spenders": "everyone"}, ["spenders"], id="first is stricter"),
        pytest.param({"journal": "required"}, {"journal": "off"}, ["journal"], id="the last of an order"),
        pytest.param({"tiers": ["pro"]}, {"tiers": ["pro", "max"]}, ["tiers"], id="one more"),
        pytest.param({"tiers": ["pro", "flex"]}, {"tiers": ["flex"]}, [], id="one less"),
        pytest.param({"base_url": "http://127.0.0.1:1"}, {}, ["base_url"], id="the real service again"),
        pytest.param({"daily_cap_usd": "one"}, {"daily_cap_usd": 9}, [], id="of the wrong type"),
        pytest.param({"daily_cap_usd": True}, {"daily_cap_usd": 9}, [], id="a boolean is no number"),
        pytest.param({"wait_s": 1}, {"wait_s": 2}, [], id="guards no money"),
    ],
)
def test_the_looser_of_two_configs_is_known(before: dict[str, Any], after: dict[str, Any], looser: list[str]) -> None:
    """A rule for each kind of setting; the plugin has the same."""
    assert list(loosened(before, after, SETTINGS)) == looser


@pytest.mark.parametrize(
    ("name", "nearest", "guards_money"),
    [
        ("dayly_cap_usd", "daily_cap_usd", True),
        ("dailyCapUsd", "daily_cap_usd", True),
        ("monthlyBudget", None, True),
        ("spender", "spenders", True),
        ("wait", "wait_s", False),
        ("colour", None, False),
        ("capabilities", None, False),
    ],
)
def test_an_unknown_key_may_be_meant_as_a_guard(name: str, nearest: str | None, guards_money: bool) -> None:
    """A misspelt cap limits nothing."""
    [found] = unknown_settings([name, "spenders"], SETTINGS)

    assert (found.nearest, found.guards_money) == (nearest, guards_money)


def test_an_address_with_a_password_is_neither_shown_nor_recorded(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenClaw's copies of its config have it whole; whoever reads over a shoulder or a backup must not."""
    url = "postgresql://flux2:hunter2@db.example/flux2"
    openclaw.change(config={CONFIG: {"journal_url": url}})
    assert main(["openclaw", "install", "--yes"]) == 0
    recorded = record_of(openclaw).read_text()
    record_of(openclaw).unlink()
    copy = record_of(openclaw).parent.parent / "openclaw.json.bak"
    copy.write_text(json.dumps({"plugins": {"entries": {"flux2": {"config": {"journal_url": url}}}}}))
    openclaw.change(config={CONFIG: {}})

    refused = main(["openclaw", "install", "--yes"])

    said = capsys.readouterr()
    assert refused == 3
    assert "journal_url was set and would be unset; to keep it:" in said.err
    assert f"openclaw config set {CONFIG}.journal_url '${{FLUX2_TOOL_JOURNAL_URL}}'" in said.err
    assert "hunter2" not in said.out + said.err + recorded
    with pytest.raises(
        ConfigurationError, match="journal_url is gone from the config, and what it was is not recorded"
    ):
        load_settings({}, config=json.loads(recorded)["guards"])
