"""The expected price of an image, before it is requested, and the price's source.

In order: a quote for action, model and resolution; a schedule whose `billing_config` is understood; the list price that
ships with the manifest, or what the last image of the kind was billed if that was more; else unknown, which is never
zero. Quotes and schedules are requested without the key and cached in memory and on disk, as bills are; a caller waits
for them no longer than its timeout.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlencode

from flux2_tool._clock import Clock, iso_utc
from flux2_tool.runapi import contract
from flux2_tool.runapi.cache import PRICES_FILE, CachedPrices, PriceCache, is_etag
from flux2_tool.runapi.client import HttpResponse, RunapiClient
from flux2_tool.runapi.price_responses import read_quote, read_schedules
from flux2_tool.runapi.responses import UnreadableResponseError, decode_json
from flux2_tool.runapi.send_errors import CrossOriginRedirectError, MaybeSentError, NotSentError
from flux2_tool.runapi.services import service_of
from flux2_tool.schema.manifest import Manifest, Model

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 2.0
PREFETCH_TIMEOUT_S: Final = 30.0
QUOTE_LIFE_S: Final = 600.0
SCHEDULE_LIFE_S: Final = 3600.0
# A bill, or a schedule that cannot be refreshed, is still better than the list price that ships with the package.
BILL_LIFE_S: Final = 30 * 24 * 3600.0
STALE_SCHEDULE_LIFE_S: Final = 30 * 24 * 3600.0
# A bill like the last one is written again only after this time.
BILL_REWRITE_S: Final = 24 * 3600.0
# How long closing waits for a price that was requested for the next call.
PREFETCH_GRACE_S: Final = 1.0
# A price request that failed or timed out is not repeated for this long.
FAILURE_LIFE_S: Final = 300.0

PriceBasis = Literal["quote", "schedule", "last bill", "list price", "unknown"]

# The service may validate a quote's parameters like a request's. No user's prompt is sent here.
_QUOTE_PARAMS: Final = {"prompt": "a picture", "aspect_ratio": "1:1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The expected price of one image in US dollars; `as_of` is its date in UTC, None for a list price."""

    usd: float | None
    basis: PriceBasis
    as_of: str | None = None


def list_price(manifest: Manifest, model: str, resolution: str) -> Price:
    """Return the price that ships with the manifest, or an unknown one."""
    known = manifest.models.get(model)
    usd = None if known is None else known.prices_usd.get(resolution)
    return Price(usd=None, basis="unknown") if usd is None else Price(usd=usd, basis="list price")


class Prices:
    """Finds the price of a request, for one process.

    Args:
        manifest: Defines the models and their list prices.
        folder: The data folder, for the cached prices; None caches them in memory only.
        clock: Time.
    """

    def __init__(self, *, manifest: Manifest, folder: Path | None, clock: Clock) -> None:
        self._manifest = manifest
        self._cache = PriceCache(None if folder is None else folder / PRICES_FILE)
        self._clock = clock
        self._requests: dict[str, asyncio.Task[CachedPrices | None]] = {}
        self._retry_at_s: dict[str, float] = {}
        self._prefetching: set[asyncio.Task[Price]] = set()

    async def price_of(
        self, client: RunapiClient, *, model: str, resolution: str, timeout_s: float = TIMEOUT_S
    ) -> Price:
        """Return the expected price of one image; an invalid or missing response raises nothing.

        Args:
            client: The service to ask. Its key is not used.
            model: A model of the manifest, which also gives the action; any other has an unknown price.
            resolution: As in `output_resolution`.
            timeout_s: The longest this may take, in seconds; 0 sends nothing and only reads the cache.
        """
        known = self._manifest.models.get(model)
        if known is None or resolution not in known.prices_usd:
            return Price(usd=None, basis="unknown")
        client = client.without_key()
        deadline_s = self._clock.monotonic() + timeout_s
        named = f"{client.base_url} {known.tool} {model}"
        key = f"quote {named} {resolution}"
        quoted = await self._fresh(key, QUOTE_LIFE_S, deadline_s, lambda: self._quote(client, known, resolution, key))
        if quoted is not None and resolution in quoted.usd:
            return Price(usd=quoted.usd[resolution], basis="quote", as_of=quoted.as_of)
        schedule_key = f"schedule {named}"
        schedule = await self._fresh(
            schedule_key, SCHEDULE_LIFE_S, deadline_s, lambda: self._schedule(client, known, schedule_key)
        )
        if schedule is None:
            schedule = self._cached(schedule_key, STALE_SCHEDULE_LIFE_S)
        bill = self._cached(_bill_key(client, model, resolution), BILL_LIFE_S)
        listed = list_price(self._manifest, model, resolution)
        if schedule is not None and resolution in schedule.usd:
            found = Price(usd=schedule.usd[resolution], basis="schedule", as_of=schedule.as_of)
            if bill is None or bill.asked_at <= schedule.asked_at:
                return found
            listed = found
        # Only when it was more: a reduced image says nothing of the next one, whose price a cap has to hold.
        if bill is not None and bill.usd.get(resolution, 0.0) > (listed.usd or 0.0):
            return Price(usd=bill.usd[resolution], basis="last bill", as_of=bill.as_of)
        return listed

    def note_bill(self, client: RunapiClient, *, model: str, resolution: str, usd: float | None) -> None:
        """Remember what an image was billed, for the next one; where the service does not tell, request its price in
        the background.

        Args:
            usd: In US dollars; None when the response did not say. A free image says nothing of the next one's price.
        """
        if usd is None:
            self.prefetch(client, model=model, resolution=resolution)
            return
        key, now = _bill_key(client, model, resolution), self._clock.now()
        known = self._cached(key, BILL_REWRITE_S)
        if usd <= 0 or (known is not None and known.usd == {resolution: usd}):
            return
        service = service_of(model).priced_as[0]
        bill = CachedPrices(usd={resolution: usd}, asked_at=now, as_of=iso_utc(now), service=service, etag=None)
        self._cache.put(key, bill)

    def prefetch(self, client: RunapiClient, *, model: str, resolution: str) -> None:
        """Request a price in the background and cache it for the next request."""
        prefetch = self.price_of(client, model=model, resolution=resolution, timeout_s=PREFETCH_TIMEOUT_S)
        task = asyncio.get_running_loop().create_task(prefetch)
        self._prefetching.add(task)
        task.add_done_callback(self._prefetching.discard)

    async def aclose(self) -> None:
        """End the requests in flight, those for the next call after a short while."""
        if self._prefetching:
            await asyncio.wait(self._prefetching, timeout=PREFETCH_GRACE_S)
        tasks = [*self._prefetching, *self._requests.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- private -----------------------------------------------------------------------------------------------------

    async def _fresh(
        self, key: str, life_s: float, deadline_s: float, send: Callable[[], Awaitable[CachedPrices | None]]
    ) -> CachedPrices | None:
        """Return the cached prices, or those of a request that all callers share and that outlives their waits."""
        cached = self._cached(key, life_s)
        now_s = self._clock.monotonic()
        if cached is not None or now_s >= deadline_s or self._retry_at_s.get(key, now_s) > now_s:
            return cached
        task = self._requests.get(key)
        if task is None:
            task = self._requests[key] = asyncio.get_running_loop().create_task(self._send_and_cache(key, send))
        done, _ = await asyncio.wait({task}, timeout=deadline_s - now_s)
        if not done:
            # The next caller need not wait as well.
            self._retry_at_s[key] = self._clock.monotonic() + FAILURE_LIFE_S
        return task.result() if done and not task.cancelled() else None

    async def _send_and_cache(
        self, key: str, send: Callable[[], Awaitable[CachedPrices | None]]
    ) -> CachedPrices | None:
        try:
            prices = await send()
            if prices is not None:
                self._cache.put(key, prices)
                self._retry_at_s.pop(key, None)
            else:
                self._retry_at_s[key] = self._clock.monotonic() + FAILURE_LIFE_S
            return prices
        finally:
            del self._requests[key]

    def _cached(self, key: str, life_s: float) -> CachedPrices | None:
        cached = self._cache.get(key)
        # A date in the future means that the clock was set back: the age is unknown.
        return cached if cached is not None and 0 <= self._clock.now() - cached.asked_at < life_s else None

    async def _quote(self, client: RunapiClient, model: Model, resolution: str, key: str) -> CachedPrices | None:
        for service in self._services(model, self._cache.get(key)):
            query = {"service": service, "action": model.tool, "model": model.slug}
            params = {"model": model.slug, **_QUOTE_PARAMS}
            if model.resolutions:
                params["output_resolution"] = resolution
            body = json.dumps({**query, "params": params}).encode()
            response = await _send(client, "POST", contract.PRICE_QUOTES_PATH, body=body)
            if response is None:
                return None
            quoted = read_quote(_json_of(response), action=model.tool, model=model.slug)
            if quoted is not None:
                now = self._clock.now()
                as_of = quoted.as_of or iso_utc(now)
                return CachedPrices(usd={resolution: quoted.usd}, asked_at=now, as_of=as_of, service=service, etag=None)
        return None

    async def _schedule(self, client: RunapiClient, model: Model, key: str) -> CachedPrices | None:
        known = self._cache.get(key)
        for service in self._services(model, known):
            query = urlencode({"service": service, "action": model.tool, "model": model.slug})
            etag = None if known is None or known.service != service else known.etag
            tag = {} if etag is None else {"If-None-Match": etag}
            response = await _send(client, "GET", f"{contract.PRICE_SCHEDULES_PATH}?{query}", headers=tag)
            if response is None:
                return None
            now = self._clock.now()
            if response.status_code == 304 and known is not None and tag:
                return replace(known, asked_at=now)
            usd, as_of = read_schedules(
                _json_of(response), action=model.tool, model=model.slug, resolutions=tuple(model.prices_usd)
            )
            if usd:
                etag = response.headers.get("etag")
                return CachedPrices(
                    usd=usd,
                    asked_at=now,
                    as_of=as_of or iso_utc(now),
                    service=service,
                    etag=etag if is_etag(etag) else None,
                )
        return None

    @staticmethod
    def _services(model: Model, known: CachedPrices | None) -> list[contract.PricedName]:
        """Return the spellings of the name of a model's service, the one that worked before first."""
        names = service_of(model.slug).priced_as
        return sorted(names, key=lambda name: known is not None and name != known.service)


def _bill_key(client: RunapiClient, model: str, resolution: str) -> str:
    return f"bill {client.base_url} {model} {resolution}"


async def _send(
    client: RunapiClient,
    method: Literal["GET", "POST"],
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> HttpResponse | None:
    """Return the response, or None for a transient failure, which another spelling would not change."""
    try:
        response = await client.send(method, path, body=body, headers=headers)
    except (NotSentError, MaybeSentError, CrossOriginRedirectError) as exc:
        logger.info("no price: %s", exc)
        return None
    return None if response.status_code in contract.RETRYABLE_CODES else response


def _json_of(response: HttpResponse) -> Any:
    """Return the JSON of a successful response, None for any other."""
    try:
        return decode_json(response.body, response.content_type) if 200 <= response.status_code < 300 else None
    except UnreadableResponseError:
        return None
