"""Processes of several hosts on one database: they share every cap, and take over what a killed one left."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.sandbox import SandboxOptions, running_sandbox
from tests.support import hosts
from tests.support.hosts import running_hosts
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(hosts.why_not() is not None, reason=f"{hosts.why_not()}")

NAMES = ("host-a", "host-b", "host-c")
KEY = "sk-sandbox-000000"


def environ(server: PostgresServer, database: str, base_url: str) -> dict[str, str]:
    """Return what every process of the account has in its environment."""
    return {
        "RUNAPI_API_KEY": KEY,
        "RUNAPI_BASE_URL": base_url,
        "FLUX2_TOOL_JOURNAL_URL": server.url(database),
        "FLUX2_TOOL_KEEP_DAYS": "0",
    }


def test_fifty_processes_of_three_hosts_share_a_cap_for_ten(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    """Each with a data folder of its own: exactly ten are billed, and all others are told why not."""
    options = SandboxOptions(speed=20.0, drawn_images=False)
    with (
        running_sandbox(options) as (base_url, sandbox),
        running_hosts(NAMES, tmp_path, **environ(server, database, base_url), FLUX2_TOOL_DAILY_CAP_USD="0.50") as found,
    ):
        running = [
            found[number % 3].start("generate", f"fox {number}", "--wait", "60", "--json") for number in range(50)
        ]
        answers: list[dict[str, Any]] = [json.loads(one.ended()[1]) for one in running]
        wait_until(lambda: len(sandbox.ledger.billed_tasks) >= 10)

    outcomes = Counter(answer.get("error", {}).get("code", "made") for answer in answers)
    assert outcomes == {"made": 10, "budget_exceeded": 40}, [answer.get("error") for answer in answers]
    assert len(sandbox.ledger.billed_tasks) == len(sandbox.ledger.creates) == 10
    assert len({create.idempotency_key for create in sandbox.ledger.creates}) == 10
    assert server.query("SELECT count(*) FROM flux2_tool.records", database) == "10"


def test_another_host_takes_over_from_one_that_was_killed(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    """Nobody can see from there that its processes are dead: the lease decides, and nothing is paid twice."""
    options = SandboxOptions(duration_s=3.0, drawn_images=False)
    with (
        running_sandbox(options) as (base_url, sandbox),
        running_hosts(NAMES[:2], tmp_path, **environ(server, database, base_url)) as (killed, other),
    ):
        command = killed.start("generate", "a red fox")
        wait_until(lambda: sandbox.ledger.creates)
        killed.kill()
        command.drop()
        before = json.loads(other.run("resume", "--json")[1])
        # Half a minute later, by the server's clock.
        server.query("UPDATE flux2_tool.records SET lease_until_s = lease_until_s - 31", database)
        after = json.loads(other.run("resume", "--json")[1])

    assert before == []
    assert [(one["task"]["state"], len(one["images"])) for one in after] == [("completed", 1)]
    assert len(sandbox.ledger.billed_tasks) == 1
    assert len({create.idempotency_key for create in sandbox.ledger.creates}) == 1
    assert server.query("SELECT state FROM flux2_tool.records", database) == "completed"
