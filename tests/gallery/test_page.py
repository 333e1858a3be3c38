"""What the gallery's page says: every picture that can still be shown, what it cost, and what was spent."""

from __future__ import annotations

import html
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from flux2_tool.gallery.page import MARK
from flux2_tool.journal import JournalError
from flux2_tool.journal.snapshot import read_snapshot
from flux2_tool.journal.sqlite import FILE_NAME
from tests.gallery.played import DAY_S, ENDED, HOSTILE, NOON, Album, made


@pytest.fixture
def album(home: Path, tmp_path: Path) -> Album:
    """An empty journal and a folder for copies."""
    return Album(home, tmp_path / "saved")


def cards_of(page: bytes) -> list[str]:
    """Return the page's cards, newest first."""
    return re.findall(r'<article class="card".*?</article>', page.decode(), re.DOTALL)


def links_of(card: str) -> list[str]:
    """Return where a card's links lead."""
    return [html.unescape(link) for link in re.findall(r'href="([^"]*)"', card)]


def test_a_picture_stands_with_all_that_is_known_of_it(album: Album, home: Path) -> None:
    """Thumbnail, prompt, model, cost, date, task, and the way to the file."""
    album.add("a red fox in the snow", base_url="https://runapi.ai", cost_usd=0.07, resolution="2k")

    [card] = cards_of(made(home).html)

    assert "a red fox in the snow" in card
    assert "flux-2-pro-text-to-image, 2k" in card
    assert "0.07 USD (billed)" in card
    assert "task:tsk_1" in card
    assert '<time datetime="2026-11-23T12:00:08Z">' in card
    assert 'src="data:image/' in card
    assert links_of(card)[0] == (album.folder / "fox.png").as_uri()


def test_the_page_loads_nothing_and_lets_nothing_in(album: Album, home: Path) -> None:
    """Whoever opens it tells nobody, and no prompt can change that: scripts count by their hash alone."""
    album.add(HOSTILE)

    page = made(home).html.decode()

    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy[1]
    assert re.findall(r"<(?:script|link|iframe|object|img)\b[^>]*(?:src|href|data)=[\"'](?!data:)", page) == []
    assert page.count("<script>") == 1
    assert html.escape(HOSTILE) in page


def test_pictures_without_copy_and_link_are_counted_only(album: Album, home: Path) -> None:
    """Their link has ended and nobody kept them: nothing of them can be shown."""
    album.add("gone", saved=None, expires_at=ENDED)
    removed = album.add("removed", saved="removed.png", expires_at=ENDED)
    (album.folder / "removed.png").unlink()
    album.add("kept", saved="kept.png", expires_at=ENDED)

    found = made(home)

    assert removed
    assert len(cards_of(found.html)) == found.shown == 1
    assert "kept" in cards_of(found.html)[0]
    assert found.notes == ["2 pictures are no longer shown: the link has ended, and there is no saved copy."]


def test_an_ended_link_is_not_offered(album: Album, home: Path) -> None:
    """The copy is the only way; a link that leads to an error helps nobody."""
    album.add(expires_at=ENDED)

    [card] = cards_of(made(home).html)

    assert all(link.startswith("file:") for link in links_of(card))


@pytest.mark.parametrize("name", ["a b #1 %41.png", "雪の中 ?.png", "it's <b>&.png", os.fsdecode(b"\xff\xfe.png")])
def test_a_copy_of_any_name_is_found_by_its_link(album: Album, home: Path, name: str) -> None:
    """What a person's folder is called is none of our business."""
    album.add(saved=name)

    [card] = cards_of(made(home).html)

    [link, again] = [one for one in links_of(card) if one.startswith("file:")]
    assert link == again == (album.folder / name).as_uri()
    assert not re.search(r"[ #?<>\"]", link.removeprefix("file://"))


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        pytest.param("left \u202eright\u202c \u2066iso\u2069 end", "left right iso end", id="turned text"),
        pytest.param("a\x00b\x1b[31mc\x07", "ab[31mc", id="control characters"),
        pytest.param("half \ud83d of one", "half  of one", id="half a character"),
        pytest.param("👨‍👩‍👧 at home", "👨‍👩‍👧 at home", id="a family of emoji"),
        pytest.param("one\ntwo", "one\ntwo", id="lines"),
    ],
)
def test_a_prompt_is_text_that_harms_no_page(album: Album, home: Path, prompt: str, shown: str) -> None:
    """Prompts come from chats with anybody."""
    album.add(prompt)

    [card] = cards_of(made(home).html)

    assert f'<p class="prompt" dir="auto">{shown}</p>' in card


def test_a_long_prompt_opens_on_demand(album: Album, home: Path) -> None:
    """Five thousand characters are there, and do not push the pictures away; what is beyond all reason is cut."""
    album.add("word " * 1000, saved="a.png")
    album.add("x" * 100_000, saved="b.png")

    beyond, long = cards_of(made(home).html)

    assert "<details><summary>" in long
    assert ("word " * 1000).strip() in long
    assert len(beyond) < 20_000
    assert "…" in beyond


def test_sandbox_and_accounts_are_told_apart(album: Album, home: Path) -> None:
    """What a mock of this machine made has cost nothing."""
    album.add("mine", base_url="https://runapi.ai", fingerprint="aaaaaaaabbbb", saved="a.png")
    album.add("other", base_url="https://runapi.ai", fingerprint="ccccccccdddd", saved="b.png")
    album.add("mock", base_url="http://127.0.0.1:8000", saved="c.png")

    found = made(home)

    by_prompt = {re.search(r'dir="auto">(\w+)<', card)[1]: card for card in cards_of(found.html)}  # type: ignore[index]
    assert "account aaaaaaaa" in by_prompt["mine"]
    assert "account cccccccc" in by_prompt["other"]
    assert "sandbox, no real cost" in by_prompt["mock"]
    assert "sandbox, no real cost" not in by_prompt["mine"]
    assert "Today 0.10 USD spent" in found.html.decode()


def test_the_chart_shows_each_day_and_the_cap(album: Album, home: Path) -> None:
    """Also what was spent on tasks that were forgotten since."""
    album.add(base_url="https://runapi.ai", cost_usd=2.0, at=NOON - 3 * DAY_S)
    album.add(base_url="https://runapi.ai", cost_usd=1.5)
    album.change("DELETE FROM records WHERE cost_usd = 2.0")

    page = made(home, cap_usd=4.0).html.decode()

    assert page.count('<rect class="spent"') == 2
    assert "2026-11-20: 2.00 USD" in page
    assert "Today 1.50 USD spent, of at most 4.00 USD a day. The last 30 days: 3.50 USD." in page
    assert 'class="cap"' in page
    assert 'class="cap"' not in made(home, cap_usd=1000.0).html.decode()


def test_an_unknown_price_is_said_to_be_unknown(album: Album, home: Path) -> None:
    """Nobody takes it for free."""
    album.add(cost_usd=None, price_usd=None)

    assert "an unknown price" in cards_of(made(home).html)[0]


def test_only_newer_pictures_are_shown_where_that_is_asked(album: Album, home: Path) -> None:
    """And it says how many are left out."""
    album.add("old", at=NOON - 5 * DAY_S, saved="a.png")
    album.add("new", saved="b.png")

    found = made(home, since=NOON - DAY_S)

    assert len(cards_of(found.html)) == 1
    assert found.notes == ["1 older picture is left out, as --since says."]


def test_a_page_has_a_bound(album: Album, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A phone opens it; the newest pictures are there, and it says what is not."""
    monkeypatch.setattr("flux2_tool.gallery.page.MOST_BYTES", 8_000)
    for number in range(9):
        album.add(f"number {number}", at=NOON + number, saved=f"{number}.png")

    page = made(home).html
    shown = len(cards_of(page))

    assert 1 <= shown < 9
    assert "number 8" in cards_of(page)[0]
    assert f"The {9 - shown} oldest pictures are left out" in page.decode()


def test_thumbnails_are_made_once_and_go_with_their_pictures(album: Album, home: Path) -> None:
    """The cache has nothing that the page cannot show: what somebody deleted is gone here, too."""
    album.add("stays", saved="a.png", expires_at=ENDED)
    album.add("goes", saved="b.png", expires_at=ENDED)
    made(home)
    cache = home / "gallery" / "thumbnails"
    first = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    (album.folder / "b.png").unlink()

    made(home)

    left = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(first) == 2
    assert len(left) == 1
    assert left.items() <= first.items()
    assert cache.stat().st_mode & 0o777 == cache.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("replace", "reason"),
    [
        pytest.param(lambda path: path.write_bytes(b"no picture"), "its file is", id="another file"),
        pytest.param(lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "cannot be read", id="a link"),
    ],
)
def test_a_file_that_is_no_picture_is_said_to_be_none(album: Album, home: Path, replace: object, reason: str) -> None:
    """The rest of the page is made; nothing behind a link is read."""
    album.add("damaged", saved="a.png")
    album.add("whole", saved="b.png")
    replace(album.folder / "a.png")  # type: ignore[operator]

    found = made(home)

    assert found.shown == 2
    assert len([card for card in cards_of(found.html) if "data:image/" in card]) == 1
    assert reason in found.notes[0]


def test_a_page_that_somebody_waits_for_has_a_bound(album: Album, home: Path) -> None:
    """The first page of a thousand pictures takes a minute; the Control UI shows what there is and goes on later."""
    album.add(saved="a.png")

    hurried, later = made(home, making_s=-1.0), made(home)

    assert hurried.notes == [
        "1 picture is without a thumbnail: there was no more time to make them; the next page goes on."
    ]
    assert "data:image/" in cards_of(later.html)[0]


def test_no_journal_is_an_empty_page_and_makes_none(home: Path) -> None:
    """Somebody looks before the first picture is made."""
    found = made(home)

    assert (found.has_journal, found.shown) == (False, 0)
    assert "No pictures yet" in found.html.decode()
    assert MARK in found.html.decode()
    assert not home.exists()


def test_a_journal_is_only_read(album: Album, home: Path) -> None:
    """While another process writes to it: it neither waits nor is anything written."""
    album.add()
    with closing(sqlite3.connect(home / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE records SET polls = 7")
        snapshot = read_snapshot(home, since=0.0)

    assert snapshot is not None
    assert [record.polls for record in snapshot.records] == [0]


def test_only_the_newest_requests_are_read(album: Album, home: Path) -> None:
    """A journal that gateways share may have a million, more than a page can show or memory can hold."""
    for _ in range(3):
        album.add()

    newest, every = (read_snapshot(home, since=0.0, most=most) for most in (2, 3))

    assert newest is not None
    assert every is not None
    assert (newest.records, newest.has_more) == (every.records[1:], True)
    assert every.has_more is False


def test_a_newer_journal_is_refused_by_name(album: Album, home: Path) -> None:
    """What this version does not know might be what hides a picture."""
    album.add()
    album.change("INSERT INTO migrations VALUES ('9999_of_the_future', 0)")

    with pytest.raises(JournalError, match="newer version of flux2-tool: it has 9999_of_the_future") as raised:
        made(home)

    assert raised.value.reason == "newer"


def test_a_damaged_journal_is_refused(home: Path) -> None:
    """And left as it is, for whoever repairs it."""
    home.mkdir(parents=True)
    (home / "journal.db").write_bytes(b"no database " * 100)

    with pytest.raises(JournalError) as raised:
        made(home)

    assert raised.value.reason == "damaged"
    assert (home / "journal.db").read_bytes() == b"no database " * 100


def test_a_frame_gets_no_links_out(album: Album, home: Path) -> None:
    """OpenClaw's frame opens no windows: pictures lead to the plugin's route, and a service's link is text."""
    album.add()

    found = made(home, is_framed=True, file_of=lambda entry: f"gallery/picture/{entry.key}")
    [card] = cards_of(found.html)

    assert set(links_of(card)) == {"gallery/picture/record-1-0"}
    assert "https://cdn.example/fox.png" in card
    assert "_blank" not in card


def test_days_are_those_of_the_machine(album: Album, home: Path) -> None:
    """A person reads local times."""
    album.add(at=NOON + 11.5 * 3600)
    album.close()
    code = (
        "from pathlib import Path; from tests.gallery.played import *; "
        f"print(made(Path({str(home)!r}), now=NOON + DAY_S).html.decode())"
    )
    environ = {**os.environ, "TZ": "Asia/Tokyo"}

    page = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True).stdout

    assert "2026-11-24 08:30" in page
    assert "Today 0.05 USD spent" in page
