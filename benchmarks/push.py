"""How late a finished picture is seen when RunAPI tells of it by webhook, next to the SDK's polling.

The sandbox delivers signed webhooks to a small HTTP server here, which hands them to the worker as the gateway's route
does; the gateway itself is not measured. Seen is a picture when the worker has fetched it, which takes one more request
after the webhook.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from benchmarks.bench import BURST_RAMP_S, SETTLE_S, Bench, say
from benchmarks.figures import samples_of, summary_of
from benchmarks.kinds import KINDS
from benchmarks.load import make_all
from benchmarks.our_client import OurClient

OnWebhook = Callable[[dict[str, str], bytes], Awaitable[bool]]


async def measure(bench: Bench) -> list[dict[str, Any]]:
    """Return one entry for each client."""
    say("push: lateness with webhooks")
    pictures = [kind for kind in KINDS for _ in range(bench.scale.push_tasks)]
    bench.rng.shuffle(pictures)
    clients: list[OurClient] = []
    accepted = 0

    async def take(headers: dict[str, str], body: bytes) -> bool:
        nonlocal accepted
        is_accepted = await clients[0].webhook(headers, body)
        accepted += is_accepted
        return is_accepted

    async with _receiver(take) as url:
        config = {"callback_public_url": url, "callback_secret": bench.sandbox.webhook_secret}
        home = bench.new_home(history=1.0)
        async with bench.ours(home=home, config=config) as ours, bench.vendors(threads=len(pictures)) as theirs:
            clients.append(ours)
            answers = await asyncio.gather(
                *(make_all(client, pictures, in_flight=len(pictures), ramp_s=BURST_RAMP_S) for client in (ours, theirs))
            )
            await asyncio.sleep(SETTLE_S)
            ledger = await bench.sandbox.ledger()
    if accepted != len(pictures):
        raise RuntimeError(f"{accepted} webhooks were accepted for {len(pictures)} pictures")
    return [
        {"client": client.name, **asdict(summary_of(samples_of(made, ledger)))}
        for client, made in zip((ours, theirs), answers, strict=True)
    ]


@asynccontextmanager
async def _receiver(on_webhook: OnWebhook) -> AsyncIterator[str]:
    """Serve POSTs on loopback while the block runs; gives the address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = (line.partition(":") for line in head.split("\r\n")[1:] if line)
            headers = {name.strip().lower(): value.strip() for name, _, value in lines}
            body = await reader.readexactly(int(headers["content-length"]))
            status = "204 No Content" if await on_webhook(headers, body) else "401 Unauthorized"
            writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
