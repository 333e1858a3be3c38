"""Asking for a price: the order of sources, the cache, the two seconds, and the key that stays at home."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool._redaction import SecretStr
from flux2_tool.journal import ThisProcess, open_journal
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.http_client import open_http
from flux2_tool.runapi.prices import FAILURE_LIFE_S, QUOTE_LIFE_S, SCHEDULE_LIFE_S, TIMEOUT_S, Price, Prices
from flux2_tool.schema.manifest import load_manifest
from tests.support.harness import (
    BASE_URL,
    DONE,
    FOX,
    KEY,
    Answer,
    MockService,
    SandboxTransport,
    Seen,
    json_answer,
    numbered,
    opened_tool,
    run_call,
    scripted,
)
from tests.support.virtual_time import VirtualClock, run_virtual

PRO = "flux-2-pro-text-to-image"
MAX = "flux-2-max-text-to-image"
QUOTES, SCHEDULES = "/api/v1/price_quotes", "/api/v1/price_schedules"
Play = Callable[[Prices, RunapiClient], Awaitable[Any]]


def _play(home: Path, transport: httpx.AsyncBaseTransport, play: Play, *, start_s: float | None = None) -> Any:
    """Run with prices of a process of its own, on virtual time."""

    async def main() -> Any:
        async with open_http(BASE_URL, transport=transport) as http:
            client = RunapiClient(http, base_url=BASE_URL, api_key=SecretStr(KEY), user_agent="test")
            clock = VirtualClock() if start_s is None else VirtualClock(start_s)
            prices = Prices(manifest=load_manifest(), folder=home, clock=clock)
            try:
                return await play(prices, client)
            finally:
                await prices.aclose()

    return run_virtual(main())


def _price(
    home: Path, transport: httpx.AsyncBaseTransport, model: str = PRO, resolution: str = "1k", **more: Any
) -> Price:
    found: Price = _play(home, transport, lambda p, c: p.price_of(c, model=model, resolution=resolution, **more))
    return found


def _service(
    *, quote_cents: Any = None, unit_cents: Any = None, spelling: str = "flux-2", status: int = 404
) -> MockService:
    """Return a service that has a quote, a schedule, both or neither, and knows itself by one name only."""

    def response(request: Seen) -> Answer:
        shared = {"model": PRO, "action": "text_to_image", "pricing_status": "available", "currency": "USD"}
        if spelling not in (request.body.decode() + request.url):
            return 422, {"error": "unknown service"}
        if request.path == QUOTES and quote_cents is not None:
            return 200, {
                "price_quote": {**shared, "reservation_amount_cents": quote_cents, "as_of": "2026-11-01T00:00Z"}
            }
        if request.path == SCHEDULES and unit_cents is not None:
            if request.headers.get("if-none-match") == '"v1"':
                return httpx.Response(304)
            row = {**shared, "billing_unit": "per_call", "unit_price_cents": unit_cents}
            return json_answer({"as_of": "2026-10-01T00:00:00Z", "price_schedules": [row]}, etag='"v1"')
        return status, {"error": "no"}

    return MockService(response, has_prices=True)


def test_a_quote_comes_first_with_its_date(home: Path) -> None:
    """It is the only answer about this very request."""
    transport = _service(quote_cents=6, unit_cents=9)

    assert _price(home, transport) == Price(usd=0.06, basis="quote", as_of="2026-11-01T00:00:00Z")
    assert [request.path for request in transport.seen] == [QUOTES]


def test_a_schedule_stands_in_for_a_missing_quote(home: Path) -> None:
    """The quote may be refused where the schedule is public."""
    assert _price(home, _service(unit_cents=9)) == Price(usd=0.09, basis="schedule", as_of="2026-10-01T00:00:00Z")


def test_the_list_price_stands_in_for_both_and_unknown_is_not_zero(home: Path) -> None:
    """Without any response the shipped table is the best there is; for max there is none."""
    assert _price(home, _service()) == Price(usd=0.05, basis="list price")
    assert _price(home, _service(), MAX) == Price(usd=None, basis="unknown")


def test_the_key_is_never_sent(home: Path) -> None:
    """These calls need none, so whoever answers them must not see it."""
    transport = _service()
    _price(home, transport)

    assert len(transport.seen) >= 2
    assert all("authorization" not in request.headers for request in transport.seen)
    assert all(KEY not in str(request) for request in transport.seen)


@pytest.mark.parametrize("spelling", ["flux-2", "flux_2"])
def test_either_spelling_of_the_service_is_found_and_remembered(home: Path, spelling: str) -> None:
    """Two sources spell it differently; the wrong one must not cost a question each time."""
    transport = _service(quote_cents=6, spelling=spelling)

    async def play(prices: Prices, client: RunapiClient) -> None:
        for _ in range(2):
            assert (await prices.price_of(client, model=PRO, resolution="1k")).basis == "quote"
            await asyncio.sleep(QUOTE_LIFE_S)

    _play(home, transport, play)

    assert len(transport.seen) == (2 if spelling == "flux-2" else 3)


def test_a_quote_is_asked_for_once_in_ten_minutes(home: Path) -> None:
    """By this process and by the next one."""
    transport = _service(quote_cents=6)

    async def play(prices: Prices, client: RunapiClient) -> None:
        found = await asyncio.gather(*(prices.price_of(client, model=PRO, resolution="1k") for _ in range(50)))
        assert {price.usd for price in found} == {0.06}
        await asyncio.sleep(QUOTE_LIFE_S - 1)
        await prices.price_of(client, model=PRO, resolution="1k")

    _play(home, transport, play)
    _price(home, transport)

    assert len(transport.seen) == 1


def test_a_schedule_is_asked_for_anew_by_its_etag(home: Path) -> None:
    """An unchanged list costs one empty response, and its price lives on."""
    transport = _service(unit_cents=9)

    async def play(prices: Prices, client: RunapiClient) -> None:
        for _ in range(2):
            assert (await prices.price_of(client, model=PRO, resolution="1k")).usd == 0.09
            await asyncio.sleep(SCHEDULE_LIFE_S)

    _play(home, transport, play)
    tags = [request.headers.get("if-none-match") for request in transport.seen if request.path == SCHEDULES]

    assert tags == [None, '"v1"']


def test_a_service_that_hangs_delays_only_the_first_call(home: Path) -> None:
    """A price is worth less than the picture."""
    transport = MockService(lambda _: (200, {}), delay_s=100.0, has_prices=True)

    async def play(prices: Prices, client: RunapiClient) -> list[float]:
        loop, waits = asyncio.get_running_loop(), []
        for _ in range(4):
            begun_s = loop.time()
            assert (await prices.price_of(client, model=PRO, resolution="1k")).basis == "list price"
            waits.append(loop.time() - begun_s)
        return waits

    waits = _play(home, transport, play)

    assert waits[0] == pytest.approx(TIMEOUT_S)
    # The second call asks for the schedule, which nobody did yet.
    assert waits[1] <= TIMEOUT_S + 0.01
    assert waits[2:] == [0.0, 0.0]


def test_an_response_that_comes_too_late_serves_the_next_call(home: Path) -> None:
    """The question was asked; its response is not thrown away."""
    transport = _service(quote_cents=6)
    transport.delay_s = 5.0

    async def play(prices: Prices, client: RunapiClient) -> tuple[Price, Price]:
        first = await prices.price_of(client, model=PRO, resolution="1k")
        await asyncio.sleep(5.0)
        return first, await prices.price_of(client, model=PRO, resolution="1k", timeout_s=0)

    first, second = _play(home, transport, play)

    assert (first.basis, second.basis) == ("list price", "quote")


def test_a_question_that_brought_nothing_is_not_repeated_for_a_while(home: Path) -> None:
    """A service without this endpoint must not be asked before every picture."""
    transport = _service()

    async def play(prices: Prices, client: RunapiClient) -> list[int]:
        counts = []
        for pause_s in (0, FAILURE_LIFE_S - 1, 2):
            await asyncio.sleep(pause_s)
            await prices.price_of(client, model=PRO, resolution="1k")
            counts.append(len(transport.seen))
        return counts

    first, second, third = _play(home, transport, play)

    assert first == second < third


def test_without_patience_nobody_is_asked(home: Path) -> None:
    """What is kept is enough for those who must not wait."""
    transport = _service(quote_cents=6)

    assert _price(home, transport, timeout_s=0) == Price(usd=0.05, basis="list price")
    assert transport.seen == []


def test_a_bill_is_what_the_next_image_is_expected_to_cost(home: Path) -> None:
    """Nobody asks for a price that the image's own response tells, in this process or the next."""
    images = numbered({**DONE, "usage": {"cost": 0.07}})
    transport = MockService(images.handler, has_prices=True)

    for prompts in (["one", "two"], ["a third"]):

        async def main(prompts: list[str] = prompts) -> None:
            async with opened_tool(home, transport) as tool:
                await asyncio.sleep(60.0 * len(prompts[0]))  # each process begins at the same virtual time
                for prompt in prompts:
                    await tool.call("text_to_image", {"prompt": prompt})

        run_virtual(main())
    with closing(open_journal(home, owner=ThisProcess(), now=1.0)) as journal:
        reserved = [record.reserved_usd for record in journal.records()]

    assert [request.path for request in transport.seen if request.path in (QUOTES, SCHEDULES)] == []
    assert reserved == [0.05, 0.07, 0.07]


@pytest.mark.parametrize("usd", [0.0, 0.01])
def test_a_reduced_image_says_nothing_of_the_next_ones_price(home: Path, usd: float) -> None:
    """A replayed or promotional one costs little; a cap must hold the price of the next one."""

    async def play(prices: Prices, client: RunapiClient) -> Price:
        prices.note_bill(client, model=PRO, resolution="1k", usd=usd)
        return await prices.price_of(client, model=PRO, resolution="1k", timeout_s=0)

    assert _play(home, _service(), play) == Price(usd=0.05, basis="list price")


@pytest.mark.parametrize(("later_s", "expected"), [(60.0, "quote"), (QUOTE_LIFE_S + 60, "last bill")])
def test_a_bill_counts_once_a_quote_is_old(home: Path, later_s: float, expected: str) -> None:
    """A quote says what the next image costs, a bill what the last one did."""

    async def play(prices: Prices, client: RunapiClient) -> Price:
        await prices.price_of(client, model=PRO, resolution="1k")
        prices.note_bill(client, model=PRO, resolution="1k", usd=0.09)
        await asyncio.sleep(later_s)
        return await prices.price_of(client, model=PRO, resolution="1k", timeout_s=0)

    assert _play(home, _service(quote_cents=6), play).basis == expected


def test_where_no_bill_comes_the_next_image_has_the_live_price(home: Path) -> None:
    """Without a question nobody would ever see that the price has changed; no picture waits for it."""

    def response(request: Seen) -> Answer:
        if request.path in (QUOTES, SCHEDULES):
            return prices.handler(request)
        return images.handler(request)

    images = numbered({**DONE, "usage": None})
    prices = _service(quote_cents=6)
    transport = MockService(response, has_prices=True)

    async def main() -> tuple[float, list[dict[str, Any]]]:
        async with opened_tool(home, transport) as tool:
            first = await tool.call("text_to_image", FOX)
            sent_s = next(request.at_s for request in transport.seen if request.path not in (QUOTES, SCHEDULES))
            await asyncio.sleep(1.0)
            return sent_s, [first, await tool.call("text_to_image", {"prompt": "another fox"})]

    sent_s, (first, second) = run_virtual(main())
    with closing(open_journal(home, owner=ThisProcess(), now=1.0)) as journal:
        reserved = [record.reserved_usd for record in journal.records()]

    assert sent_s == 0.0
    assert reserved == [0.05, 0.06]
    assert [request.path for request in transport.seen].count(QUOTES) == 1
    assert KEY not in str([request for request in transport.seen if request.path in (QUOTES, SCHEDULES)])
    # The list price is named as such, and so is what was expected in its place.
    assert (first["cost"], first["warnings"]) == ({"usd": 0.05, "basis": "list price"}, [])
    assert second["cost"] == {"usd": 0.05, "basis": "list price"}
    assert second["warnings"] == [
        "expected_price: RunAPI did not say what it billed; 0.06 USD was expected and reserved"
    ]


@pytest.mark.parametrize(
    ("billed_usd", "warnings"),
    [
        (0.05, []),
        (0.04, []),
        (4.5, ["billed_more: RunAPI billed 4.50 USD where 0.05 USD was expected; the caps count what was billed"]),
    ],
)
def test_a_bill_above_the_expected_price_is_named(home: Path, billed_usd: float, warnings: list[str]) -> None:
    """A price that was raised between the request and its image is nothing that anybody agreed to."""
    result = run_call(home, scripted(gets=[(200, {**DONE, "usage": {"cost": billed_usd}})]))

    assert (result["cost"], result["warnings"]) == ({"usd": billed_usd, "basis": "billed"}, warnings)


def test_an_old_schedule_is_better_than_the_shipped_list(home: Path) -> None:
    """With its own date, so that everybody sees how old it is."""
    _price(home, _service(unit_cents=9))
    late_s = 1_795_392_000.0 + 10 * 24 * 3600

    price = _play(
        home,
        MockService(lambda _: httpx.ConnectError("down"), has_prices=True),
        lambda prices, client: prices.price_of(client, model=PRO, resolution="1k"),
        start_s=late_s,
    )

    assert price == Price(usd=0.09, basis="schedule", as_of="2026-10-01T00:00:00Z")


@pytest.mark.parametrize(
    "response",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        (503, {"error": "down"}),
        (429, {"error": "slow"}),
        (200, None),
        (200, []),
        (200, {"price_quote": {"reservation_amount_cents": 0, "pricing_status": "available", "currency": "USD"}}),
        (200, {"price_quote": {"reservation_amount_cents": -5, "pricing_status": "available", "currency": "USD"}}),
        (200, {"price_quote": {"reservation_amount_cents": "5", "pricing_status": "available", "currency": "USD"}}),
        (200, {"price_quote": None, "price_schedules": None}),
        (200, {"price_schedules": [None, 7, {}]}),
        httpx.Response(200, content=b"<html><title>login</title></html>"),
        httpx.Response(200, content=b'{"price_quote": '),
        httpx.Response(200, content=b"x" * (5 * 1024 * 1024)),
        httpx.Response(302, headers={"location": "https://elsewhere.example/prices"}),
        httpx.Response(304),
    ],
)
def test_every_odd_response_ends_at_the_list_price(home: Path, response: Any) -> None:
    """A price is a courtesy: nothing the service says about it may fail a call, or make it free."""
    price = _price(home, scripted([response], [response], has_prices=True))

    assert price == Price(usd=0.05, basis="list price")


def test_a_model_nobody_knows_has_an_unknown_price_and_nobody_is_asked(home: Path) -> None:
    """There is nothing to ask about."""
    transport = _service(quote_cents=6)

    assert _price(home, transport, "flux-9") == Price(usd=None, basis="unknown")
    assert _price(home, transport, MAX, "2k") == Price(usd=None, basis="unknown")
    assert transport.seen == []


def test_the_sandbox_quotes_every_model(home: Path, runapi: SandboxTransport) -> None:
    """Also max, whose price no list at hand has."""

    async def play(prices: Prices, client: RunapiClient) -> list[Price]:
        models = load_manifest().models.values()
        return [await prices.price_of(client, model=m.slug, resolution=r) for m in models for r in m.prices_usd]

    found = _play(home, runapi, play)

    assert len(found) == 11
    assert {price.basis for price in found} == {"quote"}
    assert runapi.billed == 0
