"""What the parts of a client cost that none can do without: waking up, changing to another thread, one request.

    python -m benchmarks.floor

Each is done again and again, once without a pause and once after a pause of 50 ms, as between the polls of a few
pictures: what runs after a pause finds nothing of it in the processor's caches. The request asks the sandbox for an
unfinished picture, over a connection that is kept, in four ways: as the SDK does, with httpx's blocking client; with
httpx's asynchronous one; as this client does; and with asyncio's streams alone, which check nothing. It takes half a
minute, and needs an idle machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.sandbox_process import SandboxProcess
from flux2_tool._redaction import SecretStr
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.http_client import open_http

PAUSE_S = 0.05
TIMES = 1500
TIMES_WITH_PAUSES = 100
SLOWNESS = 0.001
KEY = "sk-key-of-this-benchmark"
ARGUMENTS = {
    "model": "flux-2-pro-text-to-image",
    "prompt": "a red fox",
    "aspect_ratio": "1:1",
    "output_resolution": "1k",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one thing takes of the processor.

    Attributes:
        name: What it is.
        together_us: Done without a pause, in microseconds; None where the pause is the thing itself.
        apart_us: After a pause, the cost of waking up included.
    """

    name: str
    together_us: float | None
    apart_us: float


def main() -> int:
    """Measure all, and print the table."""
    costs = [Cost("wake a thread", None, _blocking(lambda: None, pause_s=PAUSE_S, times=TIMES_WITH_PAUSES))]
    costs += asyncio.run(_of_the_loop())
    with tempfile.TemporaryDirectory(prefix="floor-") as folder:
        costs += asyncio.run(_of_requests(Path(folder)))
    print("| what | one after the other, ms | each after a pause, ms |\n| --- | --- | --- |")
    for cost in costs:
        together = "-" if cost.together_us is None else f"{cost.together_us / 1000:.2f}"
        print(f"| {cost.name} | {together} | {cost.apart_us / 1000:.2f} |")
    return 0


def _blocking(do: Callable[[], object], *, pause_s: float, times: int) -> float:
    begun_s = time.process_time()
    for _ in range(times):
        if pause_s:
            time.sleep(pause_s)
        do()
    return (time.process_time() - begun_s) / times * 1e6


async def _awaited(do: Callable[[], Awaitable[object]], *, pause_s: float, times: int) -> float:
    begun_s = time.process_time()
    for _ in range(times):
        if pause_s:
            await asyncio.sleep(pause_s)
        await do()
    return (time.process_time() - begun_s) / times * 1e6


async def _both(name: str, do: Callable[[], Awaitable[object]]) -> Cost:
    await do()
    return Cost(
        name,
        await _awaited(do, pause_s=0.0, times=TIMES),
        await _awaited(do, pause_s=PAUSE_S, times=TIMES_WITH_PAUSES),
    )


async def _of_the_loop() -> list[Cost]:
    async def nothing() -> None: ...

    woken_us = await _awaited(nothing, pause_s=PAUSE_S, times=TIMES_WITH_PAUSES)
    return [
        Cost("wake an event loop", None, woken_us),
        await _both("have another thread do nothing", lambda: asyncio.to_thread(lambda: None)),
    ]


async def _of_requests(folder: Path) -> list[Cost]:
    sandbox = SandboxProcess(seed=1, folder=folder, speed=SLOWNESS)
    await sandbox.start()
    try:
        headers = {"Authorization": f"Bearer {KEY}"}
        create_url = f"{sandbox.base_url}/api/v1/flux_2/text_to_image"
        async with httpx.AsyncClient(headers=headers, trust_env=False) as http:
            created = (await http.post(create_url, json=ARGUMENTS)).raise_for_status()
        url = f"{create_url}/{created.json()['id']}"
        return [
            _with_blocking_httpx(url, headers),
            await _with_asynchronous_httpx(url, headers),
            await _with_this_client(sandbox.base_url, url),
            await _with_streams(url, headers),
        ]
    finally:
        await sandbox.stop()


def _with_blocking_httpx(url: str, headers: dict[str, str]) -> Cost:
    with httpx.Client(headers=headers, trust_env=False) as http:

        def ask() -> object:
            return http.get(url).raise_for_status()

        ask()
        together_us = _blocking(ask, pause_s=0.0, times=TIMES)
        apart_us = _blocking(ask, pause_s=PAUSE_S, times=TIMES_WITH_PAUSES)
    return Cost("a request, httpx's blocking client", together_us, apart_us)


async def _with_asynchronous_httpx(url: str, headers: dict[str, str]) -> Cost:
    async with httpx.AsyncClient(headers=headers, trust_env=False) as http:
        return await _both("a request, httpx's asynchronous client", lambda: http.get(url))


async def _with_this_client(base_url: str, url: str) -> Cost:
    async with open_http(base_url) as http:
        client = RunapiClient(http, base_url=base_url, api_key=SecretStr(KEY), user_agent="flux2-tool/floor")
        return await _both("a request, this client", lambda: client.send("GET", url))


async def _with_streams(url: str, headers: dict[str, str]) -> Cost:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    lines = [
        f"GET {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        *(f"{name}: {text}" for name, text in headers.items()),
    ]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def ask() -> bytes:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(None, 1)[0]
        return await reader.readexactly(int(length))

    try:
        return await _both("a request, asyncio's streams", ask)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


if __name__ == "__main__":
    sys.exit(main())
