"""Run the HTTP server until a signal ends it: `flux2-tool mcp --http HOST:PORT`.

It needs the extra `mcp`, which brings uvicorn. Every wait ends on a signal, so that its call is answered: the tasks go
on at RunAPI, are in the journal, and are fetched from the next process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import anyio
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from flux2_tool._platform import files_allowed
from flux2_tool.context import CallContext
from flux2_tool.engine.host_profile import MCP_HTTP
from flux2_tool.hosts.leash import END_WITHIN_S, call_at_signal
from flux2_tool.hosts.log_stream import log_to_stderr, unblocked_stderr
from flux2_tool.hosts.mcp_http.access import Access, token_of
from flux2_tool.hosts.mcp_http.address import Listening, listen
from flux2_tool.hosts.mcp_http.app import MAX_BODY_BYTES, McpApp
from flux2_tool.hosts.mcp_http.exchange import SentAnswers
from flux2_tool.hosts.mcp_http.sessions import Sessions
from flux2_tool.hosts.mcp_sdk import sdk
from flux2_tool.hosts.mcp_server import ToolServer, exit_now
from flux2_tool.schema.variables import TOKEN_VARIABLE

# How long a connection may take for the head of a request.
HEAD_WITHIN_S: Final = 30.0
KEEP_ALIVE_S: Final = 75
MAX_CONNECTIONS: Final = 2000
# Files for all but the clients: the journal, connections to RunAPI, the processes that decode.
_OWN_FILES: Final = 200
# So many connections are accepted at once; those of a few such turns are open before the first is closed again.
_BACKLOG: Final = 32
# So many wait to be accepted.
_QUEUE: Final = 1024
# Connections above the most that are answered with 503; those above these are closed at once.
_ANSWERED: Final = 16
_SELDOM_S: Final = 60.0
GRACE_S: Final = 3


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which cuts off a connection that does not finish the head of a request.

    The application finds the connection in its scope's state, under `transport`.
    """

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        self._late: asyncio.TimerHandle | None = None
        super().__init__(config, server_state, app_state, _loop)

    def connection_made(self, transport: Any) -> None:
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency + _ANSWERED:
            transport.abort()
            return
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        self._expect_head()
        super().data_received(data)
        if self._is_answering and self._late is not None:
            self._late.cancel()
            self._late = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._late is None and not self._is_answering:
            self._late = self.loop.call_later(HEAD_WITHIN_S, self.transport.abort)


class _Server(uvicorn.Server):
    """Leaves the signals alone, and calls back once it accepts connections."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_QUEUE)  # asyncio has taken _BACKLOG for this too
        self._on_ready()


def main(address: str, *, on_ready: Callable[[str], object]) -> None:
    """Run the server process; it does not return.

    Args:
        address: As `--http` gives it.
        on_ready: Called with the URL once connections are accepted.

    Raises:
        ConfigurationError: It cannot listen there, or there is no token for it.
    """
    listening = listen(address)
    with listening.listener:
        shown = listening.url
        token = token_of(os.environ, is_loopback_only=listening.is_loopback, address=shown)
        # Nothing that this process starts needs it.
        os.environ.pop(TOKEN_VARIABLE, None)
        with unblocked_stderr():
            log_to_stderr(logging.WARNING)
            # Version 1 of the SDK reports every client that closes its stream as an error.
            logging.getLogger("mcp.server.streamable_http").addFilter(_is_news)
            logging.getLogger("asyncio").addFilter(SeldomRefused(time.monotonic))
            asyncio.run(serve(listening, token, on_ready=lambda: on_ready(shown)))
            exit_now()


async def serve(listening: Listening, token: str | None, *, on_ready: Callable[[], object]) -> None:
    """Serve until a signal comes."""
    answers = SentAnswers()
    # Whose files would they be? A client may be on another machine, so only the setting source_roots names some.
    caller = CallContext(is_owner=MCP_HTTP.callers_are_owners)
    tools = ToolServer(os.environ, answers, host=MCP_HTTP, caller=caller)
    answers.delivery = tools.engine
    manager = sdk().http(sdk().server(tools.info, tools), max_body_bytes=MAX_BODY_BYTES)
    app = McpApp(manager, sdk=sdk(), access=Access(token), sessions=Sessions(time.monotonic), answers=answers)
    server = _Server(_config(app), on_ready)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        tools.stop_waiting()
        app.stop()
        server.should_exit = True

    def end(*_signal: object) -> None:
        threading.Thread(target=_end_late, name="end", daemon=True).start()
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            loop.call_soon_threadsafe(stop)

    call_at_signal(end)
    async with manager.run():
        sweeping = asyncio.ensure_future(app.sweep())
        await server.serve(sockets=[listening.listener])
        sweeping.cancel()
    await tools.aclose()


def _is_news(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], anyio.ClosedResourceError)


class SeldomRefused(logging.Filter):
    """Lets one report a minute through that no connection can be accepted: asyncio makes thousands of them a second.

    Args:
        monotonic: Seconds that never run backwards.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._next_s = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be logged."""
        if not record.getMessage().startswith("socket.accept() out of system resource"):
            return True
        now_s = self._monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + _SELDOM_S
        return True


def most_connections() -> int:
    """Return how many connections there may be, so that this process can still open the files it needs itself."""
    files = files_allowed(MAX_CONNECTIONS + _OWN_FILES)
    return min(MAX_CONNECTIONS, max(files - _OWN_FILES, files // 2))


def _end_late() -> None:
    threading.Event().wait(END_WITHIN_S + GRACE_S)
    exit_now()


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        access_log=False,
        log_level="warning",
        log_config=None,
        server_header=False,
        proxy_headers=False,  # see `app.py`
        limit_concurrency=most_connections(),
        backlog=_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
