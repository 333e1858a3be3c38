"""`flux2-tool openclaw ...` with an `openclaw` command that only remembers what it was asked."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.cli import main
from flux2_tool.journal import open_journal
from flux2_tool.schema.manifest import load_manifest
from tests.openclaw.conftest import FakeOpenClaw
from tests.support.command import Command
from tests.support.journal import Named
from tests.support.terminal import run_at_terminal

VERSION = load_manifest().version
TOOLS = list(load_manifest().tools)


def test_install_writes_installs_and_verifies(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One command from nothing to tools in the chat, with the prices in sight."""
    code = main(["openclaw", "install", "--yes"])

    said = capsys.readouterr()
    assert code == 0
    here = f"OpenClaw 2026.9.6 (state folder {tmp_path}/.openclaw)"
    assert f"into {here}." in said.err
    assert said.out == f"flux2 {VERSION} is installed in {here}: {', '.join(TOOLS)}\n"
    assert "flux-2-flex-remix-image: 1k 0.14 USD, 2k 0.24 USD" in said.err
    assert "RUNAPI_API_KEY" in said.err
    made = json.loads((Path(openclaw.state["plugin"]["rootDir"]) / "dist" / "tools.json").read_text())
    assert made["python"] == sys.executable
    assert "enable" not in [command[1] for command in openclaw.state["log"] if len(command) > 1]


def test_install_without_a_terminal_requires_yes(openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]) -> None:
    """A script must not agree to a bill by accident."""
    code = main(["openclaw", "install"])

    said = capsys.readouterr()
    assert code == 3
    assert "flux2-tool openclaw install --yes" in said.err
    assert openclaw.state["plugin"] is None


def test_a_person_who_does_not_agree_gets_nothing_installed(openclaw: FakeOpenClaw, tmp_path: Path) -> None:
    """The bill is theirs; the answer that needs no thought is no."""
    environ = {**os.environ, "HOME": str(tmp_path)}

    shown = run_at_terminal(Command(folder=tmp_path, environ=environ), "openclaw", "install", keys=b"\n")

    assert shown.returncode == 3
    assert "Install it? [y/N]" in shown.screen
    assert "nothing was installed" in shown.screen
    assert openclaw.state["plugin"] is None


def test_install_enables_a_plugin_that_was_removed_before(openclaw: FakeOpenClaw) -> None:
    """After an uninstall OpenClaw keeps the entry disabled."""
    openclaw.change(config={"plugins": {"entries": {"flux2": {"enabled": False}}}})

    assert main(["openclaw", "install", "--yes"]) == 0
    assert openclaw.state["plugin"]["toolNames"] == TOOLS


def test_an_upgrade_keeps_the_image_generate_option(openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody should lose it by an upgrade, and nobody should get it unasked."""

    def installed(*options: str) -> list[str]:
        assert main(["openclaw", "install", "--yes", *options]) == 0
        folder = Path(openclaw.state["plugin"]["rootDir"])
        contracts = json.loads((folder / "openclaw.plugin.json").read_text())["contracts"]
        made = json.loads((folder / "dist" / "tools.json").read_text())
        assert bool(made["image_provider"]) == ("imageGenerationProviders" in contracts)
        return contracts.get("imageGenerationProviders", [])  # type: ignore[no-any-return]

    assert installed() == []
    assert "image_generate" not in capsys.readouterr().err
    assert installed("--image-generate") == ["runapi"]
    assert "It serves OpenClaw's own tool image_generate too" in capsys.readouterr().err
    assert installed() == ["runapi"]
    assert installed("--no-image-generate") == []


def test_install_waits_for_a_busy_gateway(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway refuses to exchange a plugin that is at work, and would keep the old one."""
    monkeypatch.setattr("flux2_tool.openclaw.install.RELOAD_PAUSE_S", 0.0)
    openclaw.change(busy=3)

    code = main(["openclaw", "install", "--yes"])

    assert code == 0
    assert "waiting for it to finish" in capsys.readouterr().err
    asked = [" ".join(command[:2]) for command in openclaw.state["log"]]
    assert [one for one in asked if one.startswith("plugins")][-4:] == [*["plugins reload"] * 3, "plugins inspect"]


def test_install_fails_when_the_plugin_does_not_load(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]
) -> None:
    """An installer that says "installed" while nothing works costs an afternoon."""
    openclaw.change(status="error", diagnostics=[{"level": "error", "message": "cannot read dist/tools.json"}])

    code = main(["openclaw", "install", "--yes"])

    said = capsys.readouterr()
    assert code == 3
    assert said.out == ""
    assert "cannot read dist/tools.json" in said.err
    assert "its status is error" in said.err


def test_install_names_an_old_version_and_tools_that_are_missing(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenClaw may go on with a copy it has; then the agents have other tools than the message says."""
    openclaw.change(loads={"version": "0.0.1", "toolNames": TOOLS[:1]})

    code = main(["openclaw", "install", "--yes"])

    said = capsys.readouterr()
    assert (code, said.out) == (3, "")
    assert f"its version is 0.0.1 instead of {VERSION}" in said.err
    assert f"it does not offer {', '.join(TOOLS[1:])}" in said.err
    assert "flux2-tool openclaw status" in said.err


def test_install_stops_at_a_refusal_that_waiting_does_not_end(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a busy gateway is worth waiting for; for anything else five minutes would be lost."""
    monkeypatch.setattr("flux2_tool.openclaw.install.RELOAD_PAUSE_S", 0.0)
    openclaw.change(failures={"plugins install": "the disk is full"})
    assert main(["openclaw", "install", "--yes"]) == 3
    at_once = capsys.readouterr()

    openclaw.change(failures={"plugins reload": "the disk is full"}, busy=1)
    assert main(["openclaw", "install", "--yes"]) == 3
    after_waiting = capsys.readouterr()

    for said in (at_once, after_waiting):
        assert said.out == ""
        assert "the disk is full" in said.err
    assert "waiting for it to finish" not in at_once.err
    assert [command[:2] for command in openclaw.state["log"]].count(["plugins", "reload"]) == 1


def test_install_gives_up_on_a_gateway_that_stays_busy(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new version is saved; what is left to do is one command, and the message has it."""
    monkeypatch.setattr("flux2_tool.openclaw.install.RELOAD_PAUSE_S", 0.0)
    monkeypatch.setattr("flux2_tool.openclaw.install.RELOAD_ATTEMPTS", 2)
    openclaw.change(busy=1000)

    code = main(["openclaw", "install", "--yes"])

    said = capsys.readouterr()
    assert (code, said.out) == (3, "")
    assert "the gateway still uses the old version in a turn" in said.err
    assert "openclaw plugins reload flux2" in said.err


def test_install_into_a_folder_that_cannot_be_written_changes_nothing(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OpenClaw is asked only once the plugin is whole."""
    (tmp_path / "file").write_text("here")
    monkeypatch.setenv("OPENCLAW_STATE_DIR", str(tmp_path / "file" / "state"))

    code = main(["openclaw", "install", "--yes"])

    error = capsys.readouterr().err
    assert code == 3
    assert f"cannot write the plugin to {tmp_path}/file/state/flux2-tool/openclaw-plugin" in error
    assert "another state folder in OPENCLAW_STATE_DIR" in error
    assert openclaw.state["plugin"] is None


def test_a_warning_of_openclaw_is_shown_and_install_succeeds(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that installs must not stop at what changes nothing."""
    openclaw.change(diagnostics=[{"level": "warn", "message": "a newer plugin API exists"}])

    code = main(["openclaw", "install", "--yes"])

    said = capsys.readouterr()
    assert code == 0
    assert "OpenClaw notes: a newer plugin API exists" in said.err
    assert main(["openclaw", "status"]) == 0
    assert "a newer plugin API exists" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "said"),
    [pytest.param("2026.9.5", "too old", id="too old"), pytest.param("unknown", "does not print a version", id="odd")],
)
def test_an_unsuitable_openclaw_version_is_an_error(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], version: str, said: str
) -> None:
    """The plugin would be refused later, with a text that helps nobody."""
    openclaw.change(version=version)

    code = main(["openclaw", "install", "--yes"])

    error = capsys.readouterr().err
    assert code == 3
    assert said in error
    assert "npm install -g openclaw" in error


def test_a_missing_openclaw_is_an_error_with_its_install_command(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first thing a newcomer meets."""
    openclaw.command.unlink()

    code = main(["openclaw", "status"])

    error = capsys.readouterr().err
    assert code == 3
    assert "not on PATH" in error
    assert "npm install -g openclaw" in error


def test_an_openclaw_that_cannot_be_run_is_an_error(openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]) -> None:
    """A download that broke off, or one for another machine."""
    openclaw.command.write_bytes(b"\x7fELF of another machine")

    code = main(["openclaw", "status"])

    error = capsys.readouterr().err
    assert code == 3
    assert f"cannot run {openclaw.command}: " in error
    assert "npm install -g openclaw" in error


@pytest.mark.parametrize(
    ("state", "said"),
    [
        pytest.param({"failures": {"plugins inspect": "EACCES: permission denied"}}, "EACCES", id="a failure"),
        pytest.param({"texts": {"plugins list": "all is well"}}, "did not print JSON: 'all is well", id="no JSON"),
    ],
)
def test_a_question_that_openclaw_does_not_answer_is_an_error(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], state: dict[str, Any], said: str
) -> None:
    """A plugin that cannot be looked at is not a missing one: installing it again would fix nothing."""
    main(["openclaw", "install", "--yes"])
    openclaw.change(**state)
    capsys.readouterr()

    assert main(["openclaw", "status"]) == 3

    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


def test_status_of_a_healthy_set_up(openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]) -> None:
    """Versions on both sides, where the key is (not what it is), and the tools."""
    main(["openclaw", "install", "--yes"])
    openclaw.change(config={"models.providers.runapi.apiKey": "__OPENCLAW_REDACTED__"})
    capsys.readouterr()

    code = main(["openclaw", "status", "--json"])

    said = capsys.readouterr()
    found = json.loads(said.out)
    assert code == 0
    assert found["ok"]
    assert (found["plugin_version"], found["package_version"]) == (VERSION, VERSION)
    assert found["offered"] == TOOLS
    assert found["key_sources"] == [
        "models.providers.runapi.apiKey in OpenClaw's config",
        "RUNAPI_API_KEY, seen from here",
    ]
    assert "sk-secret" not in said.out + said.err
    assert found["kept"].startswith("0 pictures, 0.0 MB, kept in ")
    assert found["kept"].endswith("flux2-tool/pictures (at most 30 days and 1000 MB)")


def test_status_names_every_problem_and_its_fix(
    openclaw: FakeOpenClaw,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """It is what a person runs when the agent says it has no such tool."""
    main(["openclaw", "install", "--yes"])
    made_file = tmp_path / ".openclaw" / "flux2-tool" / "openclaw-plugin" / "dist" / "tools.json"
    made = json.loads(made_file.read_text())
    made_file.write_text(json.dumps({**made, "version": "0.0.1", "python": "/no/such/python"}))
    openclaw.change(
        config={"tools": {"allow": ["read"]}},
        others=[{"id": "painter", "enabled": True, "toolNames": ["remix_image"]}],
    )
    monkeypatch.delenv("RUNAPI_API_KEY")
    capsys.readouterr()

    code = main(["openclaw", "status"])

    out = capsys.readouterr().out
    assert code == 3
    for part in (
        f"the plugin is version 0.0.1, this package {VERSION}",
        "/no/such/python does not exist any more",
        "no RunAPI key was found",
        "remix_image by plugins.entries.painter",
        "openclaw plugins disable painter",
        """openclaw config set tools.allow '["read", "flux2"]'""",
        f"{sys.executable} -m flux2_tool openclaw install",
    ):
        assert part in out


def test_status_names_a_plugin_that_is_not_loaded_or_of_another_manifest(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Both look installed, and the agent has no tools, or tools that its worker refuses."""
    main(["openclaw", "install", "--yes"])
    made_file = tmp_path / ".openclaw" / "flux2-tool" / "openclaw-plugin" / "dist" / "tools.json"
    made_file.write_text(json.dumps({**json.loads(made_file.read_text()), "manifest_sha256": "0" * 64}))
    openclaw.change(plugin={**openclaw.state["plugin"], "status": "error", "error": "it threw"})
    capsys.readouterr()

    assert main(["openclaw", "status", "--json"]) == 3

    problems = {problem["message"]: problem["fix"] for problem in json.loads(capsys.readouterr().out)["problems"]}
    assert problems == {
        "the plugin was made from another manifest": "flux2-tool openclaw install",
        "OpenClaw does not load the plugin: it threw": "openclaw plugins doctor",
    }


def test_status_lists_a_key_that_cannot_be_used_as_one(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "No key was found" would send people to set one that they have set already."""
    main(["openclaw", "install", "--yes"])
    openclaw.change(config={"models.providers.runapi.apiKey": "sk-secret with a space"})
    monkeypatch.setenv("RUNAPI_API_KEY", "sk-secret of a shell")
    capsys.readouterr()

    main(["openclaw", "status", "--json"])

    said = capsys.readouterr().out
    in_openclaw, here = json.loads(said)["key_sources"]
    assert in_openclaw == "models.providers.runapi.apiKey in OpenClaw's config"
    assert here.startswith("unusable: RUNAPI_API_KEY has white space")
    assert "sk-secret" not in said


def test_status_finds_a_key_in_openclaws_env_file(
    openclaw: FakeOpenClaw,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The place for a gateway that runs as a service."""
    monkeypatch.delenv("RUNAPI_API_KEY")
    (tmp_path / ".openclaw").mkdir(exist_ok=True)
    (tmp_path / ".openclaw" / ".env").write_text("# keys\nexport RUNAPI_API_KEY=sk-secret-0123456789\n")
    main(["openclaw", "install", "--yes"])
    capsys.readouterr()

    code = main(["openclaw", "status"])

    out = capsys.readouterr().out
    assert code == 0
    assert f"RUNAPI_API_KEY in {tmp_path}/.openclaw/.env" in out
    assert "sk-secret" not in out


@pytest.mark.parametrize("value", ["${RUNAPI_API_KEY}", "", " "])
def test_status_does_not_take_a_placeholder_for_a_key(
    openclaw: FakeOpenClaw,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    value: str,
) -> None:
    """OpenClaw hands out the name itself when nothing fills it in, and "no problems found" would end the search."""
    main(["openclaw", "install", "--yes"])
    monkeypatch.delenv("RUNAPI_API_KEY")
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("OPENCLAW_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "state" / ".env").write_text(f"RUNAPI_API_KEY={value}\n")
    openclaw.change(config={"models.providers.runapi.apiKey": value})
    capsys.readouterr()

    code = main(["openclaw", "status", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert (code, found["key_sources"]) == (3, [])
    (problem,) = found["problems"]
    assert problem["message"] == "no RunAPI key was found"
    assert f"to {tmp_path}/state/.env" in problem["fix"]


@pytest.mark.parametrize(
    "notice", ["(node:7) Warning: old", "[plugins] loaded 3", "[1] of 2", "12:30 ready", "{ tip }"]
)
def test_notices_around_the_json_do_not_hide_a_setting(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], notice: str
) -> None:
    """Read as unset, a list that hides the tools would look like none."""
    main(["openclaw", "install", "--yes"])
    openclaw.change(config={"tools": {"allow": ["read"]}}, notice=notice)
    capsys.readouterr()

    assert main(["openclaw", "status", "--json"]) == 3
    assert [item["where"] for item in json.loads(capsys.readouterr().out)["hidden"]] == ["tools.allow"]


def test_an_unreadable_setting_is_an_error_and_not_unset(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]
) -> None:
    """What hides the tools may stand just there."""
    main(["openclaw", "install", "--yes"])
    openclaw.change(unread="EACCES: permission denied, open 'openclaw.json'")

    assert main(["openclaw", "status"]) == 3
    assert "EACCES: permission denied" in capsys.readouterr().err


def test_an_invalid_openclaw_config_is_an_error(openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything else it could say would be guesswork."""
    openclaw.change(invalid=True)

    code = main(["openclaw", "status"])

    error = capsys.readouterr().err
    assert code == 3
    assert "must be a list" in error
    assert "openclaw config validate" in error


def test_uninstall_removes_what_only_the_plugin_needs_and_says_what_stays(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The journal is what prevents a second payment, and a key may be another plugin's; a second time finds nothing."""
    ours = tmp_path / ".openclaw" / "flux2-tool"
    main(["openclaw", "install", "--yes"])
    for name in ("python/0.1.0-abc/bin/python", "journal.db", "../.env"):
        (ours / name).parent.mkdir(parents=True, exist_ok=True)
        (ours / name).write_text("RUNAPI_API_KEY=sk-secret-0123456789\n")
    capsys.readouterr()

    assert main(["openclaw", "uninstall"]) == 0
    first = capsys.readouterr()
    assert main(["openclaw", "uninstall"]) == 0

    here = f"OpenClaw 2026.9.6 (state folder {tmp_path}/.openclaw)"
    assert openclaw.state["plugin"] is None
    # What guarded money is remembered: who installs it again is asked before it becomes looser.
    assert sorted(path.name for path in ours.iterdir()) == ["journal.db", "settings.json"]
    assert first.out == f"flux2 is removed from {here}\n"
    assert f"To remove it: rm -r {ours}" in first.err
    assert f"The line RUNAPI_API_KEY in {tmp_path}/.openclaw/.env stays" in first.err
    assert "This package stays. To remove it: " in first.err
    assert "sk-secret" not in first.err
    assert capsys.readouterr().out == f"{here} has no plugin flux2\n"


def test_what_uninstall_prints_to_remove_leaves_commands_that_work(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that was taken along has left a link, which would lead nowhere: then no command may spend or list."""
    monkeypatch.delenv("FLUX2_TOOL_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "my data"))
    ours, own = tmp_path / ".openclaw" / "flux2-tool", tmp_path / "my data" / "flux2-tool"
    open_journal(own, owner=Named("p1", set()), now=0.0).close()
    main(["openclaw", "install", "--yes"])
    open_journal(ours, owner=Named("p1", set()), now=0.0).close()
    assert own.joinpath("journal.db").resolve() == ours / "journal.sqlite"
    capsys.readouterr()

    assert main(["openclaw", "uninstall"]) == 0
    [removing] = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{ours} stays")]
    subprocess.run(shlex.split(removing.partition("To remove it: ")[2]), check=True)

    assert main(["tasks"]) == 0
    assert capsys.readouterr().err == f"no tasks in {own}\n"


def test_uninstall_says_that_a_shared_journal_stays(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Other gateways may use it."""
    openclaw.change(config={"plugins.entries.flux2.config": {"journal_url": "postgresql://flux2@db/flux2"}})
    main(["openclaw", "install", "--yes"])
    capsys.readouterr()

    assert main(["openclaw", "uninstall"]) == 0

    assert "The journal in PostgreSQL stays, which other gateways may use." in capsys.readouterr().err


def test_after_uninstall_openclaws_own_installer_enables_the_plugin(openclaw: FakeOpenClaw) -> None:
    """OpenClaw marks what was uninstalled as disabled, and would install it so; settings of a person's own stay."""
    main(["openclaw", "install", "--yes"])

    main(["openclaw", "uninstall"])

    assert openclaw.state["config"] == {}
    openclaw.change(config={"plugins.entries.flux2": {"enabled": False, "config": {"tiers": ["pro"]}}})
    main(["openclaw", "uninstall"])
    assert openclaw.state["config"] == {"plugins.entries.flux2": {"enabled": False, "config": {"tiers": ["pro"]}}}


def test_state_folders_have_nothing_of_each_others(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two gateways of one user: an option given to one is not the other's, and leaving one leaves the other whole."""
    folders = {name: tmp_path / name / "flux2-tool" / "openclaw-plugin" for name in ("one", ".openclaw-two")}
    monkeypatch.setenv("OPENCLAW_STATE_DIR", str(tmp_path / "one"))
    assert main(["openclaw", "install", "--yes", "--image-generate"]) == 0
    monkeypatch.delenv("OPENCLAW_STATE_DIR")
    assert main(["openclaw", "install", "--yes", "--profile", "two"]) == 0
    said = capsys.readouterr().err

    contracts = [json.loads((path / "openclaw.plugin.json").read_text())["contracts"] for path in folders.values()]
    assert ["imageGenerationProviders" in found for found in contracts] == [True, False]
    assert f"(state folder {tmp_path}/.openclaw-two)" in said
    assert openclaw.state["log"][-1][:2] == ["--profile", "two"]
    assert main(["openclaw", "uninstall", "--profile", "two"]) == 0
    assert [path.exists() for path in folders.values()] == [True, False]


def test_a_profile_that_openclaw_does_not_take_is_an_error(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenClaw would use another folder than the one that is printed."""
    assert main(["openclaw", "status", "--profile", "../else"]) == 3
    assert 'the profile "../else" is no profile of OpenClaw' in capsys.readouterr().err
    assert openclaw.state["log"] == []


@pytest.mark.parametrize(
    ("entries", "advice"),
    [
        pytest.param([], "flux2-tool is not on your PATH", id="none"),
        pytest.param(["other"], "on your PATH is another installation, {0}/other/flux2-tool", id="another"),
        pytest.param(["other", "own"], "on your PATH is another installation", id="another comes first"),
        pytest.param(["own"], None, id="this one"),
    ],
)
def test_install_says_what_to_do_without_the_command_on_the_path(
    openclaw: FakeOpenClaw,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    entries: list[str],
    advice: str | None,
) -> None:
    """Each later fix begins with `flux2-tool`: who has it not there would be stuck with the first of them."""
    own = Path(sys.executable).with_name("flux2-tool")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "flux2-tool").write_text("#!/bin/sh\n")
    (tmp_path / "other" / "flux2-tool").chmod(0o755)
    folders = {"other": str(tmp_path / "other"), "own": str(own.parent)}
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), "/usr/bin", *(folders[name] for name in entries)]))

    assert main(["openclaw", "install", "--yes"]) == 0

    said = capsys.readouterr().err
    if advice is None:
        assert said.endswith("tools: flux2-tool openclaw status\n")
    else:
        assert advice.format(tmp_path) in said
        assert f"tools: {own} openclaw status" in said
        assert f'export PATH={own.parent}:"$PATH"' in said


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        pytest.param("exit 1", "does not start flux2-tool: no reason given", id="silent"),
        pytest.param("echo 'No module named flux2_tool' >&2; exit 1", "No module named flux2_tool", id="moved"),
        pytest.param("echo 'flux2-tool 0.0.1'", f"has flux2-tool 0.0.1, not {VERSION}", id="another version"),
    ],
)
def test_status_starts_the_interpreter_of_the_settings(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], tmp_path: Path, program: str, reason: str
) -> None:
    """One that is there may still not start the worker; the fix names the interpreter that answers just now."""
    python = tmp_path / "python of old"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    main(["openclaw", "install", "--yes"])
    openclaw.change(config={"plugins": {"entries": {"flux2": {"config": {"python": str(python)}}}}})
    capsys.readouterr()

    assert main(["openclaw", "status", "--json"]) == 3

    found = json.loads(capsys.readouterr().out)
    [problem] = found["problems"]
    assert found["python"] == str(python)
    assert reason in problem["message"]
    assert problem["fix"] == f"openclaw config set plugins.entries.flux2.config.python {sys.executable}"


def test_pack_needs_no_openclaw_and_prints_the_path(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It runs in a build, where no OpenClaw is."""
    openclaw.command.unlink()

    code = main(["openclaw", "pack", "--output", str(tmp_path / "made here")])

    said = capsys.readouterr()
    path = Path(said.out.strip())
    assert code == 0
    assert path.name == f"flux2-tool-{VERSION}.tgz"
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    # The line is for pasting into a shell.
    assert f"'npm-pack:{path}'" in said.err


def test_pack_into_a_folder_that_cannot_be_made_is_an_error(
    openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A build must see what went wrong, and with which path."""
    (tmp_path / "file").write_text("here")

    code = main(["openclaw", "pack", "--output", str(tmp_path / "file" / "made")])

    said = capsys.readouterr()
    assert (code, said.out) == (3, "")
    assert f"cannot write {tmp_path}/file/made/flux2-tool-{VERSION}.tgz" in said.err
    assert "--output" in said.err


def test_the_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Who types it wants to know what there is."""
    assert main(["openclaw"]) == 0
    assert "uninstall" in capsys.readouterr().out
