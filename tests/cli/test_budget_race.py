"""Many processes against one cap: the reservation is atomic, or it is worth nothing."""

from __future__ import annotations

import json

from flux2_tool.sandbox import Sandbox
from tests.support.command import Command

PROCESSES = 50
AFFORDED = 10


def test_fifty_processes_against_a_cap_for_ten_are_billed_for_exactly_ten(command: Command, sandbox: Sandbox) -> None:
    """Counted on the sandbox's ledger, not on ours."""
    cap = f"{AFFORDED * 0.05:.2f}"
    calls = [["call", "text_to_image", json.dumps({"prompt": f"fox {number}"})] for number in range(PROCESSES)]
    results = [json.loads(printed) for printed in command.run_together(calls, FLUX2_TOOL_DAILY_CAP_USD=cap)]

    made = [result for result in results if "task" in result]
    refused = [result["error"]["code"] for result in results if "error" in result]

    assert len(made) == AFFORDED
    assert refused == ["budget_exceeded"] * (PROCESSES - AFFORDED)
    assert len(sandbox.ledger.billed_tasks) == AFFORDED
    assert len(sandbox.ledger.creates) == AFFORDED
