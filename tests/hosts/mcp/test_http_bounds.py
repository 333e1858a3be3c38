"""What the HTTP server bears of slow clients, and when an answer counts as received."""

from __future__ import annotations

import asyncio
import contextlib
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
