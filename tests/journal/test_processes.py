"""Several real processes on one journal, at the same moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.journal import ThisProcess, postgres_schema
from flux2_tool.journal.migrations import MIGRATIONS
from flux2_tool.journal.sqlite import FILE_NAME
from tests.support.journal import NOON, SESSION, Machine
from tests.support.stores import is_postgres, open_store, raw, url

ROOT = Path(__file__).resolve().parents[2]
RACERS = 5
ROUNDS = 40


class Racers:
    """Processes that all get the same order at the same moment."""

    def __init__(self) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.journal.racer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
            for _ in range(RACERS)
        ]

    def race(self, folder: Path, *, count: int = 1) -> list[dict[str, Any]]:
        """Have all of them claim one image, or a set of them, in a folder; return what each got."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{folder}\t{count}\n")
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.flush()
        answers = []
        for process in self.processes:
            assert process.stdout is not None
            answers.append(json.loads(process.stdout.readline()))
        return answers

    def close(self) -> None:
        """End all of them."""
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def racers() -> Iterator[Racers]:
    """Processes at the start."""
    if is_postgres():
        url()  # a server for all of them
    racers = Racers()
    racers.race(Path(os.devnull))
    yield racers
    racers.close()


def test_one_of_several_racing_processes_makes_the_image(racers: Racers, tmp_path: Path) -> None:
    """The folder, the file, the tables and the claim are all created in the same race."""
    for number in range(ROUNDS):
        answers = racers.race(tmp_path / f"round {number}")

        assert sorted(answer["outcome"] for answer in answers) == ["joined"] * (RACERS - 1) + ["new"], answers
        assert len({tuple(answer["records"]) for answer in answers}) == 1


def test_racing_processes_share_a_whole_set(racers: Racers, tmp_path: Path) -> None:
    """Four images, and not four of each, nor some of one process and some of another."""
    for number in range(ROUNDS // 4):
        answers = racers.race(tmp_path / f"round {number}", count=4)

        assert sorted(answer["outcome"] for answer in answers) == ["joined"] * (RACERS - 1) + ["new"], answers
        [records] = {tuple(answer["records"]) for answer in answers}
        assert len(records) == 4
        assert len({record.partition("-")[0] for record in records}) == 1


def test_racing_processes_migrate_a_new_journal_once(racers: Racers, tmp_path: Path) -> None:
    """A gateway, a terminal and a cron job may start together after an upgrade."""
    racers.race(tmp_path / "home")
    order, migrations = ("name", postgres_schema.MIGRATIONS) if is_postgres() else ("rowid", MIGRATIONS)
    with raw(tmp_path / "home") as journal:
        applied = [row[0] for row in journal.execute(f"SELECT name FROM migrations ORDER BY {order}")]  # noqa: S608
        rows = journal.execute("SELECT count(*) FROM records").fetchone()[0]

    assert applied == [name for name, _ in migrations]
    assert rows == 1


@pytest.mark.sqlite_only("a file is deleted or emptied")
@pytest.mark.parametrize("lose", [lambda file: os.truncate(file, 0), Path.unlink], ids=["emptied", "deleted"])
def test_a_journal_lost_under_idle_processes_is_begun_anew(
    racers: Racers, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    """They keep the lost files locked and do not look at them; nobody waits for them, nor uses what they left."""
    folder = tmp_path / "home"
    racers.race(folder)
    lose(folder / FILE_NAME)
    begun = Machine(folder).open("another")
    is_new = begun.claim([Machine(folder).intent("another fox")], SESSION, now=NOON).outcome
    answers = racers.race(folder)

    assert is_new == "new"
    assert sorted(answer["outcome"] for answer in answers) == ["joined"] * (RACERS - 1) + ["new"], answers
    assert sorted(record.dedup_key for record in begun.records()) == ["another fox", "one fox"]
    begun.close()


def test_records_of_a_killed_process_survive_and_are_unowned_at_once(tmp_path: Path) -> None:
    """SIGKILL leaves no time to close the file; the write-ahead log has its commits nevertheless."""
    racers = Racers()
    folder = tmp_path / "home"
    record_id = racers.race(folder)[0]["records"][0]
    for process in racers.processes:
        process.send_signal(signal.SIGKILL)
        process.wait()
    machine = Machine(folder)
    journal = open_store(folder, owner=ThisProcess(), now=NOON)
    taken = journal.take_over(record_id, now=NOON + 0.5)
    again = journal.claim([machine.intent("one fox")], SESSION, now=NOON + 0.5)
    journal.close()
    racers.close()

    assert taken is not None
    assert taken.record_id == record_id
    assert again.outcome == "joined"
