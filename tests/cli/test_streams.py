"""Streams that are closed, full or without a reader: the image, its task and the exit code stay right."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.cli.streams import ResultStream, standard_streams
from flux2_tool.cli.terminal import output_failure, write_json, write_line, write_path
from flux2_tool.hosts.log_stream import LogStream
from flux2_tool.journal import Record, ThisProcess, open_journal
from flux2_tool.sandbox import Sandbox
from tests.support.command import Command
from tests.support.waiting import PATIENCE_S


def with_full(*values: Any) -> Any:
    """Return a case that needs a disk without space, which macOS has no device for."""
    return pytest.param(*values, marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full"))


def run(command: Command, *arguments: str, streams: str, stdin: bytes = b"", **extra: str) -> tuple[int, bytes, str]:
    """Run the command with such streams; return its exit code and what could be read of stdout and stderr.

    Args:
        streams: What a shell adds to a command; "gone" stands for a pipe whose reader has ended.
    """
    program = shlex.join([sys.executable, "-m", "flux2_tool", *arguments])
    read, written = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            ["bash", "-c", f"exec {program} {streams.replace('gone', f'&{written}')}"],
            cwd=command.folder,
            env={**command.environ, **extra},
            input=stdin,
            capture_output=True,
            timeout=PATIENCE_S,
            pass_fds=[written],
            check=False,
        )
    finally:
        os.close(written)
    return done.returncode, done.stdout, done.stderr.decode()


def the_record(command: Command) -> Record:
    """Return the only record of the command's journal."""
    journal = open_journal(command.folder / "data", owner=ThisProcess(), now=time.time())
    try:
        [record] = journal.records()
    finally:
        journal.close()
    return record


@pytest.mark.parametrize(
    ("streams", "form"),
    [(">&- <&-", []), (">&-", ["--json"]), with_full("> /dev/full", []), (">gone", []), (">gone", ["--json"])],
)
def test_an_image_that_could_not_be_shown_is_named_on_stderr(command: Command, streams: str, form: list[str]) -> None:
    """It is paid: the exit code is that of the image, and the next equal request gets it."""
    code, _, stderr = run(command, "generate", "a red fox", *form, streams=streams)

    record = the_record(command)
    assert code == 0
    assert f"flux2-tool task {record.task_id}" in stderr
    assert "counts as not shown" in stderr
    assert "Traceback" not in stderr
    assert (record.state, record.delivered_at) == ("completed", None)


@pytest.mark.parametrize("streams", ["2>&- <&-", with_full("2> /dev/full"), "2>gone"])
def test_an_image_is_shown_when_only_stderr_is_lost(command: Command, streams: str) -> None:
    """stderr holds notes; the result is on stdout."""
    code, stdout, _ = run(command, "generate", "a red fox", streams=streams)

    assert code == 0
    assert stdout.startswith(b"http")
    assert the_record(command).delivered_at is not None


@pytest.mark.parametrize("streams", [">&- 2>&- <&-", with_full("> /dev/full 2> /dev/full")])
def test_an_image_is_made_and_kept_when_nothing_can_be_written(command: Command, streams: str) -> None:
    """No file that is opened later may become stdout or stderr, least of all the journal."""
    code, _, _ = run(command, "generate", "a red fox", streams=streams)

    record = the_record(command)
    assert (code, record.state, record.delivered_at) == (0, "completed", None)


@pytest.mark.parametrize("streams", ["2>&-", with_full("2> /dev/full"), "2>gone"])
def test_a_task_that_goes_on_is_named_on_stdout_without_stderr(
    command: Command, sandbox: Sandbox, streams: str
) -> None:
    """The only place where its id can be read then."""
    code, stdout, _ = run(command, "generate", "a red fox [slow]", "--wait", "0", streams=streams)

    assert code == 6
    assert stdout.decode() == f"task:{the_record(command).task_id}\n"


@pytest.mark.parametrize(
    ("streams", "code"), [(">&-", 0), (">gone", 0), with_full("> /dev/full", 3), ("2>&-", 0), ("<&-", 0)]
)
def test_a_list_that_cannot_be_written_is_an_error_unless_nobody_wants_it(
    bare: Command, streams: str, code: int
) -> None:
    """`| head` wants no more of it; a full disk has lost what a script is about to read."""
    found, _, stderr = run(bare, "manifest", "export", "--format", "mcp", streams=streams)

    assert found == code
    assert ("could not be written to stdout: No space left on device" in stderr) == (code == 3)
    assert "Traceback" not in stderr


@pytest.mark.parametrize(("streams", "code"), [(">gone", 0), with_full("> /dev/full", 3)])
@pytest.mark.parametrize("words", [["task"], ["task", "--json"], ["call", "get_image_task", "{}"]])
def test_looking_back_is_a_list_like_any_other(command: Command, words: list[str], streams: str, code: int) -> None:
    """It shows no image for the first time."""
    command.run("generate", "a red fox")

    found, _, stderr = run(command, *words, streams=streams)

    assert found == code
    assert "counts as not shown" not in stderr
    assert ("could not be written to stdout: No space left on device" in stderr) == (code == 3)


@pytest.mark.parametrize("server", ["worker", "mcp"])
@pytest.mark.parametrize(("streams", "code"), [(">&-", 3), ("<&-", 0)])
def test_a_server_needs_stdout_and_ends_without_stdin(bare: Command, server: str, streams: str, code: int) -> None:
    """A host that forgot a pipe reads why; one that closed it has ended."""
    found, _, stderr = run(bare, server, streams=streams)

    assert found == code
    assert ("stdout is closed" in stderr) == (code == 3)
    assert "Traceback" not in stderr


@pytest.mark.parametrize("server", ["worker", "mcp"])
def test_a_server_without_stderr_answers_a_line_with_a_bom(bare: Command, server: str) -> None:
    """Editors and PowerShell put one at the start of what they write."""
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params if server == "mcp" else {}})

    code, stdout, _ = run(bare, server, streams="2>&-", stdin=b"\xef\xbb\xbf" + line.encode() + b"\r\n")

    assert code == 0
    assert json.loads(stdout.splitlines()[0])["result"]


def test_in_a_locale_without_its_letters_an_image_is_made_and_saved(command: Command) -> None:
    """LC_ALL=C is what cron and many containers have; the prompt is UTF-8 all the same."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    folder = command.folder / "雪の写真"

    code, stdout, stderr = run(command, "generate", "雪の中", "--output", str(folder), streams="", **plain)

    assert code == 0, stderr
    [saved] = folder.iterdir()
    assert saved.name.isascii()
    assert stdout.decode() == f"{saved}\n"
    assert the_record(command).label == "雪の中"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["generate", "a red fox", "--output", "."], id="generate"),
        pytest.param(["call", "text_to_image", '{"prompt": "a red fox"}', "--output", "."], id="call"),
        pytest.param(["remix", "make it night", "cat.png"], id="a source"),
    ],
)
def test_a_deleted_working_folder_is_named_before_anything_is_sent(command: Command, words: list[str]) -> None:
    """Nothing can be saved relative to it, and no picture be there."""
    gone = command.folder / "gone"
    gone.mkdir()
    program = shlex.join([sys.executable, "-m", "flux2_tool", *words])

    done = subprocess.run(
        ["sh", "-c", f"rmdir {shlex.quote(str(gone))}; exec {program}"],
        cwd=gone,
        env=command.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert done.returncode == 2, done.stderr
    assert "working folder, which has been deleted" in done.stderr
    assert command.ledger()["creates"] == []


# ---- the streams themselves ------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_a_write_that_fails_is_remembered_and_never_raises(pipe: tuple[int, int]) -> None:
    """The first failure explains all that follow."""
    os.close(pipe[0])
    stream = ResultStream(pipe[1])

    stream.write("a")
    stream.write("b")

    assert isinstance(stream.failure, BrokenPipeError)


def test_a_pipe_that_somebody_made_non_blocking_gets_all_of_a_result(pipe: tuple[int, int]) -> None:
    """Node makes its children's pipes so; a result is larger than a pipe."""
    text = "x" * 300_000
    os.set_blocking(pipe[1], False)
    reader = subprocess.Popen(["wc", "-c"], stdin=pipe[0], stdout=subprocess.PIPE, close_fds=True)
    stream = ResultStream(pipe[1])

    stream.write(text)
    os.close(pipe[1])
    counted, _ = reader.communicate(timeout=PATIENCE_S)

    assert stream.failure is None
    assert int(counted) == len(text)


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-1", "utf-8"])
def test_a_path_is_printed_as_its_bytes_and_other_text_is_escaped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoding: str
) -> None:
    """`cp "$(flux2-tool …)"` needs the path; JSON stays JSON; a terminal gets nothing it could act on."""
    path = tmp_path / "out"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    monkeypatch.setattr(sys, "stdout", ResultStream(descriptor, encoding=encoding))

    write_path("/p/caf\udce9.png")
    write_json({"path": "/p/caf\udce9", "text": "雪\x9b\ud83d"})
    write_line("雪\udc9b\x1b[2J")

    first, second, third, *_ = path.read_bytes().split(b"\n")
    assert first == b"/p/caf\xe9.png"
    assert json.loads(second.decode(encoding)) == {"path": "/p/caf\udce9", "text": "雪\x9b\ud83d"}
    assert third == ("雪".encode() if encoding == "utf-8" else b"\\u96ea") + b"[2J"
    assert output_failure() is None
    os.close(descriptor)


@pytest.mark.parametrize(
    "name", ["旅\u3000行", "a\u00a0b", "9.22\u202fPM", "👨\u200d👩", "a\u200fb", "a\x1b[2Jb", "a\nb", "a\r"]
)
@pytest.mark.parametrize("at_terminal", [False, True])
def test_a_printed_path_leads_to_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, at_terminal: bool
) -> None:
    """Whatever is in a folder's name; a word for the shell where it could act on the terminal or break the line."""
    (tmp_path / name).mkdir()
    path, out = tmp_path / name / "fox.png", io.StringIO()
    path.touch()
    monkeypatch.setattr(out, "isatty", lambda: at_terminal)
    monkeypatch.setattr(sys, "stdout", out)

    write_path(str(path))

    word = out.getvalue().removesuffix("\n")
    assert len(word.splitlines()) == 1
    if (at_terminal or {"\n", "\r"} & set(name)) and word.startswith("$'"):
        assert word.isprintable()
        named = subprocess.run(
            ["bash", "-c", f"printf %s {word}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
        ).stdout
        word = os.fsdecode(named)
    elif at_terminal:
        assert not {"\x1b", "\n", "\u200f"} & set(word)
    assert Path(word).is_file()


def test_stderr_without_a_reader_is_known_to_be_lost(pipe: tuple[int, int]) -> None:
    """So that what had to be said there can be said on stdout."""
    os.close(pipe[0])
    stream = LogStream(pipe[1], in_order=True)

    stream.write("a note\n")

    assert stream.is_broken


def test_streams_that_are_none_are_replaced_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """pythonw and some service managers start Python so."""
    streams: list[Any] = [None, None, None]
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)

    with standard_streams():
        print("a result")
        print("a note", file=sys.stderr)
        streams = [sys.stdin.isatty(), sys.stdout.isatty(), sys.stderr.isatty()]
        failure = output_failure()
        sys.stdin.close()

    assert streams == [False, False, False]
    assert failure is not None
    assert (sys.stdin, sys.stdout, sys.stderr) == (None, None, None)
