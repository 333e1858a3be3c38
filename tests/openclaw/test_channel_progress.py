"""Which channels do not show how far a picture is, and the command that changes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flux2_tool.cli import main
from flux2_tool.openclaw.channel_progress import progress_notes
from tests.openclaw.conftest import FakeOpenClaw


@pytest.mark.parametrize(
    ("channels", "settings"),
    [
        ({"telegram": {}}, ["channels.telegram.streaming.progress.toolProgress true"]),
        ({"telegram": {"streaming": {"progress": {"toolProgress": False}}}}, ["progress.toolProgress true"]),
        ({"telegram": {"streaming": {"mode": "off"}}}, ["channels.telegram.streaming.mode progress; "]),
        ({"discord": {}}, ["channels.discord.streaming.mode progress; "]),
        (
            {"telegram": {"streaming": {"mode": "partial", "preview": {"toolProgress": False}}}},
            ["preview.toolProgress"],
        ),
        ({"telegram": {}, "slack": {}}, ["channels.slack.", "channels.telegram."]),
    ],
)
def test_what_a_channel_hides_is_named_with_its_setting(channels: Any, settings: list[str]) -> None:
    """A person who waits for a minute should see that something happens."""
    notes = progress_notes(channels)

    assert len(notes) == len(settings)
    assert all(setting in note for setting, note in zip(settings, notes, strict=True))


@pytest.mark.parametrize(
    "channels",
    [
        {"telegram": {"streaming": {"progress": {"toolProgress": True}}}},
        {"telegram": {"streaming": {"mode": "partial"}}},
        {"telegram": {"enabled": False}},
        {"mattermost": {}},
        {"whatsapp": {}},
        {},
        None,
        [],
        {"telegram": True},
    ],
)
def test_a_channel_that_shows_it_or_cannot_needs_no_note(channels: Any) -> None:
    """Advice that changes nothing is noise."""
    assert progress_notes(channels) == []


def test_install_and_status_say_so(openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]) -> None:
    """It is no problem: everything works."""
    openclaw.change(config={**openclaw.state["config"], "channels": {"telegram": {}}})

    assert main(["openclaw", "install", "--yes"]) == 0
    installed = capsys.readouterr().err
    main(["openclaw", "status", "--json"])
    found = json.loads(capsys.readouterr().out)

    setting = "openclaw config set channels.telegram.streaming.progress.toolProgress true"
    assert setting in installed
    assert [note for note in found["notes"] if setting in note]
    assert not [problem for problem in found["problems"] if "telegram" in problem["message"]]
