"""This user's folders, also where the user has none: one place decides, and none depends on the working folder."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flux2_tool._folders import data_folder, expanded, home_folder, ignored_data_home, state_folder, system_path
from flux2_tool.cli import main
from flux2_tool.context import workspace_of
from flux2_tool.diagnostics.doctor.environment import check_disk, check_routes, check_settings
from flux2_tool.diagnostics.doctor.journal import check_budget, check_journal
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.settings import Settings, load_settings
from tests.support.harness import FOX, KEY, SandboxTransport, credentials
from tests.support.hosted import hosted
from tests.support.virtual_time import VirtualClock, run_virtual


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry in the list of users."""

    def nobody(_uid: int) -> Any:
        raise KeyError("uid not found")

    for name in ("HOME", "FLUX2_TOOL_HOME", "XDG_DATA_HOME", "RUNAPI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, "/h/fox"),
        ({"HOME": ""}, "/h/fox"),
        ({"HOME": "relative"}, "/h/fox"),
        ({"HOME": "/elsewhere"}, "/elsewhere"),
    ],
)
def test_home_is_the_variable_if_it_is_absolute(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], found: str
) -> None:
    """A relative or empty one would make another journal in each working folder."""
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: SimpleNamespace(pw_dir="/h/fox"))

    assert home_folder(environ) == Path(found)


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"HOME": "/h"}, "/h/.local/share/flux2-tool"),
        ({"HOME": "/h", "XDG_DATA_HOME": ""}, "/h/.local/share/flux2-tool"),
        ({"HOME": "/h", "XDG_DATA_HOME": "data"}, "/h/.local/share/flux2-tool"),
        ({"HOME": "/h", "XDG_DATA_HOME": "./data"}, "/h/.local/share/flux2-tool"),
        ({"HOME": "/h", "XDG_DATA_HOME": "/d"}, "/d/flux2-tool"),
    ],
)
def test_a_relative_data_home_is_ignored(environ: dict[str, str], found: str) -> None:
    """The XDG Base Directory Specification says so; a journal must not depend on where a command is run."""
    assert data_folder(environ, platform="linux") == Path(found)


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ([], "Library/Application Support/flux2-tool"),
        ([".local/share/flux2-tool"], ".local/share/flux2-tool"),
        (
            [".local/share/flux2-tool", "Library/Application Support/flux2-tool"],
            "Library/Application Support/flux2-tool",
        ),
    ],
)
def test_on_macos_the_folder_of_applications_is_used(tmp_path: Path, there: list[str], found: str) -> None:
    """People look there; a journal that is elsewhere already is kept."""
    for folder in there:
        (tmp_path / folder).mkdir(parents=True)

    assert data_folder({"HOME": str(tmp_path)}, platform="darwin") == tmp_path / found


@pytest.mark.parametrize(
    ("environ", "profile", "found"),
    [
        ({}, None, "h/.openclaw"),
        ({"OPENCLAW_STATE_DIR": " /d "}, None, "/d"),
        ({"OPENCLAW_STATE_DIR": "~/s/../t"}, None, "h/t"),
        ({"OPENCLAW_STATE_DIR": "/d"}, "work", "/d"),
        ({}, "work", "h/.openclaw-work"),
        ({}, "Default", "h/.openclaw"),
        ({"OPENCLAW_PROFILE": "work"}, None, "h/.openclaw"),
        ({"OPENCLAW_HOME": "~/svc"}, None, "h/svc/.openclaw"),
        ({"OPENCLAW_HOME": "undefined"}, None, "h/.openclaw"),
    ],
)
def test_the_state_folder_is_the_one_openclaw_uses(
    tmp_path: Path, environ: dict[str, str], profile: str | None, found: str
) -> None:
    """As measured with `openclaw config file`; any other folder would be a journal the gateway does not read."""
    assert state_folder({"HOME": str(tmp_path / "h"), **environ}, profile=profile) == tmp_path / found


def test_the_state_folder_of_old_is_used_while_there_is_no_other(tmp_path: Path) -> None:
    """OpenClaw keeps using it."""
    (tmp_path / ".clawdbot").mkdir()

    assert state_folder({"HOME": str(tmp_path)}) == tmp_path / ".clawdbot"
    (tmp_path / ".openclaw").mkdir()
    assert state_folder({"HOME": str(tmp_path)}) == tmp_path / ".openclaw"


def test_a_profile_of_another_form_is_refused() -> None:
    """It would name a folder elsewhere."""
    with pytest.raises(ValueError, match="no profile of OpenClaw"):
        state_folder({"HOME": "/h"}, profile="../other")


@pytest.mark.usefixtures("homeless")
def test_without_a_home_there_is_no_folder_and_no_tilde() -> None:
    """Nothing is guessed, such as the working folder or the root."""
    assert (home_folder({}), data_folder({}), state_folder({})) == (None, None, None)
    assert load_settings({}).home is None
    with pytest.raises(ValueError, match="no home folder"):
        expanded("~/pictures", {})
    assert workspace_of(Path("/"), {}) is None
    assert workspace_of(Path("/srv"), {}) == Path("/srv")


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["manifest", "check"],
        ["manifest", "export", "--format", "mcp"],
        ["prices", "--offline"],
        ["estimate", "--offline", "text_to_image", '{"prompt": "a red fox"}'],
        ["mcp", "config", "--host", "codex"],
        ["mcp", "config", "--host", "openclaw"],
    ],
)
def test_what_needs_no_folder_works_without_one(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """A container's user without an entry can still look around."""
    assert main(command) == 0
    assert capsys.readouterr().out


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("command", [["tasks"], ["tasks", "prune"], ["tasks", "forget", "record:12345678"]])
def test_what_needs_a_folder_names_the_setting(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """One line that says which variable to set, and no traceback."""
    assert main(command) == 3
    error = capsys.readouterr().err
    assert "error: there is no folder for data" in error
    assert "hint:  set FLUX2_TOOL_HOME to the absolute path" in error
    assert "Traceback" not in error


@pytest.mark.usefixtures("homeless")
def test_no_key_is_looked_for_in_a_home_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """The missing key is the error then."""
    assert main(["balance"]) == 3
    assert "no RunAPI key was found in RUNAPI_API_KEY" in capsys.readouterr().err


@pytest.mark.parametrize(("journal", "created"), [("required", 0), ("best_effort", 1), ("off", 1)])
def test_only_a_required_journal_needs_a_folder(runapi: SandboxTransport, journal: Any, created: int) -> None:
    """Nothing is paid that could not be noted; who has asked for no notes gets the picture."""
    settings = Settings(home=None, journal=journal)

    async def call() -> dict[str, Any]:
        tool = hosted(settings, credentials(KEY), transport=runapi, clock=VirtualClock())
        try:
            return await tool.call("text_to_image", FOX)
        finally:
            await tool.aclose()

    found = run_virtual(call())

    assert len(runapi.sandbox.ledger.creates) == created
    if created:
        assert found["task"]["state"] == "completed"
    else:
        assert (found["error"]["code"], found["error"]["charged"]) == ("configuration_error", "no")
        assert "FLUX2_TOOL_HOME" in found["error"]["message"] + found["error"]["hint"]


def test_the_doctor_names_a_missing_folder_and_its_fix() -> None:
    """The command that people run when something is wrong must not be wrong itself."""
    settings, now = Settings(home=None), 1_800_000_000.0

    journal = check_journal(settings, now=now)
    others = [
        check_disk(settings),
        check_routes(settings, "https://runapi.ai"),
        check_budget(settings, load_manifest(), base_url="https://runapi.ai", now=now),
    ]

    assert journal.state == "failure"
    assert "FLUX2_TOOL_HOME" in journal.fix
    assert [finding.state for finding in others] == ["ok"] * 3


def test_the_doctor_says_that_a_relative_data_home_is_ignored() -> None:
    """Whoever set it looks for the journal where it is not."""
    environ = {"XDG_DATA_HOME": "data"}

    _, findings = check_settings(load_manifest(), environ)

    assert ignored_data_home(environ) == "data"
    assert [finding.state for finding in findings if "XDG_DATA_HOME" in finding.message] == ["warning"]


def test_a_name_that_the_locale_does_not_have_is_used_as_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the disk are named in UTF-8, whatever the locale of this process says."""
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("ascii", "surrogateescape"))
    monkeypatch.setattr(os, "fsdecode", lambda data: data.decode("ascii", "surrogateescape"))

    assert os.fsencode(str(system_path("/p/雪.png"))) == "/p/雪.png".encode()
    assert system_path("/p/fox.png") == Path("/p/fox.png")
