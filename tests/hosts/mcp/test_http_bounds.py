"""What the HTTP server bears of slow clients, and when an answer counts as received."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Collection, Mapping
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the MCP server needs the extra mcp")

import uvicorn
from uvicorn.server import ServerState

from flux2_tool.hosts.mcp_http import exchange as exchange_module
from flux2_tool.hosts.mcp_http import server as server_module
from flux2_tool.hosts.mcp_http.exchange import Exchange, Message, SentAnswers, acknowledged

END: Mapping[str, Any] = {"type": "http.response.body", "body": b""}


class Told:
    """Takes what became of results."""

    def __init__(self) -> None:
        self.received_ids: list[str] = []
        self.lost_ids: list[str] = []

    def received(self, task_ids: Collection[str]) -> None:
        """The client has them."""
        self.received_ids += task_ids

    def lost(self, task_ids: Collection[str]) -> None:
        """It has not got them."""
        self.lost_ids += task_ids


async def nothing_comes() -> Message:
    """Receive from a client that stays and says nothing more."""
    await asyncio.Event().wait()
    raise AssertionError


async def client_leaves() -> Message:
    """Receive from a client that has closed the connection."""
    return {"type": "http.disconnect"}


async def taken(_message: Message) -> None:
    """Send to a client that takes everything."""


async def never_taken(_message: Message) -> None:
    """Send to a client that takes nothing."""
    await asyncio.Event().wait()


def exchange(answers: SentAnswers, *, receive: Any = nothing_comes, send: Any = taken) -> Exchange:
    """Return an exchange without a network."""
    return Exchange(receive, send, body=b"{}", answers=answers, name=lambda client: client, transport=None)


def answers_of(told: Told) -> SentAnswers:
    """Return answers that tell this."""
    answers = SentAnswers()
    answers.delivery = told
    return answers


def test_a_sent_answer_is_received_and_one_that_was_left_is_lost() -> None:
    """The call of a client that leaves is told at once, or as soon as it asks."""
    told, gone = Told(), []

    async def main() -> None:
        answers = answers_of(told)
        sent = exchange(answers)
        sent.expect(["tsk_1"])
        assert await sent.receive() == {"type": "http.request", "body": b"{}", "more_body": False}
        await sent.send(dict(END))
        await sent.end()

        left = exchange(answers, receive=client_leaves)
        left.expect(["tsk_2"])
        left.on_gone(lambda: gone.append("at once"))
        await left.receive()
        await left.receive()
        left.on_gone(lambda: gone.append("later"))
        await left.end()
        left.expect(["tsk_3"])

    asyncio.run(main())

    assert told.received_ids == ["tsk_1"]
    assert told.lost_ids == ["tsk_2", "tsk_3"]
    assert gone == ["at once", "later"]


def test_a_result_is_not_lost_while_another_answer_brings_it() -> None:
    """Two calls may have joined; one of them being cut off takes nothing from the other."""
    told = Told()

    async def main() -> None:
        answers = answers_of(told)
        first, second = exchange(answers), exchange(answers)
        for one in (first, second):
            one.expect(["tsk_1"])
        await first.end()
        assert told.lost_ids == []
        await second.send(dict(END))
        await second.end()

    asyncio.run(main())

    assert (told.received_ids, told.lost_ids) == (["tsk_1"], [])


def test_a_client_that_does_not_take_its_answer_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not hold a picture's answer for ever."""
    monkeypatch.setattr(exchange_module, "LONGEST_UNREAD_S", 0.01)
    told = Told()

    async def main() -> None:
        stalled = exchange(answers_of(told), send=never_taken)
        stalled.expect(["tsk_1"])
        await stalled.send(dict(END))
        assert stalled.is_gone
        await stalled.end()

    asyncio.run(main())

    assert told.lost_ids == ["tsk_1"]


def test_what_the_peer_has_not_taken_is_not_acknowledged() -> None:
    """By the system's own count of what is under way."""

    async def main() -> tuple[bool, bool, bool]:
        here, there = socket.socketpair()
        there.setblocking(False)
        transport, _protocol = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=here)
        transport.write(b"x" * 4_000_000)
        early = await acknowledged(transport, within_s=0.02)
        left = 4_000_000
        while left:
            left -= len(await asyncio.get_running_loop().sock_recv(there, 1_000_000))
        late = await acknowledged(transport, within_s=60.0)
        transport.abort()
        closed = await acknowledged(transport, within_s=60.0)
        there.close()
        return early, late, closed

    assert asyncio.run(main()) == (False, True, True)


@pytest.mark.parametrize(
    ("files", "connections"),
    [
        pytest.param(1024, 824, id="the usual limit"),
        pytest.param(64, 32, id="a low one"),
        pytest.param(100_000, 2000, id="more than enough"),
    ],
)
def test_connections_leave_the_process_its_own_files(
    monkeypatch: pytest.MonkeyPatch, files: int, connections: int
) -> None:
    """Without them no picture can be requested, and every attempt to accept a connection fails with a report."""
    monkeypatch.setattr(server_module, "files_allowed", lambda wanted: min(wanted, files))

    assert server_module.most_connections() == connections


def test_connections_above_the_most_are_closed_at_once() -> None:
    """Idle ones are not counted by uvicorn, and would take the last files of the process."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send(dict(END))

    async def main() -> tuple[list[bytes], int]:
        config = uvicorn.Config(
            app, http=server_module.BoundedProtocol, lifespan="off", log_config=None, limit_concurrency=30
        )
        config.load()
        loop = asyncio.get_running_loop()
        state = ServerState()
        listening = await loop.create_server(lambda: server_module.BoundedProtocol(config, state, {}), "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        closed = [await reader.read() for reader, _writer in opened[46:]]
        held = len(state.connections)
        for _reader, writer in opened:
            writer.close()
        listening.close()
        return closed, held

    assert asyncio.run(main()) == ([b""] * 4, 46)


def test_one_report_a_minute_says_that_nothing_can_be_accepted() -> None:
    """asyncio makes thousands a second, which would fill the disk that has the journal."""
    now_s = 0.0
    seldom = server_module.SeldomRefused(lambda: now_s)
    refused = logging.makeLogRecord({"msg": "socket.accept() out of system resource\nsocket: <…>"})

    first = [seldom.filter(refused) for _ in range(3)]
    now_s = 61.0
    later = [seldom.filter(refused) for _ in range(3)]

    assert first == later == [True, False, False]
    assert seldom.filter(logging.makeLogRecord({"msg": "anything else"}))


def test_a_client_that_does_not_finish_its_head_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of such connections would leave none for others."""
    monkeypatch.setattr(server_module, "HEAD_WITHIN_S", 0.05)

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        assert scope["state"]["transport"].get_extra_info("peername")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send(dict(END))

    async def main() -> tuple[bytes, bytes]:
        config = uvicorn.Config(app, http=server_module.BoundedProtocol, lifespan="off", log_config=None)
        config.load()
        loop = asyncio.get_running_loop()
        state = ServerState()
        listening = await loop.create_server(lambda: server_module.BoundedProtocol(config, state, {}), "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        whole = await reader.readline()
        writer.write(b"GET / HTTP/1.1\r\nhost:")
        rest = b""
        with contextlib.suppress(ConnectionResetError):
            rest = await reader.read()
        writer.close()
        listening.close()
        return whole, rest

    whole, rest = asyncio.run(main())

    assert b"204" in whole
    assert rest.count(b"HTTP/1.1") == 0
