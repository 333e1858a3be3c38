"""A journal written by version 0.1.0: opened, read under today's column names, and worked on."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any, Final

import pytest

from flux2_tool.journal import ClaimRules, Failure, JournalError, SavedCopy
from flux2_tool.journal.migrations import MIGRATIONS
from flux2_tool.journal.sqlite import FILE_NAME
from tests.support.harness import BASE_URL, CREATED, MockService, credentials, numbered, opened_tool
from tests.support.journal import NOON, ORPHANED, SESSION, Machine, full_disk
from tests.support.stores import records_of
from tests.support.virtual_time import START_S, run_virtual

pytestmark = pytest.mark.sqlite_only("only a file can be of the first version")

# All that 0.1.0 had; the ninth step renames columns.
FIRST_VERSION: Final = MIGRATIONS[:8]
ACCOUNT: Final[dict[str, Any]] = {"fingerprint": credentials().fingerprint, "base_url": BASE_URL}
RENAMED: Final = {
    "equal_key": "dedup_key",
    "request_key": "cross_session_dedup_key",
    "given_up": "abandoned",
    "interrupted": "orphaned",
    "returned_at": "delivered_at",
}
LINK: Final = ["https://cdn.example/fox.png", "2026-11-30T12:00:07Z"]
COPY: Final = {"path": "/pictures/fox.png", "width_px": 1024, "height_px": 768}


def old_row(name: str, state: str, **values: Any) -> dict[str, Any]:
    """Return a row as 0.1.0 wrote it, with a value in every column; `values` replaces some of them."""
    row: dict[str, Any] = {
        "record_id": name,
        "session": "connection:p1",
        "equal_key": f"{name} in this session",
        "fingerprint": ACCOUNT["fingerprint"],
        "base_url": ACCOUNT["base_url"],
        "tool": "text_to_image",
        "model": "flux-2-pro-text-to-image",
        "resolution": "1k",
        "label": "a-fox",
        "body": b'{"model": "flux-2-pro-text-to-image", "prompt": "a fox"}',
        "idempotency_key": f"key of {name}",
        "client_request_id": f"request of {name}",
        "route": "service",
        "price_usd": 0.05,
        "state": state,
        "created_at": NOON - 60.0,
        "task_id": None,
        "status_url": None,
        "accepted_at": None,
        "finished_at": None,
        "returned_at": None,
        "owner": None,
        "lease_until": None,
        "conflict": 0,
        "given_up": 0,
        "images": "[]",
        "cost_usd": None,
        "error_code": None,
        "error_message": None,
        "raw": None,
        "request_id": None,
        "polls": 0,
        "saved": "[]",
        "interrupted": 0,
        "sender": "ann",
        "reserved_usd": 0.05,
        "duration_s": None,
        "request_key": f"{name} in any session",
    }
    return {**row, **values}


ACCEPTED: Final[dict[str, Any]] = {
    "status_url": "/v1/text_to_image/x",
    "accepted_at": NOON - 58.0,
    "request_id": "req_1",
    "polls": 3,
}
DONE: Final[dict[str, Any]] = {
    **ACCEPTED,
    "finished_at": NOON - 50.0,
    "images": json.dumps([LINK]),
    "cost_usd": 0.05,
    "raw": '{"status": "completed"}',
    "duration_s": 7.5,
}
ROWS: Final = [
    old_row("sending", "sending", owner="dead", lease_until=NOON - 30.0),
    old_row(
        "processing", "processing", task_id="tsk_1", interrupted=1, owner="dead", lease_until=NOON - 9.0, **ACCEPTED
    ),
    old_row("given-up", "processing", task_id="tsk_2", given_up=1, **ACCEPTED),
    old_row("completed", "completed", task_id="tsk_3", **DONE),
    old_row("returned", "completed", task_id="tsk_4", returned_at=NOON - 40.0, saved=json.dumps([COPY]), **DONE),
    old_row("failed", "failed", task_id="tsk_5", error_code="generation_failed", error_message="no GPU", **ACCEPTED),
    old_row("not-created", "not_created", error_code="insufficient_credits", error_message="402", session=None),
    old_row(
        "unknown", "unknown", conflict=1, error_code="unexpected_answer", error_message="HTTP 409", request_key=None
    ),
]


@pytest.fixture
def old_journal(home: Path) -> Path:
    """A data folder with the journal of 0.1.0."""
    home.mkdir(mode=0o700)
    with contextlib.closing(sqlite3.connect(home / FILE_NAME, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("CREATE TABLE migrations (name TEXT PRIMARY KEY, applied_at REAL NOT NULL)")
        for name, script in FIRST_VERSION:
            raw.executescript(script)
            raw.execute("INSERT INTO migrations VALUES (?, 1.0)", (name,))
        for row in ROWS:
            marks = ", ".join("?" * len(row))
            raw.execute(f"INSERT INTO records ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))  # noqa: S608
    return home


def expected(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a record must say of an old row."""
    values = {RENAMED.get(name, name): value for name, value in row.items()}
    code, message = values.pop("error_code"), values.pop("error_message")
    values["error"] = None if code is None else Failure(code, message)
    values["images"] = tuple(tuple(image) for image in json.loads(values["images"]))
    values["saved"] = tuple(SavedCopy(**copy) for copy in json.loads(values["saved"]))
    return values


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["record_id"])
def test_every_value_is_read_under_its_new_name(old_journal: Path, machine: Machine, row: dict[str, Any]) -> None:
    """People upgrade; what they paid for stays listed, in every state."""
    record = machine.open().get(row["record_id"])

    assert record is not None
    assert {name: getattr(record, name) for name in expected(row)} == expected(row)


def test_it_can_be_opened_twice_and_by_two_processes(old_journal: Path, machine: Machine) -> None:
    """The migration is applied once; the second process finds it done."""
    first = machine.open("p1")
    first.close()
    second, third = machine.open("p2"), machine.open("p3")
    with contextlib.closing(sqlite3.connect(old_journal / FILE_NAME)) as raw:
        applied = [row[0] for row in raw.execute("SELECT name FROM migrations ORDER BY rowid")]

    assert applied == [name for name, _ in MIGRATIONS]
    assert second.records() == third.records()
    assert {record.record_id for record in second.records()} == {row["record_id"] for row in ROWS}


def test_an_upgrade_that_fails_changes_nothing_and_is_repeated(old_journal: Path, machine: Machine) -> None:
    """The disk was full: half of the steps would be a journal that no version can read."""
    with full_disk(), pytest.raises(JournalError):
        machine.open("p1")
    with contextlib.closing(sqlite3.connect(old_journal / FILE_NAME)) as raw:
        applied = [row[0] for row in raw.execute("SELECT name FROM migrations ORDER BY rowid")]

    assert applied == [name for name, _ in FIRST_VERSION]
    assert {record.record_id for record in machine.open("p2").records()} == {row["record_id"] for row in ROWS}


def test_unfinished_records_are_found_and_taken_over(old_journal: Path, machine: Machine) -> None:
    """The abandoned one only on demand, the one with a conflict not at all."""
    machine.dead.add("dead")
    journal = machine.open("p2")
    since: dict[str, Any] = {"now": NOON, "resend_since": NOON - 600.0}

    unowned = journal.unowned(**ACCOUNT, **since)
    on_demand = journal.unowned(**ACCOUNT, **since, include_abandoned=True)
    taken = journal.take_over("given-up", now=NOON)

    assert [record.record_id for record in unowned] == ["sending", "processing"]
    assert [record.record_id for record in on_demand] == ["sending", "processing", "given-up"]
    assert taken is not None
    assert (taken.owner, taken.abandoned, taken.orphaned) == ("p2", False, True)


@pytest.mark.parametrize(
    ("name", "rules", "outcome"),
    [
        pytest.param("sending", SESSION, "joined", id="in flight"),
        pytest.param("processing", ORPHANED, "joined", id="orphaned"),
        pytest.param("completed", SESSION, "joined", id="completed and not delivered"),
        pytest.param("returned", SESSION, "new", id="delivered"),
        pytest.param("failed", SESSION, "new", id="failed"),
        pytest.param("not-created", SESSION, "new", id="not created"),
        pytest.param("unknown", ORPHANED, "joined", id="of unknown outcome"),
        pytest.param("returned", ClaimRules(join="session", repeat_max=1), "repeated", id="one repeat too many"),
    ],
)
def test_an_equal_request_joins_as_the_rules_say(
    old_journal: Path, machine: Machine, name: str, rules: ClaimRules, outcome: str
) -> None:
    """The first call after the upgrade must not pay for an image again."""
    claim = machine.begin(machine.open("p2"), rules, dedup_key=f"{name} in this session")

    assert claim.outcome == outcome
    assert claim.record is None or (claim.record.record_id == name) == (outcome == "joined")


def test_a_connection_inherits_what_an_old_one_left(old_journal: Path, machine: Machine) -> None:
    """By the key that does not depend on the session."""
    machine.dead.add("p1")
    rules = ClaimRules(join="session", inherited_session_prefix="connection:")

    claim = machine.begin(
        machine.open("p2"),
        rules,
        session="connection:p2",
        dedup_key="another key",
        cross_session_dedup_key="completed in any session",
    )

    assert claim.outcome == "joined"
    assert claim.record is not None
    assert (claim.record.record_id, claim.record.session) == ("completed", "connection:p2")


def test_its_tasks_are_resumed_and_not_paid_again(old_journal: Path) -> None:
    """`flux2-tool resume` after the upgrade: under the old keys, and only polled where there is a task."""
    with contextlib.closing(sqlite3.connect(old_journal / FILE_NAME)) as raw, raw:
        raw.execute("UPDATE records SET created_at = ?, lease_until = NULL", (START_S - 60.0,))
    polled = numbered()
    transport = MockService(lambda request: (200, CREATED) if request.method == "POST" else polled.handler(request))

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(old_journal, transport, host="cli") as tool:
            return await tool.resume()

    results = run_virtual(main())
    states = {record.record_id: record.state for record in records_of(old_journal)}

    assert [result["task"]["state"] for result in results] == ["completed"] * 3
    assert [post.headers["idempotency-key"] for post in transport.posts] == ["key of sending"]
    assert {states[name] for name in ("sending", "processing", "given-up")} == {"completed"}
