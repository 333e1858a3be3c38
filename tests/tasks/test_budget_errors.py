"""The words of a refused request: what fits, when, and what never will."""

from __future__ import annotations

from typing import Any

import pytest

from flux2_tool.journal import Cap, Spending
from flux2_tool.tasks.budget_errors import Choice, budget_error

NOW = 1_800_000_000.0
PRO = Choice(model="pro", resolution="1k", counted_usd=0.05)
PRO_2K = Choice(model="pro", resolution="2k", counted_usd=0.07)
FLEX = Choice(model="flex", resolution="1k", counted_usd=0.14)
MAX = Choice(model="max", resolution="1k", counted_usd=0.5, is_known=False)


def use(kind: Any, limit_usd: float, spent_usd: float = 0.0, reserved_usd: float = 0.0) -> Spending:
    """Return the use of a cap; those of a day have a beginning."""
    since = 0.0 if kind in ("day", "sender") else None
    cap = Cap(kind=kind, limit_usd=limit_usd, since=since)
    return Spending(cap=cap, spent_usd=spent_usd, reserved_usd=reserved_usd)


@pytest.mark.parametrize(
    ("spendings", "wanted", "others", "said", "advised"),
    [
        pytest.param(
            [use("day", 0.30, 0.20)],
            FLEX,
            [PRO, PRO_2K],
            "fits now: pro 1k ($0.05) or 2k ($0.07).",
            ["call again with that only if they agree", "The same call fits from 20"],
            id="something cheaper fits",
        ),
        pytest.param(
            [use("day", 0.15, 0.12)],
            FLEX,
            [PRO],
            "No other image fits now either.",
            ["no image can be made before 20", "The same call fits from 20"],
            id="nothing fits until the reset",
        ),
        pytest.param(
            [use("day", 0.10, 0.10)],
            FLEX,
            [PRO],
            "So it can never be made under this cap.",
            ["no image can be made before 20", "From then on pro 1k ($0.05) fits"],
            id="never, and later a cheaper one",
        ),
        pytest.param(
            [use("day", 0.01)],
            FLEX,
            [PRO],
            "So it can never be made",
            ["no image can be made under this cap; do not try again"],
            id="nothing ever",
        ),
        pytest.param(
            [use("image", 0.06)],
            PRO_2K,
            [PRO],
            "the cap per image is $0.06.",
            ["only if they agree", "setting max_image_usd:"],
            id="an image above its cap",
        ),
        pytest.param(
            [use("session", 0.20, 0.18), use("day", 5.0)],
            PRO,
            [],
            "does not reset by itself",
            ["in this conversation any more"],
            id="a conversation that is used up",
        ),
        pytest.param(
            [use("session", 0.20, 0.18), use("day", 0.10, 0.10)],
            PRO,
            [],
            "$0.02 is left",
            ["in this conversation any more", "session_cap_usd and daily_cap_usd"],
            id="two caps, one of which stays",
        ),
        pytest.param(
            [use("sender", 1.0, 0.9), use("day", 5.0)],
            MAX,
            [PRO],
            "would cost an unknown price, counted as $0.50",
            ["only if they agree"],
            id="a price that nobody knows",
        ),
    ],
)
def test_the_words_fit_what_is_left(
    spendings: list[Spending], wanted: Choice, others: list[Choice], said: str, advised: list[str]
) -> None:
    """What still fits, what will, and what cannot: never the one for the other."""
    error = budget_error(spendings, wanted=wanted, others=others, now=NOW)

    assert said in error.message
    assert "Nothing was sent." in error.message
    assert [words for words in advised if words not in error.hint] == []


@pytest.mark.parametrize(
    ("spendings", "others", "said", "advised"),
    [
        pytest.param(
            [use("day", 0.12, 0.10)],
            [],
            [
                "4 images would cost $0.20 ($0.05 each), and of the daily cap of $0.12 only $0.02 is left",
                "Not one of them fits now, and all of them at once never will.",
            ],
            ["From 20", "on the same call fits with count 2, not with 4."],
            id="fewer after the reset",
        ),
        pytest.param(
            [use("day", 0.20, 0.18)],
            [],
            ["Not one of them fits now.", "It resets at 20"],
            ["The same call fits from 20"],
            id="all after the reset",
        ),
        pytest.param(
            [use("day", 0.04)],
            [],
            ["4 images would cost $0.20", "So not one of them can ever be made under this cap."],
            ["no image can be made under this cap; do not try again"],
            id="not one, ever",
        ),
        pytest.param(
            [use("session", 0.30, 0.15), use("day", 1.0, 0.98)],
            [],
            ["of the cap per conversation of $0.30 only $0.15 is left", "of the daily cap of $1.00 only $0.02"],
            ["on the same call fits with count 3, not with 4.", "session_cap_usd and daily_cap_usd"],
            id="a cap that does not reset leaves room for fewer",
        ),
        pytest.param(
            [use("session", 0.20, 0.18), use("day", 5.0)],
            [],
            ["does not reset by itself"],
            ["in this conversation any more"],
            id="a conversation that is used up",
        ),
        pytest.param(
            [use("day", 0.30, 0.26)],
            [Choice(model="klein", resolution="", counted_usd=0.03)],
            ["What still fits now, as a single image: klein ($0.03)."],
            ["call again with that only if they agree", "The same call fits from 20"],
            id="one of something cheaper",
        ),
    ],
)
def test_of_several_images_the_words_are_about_all(
    spendings: list[Spending], others: list[Choice], said: list[str], advised: list[str]
) -> None:
    """What is promised for the same call is promised for as many pictures as that call asks for."""
    error = budget_error(spendings, wanted=PRO, others=others, now=NOW, count=4)

    assert [words for words in said if words not in error.message] == []
    assert [words for words in advised if words not in error.hint] == []
    assert ("The same call fits from" in error.hint) == ("The same call fits from 20" in advised)


def test_a_time_is_named_only_where_it_helps() -> None:
    """ "Do not try again before that" helps nobody where no such moment comes."""
    never = budget_error([use("day", 0.10)], wanted=FLEX, others=[PRO], now=NOW)
    image = budget_error([use("image", 0.10)], wanted=FLEX, others=[], now=NOW)

    assert "resets" not in image.message
    assert "The same call fits" not in never.hint + image.hint


def test_amounts_below_a_cent_are_not_rounded_away() -> None:
    """ "$0.05 is above the cap of $0.05" explains nothing."""
    wanted = Choice(model="pro", resolution="1k", counted_usd=0.0525)

    error = budget_error([use("image", 0.05)], wanted=wanted, others=[], now=NOW)

    assert "would cost $0.0525, and the cap per image is $0.05." in error.message
