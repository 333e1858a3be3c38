"""The bounds of the folder of kept pictures, as the process sees them that adds to it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from flux2_tool.images.kept_bounds import LOOK_EVERY_S, ROOM_SHARE, KeptBounds
from flux2_tool.images.kept_files import DAY_S, kept_copy, mark_as_written, usage_of
from tests.support.journal import NOON
from tests.support.pictures import picture


def kept(folder: Path, *, day: int) -> Path:
    """Keep a picture of a day in November 2026; each is another picture."""
    source = folder.parent / f"source-{day}.png"
    source.write_bytes(picture(size=(20, day)))
    return kept_copy(source, folder, f"202611{day:02d}-120000-a-red-fox-tsk_{day}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of kept pictures, which the first one makes."""
    return tmp_path / "pictures"


def test_the_folder_is_looked_at_now_and_then_only(folder: Path) -> None:
    """What a picture costs must not grow with the pictures that are there."""
    bounds = KeptBounds(folder, older_than_s=7 * DAY_S, most_bytes=1e9)
    bounds.after([kept(folder, day=22)], now=NOON)
    of_another_process = kept(folder, day=2)

    assert bounds.after([kept(folder, day=23)], now=NOON + LOOK_EVERY_S - 1) == []
    assert bounds.after([kept(folder, day=21)], now=NOON + LOOK_EVERY_S) == [of_another_process]


def test_a_picture_that_grows_too_old_is_removed_with_the_next_one(folder: Path) -> None:
    """The age of the oldest one is known without looking."""
    bounds = KeptBounds(folder, older_than_s=7 * DAY_S, most_bytes=1e9)
    oldest, newer = kept(folder, day=16), kept(folder, day=22)
    assert bounds.after([newer], now=NOON) == []

    assert bounds.after([kept(folder, day=23)], now=NOON + 60) == [oldest]


def test_pictures_that_are_too_many_leave_some_room(folder: Path) -> None:
    """Or the folder would be looked at after every picture once it is full."""
    first, second = kept(folder, day=20), kept(folder, day=21)
    third = kept(folder, day=22)
    most_bytes = second.stat().st_size + third.stat().st_size

    assert KeptBounds(folder, older_than_s=7 * DAY_S, most_bytes=most_bytes).after([third], now=NOON) == [first, second]
    assert usage_of(folder).size_bytes <= (1 - ROOM_SHARE) * most_bytes


def test_a_look_takes_no_more_memory_the_more_is_kept(folder: Path) -> None:
    """A folder within its bounds may hold tens of thousands of pictures."""
    folder.mkdir()

    def taken_with(count: int) -> int:
        for number in range(count):
            path = folder / f"20261122-120000-a-red-fox-{number}-{'0' * 16}.png"
            path.touch()
            mark_as_written(path)
        bounds = KeptBounds(folder, older_than_s=7 * DAY_S, most_bytes=1e9)
        tracemalloc.start()
        assert bounds.after([], now=NOON) == []
        _, most_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most_bytes

    few, many = taken_with(100), taken_with(2000)

    assert many < 1.5 * few


def test_a_clock_that_was_set_back_is_no_reason_to_trust_the_last_look(folder: Path) -> None:
    """How long ago it was is not known then."""
    bounds = KeptBounds(folder, older_than_s=7 * DAY_S, most_bytes=1e9)
    bounds.after([kept(folder, day=22)], now=NOON)
    of_another_process = kept(folder, day=2)

    assert bounds.after([kept(folder, day=21)], now=NOON - 60) == [of_another_process]
