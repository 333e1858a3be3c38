"""The folder of kept pictures: only files that we wrote, and that nobody changed, are ever removed from it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux2_tool.images.kept_files import DAY_S, KeptUsage, free_bytes, kept_copy, kept_files, prune_kept, usage_of
from tests.support.journal import NOON
from tests.support.pictures import picture

WEEK_S = 7 * DAY_S


def kept(folder: Path, *, day: int, size: int = 20) -> Path:
    """Keep a picture of a day in November 2026; each is another picture."""
    source = folder.parent / f"source-{day}.png"
    source.write_bytes(picture(size=(size, day)))
    return kept_copy(source, folder, f"202611{day:02d}-120000-a-red-fox-tsk_{day}")


def pruned(folder: Path, *, days: float = 1000.0, most_bytes: float = 1e9, spared: tuple[Path, ...] = ()) -> list[Path]:
    """Remove what is over the bounds on 23 November 2026."""
    return prune_kept(folder, now=NOON, older_than_s=days * DAY_S, most_bytes=most_bytes, spared=spared)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of kept pictures, which the first one makes."""
    return tmp_path / "pictures"


def test_a_kept_picture_is_a_whole_private_copy(folder: Path) -> None:
    """Its name tells day, prompt, task and content."""
    path = kept(folder, day=20)

    assert path.read_bytes() == picture(size=(20, 20))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.name.startswith("20261120-120000-a-red-fox-tsk_20-")
    assert usage_of(folder) == KeptUsage(count=1, size_bytes=path.stat().st_size)


def test_the_same_picture_twice_is_one_file(folder: Path) -> None:
    """Two gateways may keep the same picture at the same moment."""
    assert kept(folder, day=20) == kept(folder, day=20)
    assert len(list(folder.iterdir())) == 1


def test_pictures_that_are_too_old_are_removed(folder: Path) -> None:
    """The bound on age."""
    old, new = kept(folder, day=10), kept(folder, day=20)

    assert pruned(folder, days=7) == [old]
    assert list(folder.iterdir()) == [new]


def test_the_oldest_pictures_are_removed_until_the_rest_fits(folder: Path) -> None:
    """The bound on disk; the newest ones are what a conversation still speaks of."""
    first, second, third = (kept(folder, day=day) for day in (18, 19, 20))

    assert pruned(folder, most_bytes=second.stat().st_size + third.stat().st_size) == [first]
    assert sorted(folder.iterdir()) == [second, third]


def test_the_picture_just_made_is_not_removed(folder: Path) -> None:
    """Even where it alone is over every bound."""
    first, just_made = kept(folder, day=10), kept(folder, day=11)

    assert pruned(folder, days=1, most_bytes=1, spared=(just_made,)) == [first]
    assert just_made.is_file()


def test_what_a_person_put_there_stays(folder: Path) -> None:
    """Whatever it is called, also a kept picture that somebody has edited in place, and links of any kind."""
    edited = kept(folder, day=1)
    edited.write_bytes(picture(size=(9, 9)))
    elsewhere = folder.parent / "album.png"
    elsewhere.write_bytes(picture())
    linked = folder / "20200101-000000-x-tsk_1-0123456789abcdef.png"
    linked.symlink_to(elsewhere)
    (folder / "holiday.png").write_bytes(picture())
    (folder / "20200101-000000-x-tsk_2-0123456789abcdef.png").mkdir()
    os.mkfifo(folder / "20200101-000000-x-tsk_3-0123456789abcdef.png")
    before = sorted(folder.iterdir())

    assert pruned(folder, days=0.001, most_bytes=1) == []
    assert sorted(folder.iterdir()) == before
    assert elsewhere.is_file()


def test_an_edited_picture_drives_no_other_out(folder: Path) -> None:
    """It counts against no bound, as it is not ours any more; one whose date alone is another still does."""
    first, second = kept(folder, day=18), kept(folder, day=19)
    os.utime(first, (NOON, NOON))
    kept(folder, day=20).write_bytes(b"much larger" * 10_000)

    assert pruned(folder, most_bytes=first.stat().st_size + second.stat().st_size) == []
    assert pruned(folder, most_bytes=second.stat().st_size) == [first]


def test_what_a_killed_process_left_behind_is_removed_after_a_day(folder: Path) -> None:
    """A half picture of another process that still writes stays."""
    folder.mkdir()
    for name, age_s in ((f".flux2-{'0' * 16}.part", WEEK_S), (f".flux2-{'1' * 16}.part", 60.0), ("mine.part", WEEK_S)):
        (folder / name).touch()
        os.utime(folder / name, (NOON - age_s, NOON - age_s))

    pruned(folder)

    assert sorted(path.name for path in folder.iterdir()) == [f".flux2-{'1' * 16}.part", "mine.part"]


def test_a_half_picture_that_goes_while_they_are_looked_at_keeps_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another call finished its own meanwhile; the listing is closed all the same."""
    folder.mkdir()
    names = [f".flux2-{number:016x}.part" for number in range(5)]
    for name in names:
        (folder / name).touch()
        os.utime(folder / name, (NOON - WEEK_S, NOON - WEEK_S))
    list_real = os.scandir

    @contextlib.contextmanager
    def lists_one_that_goes(listed: Path) -> Iterator[list[os.DirEntry[str]]]:
        with list_real(listed) as entries:
            found = list(entries)
            for entry in found[:1]:
                (folder / entry.name).unlink()
            yield found

    monkeypatch.setattr(os, "scandir", lists_one_that_goes)
    pruned(folder)
    monkeypatch.undo()

    assert list(folder.iterdir()) == []


def test_a_folder_that_is_not_there_has_nothing(folder: Path) -> None:
    """Nothing was kept yet; its disk can still be asked for room."""
    assert kept_files(folder) == []
    assert pruned(folder) == []
    assert free_bytes(folder) > 0
