"""A database that is away, slow or full of others: nothing is sent that cannot be written, and the loop never waits."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flux2_tool._redaction import SecretStr
from flux2_tool.credentials import Credentials
from flux2_tool.engine.wait import CancelToken
from flux2_tool.journal import DatabaseUrl, JournalError, ThisProcess, open_journal, open_threaded_journal
from flux2_tool.sandbox import Fault, Sandbox, SandboxOptions, running_sandbox
from flux2_tool.settings import load_settings
from tests.support.hosted import HostedEngine, hosted
from tests.support.journal import NEVER, NOON, Machine
from tests.support.postgres import PostgresServer
from tests.support.postgres_proxy import PostgresProxy
from tests.support.waiting import PATIENCE_S

FOX, CAT = {"prompt": "a red fox"}, {"prompt": "a grey cat"}


_READER = """
import logging, sys
from flux2_tool.hosts.log_stream import log_to_stderr
from flux2_tool.journal import DatabaseUrl, JournalError, ThisProcess, open_journal
if sys.argv[2] != "0":
    log_to_stderr(int(sys.argv[2]))
journal = open_journal(DatabaseUrl(sys.argv[1]), owner=ThisProcess(), now=0.0)
print("open", flush=True)
sys.stdin.readline()
for _ in range(2):
    try:
        journal.records()
    except JournalError as exc:
        print(exc.reason, flush=True)
journal.close(release=False)
"""


@pytest.mark.parametrize(
    "level", [0, logging.WARNING, logging.INFO], ids=["no logging", "as over MCP", "as the worker"]
)
def test_what_the_pool_says_of_a_database_that_is_away_is_not_on_stderr(
    server: PostgresServer, database: str, level: int
) -> None:
    """The journal's own error has it, once; the pool tells each attempt, and a person reads it as something else."""
    command = [sys.executable, "-c", _READER, server.url(database), str(level)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        server.stop(signal.SIGKILL)
        said, logged = process.communicate("\n", timeout=PATIENCE_S)
    server.start()

    assert said.split() == ["connection"] * 2
    assert logged == ""


class Gateway:
    """A tool on a database, and its service.

    Args:
        url: The database's address.
    """

    def __init__(self, home: Path, url: str, base_url: str, sandbox: Sandbox, **settings: Any) -> None:
        self.sandbox = sandbox
        self._arguments = (home, url, base_url, settings)

    def open(self, *, url: str | None = None) -> HostedEngine:
        """Start a process of it, perhaps at another address of the database; within an event loop."""
        home, own_url, base_url, settings = self._arguments
        return hosted(
            load_settings({}, overrides={"home": home, "journal_url": url or own_url, "keep_days": 0, **settings}),
            Credentials(api_key=SecretStr("sk-sandbox-000000"), base_url=base_url, source="explicit"),
            host="native",
        )

    async def is_sent(self) -> None:
        """Wait until a request has arrived at the service."""
        while not self.sandbox.ledger.creates:  # noqa: ASYNC110 - it stands in another thread
            await asyncio.sleep(0.01)


@contextmanager
def gateway(home: Path, url: str, **settings: Any) -> Iterator[Gateway]:
    """Run the service."""
    with running_sandbox(SandboxOptions(duration_s=2.0, drawn_images=False)) as (base_url, sandbox):
        yield Gateway(home, url, base_url, sandbox, **settings)


def test_a_killed_server_stops_only_the_next_image(server: PostgresServer, database: str, home: Path) -> None:
    """What was accepted is followed to its end, shown, and written when the database is back."""

    async def main() -> tuple[dict[str, Any], ...]:
        tool = started.open()
        first = asyncio.create_task(tool.call("text_to_image", FOX, session="s", wait_s=60.0))
        await started.is_sent()
        server.stop(signal.SIGKILL)
        refused = await tool.call("text_to_image", CAT, session="s", wait_s=60.0)
        made = await first
        server.start()
        await tool.aclose()
        again = started.open()
        cat = await again.call("text_to_image", CAT, session="s", wait_s=60.0)
        last = await again.call("get_image_task", {"task_id": made["task"]["id"]}, session="s")
        await again.aclose()
        return refused, made, cat, last

    with gateway(home, server.url(database)) as started:
        refused, made, cat, last = asyncio.run(main())
        billed, keys = len(started.sandbox.ledger.billed_tasks), started.sandbox.ledger.creates

    assert (refused["error"]["code"], refused["error"]["charged"]) == ("journal_unavailable", "no")
    assert f"127.0.0.1:{server.port}/{database}" in refused["error"]["message"]
    assert "journal_url" in refused["error"]["hint"]
    assert (made["task"]["state"], len(made["images"])) == ("completed", 1)
    assert cat["task"]["state"] == last["task"]["state"] == "completed"
    assert (billed, len({create.idempotency_key for create in keys})) == (2, 2)
    rows = server.query("SELECT state, delivered_at IS NOT NULL FROM flux2_tool.records ORDER BY seq", database)
    assert rows.split() == ["completed|t", "completed|t"]


def test_a_server_killed_during_a_post_costs_nothing_twice(
    server: PostgresServer, database: str, proxy: PostgresProxy, home: Path
) -> None:
    """The answer of the POST arrives while nothing can be written; the next process must find the task all the same."""

    async def main() -> dict[str, Any]:
        tool = started.open(url=proxy.url(database))
        started.sandbox.faults.queue(Fault(kind="latency", on="create", accepted=True, delay_s=1.0))
        first = asyncio.create_task(tool.call("text_to_image", FOX, session="s", wait_s=5.0))
        await started.is_sent()
        # The gateway never gets to the database again: as if it were killed too, nobody writes what it knew.
        server.stop(signal.SIGKILL)
        proxy.close()
        left = await first
        server.start()
        again = started.open()
        server.query("UPDATE flux2_tool.records SET lease_until_s = 0", database)
        found = await again.call("text_to_image", FOX, session="s", wait_s=60.0)
        await again.aclose()
        await tool.aclose()
        return {"left": left, "found": found}

    with gateway(home, server.url(database)) as started:
        found = asyncio.run(main())["found"]
        ledger = started.sandbox.ledger

    assert found["task"]["state"] == "completed"
    assert len(ledger.billed_tasks) == 1
    assert len({create.idempotency_key for create in ledger.creates}) == 1


def test_best_effort_goes_on_within_the_cap_it_knew(server: PostgresServer, database: str, home: Path) -> None:
    """What others had spent counts, as far as it was known when the database went away."""

    async def main() -> list[dict[str, Any]]:
        tool = started.open()
        results = [await tool.call("text_to_image", FOX, session="s", wait_s=60.0)]
        server.stop(signal.SIGKILL)
        try:
            results += [await tool.call("text_to_image", {"prompt": f"fox {n}"}, wait_s=60.0) for n in range(2)]
        finally:
            server.start()
        await tool.aclose()
        return results

    with gateway(home, server.url(database), journal="best_effort", daily_cap_usd=0.1) as started:
        first, second, third = asyncio.run(main())

    assert [result["task"]["state"] for result in (first, second)] == ["completed", "completed"]
    assert any(said.startswith("journal_unavailable") for said in second["warnings"])
    assert third["error"]["code"] == "budget_exceeded"
    # The one made in between is in the database now: the caps of all count it.
    assert server.query("SELECT count(*) FROM flux2_tool.records WHERE state = 'completed'", database) == "2"


def test_while_the_database_hangs_calls_end_in_time(
    server: PostgresServer, database: str, proxy: PostgresProxy, home: Path
) -> None:
    """Other conversations go on; who waits is answered when the wait is over, and who presses stop at once."""
    steps = 0

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        nonlocal steps
        tool = started.open()
        await tool.call("text_to_image", FOX, session="s", wait_s=60.0)
        with proxy.hanging():
            cancel = CancelToken()
            waiting = asyncio.create_task(tool.call("text_to_image", CAT, session="s", wait_s=1.0))
            stopped = asyncio.create_task(tool.call("text_to_image", CAT, session="t", wait_s=60.0, cancel=cancel))
            await asyncio.to_thread(proxy.held.wait)
            while steps < 1000:
                await asyncio.sleep(0)
                steps += 1
            assert not waiting.done()
            cancel.set()
            # Both are answered while it hangs: it goes on only afterwards.
            answers = await waiting, await stopped
        await tool.aclose()
        return answers

    with gateway(home, proxy.url(database)) as started:
        waited, stopped = asyncio.run(main())
        creates = len(started.sandbox.ledger.creates)

    assert (waited["error"]["code"], waited["error"]["charged"]) == ("journal_unavailable", "no")
    assert (stopped["error"]["code"], stopped["error"]["charged"]) == ("cancelled", "no")
    assert creates == 1
    states = server.query("SELECT state FROM flux2_tool.records ORDER BY seq", database).split()
    assert states[0] == "completed"
    assert set(states[1:]) <= {"not_created"}


def test_reads_do_not_wait_for_a_claim_that_is_locked(
    server: PostgresServer, place: DatabaseUrl, tmp_path: Path
) -> None:
    """A backup that locks a row, or a slow claim, must not hold up what other calls read."""
    machine = Machine(tmp_path)

    async def main() -> list[str]:
        journal = await open_threaded_journal(place, owner=ThisProcess(), now=NOON)
        order = []
        with locked_claims(server, place):
            claim = asyncio.ensure_future(journal.claim([machine.intent()], NEVER, now=NOON))
            claim.add_done_callback(lambda _: order.append("claimed"))
            for _ in range(20):
                assert await journal.records() == []
            order.append("read")
        assert (await claim).outcome == "new"
        await journal.close()
        return order

    assert asyncio.run(main()) == ["read", "claimed"]


@contextmanager
def locked_claims(server: PostgresServer, place: DatabaseUrl) -> Iterator[None]:
    """Hold the lock of all claims of a schema."""
    import psycopg

    with psycopg.connect(server.url()) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('flux2-tool claim ' || %s, 0))", (place.schema,))
        yield


def test_a_server_without_a_free_connection_is_an_error(server: PostgresServer, place: DatabaseUrl) -> None:
    """Too many gateways for `max_connections`: nothing is spent, and it goes on when there is room."""
    role = f"few_{place.schema}"
    server.query(f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE postgres TO {role}")
    crowded = DatabaseUrl(server.url(user=role), schema=place.schema)
    first = open_journal(crowded, owner=ThisProcess(), now=NOON)
    assert first.records() == []
    # Places that others take would not do: the server gives one back some time after its client has left it.
    server.query(f"ALTER ROLE {role} CONNECTION LIMIT 0")
    with pytest.raises(JournalError, match="too many connections") as caught:
        open_journal(crowded, owner=ThisProcess(), now=NOON)
    assert caught.value.reason == "connection"
    assert first.records() == []
    server.query(f"ALTER ROLE {role} CONNECTION LIMIT -1")
    second = open_journal(crowded, owner=ThisProcess(), now=NOON)
    second.close()
    first.close()
