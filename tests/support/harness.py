"""What the tests run against: the sandbox in process on virtual time, or a mock service that a test scripts by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from flux2_tool._redaction import SecretStr
from flux2_tool.credentials import Credentials
from flux2_tool.journal import OpenJournal
from flux2_tool.runapi.http_client import HttpTimeouts
from flux2_tool.sandbox import ConnectionDropped, Fault, Sandbox, SandboxOptions, create_app
from flux2_tool.settings import Settings, load_settings
from tests.support.hosted import HostedEngine, hosted
from tests.support.keys import KEY
from tests.support.network import network_of
from tests.support.stores import Opener
from tests.support.virtual_time import START_S, VirtualClock, VirtualProcess, run_virtual

BASE_URL: Final = "https://runapi.test"
PRICE_PATHS: Final = ("/api/v1/price_quotes", "/api/v1/price_schedules")
FOX: Final = {"prompt": "a red fox in the snow"}


def credentials(key: str = KEY, base_url: str = BASE_URL) -> Credentials:
    """Return an account."""
    return Credentials(api_key=SecretStr(key), base_url=base_url, source="explicit")


def settings_at(home: Path, **overrides: Any) -> Settings:
    """Return settings whose data folder is the test's own; no copies are kept beside what a test looks at."""
    return load_settings({}, overrides={"home": home, "daily_cap_usd": 1000.0, "keep_days": 0, **overrides})


@asynccontextmanager
async def opened_tool(
    home: Path,
    transport: httpx.AsyncBaseTransport,
    *,
    host: str = "native",
    key: str = KEY,
    base_url: str = BASE_URL,
    timeouts: HttpTimeouts | None = None,
    opener: OpenJournal | None = None,
    **overrides: Any,
) -> AsyncIterator[HostedEngine]:
    """Open a tool on virtual time; two on one `home` stand for two processes, one after the other."""
    tool = hosted(
        settings_at(home, **overrides),
        credentials(key, base_url),
        host=host,
        transport=network_of(transport),
        timeouts=timeouts or HttpTimeouts(),
        clock=VirtualClock(),
        random=random.Random(7),  # noqa: S311 - jitter
        owner=VirtualProcess(),
        opener=opener or Opener(),
    )
    try:
        yield tool
    finally:
        await tool.aclose()


def run_call(
    home: Path, transport: httpx.AsyncBaseTransport, tool: str = "text_to_image", arguments: Any = None, **options: Any
) -> dict[str, Any]:
    """Make one call in a process of its own, on virtual time, and return its result object.

    Args:
        options: `wait_s`, `cancel`, `on_progress`, `output_dir`, `output`, `session` and `new` go to the call; the
            rest to `opened_tool`.
    """
    names = ("wait_s", "cancel", "on_progress", "output_dir", "output", "session", "new")
    for_call = {name: options.pop(name) for name in names if name in options}

    async def main() -> dict[str, Any]:
        async with opened_tool(home, transport, **options) as opened:
            return await opened.call(tool, dict(FOX) if arguments is None else arguments, **for_call)

    return run_virtual(main())


# ---- the sandbox in process ------------------------------------------------------------------------------------------


class SandboxTransport(httpx.AsyncBaseTransport):
    """Carries requests to the sandbox's application as a network would.

    A dropped connection becomes httpx's error, and a client that gives up does not stop the service at its work.
    """

    def __init__(
        self, options: SandboxOptions | None = None, *, callbacks: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._now_s = START_S
        app = create_app(
            options or SandboxOptions(duration_s=6.0, drawn_images=False, seed=1),
            clock=self._wall_s,
            sleep=asyncio.sleep,
            callback_transport=callbacks,
        )
        self.sandbox: Sandbox = app.state.sandbox
        self.requests: list[tuple[str, str]] = []
        self._asgi = httpx.ASGITransport(app)
        self._at_work: set[asyncio.Task[httpx.Response]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path not in PRICE_PATHS:
            self.requests.append((request.method, request.url.path))
        task = asyncio.ensure_future(self._asgi.handle_async_request(request))
        self._at_work.add(task)
        task.add_done_callback(self._finished)
        try:
            return await asyncio.shield(task)
        except ConnectionDropped as exc:
            raise httpx.ReadError(str(exc), request=request) from exc

    def fault(self, kind: Any, on: Any = "create", **options: Any) -> None:
        """Order one fault."""
        self.sandbox.faults.queue(Fault(kind=kind, on=on, **options))

    @property
    def billed(self) -> int:
        """How many tasks have cost money by now."""
        return len(self.sandbox.ledger.billed_tasks)

    def _wall_s(self) -> float:
        with contextlib.suppress(RuntimeError):  # no loop runs any more: the ledger is read after the play
            self._now_s = VirtualClock().now()
        return self._now_s

    def _finished(self, task: asyncio.Task[httpx.Response]) -> None:
        self._at_work.discard(task)
        if not task.cancelled():
            task.exception()


# ---- a mock service written by hand ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request as it arrived."""

    method: str
    url: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at_s: float


Answer = httpx.Response | Exception | tuple[int, Any]
Handler = Callable[[Seen], Answer]


@dataclass
class MockService(httpx.AsyncBaseTransport):
    """Answers each request by a function, and remembers all of them, on whatever host they arrived.

    Questions about prices, which calls ask in the background, are answered aside unless `has_prices`.
    """

    handler: Handler
    delay_s: float = 0.0
    has_prices: bool = False
    seen: list[Seen] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path in PRICE_PATHS and not self.has_prices:
            return httpx.Response(404)
        arrived = Seen(
            method=request.method,
            url=str(request.url),
            path=request.url.path,
            headers=dict(request.headers),
            body=await request.aread(),
            at_s=asyncio.get_running_loop().time(),
        )
        self.seen.append(arrived)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        answer = self.handler(arrived)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, tuple):
            answer = json_answer(answer[1], answer[0])
        return answer

    @property
    def posts(self) -> list[Seen]:
        """The create attempts."""
        return [request for request in self.seen if request.method == "POST"]

    @property
    def gets(self) -> list[Seen]:
        """The polls."""
        return [request for request in self.seen if request.method == "GET"]


def json_answer(body: Any, status: int = 200, **headers: str) -> httpx.Response:
    """Return an answer whose body is JSON, lone surrogates, NaN and all."""
    return httpx.Response(
        status,
        content=json.dumps(body).encode(),
        headers={
            "content-type": "application/json",
            **{name.replace("_", "-"): text.encode() for name, text in headers.items()},
        },
    )


CREATED: Final = {"task_id": "tsk_abc123", "status": "pending", "model": "flux-2-pro-text-to-image"}
PICTURE_URL: Final = "https://cdn.example/fox.png"
DONE: Final = {"id": "tsk_abc123", "status": "completed", "images": [{"url": PICTURE_URL}], "usage": {"cost": 0.05}}


def scripted(posts: Sequence[Answer] = (), gets: Sequence[Answer] = (), *, has_prices: bool = False) -> MockService:
    """Return a mock service that gives its answers in turn; the last one of each kind is given again and again."""
    left = {"POST": list(posts) or [(200, CREATED)], "GET": list(gets) or [(200, DONE)]}

    def answer(request: Seen) -> Answer:
        mine = left[request.method]
        return mine.pop(0) if len(mine) > 1 else again(mine[0])

    return MockService(answer, has_prices=has_prices)


def numbered(done: Mapping[str, Any] = DONE) -> MockService:
    """Return a mock service that makes a task of its own for each idempotency key, `tsk_1`, `tsk_2`, ….

    Args:
        done: The body of the answer to each poll; its `id` becomes that of the task.
    """
    keys: list[str] = []

    def answer(request: Seen) -> Answer:
        if request.method == "GET":
            return 200, {**done, "id": request.path.rsplit("/", 1)[-1]}
        key = request.headers["idempotency-key"]
        if key not in keys:
            keys.append(key)
        return 200, {**CREATED, "task_id": f"tsk_{keys.index(key) + 1}"}

    return MockService(answer)


def again(answer: Answer) -> Answer:
    """Return an answer that can be given once more: httpx reads a response only once."""
    if isinstance(answer, httpx.Response):
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)
    return answer
