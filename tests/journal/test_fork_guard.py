"""Forks of a process whose threads write their journal."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from flux2_tool.journal.fork_guard import ForkGuard
from tests.support.stores import is_postgres, url

ROOT = Path(__file__).resolve().parents[2]
FORKS = 40

FORKED_WHILE_WRITING = """
import asyncio, itertools, os, sys, threading
from pathlib import Path
from flux2_tool.journal import ThisProcess, open_threaded_journal
from tests.support.journal import NEVER, NOON, Machine
from tests.support.stores import place_of

home = Path(sys.argv[1])
machine = Machine(home)

async def claim_one(journal, own):
    return (await journal.claim([machine.intent(own, record_id=own, idempotency_key=own)], NEVER, now=NOON)).outcome

async def write_until(ended):
    journal = await open_threaded_journal(place_of(home), owner=ThisProcess(), now=NOON)
    for number in itertools.count():
        if ended.is_set():
            break
        await claim_one(journal, f"parent {number}")
        begun.set()
    await journal.close()

async def of_child(own):
    journal = await open_threaded_journal(place_of(home), owner=ThisProcess(), now=NOON)
    print(await claim_one(journal, own), flush=True)
    await journal.close()

begun, ended = threading.Event(), threading.Event()
thread = threading.Thread(target=lambda: asyncio.run(write_until(ended)))
thread.start()
begun.wait()
for number in range(int(sys.argv[2])):
    pid = os.fork()
    if pid == 0:
        asyncio.run(of_child(f"child {number}"))
        os._exit(0)
    os.waitpid(pid, 0)
ended.set()
thread.join()
"""


def test_a_child_forked_while_its_parent_writes_has_a_journal(tmp_path: Path) -> None:
    """SQLite keeps locks in the memory of the process; a child would inherit one that nobody can release.

    A child has the sockets of its parent's connections to a server too, and must leave them alone.
    """
    if is_postgres():
        url()
    done = subprocess.run(
        [sys.executable, "-c", FORKED_WHILE_WRITING, str(tmp_path), str(FORKS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.stdout.splitlines() == ["new"] * FORKS, done.stderr[-3000:]


def test_a_fork_waits_for_operations_and_operations_for_a_fork() -> None:
    """Either would leave the child a lock that nobody holds."""
    guard = ForkGuard()
    order: list[str] = []
    in_operation, forking = threading.Event(), threading.Event()

    def fork() -> None:
        in_operation.wait()
        forking.set()
        guard.before_fork()
        order.append("fork")
        guard.after_fork()

    thread = threading.Thread(target=fork)
    thread.start()
    with guard.operation():
        in_operation.set()
        forking.wait()
        order.append("operation")
    thread.join()

    assert order == ["operation", "fork"]


def test_a_fork_goes_on_when_an_operation_never_ends() -> None:
    """A file system may hang; a program that forks must not hang with it."""
    guard = ForkGuard(patience_s=0)

    with guard.operation():
        guard.before_fork()
        guard.after_fork()

    with guard.operation():
        pass


def test_a_child_starts_anew() -> None:
    """None of the parent's threads goes on in it, whatever they were doing."""
    guard = ForkGuard(patience_s=0)

    with guard.operation():
        guard.before_fork()
        guard.forget_parents()
        with guard.operation():
            pass
