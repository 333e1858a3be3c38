"""What bounds the fetching of pictures for one page, and what is said of each bound."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest

from flux2_tool.gallery.entries import Entry
from flux2_tool.gallery.thumbnails import MOST_FETCHED, Thumbnails
from flux2_tool.images.decoder import shared_decoder
from flux2_tool.tasks.record_cost import RecordCost
from tests.support.journal import NOON


def linked(number: int) -> Entry:
    """Return a picture without a saved copy."""
    return Entry(
        key=f"record-{number}",
        record_id=f"record-{number}",
        ref=f"task:tsk_{number}",
        prompt="a red fox",
        model="flux-2-pro-text-to-image",
        resolution="1k",
        is_edit=False,
        made_at=NOON,
        cost=RecordCost(0.05, "billed"),
        account="account",
        base_url="https://runapi.ai",
        path=None,
        url=f"https://cdn.example/{number}.png",
        expires_at=None,
    )


@pytest.mark.parametrize(
    ("fetching_s", "fetched", "said"),
    [
        pytest.param(3600.0, MOST_FETCHED, f"no more than {MOST_FETCHED} are fetched for one page", id="the number"),
        pytest.param(0.0, 0, "there was no more time to fetch them", id="the time"),
    ],
)
def test_it_says_which_bound_of_fetching_was_met(fetching_s: float, fetched: int, said: str) -> None:
    """Whoever reads of too little time looks for a slow network."""
    asked: list[str] = []

    def gone(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(410)

    async def failures() -> Counter[str]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(gone)) as http:
            thumbnails = Thumbnails(cache=None, decoder=shared_decoder(), http_of=lambda _: http, fetching_s=fetching_s)
            assert await thumbnails.of([linked(number) for number in range(MOST_FETCHED + 2)]) == {}
            return thumbnails.failures

    found = asyncio.run(failures())

    assert len(set(asked)) == fetched
    assert found[f"{said}; the next page goes on"] == MOST_FETCHED + 2 - fetched
