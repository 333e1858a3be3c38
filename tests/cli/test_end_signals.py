"""SIGTERM, SIGHUP and Ctrl-C while a command waits for a picture: it is never silent about what may be paid for."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from flux2_tool.cli.end_signals import END_SIGNALS, REPEATED_WITHIN_S, EndSignals
from flux2_tool.cli.streams import ResultStream
from flux2_tool.sandbox import Sandbox
from tests.support.command import Command, SandboxClock, read_until, scratch_environ
from tests.support.waiting import PATIENCE_S, wait_until

HOUR_S = 3600.0
CALL = ("call", "text_to_image", '{"prompt": "a red fox"}')
GENERATE = ("generate", "a red fox")


@pytest.fixture(autouse=True)
def default_signals() -> Iterator[None]:
    """The signals as a shell gives them to a command, also where the tests themselves run under nohup; what a test
    makes of them ends with it."""
    before = {number: signal.getsignal(number) for number in END_SIGNALS}
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def slow(sandbox: Sandbox) -> Sandbox:
    """The sandbox with images that take an hour of its clock."""
    sandbox.change({"duration_s": HOUR_S})
    return sandbox


def printed_command(stderr: str) -> list[str]:
    """Return the words of the command that stderr names for later."""
    found = re.search(r"^hint: .*: flux2-tool (.+)$", stderr, flags=re.MULTILINE)
    assert found is not None, stderr
    return shlex.split(found[1])


# ---- while it waits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [GENERATE, CALL], ids=["generate", "call"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_prints_the_command_that_fetches_the_image(
    command: Command, slow: Sandbox, clock: SandboxClock, words: tuple[str, ...], number: signal.Signals, code: int
) -> None:
    """`timeout`, `docker stop`, a service that is stopped, a terminal that is closed."""
    with command.start(*words) as process:
        read_until(process, "(task ")
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
    clock.offset_s = 2 * HOUR_S

    fetched = command.run(*printed_command(stderr))

    assert process.returncode == code
    assert [json.loads(line)["error"]["code"] for line in stdout.splitlines()] == ["cancelled"] * (words is CALL)
    assert fetched.stdout.startswith("http"), fetched.stderr
    assert command.billed() == 1


def test_an_equal_call_joins_at_once_what_a_signal_ended(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """A container that is started again asks for the same picture."""
    with command.start(*GENERATE) as process:
        read_until(process, "(task ")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    clock.offset_s = 2 * HOUR_S

    again = command.run(*GENERATE, "--json")

    assert json.loads(again.stdout)["task"]["joined"] is True
    assert command.billed() == 1


def test_a_signal_during_resume_names_the_image(command: Command, slow: Sandbox) -> None:
    """It waits for paid pictures as well."""
    command.run(*GENERATE, "--wait", "0")
    with command.start("resume") as process:
        read_until(process, "1 to finish")
        process.send_signal(signal.SIGHUP)
        _, stderr = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 129
    assert printed_command(stderr)[0] == "task"


def test_the_probe_writes_its_transcript_after_a_signal(command: Command, slow: Sandbox) -> None:
    """Its image is paid for, and the transcript is what it was paid for."""
    with command.start("probe", "--yes", "--output", "probe.md") as process:
        wait_until(lambda: slow.ledger.tasks)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 143
    assert (command.folder / "probe.md").is_file()
    assert "is charged is not known" in stderr


def test_nohup_stays_nohup(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """Whoever starts a command so wants it to go on when the terminal is closed."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with command.start(*GENERATE) as process:
        read_until(process, "(task ")
        process.send_signal(signal.SIGHUP)
        clock.offset_s = 2 * HOUR_S
        stdout, stderr = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0, stderr
    assert stdout.startswith("http")


def test_a_terminal_that_is_closed_loses_nothing(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """stderr cannot be written any more: the task is named on stdout, and the next equal call joins it."""
    ours, theirs = pty.openpty()
    out = command.folder / "out"
    with (
        out.open("wb") as stdout,
        subprocess.Popen(
            [sys.executable, "-m", "flux2_tool", *GENERATE],
            cwd=command.folder,
            env={**command.environ, "TERM": "xterm"},
            stdin=theirs,
            stdout=stdout,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        ) as process,
    ):
        os.close(theirs)
        seen = b""
        while b"(task " not in seen:
            seen += os.read(ours, 4096)
        os.close(ours)
        code = process.wait(timeout=PATIENCE_S)
    clock.offset_s = 2 * HOUR_S
    again = command.run(*GENERATE, "--json")

    found = json.loads(again.stdout)["task"]
    assert code == 129
    assert out.read_text() == f"{found['ref']}\n"
    assert found["joined"] is True
    assert command.billed() == 1


# ---- while it shows the result ---------------------------------------------------------------------------------------

_WRITES = """
import signal, sys
from flux2_tool.cli.end_signals import EndSignals, exit_code_after_signal
from flux2_tool.cli.streams import ResultStream

sys.stdout = ResultStream(1)
with EndSignals() as signals, signals.showing():
    print("ready", file=sys.stderr, flush=True)
    sys.stdout.write("x" * 10_000_000)
    print(sys.stdout.failure.strerror, file=sys.stderr, flush=True)
sys.exit(exit_code_after_signal(0))
"""


def _writing(bare: Command) -> subprocess.Popen[str]:
    """Start a process that writes more than a pipe takes, with signals as a command has them."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITES],
        env=scratch_environ(bare.folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    read_until(process, "ready")
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_result_that_nobody_reads(bare: Command, number: signal.Signals, code: int) -> None:
    """A pager that was stopped must not keep a service from ending; the result then counts as not shown."""
    with _writing(bare) as process:
        process.send_signal(number)
        assert process.wait(timeout=PATIENCE_S) == code
        assert process.stderr is not None
        assert process.stderr.read() == "the command was told to end\n"


class _LongText(str):
    """Text that takes so long to encode that a signal comes meanwhile."""

    __slots__ = ("stream",)
    stream: ResultStream

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        self.stream.end(None)
        return super().encode(encoding, errors)


def test_a_signal_just_before_a_write_ends_it_too() -> None:
    """Nothing would interrupt it any more, and its reader may have stopped."""
    reading, writing = os.pipe()
    text = _LongText("a result")
    text.stream = ResultStream(writing)

    text.stream.write(text)

    os.close(writing)
    with os.fdopen(reading, "rb") as written:
        assert written.read() == b""
    assert text.stream.is_ended


def test_the_second_ctrl_c_ends_a_result_that_nobody_reads(bare: Command) -> None:
    """The first came too late to end the wait."""
    with _writing(bare) as process:
        assert process.stderr is not None
        # One more, once it is about to speak, would end what comes after that.
        wait_until(lambda: process.send_signal(signal.SIGINT) or select.select([process.stderr], [], [], 3)[0])
        assert process.stderr.read() == "the command was told to end\n"


# ---- several signals -------------------------------------------------------------------------------------------------


class Monotonic:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_sent_twice_in_a_row_is_one(number: signal.Signals) -> None:
    """`timeout` does so, and a terminal that is closed: the second would end the process before it has spoken."""
    ended: list[None] = []
    with EndSignals(monotonic=Monotonic()) as signals, signals.waiting(lambda: ended.append(None)):
        for sent in (number, number, signal.SIGHUP):
            signal.raise_signal(sent)

    assert (signals.first, len(ended)) == (number, 1)


def test_a_later_ctrl_c_ends_the_process_at_once_and_a_hangup_does_not() -> None:
    """Whoever presses it again means it; what closes a terminal sends SIGHUP as often as it likes."""
    monotonic = Monotonic()
    with EndSignals(monotonic=monotonic) as signals, signals.waiting(lambda: None):
        signal.raise_signal(signal.SIGTERM)
        monotonic.now_s = REPEATED_WITHIN_S
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_later_sigterm_ends_the_process_at_once(bare: Command) -> None:
    """Also one that is stuck."""
    stuck = "\n".join(line for line in _WRITES.splitlines() if "sys.stdout" not in line)
    stuck = stuck.replace("flush=True)", "flush=True)\n    while True: signal.pause()", 1)
    process = subprocess.Popen(
        [sys.executable, "-c", stuck], env=scratch_environ(bare.folder), stderr=subprocess.PIPE, text=True
    )
    with process:
        read_until(process, "ready")
        wait_until(lambda: process.send_signal(signal.SIGTERM) or process.poll() is not None)
        assert process.returncode == -signal.SIGTERM


def test_signals_are_as_before_once_a_command_has_shown_its_result() -> None:
    """Python code that runs a command goes on."""
    before = [signal.getsignal(number) for number in END_SIGNALS]

    with EndSignals() as signals:
        with signals.waiting(lambda: None):
            pass
        with signals.showing():
            pass

    assert [signal.getsignal(number) for number in END_SIGNALS] == before
