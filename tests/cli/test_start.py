"""What the command does before any tool runs: help, version, names, and what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from flux2_tool.cli import COMMANDS, cli, main
from flux2_tool.cli.interpreter import this_python
from flux2_tool.cli.options import option_name, waiting_options
from flux2_tool.cli.tool_commands import generate, remix, task
from flux2_tool.exceptions import ConfigurationError, InternalError, error_from_code, error_types
from flux2_tool.schema.manifest import load_manifest
from tests.support.command import Command
from tests.support.environ import unmeasured_environ
from tests.support.keys import KEY

HEAVY = ("httpx", "jsonschema", "pydantic", "rich", "PIL", "starlette", "uvicorn")


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["call", "--help"], ["manifest", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Help that takes a second is not asked for; this is kept by what is loaded, not by a clock."""
    code = (
        "import sys\nfrom flux2_tool.cli import main\n"
        f"code = main({arguments!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], env=unmeasured_environ(), capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "[] 0"


SENDING = """
import sys
from flux2_tool.cli import main

loaded = []


def note(event, arguments):
    if event == "socket.connect" and not loaded:
        loaded.extend(sys.modules)


sys.addaudithook(note)
code = main({arguments!r})
print(*loaded)
print(code)
"""
"""Prints what is loaded when a command connects to RunAPI for the first time, and its exit code."""

# Of other commands, of calls with sources, of refused calls, or of a picture that is there.
UNUSED = (
    *("PIL", "jsonschema", "mcp", "psutil", "psycopg", "pydantic", "pygments", "rich", "starlette", "uvicorn", "yaml"),
    *("difflib", "filecmp", "importlib.metadata"),
    "flux2_tool.cli.output",
    *(f"flux2_tool.engine.{name}" for name in ("budget_left", "keeping", "looking_back", "refusals", "result_builder")),
    *(f"flux2_tool.engine.{name}" for name in ("saving", "source_checks", "source_resolver")),
    "flux2_tool.gallery",
    *(f"flux2_tool.images.{name}" for name in ("download", "inspect")),
    *(f"flux2_tool.journal.{name}" for name in ("postgres", "postgres_database", "server_errors")),
    "flux2_tool.runapi.uploads",
    *(f"flux2_tool.schema.{name}" for name in ("installation", "results", "yaml_text")),
)


def test_until_its_request_is_sent_a_call_imports_only_what_that_takes(command: Command) -> None:
    """Whoever asks for a picture waits for each of them; the rest is loaded while the picture is being made."""
    code = SENDING.format(arguments=["generate", "a fox"])

    done = subprocess.run([sys.executable, "-c", code], env=command.environ, capture_output=True, text=True, check=True)

    _url, loaded, exit_code = done.stdout.splitlines()
    assert exit_code == "0"
    assert "httpx" in loaded.split()
    assert set(UNUSED) & set(loaded.split()) == set()


def test_what_a_result_needs_is_loaded_while_the_image_is_being_made(command: Command) -> None:
    """Else whoever waits for the picture waits for it as well; one module names what is loaded meanwhile."""
    naming = "import sys, flux2_tool.cli.needed_later\nprint(*sys.modules)"
    code = SENDING.format(arguments=["generate", "a fox"]) + "print(*sys.modules)"

    named = subprocess.run(
        [sys.executable, "-c", naming], env=command.environ, capture_output=True, text=True, check=True
    )
    done = subprocess.run([sys.executable, "-c", code], env=command.environ, capture_output=True, text=True, check=True)

    _url, before, _code, after = done.stdout.splitlines()
    later = {name for name in set(after.split()) - set(before.split()) if name.startswith("flux2_tool.")}
    assert "flux2_tool.cli.needed_later" in later
    assert later - set(named.stdout.split()) == set()


def test_a_call_never_loads_what_others_need(command: Command) -> None:
    """What draws pictures, a terminal's progress and what other commands serve is left to them."""
    others = ("PIL", "jsonschema", "mcp", "psutil", "pygments", "rich", "starlette", "uvicorn", "yaml")
    code = (
        "import sys\nfrom flux2_tool.cli import main\n"
        "code = main(['generate', 'a fox'])\n"
        f"print([name for name in {others!r} if name in sys.modules], code)"
    )

    done = subprocess.run([sys.executable, "-c", code], env=command.environ, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[] 0"


def test_a_worker_is_ready_before_it_loads_what_a_call_needs() -> None:
    """The plugin greets it in mid-chat; what a call needs is loaded by the call."""
    code = (
        "import asyncio, sys\nfrom flux2_tool.hosts.worker.server import Worker\n"
        "asyncio.run(Worker(lambda line: print(line.decode(), end=''), environ={}).receive("
        'b\'{"jsonrpc": "2.0", "id": 1, "method": "initialize"}\'))\n'
        f"print([name for name in {(*HEAVY, 'sqlite3')!r} if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], env=unmeasured_environ(), capture_output=True, text=True, check=True
    )

    answer, loaded = done.stdout.splitlines()
    assert load_manifest().version in answer
    assert loaded == "[]"


def test_the_list_of_commands_imports_none_of_them() -> None:
    """A broken or heavy command must not slow or break the others."""
    code = (
        "import sys\nfrom flux2_tool.cli import main\nmain(['--help'])\n"
        "unwanted = ('flux2_tool.cli.tool_commands', 'flux2_tool.cli.demo', 'yaml')\n"
        "print([name for name in unwanted if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], env=unmeasured_environ(), capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "[]"
    for name, (_, _, line) in COMMANDS.items():
        assert f"{name} " in done.stdout
        assert line in done.stdout


def test_without_a_command_help_is_shown(bare: Command) -> None:
    """The first thing people type."""
    done = bare.run()

    assert done.returncode == 0
    assert "Usage: flux2-tool" in done.stdout


@pytest.mark.parametrize("group", ["openclaw", "manifest", "tasks"])
def test_a_group_without_a_command_does_no_harm(bare: Command, group: str) -> None:
    """People type it to see what there is."""
    done = bare.run(group)

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_an_option_in_the_place_of_a_command_is_a_wrong_argument(bare: Command) -> None:
    """Behind "--" it is no option any more."""
    done = bare.run("--", "--nothing")

    assert (done.returncode, done.stdout) == (2, "")
    assert "--nothing" in done.stderr


def test_verbose_logs_on_stderr_and_never_the_key(command: Command) -> None:
    """What a person pastes into a bug report."""
    quiet, verbose = command.run("generate", "a red fox"), command.run("--verbose", "generate", "a blue fox")

    assert verbose.returncode == 0
    assert "INFO flux2_tool." in verbose.stderr
    assert "INFO" not in quiet.stderr
    assert len(verbose.stdout.splitlines()) == 1
    assert KEY not in verbose.stderr


def test_a_closed_pipe_is_no_failure_of_a_command(bare: Command) -> None:
    """`flux2-tool prices | head -1` is no failure."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "flux2_tool", "prices", "--offline"],
        env=dict(bare.environ),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)

    assert (done.returncode, done.stderr) == (0, "RunAPI was not contacted\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_command_without_its_outputs_still_ends_well(bare: Command, closed: str) -> None:
    """A service manager may start it with neither."""
    line = f'exec "{sys.executable}" -m flux2_tool prices --offline {closed}'

    done = subprocess.run(["/bin/sh", "-c", line], env=dict(bare.environ), capture_output=True, text=True, check=False)

    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_defect_of_a_command_is_told_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback alone tells nobody what to do; here a command's module is missing from the installation."""
    monkeypatch.setitem(COMMANDS, "demo", ("flux2_tool.cli.gone", "gone", "Is not there."))

    assert main(["demo"]) == InternalError.exit_code

    said = capsys.readouterr()
    assert said.out == ""
    assert "error: flux2-tool failed by a defect (ModuleNotFoundError)" in said.err
    assert "hint:  report this" in said.err


def test_a_python_that_does_not_know_its_path_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is given the interpreter to start; an empty one would start anything."""
    monkeypatch.setattr(sys, "executable", "")

    with pytest.raises(ConfigurationError, match="does not know its own path"):
        this_python()


def test_the_version_is_the_manifests(bare: Command) -> None:
    """One source for the version."""
    assert bare.run("--version").stdout == f"flux2-tool {load_manifest().version}\n"


def test_a_misspelt_command_names_the_nearest(bare: Command) -> None:
    """Two lines: what was wrong, what to do."""
    done = bare.run("gnerate", "a fox")

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == 'error: there is no command "gnerate" (nearest: generate)\nhint:  flux2-tool --help\n'


def test_no_command_takes_a_key(bare: Command) -> None:
    """Arguments of a process are open to every user of the machine."""
    done = bare.run("generate", "a fox", "--api-key", "sk-secret")

    assert done.returncode == 2
    assert "No such option" in done.stderr


def test_every_argument_of_a_tool_can_be_given() -> None:
    """The options derive from the manifest; this fails when one is lost on the way."""
    waiting = {parameter.name for parameter in waiting_options(load_manifest())}
    for command, tool, own in (
        (generate, "text_to_image", {"session", "new"}),
        (remix, "remix_image", {"session", "new"}),
        (task, "get_image_task", {"raw", "session"}),
    ):
        arguments = set(load_manifest().tools[tool].input_schema["properties"])

        names = {parameter.name for parameter in command.params}

        # --wait is the same as timeoutSeconds for people.
        assert arguments - {"timeoutSeconds"} == names - waiting - own
    assert option_name("aspect_ratio") == "--aspect-ratio"


def _commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _commands(f"{path} {name}", found)


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*item, id=item[0]) for item in _commands("flux2-tool", cli)]
)
def test_help_explains_every_option_in_words_for_people(path: str, command: click.Command) -> None:
    """The manifest's words are for models; an option without words is a riddle."""
    context = click.Context(command, info_name=path, terminal_width=100)

    text = command.get_help(context)

    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
    for phrase in ("only if asked for", "allowed host", "the user", "get_image_task", "..."):
        assert phrase not in text.replace("SOURCE...", "").replace("[ARGS]...", "").replace("=VALUE...", "")


def test_the_options_of_a_tool_say_what_an_image_costs(bare: Command) -> None:
    """Whoever chooses a model chooses a price."""
    said = " ".join(bare.run("generate", "--help").stdout.split())

    for model in load_manifest().tools["text_to_image"].models:
        assert model.use_for in said
        for resolution, price in model.prices_usd.items():
            assert (f"price of {resolution} not published" if price is None else f"{resolution} ${price:.2f}") in said


@pytest.mark.parametrize("seconds", ["nan", "-1", "soon", "3601"])
def test_a_wait_that_is_no_length_is_refused(bare: Command, seconds: str) -> None:
    """`nan` is greater and smaller than nothing, so it would slip through every bound."""
    done = bare.run("generate", "a fox", "--wait", seconds)

    assert done.returncode == 2
    assert "--wait" in done.stderr


@pytest.mark.parametrize(
    ("exit_code", "codes"),
    [
        (2, {"invalid_arguments", "source_refused"}),
        (3, {"missing_api_key", "authentication", "configuration_error", "journal_unavailable"}),
        (4, {"insufficient_credits", "budget_exceeded", "repeated_request", "content_refused"}),
        (4, {"generation_failed", "task_not_found"}),
        (5, {"rate_limited", "service_unavailable", "unexpected_answer", "worker_stopped", "internal_error"}),
        (130, {"cancelled"}),
    ],
)
def test_an_error_keeps_its_exit_code(exit_code: int, codes: set[str]) -> None:
    """Scripts branch on it, so it may not change between versions."""
    assert codes <= {kind.code for kind in error_types()}
    assert {error_from_code(code, "").exit_code for code in codes} == {exit_code}


def test_every_error_chooses_its_exit_code() -> None:
    """A new one must not end up as "unexpected" by accident."""
    assert [kind.code for kind in error_types() if "exit_code" not in vars(kind)] == []
    assert {kind.exit_code for kind in error_types()} == {2, 3, 4, 5, 130}
    assert error_from_code("of_a_newer_version", "").exit_code == 5


def test_the_worker_is_a_command(bare: Command) -> None:
    """The plugin starts `python -m flux2_tool worker`, and it ends with its input."""
    done = bare.run("worker", stdin='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}\n')

    assert done.returncode == 0
    assert load_manifest().sha256 in done.stdout


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        pytest.param(["generate", "-foo"], "generate -- -foo", id="letters that are no options"),
        pytest.param(["generate", "--no people, only foxes"], "generate -- '--no people, only foxes'", id="two dashes"),
        pytest.param(["remix", "-5 degrees", "a.png"], "remix -- '-5 degrees'", id="a number"),
    ],
)
def test_a_prompt_that_begins_with_a_dash_is_hinted_at(bare: Command, arguments: list[str], command: str) -> None:
    """Lists and moods are pasted so; "no such option" alone does not say what to do."""
    done = bare.run(*arguments)

    assert done.returncode == 2
    assert f'a text that begins with "-" goes after "--": flux2-tool {command}\n' in done.stderr


def test_a_misspelt_option_is_not_taken_for_a_prompt(bare: Command) -> None:
    """Its own suggestion is the better one."""
    assert "goes after" not in bare.run("generate", "--aspct-ratio", "1:1", "a fox").stderr


@pytest.mark.parametrize("options", [["--raw"], ["--output", "x.png"], ["--open"]])
@pytest.mark.parametrize("named", [[], ["recent"]])
def test_what_needs_one_task_is_refused_without_an_id(bare: Command, named: list[str], options: list[str]) -> None:
    """The list of the last pictures has no picture of its own; nothing may be left out in silence."""
    done = bare.run("task", *named, *options)

    assert done.returncode == 2
    assert f"{options[0]} needs the ID of a task" in done.stderr
