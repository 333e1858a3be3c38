"""When a picture counts as delivered: once the host has read its answer, whatever becomes of the connection."""

from __future__ import annotations

import fcntl
import json
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from flux2_tool.sandbox import Sandbox
from tests.hosts.mcp.host import FOX, result_of, talk
from tests.hosts.mcp.test_process import call, handshake
from tests.support.command import SandboxClock
from tests.support.forked_commands import relayed
from tests.support.stores import records_of
from tests.support.waiting import PATIENCE_S, wait_until

SLOW = {"prompt": "[slow] a snail"}


class Connection:
    """A host that decides byte by byte what it reads."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self.server = server

    @property
    def input(self) -> IO[bytes]:
        """The server's stdin."""
        assert self.server.stdin is not None
        return self.server.stdin

    @property
    def output(self) -> IO[bytes]:
        """The server's stdout; unbuffered, so that nothing is read before it is asked for."""
        assert self.server.stdout is not None
        return self.server.stdout

    def send(self, *messages: Mapping[str, Any]) -> None:
        """Write messages, one a line."""
        self.input.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def answer(self, number: int) -> dict[str, Any]:
        """Read until the answer to a request has come."""
        while (message := json.loads(self.output.readline())).get("id") != number:
            pass
        found: dict[str, Any] = message["result"]
        return found

    def unread(self) -> int:
        """Return how many bytes the server has written that were not read."""
        return int(struct.unpack("i", fcntl.ioctl(self.output, termios.FIONREAD, b"\0" * 4))[0])

    def close(self, *, both: bool = True) -> None:
        """Close the server's stdin, and the reading end of its stdout as a host does that exits."""
        self.input.close()
        if both:
            self.output.close()
        self.server.wait(PATIENCE_S)


@contextmanager
def connection(environ: Mapping[str, str]) -> Iterator[Connection]:
    """Start a server and open a connection to it."""
    command = relayed("mcp", environ=environ)
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as server:
        found = Connection(server)
        found.send(*handshake())
        assert found.answer(1)["serverInfo"]["name"] == "flux2-tool"
        yield found
        server.kill()


def without_progress(number: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message of a call whose only line is its answer."""
    message = call(number, "text_to_image", arguments)
    del message["params"]["_meta"]
    return message


def made_again(environ: dict[str, str]) -> bool:
    """Whether an equal call on a new connection makes a new picture."""

    async def make(client: Any) -> dict[str, Any]:
        return result_of(await client.call_tool("text_to_image", FOX))

    return not talk(environ, make)["task"]["joined"]


def test_a_connection_for_each_call_gets_a_picture_for_each(environ: dict[str, str], sandbox: Sandbox) -> None:
    """LangChain's adapters and command-line clients work so; four equal calls are four wishes."""
    assert [made_again(environ) for _ in range(4)] == [True] * 4
    assert len(sandbox.ledger.billed_tasks) == 4


@pytest.mark.parametrize("both", [True, False], ids=["the host exits", "it only closes stdin"])
def test_what_was_read_before_the_end_is_delivered(environ: dict[str, str], sandbox: Sandbox, both: bool) -> None:
    """Many clients exit without a word as soon as they have their answer."""
    with connection(environ) as host:
        host.send(without_progress(2, FOX))
        assert host.answer(2)["structuredContent"]["task"]["state"] == "completed"
        host.close(both=both)

    assert made_again(environ)


def test_what_was_written_but_not_read_is_not_delivered(environ: dict[str, str], sandbox: Sandbox) -> None:
    """A host that crashed before it read the answer asks again, and must not pay again."""
    with connection(environ) as host:
        host.send(without_progress(2, FOX))
        wait_until(host.unread)
        host.close()

    assert not made_again(environ)
    assert len(sandbox.ledger.billed_tasks) == 1


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "unread"])
def test_only_what_is_read_is_delivered_however_long_it_takes(
    environ: dict[str, str], sandbox: Sandbox, is_read: bool
) -> None:
    """A host that hangs while its answer waits in the pipe, and is killed then, has shown nobody the picture."""
    home = Path(environ["FLUX2_TOOL_HOME"])
    with connection({**environ, "FLUX2_TOOL_WAIT_S": "3"}) as host:
        host.send(without_progress(2, FOX))
        wait_until(host.unread)
        if is_read:
            host.answer(2)
            wait_until(lambda: records_of(home)[0].delivered_at)
        else:
            unread_bytes = host.unread()
            sandbox.change({"duration_s": 3600})
            host.send(without_progress(3, {"prompt": "a snail that is still processing after three seconds"}))
            wait_until(lambda: host.unread() > unread_bytes)
            sandbox.change({"duration_s": 0.1})
        host.server.kill()

    assert made_again(environ) is is_read


def test_what_was_not_answered_is_not_delivered(environ: dict[str, str], sandbox: Sandbox, clock: SandboxClock) -> None:
    """The connection was dropped while the picture was made."""
    with connection(environ) as host:
        sandbox.change({"duration_s": 3600})
        host.send(without_progress(2, FOX))
        wait_until(lambda: sandbox.ledger.tasks)
        host.close()
    clock.offset_s += 3600

    assert not made_again(environ)


def test_an_answer_that_another_call_follows_is_delivered(environ: dict[str, str], sandbox: Sandbox) -> None:
    """Whoever goes on has read it, also if the server is killed a moment later."""
    with connection(environ) as host:
        host.send(without_progress(2, FOX))
        host.answer(2)
        host.send(without_progress(3, SLOW))
        wait_until(lambda: len(sandbox.ledger.tasks) == 2)
        host.server.kill()

    assert made_again(environ)
