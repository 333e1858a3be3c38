"""Run a sandbox on loopback: in the foreground for a person, or in a thread for a test."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from flux2_tool.sandbox.app import SandboxApp, create_app
from flux2_tool.sandbox.options import SandboxOptions
from flux2_tool.sandbox.service import Clock, Sandbox

# Longer than any client's pause between polls, so that kept-alive connections are not cut by surprise.
_KEEP_ALIVE_S = 75
_STOP_S = 5.0


def _protocol() -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol (the fast one where `httptools` is installed), with connections the app can close."""
    try:
        base: Any = importlib.import_module("uvicorn.protocols.http.httptools_impl").HttpToolsProtocol
    except ImportError:
        base = importlib.import_module("uvicorn.protocols.http.h11_impl").H11Protocol

    class ClosableProtocol(base):  # type: ignore[misc]
        """Lets the application close its connection: at once, or after what is already written."""

        def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
            state = {
                **app_state,
                "abort_connection": lambda: self.transport.abort(),
                "close_connection": lambda: self.transport.close(),
            }
            super().__init__(config, server_state, state, _loop)

    return ClosableProtocol


class _Server(uvicorn.Server):
    """Calls back once it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def serve(
    options: SandboxOptions | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    on_ready: Callable[[str], None] | None = None,
    clock: Clock = time.time,
) -> None:
    """Serve until interrupted.

    Args:
        options: The sandbox's options.
        host: A loopback address; anything else is refused.
        port: 0 takes a free one.
        on_ready: Called with the base URL once connections are accepted.
        clock: Seconds since 1970.

    Raises:
        ValueError: The host is not a loopback address.
        OSError: The port is taken.
    """
    listener, base_url = _listen(host, port)
    with listener:
        server = _Server(_config(create_app(options, clock=clock)), lambda: on_ready(base_url) if on_ready else None)
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            return


@contextmanager
def running_sandbox(
    options: SandboxOptions | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Clock = time.time,
    rng: random.Random | None = None,
) -> Iterator[tuple[str, Sandbox]]:
    """Serve from a thread while the block runs; gives the base URL and the sandbox (ledger, faults, options).

    Raises:
        ValueError: The host is not a loopback address.
        OSError: The port is taken.
    """
    app = create_app(options, clock=clock, rng=rng)
    listener, base_url = _listen(host, port)
    ready = threading.Event()
    with listener:
        server = _Server(_config(app), ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True)
        thread.start()
        try:
            while not ready.wait(0.05):
                if not thread.is_alive():
                    raise OSError(f"the sandbox could not start on {base_url}")
            yield base_url, app.state.sandbox
        finally:
            server.should_exit = True
            thread.join(_STOP_S)
            if thread.is_alive():
                server.force_exit = True
                thread.join(_STOP_S)


def _config(app: SandboxApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_protocol(),
        ws="none",
        loop="asyncio",
        lifespan="off",
        access_log=False,
        log_level="error",
        log_config=None,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )


def _listen(host: str, port: int) -> tuple[socket.socket, str]:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(
            f"host {host!r} is not a loopback address; the sandbox serves 127.0.0.1, ::1 or localhost only"
        )
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it every response is 40 ms late.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
    except OSError:
        listener.close()
        raise
    shown = f"[{address}]" if ":" in address else address
    return listener, f"http://{shown}:{listener.getsockname()[1]}"
