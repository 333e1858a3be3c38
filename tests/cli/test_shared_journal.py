"""Commands whose journal is in PostgreSQL: what they say of it, and of one that they cannot or must not use."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.postgres import INSTALL, PostgresServer, programs, running_postgres

PASSWORD = "hunter2-of-this-test"
NOWHERE = f"postgresql://flux2:{PASSWORD}@127.0.0.1:9/flux2"
needs_server = pytest.mark.skipif(programs() is None, reason=f"there is no PostgreSQL here: {INSTALL}")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


@pytest.fixture
def machines(command: Command, server: PostgresServer, tmp_path: Path) -> tuple[Command, Command]:
    """Two data folders, as on two machines, with a new database."""
    name = f"flux2_{tmp_path.name.lower()}"[:60]
    server.query(f'CREATE DATABASE "{name}"')
    url = server.url(name).replace("flux2@", f"flux2:{PASSWORD}@")
    first, second = (
        replace(
            command,
            environ={**command.environ, "FLUX2_TOOL_HOME": str(tmp_path / home), "FLUX2_TOOL_JOURNAL_URL": url},
        )
        for home in ("first", "second")
    )
    return first, second


@needs_server
def test_commands_on_two_machines_speak_of_one_journal(machines: tuple[Command, Command], tmp_path: Path) -> None:
    """What one made the other lists, counts, shows and prunes; where it is, is said without the password."""
    first, second = machines
    before = first.run("tasks")
    made = first.run("generate", "a red fox", "--output", str(tmp_path / "fox.png"))
    done = [second.run(*words) for words in (["tasks"], ["resume"], ["tasks", "prune"], ["gallery", "--offline"])]
    checked = second.run("doctor", "--json", "--no-openclaw")
    said = "".join(one.stdout + one.stderr for one in (before, made, *done, checked))

    assert "no tasks in postgresql://127.0.0.1:" in before.stderr
    assert [one.returncode for one in (before, made, *done)] == [0] * 6, said
    assert "a-red-fox" in done[0].stdout
    assert "forgot 0 tasks" in done[2].stderr
    page = Path(done[3].stdout.strip()).read_text()
    assert "from postgresql://127.0.0.1:" in page
    assert "a red fox" in page
    [found] = [one for one in json.loads(checked.stdout)["findings"] if one["area"] == "journal"]
    assert found["state"] == "ok"
    assert "no other process of flux2-tool is connected; 1 tasks, 0 open, 0 of unknown outcome" in found["message"]
    [budget] = [one for one in json.loads(checked.stdout)["findings"] if one["area"] == "budget"]
    assert budget["facts"]["spent_usd"] == 0.05
    assert PASSWORD not in said + page


@needs_server
def test_a_journal_is_copied_into_the_database_once(machines: tuple[Command, Command]) -> None:
    """What was spent counts on; a second copy is refused, with what to do instead of a hint about files."""
    first, _ = machines
    alone = replace(first, environ={k: v for k, v in first.environ.items() if k != "FLUX2_TOOL_JOURNAL_URL"})
    assert alone.run("generate", "a red fox").returncode == 0

    copied = first.run("journal", "copy", "file", "shared")
    again = first.run("journal", "copy", "file", "shared")

    assert copied.returncode == 0, copied.stderr
    assert "copied 1 tasks, which cost 0.05 USD" in copied.stderr
    assert [one["label"] for one in first.tasks()] == ["a-red-fox"]
    assert again.returncode == 3
    assert "is not empty: it has 1 tasks" in again.stderr
    assert "hint:  name another place to copy into" in again.stderr


@needs_server
def test_a_place_without_a_journal_is_not_copied(machines: tuple[Command, Command]) -> None:
    """A mistyped folder, or the wrong HOME, must not pass for an empty journal, and nothing is made there."""
    first, _ = machines
    home = Path(first.environ["FLUX2_TOOL_HOME"])
    of_file = first.run("journal", "copy", "file", "shared")
    of_server = first.run("journal", "copy", "shared", "file")
    again = first.run("journal", "copy", "shared", "file")

    for done in (of_file, of_server, again):
        assert done.returncode == 2, done.stderr
        assert "FLUX2_TOOL_HOME" in done.stderr
    assert f"Nothing was copied: there is no journal in {home}" in of_file.stderr
    assert "there is no journal in postgresql://127.0.0.1:" in of_server.stderr
    assert "there is no journal in postgresql://127.0.0.1:" in again.stderr
    assert not list(home.glob("*"))


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://flux2:{PASSWORD}@db/flux2",
        f"postgresql://flux2:2024/{PASSWORD}@db/flux2",
        f"postgresql://flux2@db/flux2?sslpassword={PASSWORD}",
        f"postgresql://db/flux2?secret={PASSWORD}",
    ],
)
def test_a_password_on_the_command_line_is_refused_and_not_shown(command: Command, address: str) -> None:
    """Also in an address that is written wrongly."""
    done = command.run("journal", "copy", address, "file")

    assert done.returncode == 2
    assert PASSWORD not in done.stdout + done.stderr
    assert "hint:" in done.stderr


@pytest.mark.parametrize(
    "words", [("tasks",), ("resume",), ("gallery",), ("generate", "a red fox")], ids=lambda w: w[0]
)
def test_a_database_that_is_away_is_named_with_its_fix(command: Command, words: tuple[str, ...]) -> None:
    """A hint about folders and permissions would send its reader to the wrong machine."""
    done = command.run(*words, FLUX2_TOOL_JOURNAL_URL=NOWHERE)

    assert done.returncode == 3
    assert "the journal postgresql://127.0.0.1:9/flux2 cannot be opened" in done.stderr
    assert "tart the database, or correct the host, database, user or password in journal_url" in done.stderr
    assert "FLUX2_TOOL_HOME" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert command.billed() == 0


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"mysql://flux2:{PASSWORD}@db/flux2", "it must begin with postgresql://"),
        (f"flux2:{PASSWORD}@db/flux2", "it must begin with postgresql://"),
        (f"postgresql://flux2:{PASSWORD}@db", "it names no database"),
        (f"postgresql://flux2:{PASSWORD}@@db/flux2", 'such as %40 for "@"'),
        (f"postgresql://flux2:{PASSWORD}@db:x/flux2", "it has a port that is not a number"),
        (f"postgresql://flux2:{PASSWORD}@db/flux2?ssl=on", "it has a parameter that flux2-tool does not take"),
        (f"postgresql://flux2:{PASSWORD} @db/flux2", "it has a space or a line break in it"),
    ],
    ids=["another scheme", "no scheme", "no database", "an unescaped character", "a port", "a parameter", "a space"],
)
def test_a_misspelt_address_is_refused_without_showing_it(command: Command, url: str, problem: str) -> None:
    """libpq would quote it, password and all, or read it as another one."""
    done = command.run("generate", "a red fox", FLUX2_TOOL_JOURNAL_URL=url)

    assert done.returncode == 3
    assert f"FLUX2_TOOL_JOURNAL_URL: {problem}" in done.stderr or problem in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert command.billed() == 0


def test_without_the_extra_the_error_names_the_command_that_installs_it(command: Command, tmp_path: Path) -> None:
    """The setting alone does not bring the driver."""
    hiding = tmp_path / "hiding" / "psycopg.py"
    hiding.parent.mkdir()
    hiding.write_text("raise ModuleNotFoundError(name='psycopg')\n")
    hidden = {"PYTHONPATH": str(hiding.parent)}
    done = command.run("generate", "a red fox", FLUX2_TOOL_JOURNAL_URL=NOWHERE, **hidden)
    checked = command.run("doctor", "--no-openclaw", FLUX2_TOOL_JOURNAL_URL=NOWHERE, **hidden)

    assert done.returncode == 3
    assert "the setting journal_url needs psycopg, which is not installed" in done.stderr
    assert "nstall it again" in done.stderr
    assert "postgres" in done.stderr.partition("nstall it again")[2]
    assert "the setting journal_url needs psycopg, which is not installed" in checked.stdout
    assert command.billed() == 0


@pytest.fixture
def beside_a_plugin(command: Command, tmp_path: Path) -> Mapping[str, str]:
    """Variables of a shell on a machine whose gateway shares its journal."""
    folder = tmp_path / ".openclaw" / "flux2-tool"
    (folder / "openclaw-plugin").mkdir(parents=True)
    (folder / "settings.json").write_text('{"guards": {"journal_url": "\\u2026"}}')
    return {"FLUX2_TOOL_HOME": str(folder)}


def test_a_shell_beside_a_gateway_with_a_shared_journal_spends_by_no_other(
    command: Command, beside_a_plugin: Mapping[str, str], tmp_path: Path
) -> None:
    """Its cap would be counted apart; one who asked for a folder of its own has meant that."""
    refused = command.run("generate", "a red fox", **beside_a_plugin)
    listed = command.run("tasks", **beside_a_plugin)
    checked = command.run("doctor", "--no-openclaw", **beside_a_plugin)
    served = command.run("mcp", **beside_a_plugin)
    apart = command.run("generate", "a red fox", FLUX2_TOOL_HOME=str(tmp_path / "apart"))

    for one in (refused, served):
        assert one.returncode == 3
        assert "it would count its caps apart, so nothing was sent" in one.stderr
        assert "export FLUX2_TOOL_JOURNAL_URL with the same address" in one.stderr
    assert listed.returncode == 0
    assert "note:  the journal of OpenClaw's plugin here is in PostgreSQL" in listed.stderr
    assert "warning  journal   that of OpenClaw's plugin here is in PostgreSQL (journal_url)" in checked.stdout
    assert apart.returncode == 0
    assert command.billed() == 1
