"""Call a sandbox in process, on a clock that only moves when a test moves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from flux2_tool.sandbox import SandboxOptions, create_app

NOON = 1_795_435_200.0
"""23 November 2026, 12:00 UTC."""


class FakeClock:
    """Seconds since 1970, moved by hand or by whoever sleeps on it."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Caller:
    """A client of one sandbox, without sockets."""

    base_url = "http://sandbox.test"

    def __init__(self, options: SandboxOptions) -> None:
        self.clock = FakeClock()
        self.app = create_app(options, clock=self.clock, sleep=self.clock.sleep)
        self.sandbox = self.app.state.sandbox

    def request(
        self,
        method: str,
        path: str,
        *,
        key: str | None = "sk-test",
        headers: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> httpx.Response:
        """Send one request, with the key unless it is None."""
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url=self.base_url) as client:
                return await client.request(method, path, headers=sent, **kwargs)

        return asyncio.run(send())

    def create(
        self,
        path: str = "/v1/text_to_image",
        *,
        idempotency_key: str | None = None,
        key: str | None = "sk-test",
        **arguments: Any,
    ) -> httpx.Response:
        """Ask for a picture; the arguments start from the smallest valid ones."""
        action = path.rpartition("/")[2]
        body: dict[str, Any] = {"model": f"flux-2-pro-{action.replace('_', '-')}", "prompt": "a red fox in the snow"}
        if action == "remix_image":
            body["source_image_urls"] = ["https://example.com/fox.png"]
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self.request("POST", path, key=key, headers=headers, json={**body, **arguments})

    def task(self, **arguments: Any) -> str:
        """Make a task and return its id."""
        task_id: str = self.create(**arguments).json()["task_id"]
        return task_id

    def poll(self, task_id: str, prefix: str = "/v1/text_to_image/", *, key: str = "sk-test") -> httpx.Response:
        """Ask for a task's state."""
        return self.request("GET", prefix + task_id, key=key)

    def image(self, **arguments: Any) -> str:
        """Make a task, wait for it, and return its image URL."""
        task_id = self.task(**arguments)
        self.clock.now += 1000
        url: str = self.poll(task_id).json()["images"][0]["url"]
        return url


@pytest.fixture
def call() -> Caller:
    """A sandbox with the default options, except that every picture takes 10 s."""
    return Caller(SandboxOptions(duration_s=10.0, seed=1))


@pytest.fixture
def call_with() -> Callable[..., Caller]:
    """Makes a sandbox with options of the test's choice."""
    return lambda **options: Caller(SandboxOptions(**{"duration_s": 10.0, "seed": 1, **options}))
