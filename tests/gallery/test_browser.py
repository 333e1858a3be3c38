"""The gallery's page in headless Chromium without a network: what a person sees, on a screen and on a phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gallery.browser import Browser, running_browser
from tests.gallery.played import DAY_S, HOSTILE, LINK, NOON, Album, made

PHONE = {"width": 360, "height": 740}
LONG = "a-word-without-any-place-to-break-" * 40


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser, one for all tests."""
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with pictures of many kinds."""
    folder = tmp_path_factory.mktemp("gallery")
    album = Album(folder / "home", folder / "saved #1")
    real = {"base_url": "https://runapi.ai"}
    album.add("a red fox in the snow", at=NOON - 3 * DAY_S, saved="fox.png", cost_usd=2.5, **real)
    album.add(HOSTILE, saved="hostile.png", model="flux-2-flex-text-to-image", **real)
    album.add("\u202eturned\u202c שלום 雪の中の狐 👨‍👩‍👧", saved="turned.png", **real)
    album.add(LONG, saved="long.png", **real)
    album.add("a mock", saved="mock.png", base_url="http://127.0.0.1:8000")
    album.add("only a link", saved=None, **real)
    album.close()
    path = folder / "page.html"
    path.write_bytes(made(folder / "home").html)
    return path


def test_the_page_shows_its_pictures_and_loads_nothing(browser: Browser, page: Path) -> None:
    """Each picture that has a copy is there; no request leaves the page, and no script of a prompt runs."""
    seen = browser.seen(page)

    assert [card["loaded"] for card in seen["cards"]] == [0, 1, 1, 1, 1, 1]
    assert seen["asked"] == [page.as_uri()]
    assert seen["faults"] == []
    assert seen["title"] == "Pictures by Flux 2"
    assert seen["elements"] == 2  # the page's own style and script
    assert HOSTILE in seen["words"]
    assert (seen["bars"], seen["isCapDrawn"]) == (2, True)
    assert seen["cards"][0]["links"] == [LINK, LINK]


def test_a_search_leaves_what_has_all_its_words(browser: Browser, page: Path) -> None:
    """In prompts, tasks, models and dates, without a server."""
    assert len(browser.seen(page, search="SNOW fox")["cards"]) == 1
    assert len(browser.seen(page, search="2026-11-20")["cards"]) == 1
    assert len(browser.seen(page, search="no such words")["cards"]) == 0
    assert "0 of 6" in browser.seen(page, search="no such words")["words"]


@pytest.mark.parametrize(
    ("choice", "count"),
    [
        ({"model": "flux-2-flex-text-to-image"}, 1),
        ({"source": "sandbox"}, 1),
        ({"copy": "no"}, 1),
        ({"copy": "yes", "model": "flux-2-pro-text-to-image"}, 4),
    ],
)
def test_choices_filter(browser: Browser, page: Path, choice: dict[str, str], count: int) -> None:
    """By model, account, and whether there is a copy."""
    assert len(browser.seen(page, choose=choice)["cards"]) == count


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_whole(browser: Browser, page: Path, scheme: str) -> None:
    """Nothing is wider than the screen, whatever a prompt or a file is called; light and dark."""
    seen = browser.seen(page, scheme=scheme, **PHONE)

    if folder := os.environ.get("FLUX2_TEST_SHOTS"):
        browser.ask("open", url=page.as_uri(), scheme=scheme, **PHONE)
        browser.ask("shot", path=f"{folder}/gallery-phone-{scheme}.png")
    assert seen["overflow_px"] == 0
    assert len(seen["cards"]) == 6
    assert seen["faults"] == []


def test_it_follows_the_systems_colours(browser: Browser, page: Path) -> None:
    """Dark on light by day, light on dark by night."""

    def brightness(colour: str) -> int:
        return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(","))

    light, dark = (browser.seen(page, scheme=scheme) for scheme in ("light", "dark"))

    assert brightness(light["ground"]) > brightness(light["ink"]) + 300
    assert brightness(dark["ink"]) > brightness(dark["ground"]) + 300


def test_an_empty_page_is_a_page(browser: Browser, tmp_path: Path) -> None:
    """Before the first picture."""
    path = tmp_path / "page.html"
    path.write_bytes(made(tmp_path / "home").html)

    seen = browser.seen(path, **PHONE)

    assert "No pictures yet" in seen["words"]
    assert (seen["faults"], seen["overflow_px"]) == ([], 0)
