"""Real processes with data folders of their own, one PostgreSQL server, and the sandbox as RunAPI: one pace for all."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flux2_tool.sandbox import Fault, Sandbox, SandboxOptions, running_sandbox
from tests.support import stores
from tests.support.command import Command, scratch_environ
from tests.support.keys import KEY
from tests.support.postgres import INSTALL, programs
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(programs() is None, reason=INSTALL)
HELD_S = 1000.0


@dataclass
class Account:
    """RunAPI's side: how many POSTs are in flight there.

    Attributes:
        sandbox: Answers.
        command: Starts flux2-tool.
        in_flight: How many POSTs it has not answered yet.
        most_in_flight: The most so far.
        is_over: Whether what is held is answered.
    """

    sandbox: Sandbox
    command: Command
    in_flight: int = 0
    most_in_flight: int = 0
    is_over: bool = field(default=False)

    async def sleep(self, seconds: float) -> None:
        """Take the time that a fault asks for; a held POST is answered at the end."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            while seconds > 0.0 and not (self.is_over and seconds > HELD_S / 2):
                await asyncio.sleep(min(seconds, 0.05))
                seconds -= 0.05 if seconds < HELD_S / 2 else 0.0
        finally:
            self.in_flight -= 1

    def queued(self) -> int:
        """Return how many requests wait for a slot."""
        import psycopg

        with psycopg.connect(self.command.environ["FLUX2_TOOL_JOURNAL_URL"]) as connection:
            [(count,)] = connection.execute("SELECT count(*) FROM flux2_tool.create_slots WHERE waits = 1")
            return int(count)

    def start(self, host: str, *prompts: str, count: int = 1) -> list[subprocess.Popen[str]]:
        """Ask for pictures on a machine."""
        home = {"FLUX2_TOOL_HOME": str(self.command.folder / host)}
        return [self.command.start("generate", prompt, "--count", str(count), **home) for prompt in prompts]


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    """An account whose gateways share a journal and have two create slots."""
    database = f"pace_{uuid.uuid4().hex[:12]}"
    with stores.connected() as connection:
        connection.execute(f"CREATE DATABASE {database}")
    with running_sandbox(SandboxOptions(speed=50)) as (base_url, sandbox):
        environ = {
            **scratch_environ(tmp_path),
            "RUNAPI_API_KEY": KEY,
            "RUNAPI_BASE_URL": base_url,
            "FLUX2_TOOL_JOURNAL_URL": stores.url().rpartition("/")[0] + f"/{database}",
            "FLUX2_TOOL_MAX_CREATES": "2",
            "FLUX2_TOOL_DAILY_CAP_USD": "100",
        }
        account = Account(sandbox, Command(folder=tmp_path, environ=environ))
        sandbox.sleep = account.sleep
        try:
            yield account
        finally:
            account.is_over = True


def ended(running: list[subprocess.Popen[str]]) -> list[int]:
    """Wait for processes, and return how they ended."""
    for process in running:
        with contextlib.suppress(ValueError):
            process.communicate(timeout=120)
    return [process.returncode for process in running]


def test_three_processes_have_two_posts_in_flight_at_most(account: Account) -> None:
    """`max_creates` is the account's: RunAPI counts the requests of all its machines."""
    account.sandbox.faults.queue(Fault(kind="latency", on="create", delay_s=0.3, times=9))
    running = [
        process for number in range(3) for process in account.start(f"host {number}", f"a fox {number}", count=3)
    ]

    assert ended(running) == [0, 0, 0]
    assert account.most_in_flight == 2
    assert account.command.billed() == 9


def test_slots_of_a_killed_process_become_free(account: Account) -> None:
    """SIGKILL in mid-flight: the next machine's picture does not wait for what nobody waits for any more."""
    account.sandbox.faults.queue(Fault(kind="latency", on="create", delay_s=HELD_S, times=2))
    [killed] = account.start("host 0", "a fox that is never seen", count=2)
    wait_until(lambda: account.in_flight == 2)
    [waiting] = account.start("host 1", "a fox")
    wait_until(account.queued)
    killed.send_signal(signal.SIGKILL)
    ended([killed])

    assert ended([waiting]) == [0]
    assert account.in_flight == 2, "what the killed one had sent is still held by the service"
