"""Where the data lives in the real OpenClaw, its backup, and what its web pages show of the plugin."""

from __future__ import annotations

import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flux2_tool.sandbox import Sandbox
from flux2_tool.schema.manifest import load_manifest
from tests.e2e.conftest import KEY, World
from tests.e2e.scripted_model import Say, ToolCall
from tests.e2e.webchat import running_webchat
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], sandbox: tuple[str, Sandbox]) -> Iterator[World]:
    """An OpenClaw whose user made an image on the command line before it had the plugin."""
    made = make_world(RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=sandbox[0], FLUX2_TOOL_DAILY_CAP_USD="5")
    done = made.openclaw.flux2_tool("generate", "an owl before", "--output", str(made.openclaw.home / "owl.png"))
    assert done.returncode == 0, done.stderr
    assert journal_of_old(made).is_file()
    made.openclaw.add_plugin()
    with made.openclaw.gateway():
        yield made


def journal_of_old(world: World) -> Path:
    return world.openclaw.home / ".local" / "share" / "flux2-tool" / "journal.db"


def test_the_shell_and_the_gateway_share_one_journal_which_a_backup_holds(world: World, tmp_path: Path) -> None:
    """What was made before comes along; one cap counts all; the archive has the journal as one sound database."""
    call = ToolCall(tool="text_to_image", arguments={"prompt": "a red fox"})
    world.openclaw.turn(world.model.script("fox", [call, Say(text="Here.")]), session="main")
    own = world.openclaw.state / "flux2-tool" / "journal.sqlite"

    listed = world.openclaw.flux2_tool("tasks").stdout
    wait_until(lambda: list((own.parent / "pictures").glob("*.png")))
    checked = world.openclaw.flux2_tool("doctor").stdout
    archive = tmp_path / "backup.tar.gz"
    made = world.openclaw.run("backup", "create", "--no-include-workspace", "--output", str(archive))
    with tarfile.open(archive) as packed:
        names = [name for name in packed.getnames() if "/flux2-tool/" in name]
        [member] = [name for name in names if name.endswith("/journal.sqlite")]
        packed.extract(member, tmp_path, filter="data")

    assert "owl" in listed
    assert "fox" in listed
    assert f"{own}, 2 tasks" in checked
    assert "0.10 USD spent" in checked
    assert journal_of_old(world).readlink() == own
    assert "opaque" not in made.stdout + made.stderr
    assert not [name for name in names if "/openclaw-plugin/" in name or name.endswith("-wal")]
    assert [name.endswith(".png") for name in names if "/flux2-tool/pictures/" in name] == [True]
    assert "1 picture, " in checked
    with closing(sqlite3.connect(tmp_path / member)) as restored:
        assert restored.execute("SELECT label, state FROM records ORDER BY rowid").fetchall() == [
            ("an-owl-before", "completed"),
            ("a-red-fox", "completed"),
        ]


def test_the_web_pages_show_settings_in_groups_and_the_command(world: World) -> None:
    """What people look for comes first; a switch with three states is no tick box; /flux2 shows this chat's."""
    manifest = load_manifest()
    with running_webchat(world.openclaw) as chat:
        chat.until("Here.")
        chat.say("/flux2 ")  # the space closes the menu of commands
        told = chat.until("Balance: ").text
        chat.shot("flux2")
        chat.go("/settings/plugins/flux2#configuration")
        shown = chat.until(manifest.setting_groups[-1].title).text
        safety = chat.choices("Safety checker")
        chat.shot("settings")

    assert "a-red-fox: completed" in told
    assert "owl" not in told
    assert "Today: 0.10 USD spent of 5.00 USD" in told
    titles = [group.title for group in manifest.setting_groups]
    assert [title for title in shown.splitlines() if title in titles][-len(titles) :] == titles
    places = [shown.index(f"\n{manifest.settings[key].label}\n") for key in manifest.setting_groups[0].settings]
    assert places == sorted(places)
    assert safety == ["RunAPI's default", "On", "Off"]
