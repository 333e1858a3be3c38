"""Those who are told by webhook: one in process on a clock of the test's, one on a socket."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from flux2_tool.sandbox import SandboxOptions, create_app
from tests.sandbox.conftest import FakeClock

HOOK = "http://127.0.0.1:8787/flux2/hook"
SECRET = base64.b64encode(b"a secret that the test chose").decode()
BODY = {"model": "flux-2-pro-text-to-image", "prompt": "a red fox in the snow"}
HEADERS = {"Authorization": "Bearer sk-test"}


def expected_signature(secret: str, event_id: str, timestamp: str, body: bytes) -> str:
    digest = hmac.digest(base64.b64decode(secret), b".".join([event_id.encode(), timestamp.encode(), body]), "sha256")
    return base64.b64encode(digest).decode()


class Delivery:
    """What a receiver saw of one request."""

    def __init__(self, headers: Any, body: bytes, at: float) -> None:
        self.headers, self.body, self.at = headers, body, at
        self.id: str = headers["X-Callback-Id"]
        self.timestamp: str = headers["X-Callback-Timestamp"]
        self.content: dict[str, Any] = json.loads(body)

    def is_signed_with(self, secret: str) -> bool:
        expected = expected_signature(secret, self.id, self.timestamp, self.body)
        return bool(self.headers["X-Callback-Signature"] == expected)


class HandClock(FakeClock):
    """Who sleeps on it wakes only when the test has moved it far enough."""

    def __init__(self) -> None:
        super().__init__()
        self.slept_on = asyncio.Event()
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        sleeper = (self.now + seconds, asyncio.Event())
        self._sleepers.append(sleeper)
        self.slept_on.set()
        await sleeper[1].wait()

    def move(self, seconds: float) -> None:
        self.now += seconds
        for until, event in self._sleepers:
            if until <= self.now:
                event.set()


class Hooked:
    """A sandbox in process whose callbacks arrive here. Answers are statuses, errors, or None for silence."""

    def __init__(self, *answers: int | Exception | None, clock: FakeClock | None = None, **options: Any) -> None:
        self.received: list[Delivery] = []
        self.clock = clock or FakeClock()
        self._answers = list(answers)
        self.app = create_app(
            SandboxOptions(**{"duration_s": 10.0, "seed": 1, "callback_secret": SECRET, **options}),
            clock=self.clock,
            sleep=self.clock.sleep,
            callback_transport=httpx.MockTransport(self._receive),
        )
        self.sandbox = self.app.state.sandbox
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app), base_url="http://sandbox.test", headers=HEADERS
        )

    async def _receive(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url) == HOOK
        self.received.append(Delivery(request.headers, request.content, self.clock.now))
        answer = self._answers.pop(0) if self._answers else 204
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer or 204, headers={"location": "http://127.0.0.1:8787/elsewhere"})

    async def create(self, **arguments: Any) -> str:
        answer = await self.client.post("/v1/text_to_image", json={**BODY, "callback_url": HOOK, **arguments})
        task_id: str = answer.json()["task_id"]
        return task_id

    def run(self, **arguments: Any) -> str:
        """Make one task and see its callbacks through; the fake clock sleeps for them."""

        async def play() -> str:
            task_id = await self.create(**arguments)
            await self.sandbox.callbacks_done()
            return task_id

        return asyncio.run(play())

    @property
    def booked(self) -> list[tuple[int, str, int | None]]:
        return [(item.attempt, item.forgery, item.status) for item in self.sandbox.ledger.callbacks]


@contextmanager
def receiver(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, queue.Queue[Delivery]]]:
    """A web server on loopback that notes what it is told."""
    heard: queue.Queue[Delivery] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.put(Delivery(self.headers, body, time.time()))
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def heard_it(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(204)
    handler.end_headers()
