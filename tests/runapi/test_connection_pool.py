"""Which connection takes a request, and what becomes of it afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpcore
import httpx
import pytest

from flux2_tool.runapi.connection_pool import ConnectionPool
from flux2_tool.runapi.connections import UnaskedBytesError
from flux2_tool.runapi.sending import Sending
from tests.support.virtual_time import run_virtual


class Body:
    """A response's body that gives its connection free when it is closed."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{}"

    async def aclose(self) -> None:
        await asyncio.sleep(self._line.closes_in_s)
        self._line.is_busy = False


class Line(httpcore.AsyncConnectionInterface):
    """A connection without a network: counts its requests, and fails as its request's path says."""

    def __init__(self, origin: httpcore.Origin) -> None:
        self.origin = origin
        self.requests = 0
        self.is_busy = False
        self.was_closed = False
        self.is_dead = False
        self.closes_in_s = 0.0
        self.closes_itself_in_s = 0.0
        self.says_begun = False

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        self.requests += 1
        self.is_busy = True
        if request.url.target == b"/fails":
            raise httpcore.ReadError("reset")
        if self.says_begun:
            await request.extensions["trace"]("http11.send_request_headers.started", {"request": request})
        if request.url.target.startswith(b"/unasked") and self.requests > 1:
            raise UnaskedBytesError("bytes that were not asked for")
        if request.url.target.endswith(b"refused"):
            raise httpcore.ConnectError("refused")
        return httpcore.Response(200, content=Body(self))

    async def aclose(self) -> None:
        self.was_closed = True
        await asyncio.sleep(self.closes_itself_in_s)

    def is_available(self) -> bool:
        return not self.is_busy and not self.was_closed

    def is_closed(self) -> bool:
        return self.was_closed

    def has_expired(self) -> bool:
        return self.is_dead


class Lines:
    """A pool over such connections."""

    def __init__(self, most: int = 3) -> None:
        self.made: list[Line] = []
        self.pool = ConnectionPool(self, most=most, keepalive_s=30.0)

    def create_connection(self, origin: httpcore.Origin) -> Line:
        self.made.append(Line(origin))
        return self.made[-1]

    async def begin(
        self, path: str = "/", *, host: str = "runapi.test", pool_s: float = 5.0, trace: Sending | None = None
    ) -> httpx.Response:
        """Return a response whose body is not read yet, so that its connection is in use."""
        extensions: dict[str, Any] = {"timeout": {"pool": pool_s}} | ({} if trace is None else {"trace": trace})
        request = httpx.Request("GET", f"https://{host}{path}", extensions=extensions)
        response = await self.pool.handle_async_request(request)
        response.request = request
        return response

    async def send(self, path: str = "/", *, host: str = "runapi.test") -> None:
        await (await self.begin(path, host=host)).aread()

    @property
    def requests(self) -> list[int]:
        return [line.requests for line in self.made]

    @property
    def open(self) -> list[bool]:
        return [not line.was_closed for line in self.made]


def test_one_request_after_the_other_needs_one_connection() -> None:
    async def main() -> list[int]:
        lines = Lines()
        for _ in range(4):
            await lines.send()
        return lines.requests

    assert asyncio.run(main()) == [4]


def test_the_connections_of_a_burst_are_closed_when_they_are_not_used() -> None:
    """The one that was used last is used again, so that the others become old."""

    async def main() -> Lines:
        lines = Lines()
        for response in [await lines.begin() for _ in range(3)]:
            await response.aclose()
        for _ in range(3):
            await asyncio.sleep(15.0)
            await lines.send()
        return lines

    lines = run_virtual(main())
    assert (lines.requests, lines.open) == ([1, 1, 4], [False, False, True])


def test_a_request_waits_for_a_connection_and_no_longer_than_it_may() -> None:
    async def main() -> None:
        lines = Lines(most=2)
        first, _second = await lines.begin(), await lines.begin()
        with pytest.raises(httpx.PoolTimeout):
            await lines.begin(pool_s=1.0)
        waiting = asyncio.create_task(lines.begin())
        await asyncio.sleep(1.0)
        await first.aclose()
        assert (await waiting).status_code == 200
        assert lines.requests == [2, 1]

    run_virtual(main())


@pytest.mark.parametrize("path", ["/unasked", "/"])
def test_a_connection_that_cannot_be_used_again_is_closed_and_replaced(path: str) -> None:
    """Something has arrived on it, or its server has closed it: the request goes out on another one."""

    async def main() -> Lines:
        lines = Lines()
        await lines.send()
        lines.made[0].is_dead = path == "/"
        await lines.send(path)
        return lines

    lines = asyncio.run(main())
    assert lines.open == [False, True]
    assert lines.requests[1] == 1


def test_a_connection_whose_request_failed_is_closed_and_its_place_is_free() -> None:
    async def main() -> Lines:
        lines = Lines(most=1)
        with pytest.raises(httpx.ReadError):
            await lines.send("/fails")
        await lines.send()
        return lines

    lines = asyncio.run(main())
    assert lines.open == [False, True]


def test_a_cancel_while_a_response_is_closed_loses_no_place() -> None:
    """And leaves no connection open that nobody knows of."""

    async def main() -> Lines:
        lines = Lines(most=1)
        response = await lines.begin()
        lines.made[0].closes_in_s = 5.0
        closing = asyncio.create_task(response.aclose())
        await asyncio.sleep(1.0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await lines.send()
        return lines

    assert run_virtual(main()).open == [False, True]


def test_a_cancel_while_room_is_made_leaves_no_connection_behind() -> None:
    """What is noted as in use is in use: otherwise fewer and fewer would be kept."""

    async def main() -> Lines:
        lines = Lines(most=1)
        await lines.send(host="one.test")
        lines.made[0].closes_itself_in_s = 5.0
        sending = asyncio.create_task(lines.send(host="two.test"))
        await asyncio.sleep(1.0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        for _ in range(2):
            await lines.send(host="three.test")
        return lines

    assert run_virtual(main()).requests == [1, 2]


def test_a_request_that_waits_or_gets_another_connection_is_unsent() -> None:
    """Nothing of it has been written, whatever becomes of it then."""

    async def main() -> list[bool]:
        lines, seen = Lines(most=1), list[bool]()
        first = await lines.begin()
        waiting = Sending()
        with pytest.raises(httpx.PoolTimeout):
            await lines.begin(pool_s=1.0, trace=waiting)
        seen.append(waiting.is_unsent)
        await first.aclose()
        lines.made[0].says_begun = True
        again = Sending()
        with pytest.raises(httpx.ConnectError):
            await lines.begin("/unasked-then-refused", trace=again)
        seen.append(again.is_unsent)
        return seen

    assert run_virtual(main()) == [True, True]


def test_idle_connections_to_other_hosts_make_room() -> None:
    async def main() -> Lines:
        lines = Lines(most=2)
        for host in ("one.test", "two.test", "one.test", "three.test"):
            await lines.send(host=host)
        return lines

    lines = asyncio.run(main())
    assert [line.origin.host for line in lines.made] == [b"one.test", b"two.test", b"three.test"]
    assert lines.open == [True, False, True]


def test_closing_the_pool_closes_every_connection() -> None:
    """Also one that is in use, which is not kept when its response is over."""

    async def main() -> Lines:
        lines = Lines()
        response = await lines.begin()
        await lines.send()
        await lines.pool.aclose()
        await response.aclose()
        return lines

    assert asyncio.run(main()).open == [False, False]
