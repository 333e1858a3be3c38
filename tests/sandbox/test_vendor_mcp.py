"""The requests of the vendor's MCP server, as its version 0.6.0 sent them to this sandbox.

The server is not in npm's registry, so it was built from its repository, run against the sandbox, and recorded. It
called check_balance, list_models, create_task with wait (klein, pro, the same again, one that fails), get_task and
check_pricing, which all succeeded. Later versions read price schedules and follow a task's Location as well.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

USER_AGENT = {"user-agent": "@runapi.ai/mcp/0.6.0", "accept": "application/json"}
# What its client takes for the id of a task; any other ends in an error of its own.
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _made(call: Any, service: str, key: str, **arguments: Any) -> dict[str, Any]:
    """Create as it does, wait as it does, and return the last response."""
    path = f"/api/v1/{service}/text_to_image"
    headers = {**USER_AGENT, "Idempotency-Key": key}
    created = call.request("POST", path, headers=headers, json={"prompt": "a red fox", **arguments})
    task_id = created.json()["id"]
    assert UUID.fullmatch(task_id)
    call.clock.now += 20
    done: dict[str, Any] = call.request("GET", f"{path}/{task_id}", headers=USER_AGENT).json()
    assert call.request("GET", f"/api/v1/{service}/{task_id}", headers=USER_AGENT).json() == done
    return done


def test_its_account_and_catalog_are_answered(call: Any) -> None:
    """The models and the prices without the key."""
    balance = call.request("GET", "/api/v1/me/balance", headers=USER_AGENT).json()
    models = call.request("GET", "/v1/models", key=None, headers=USER_AGENT).json()
    query = "service=flux&action=text_to_image&model=flux-2-klein"
    schedules = call.request("GET", f"/api/v1/price_schedules?{query}", key=None, headers=USER_AGENT).json()

    assert balance["balance_cents"] == 10_000
    assert "flux-2-klein" in [model["id"] for model in models["data"]]
    assert [row["unit_price_cents"] for row in schedules["price_schedules"]] == [3]


@pytest.mark.parametrize(
    ("service", "model", "usd"), [("flux", "flux-2-klein", 0.03), ("flux_2", "flux-2-pro-text-to-image", 0.05)]
)
def test_its_tasks_are_made_and_polled(call: Any, service: str, model: str, usd: float) -> None:
    """One picture for one key, and what it cost."""
    done = _made(call, service, "k", model=model)
    again = _made(call, service, "k", model=model)

    assert done == again
    assert (done["status"], done["usage"]["cost"], done["billing"]["refund"]) == ("completed", usd, None)
    assert done["images"][0]["url"].startswith("http")
    assert len(call.sandbox.ledger.tasks) == 1


def test_its_failed_task_is_refunded(call: Any) -> None:
    """It shows these facts to the model instead of a price."""
    done = _made(call, "flux_2", "k", model="flux-2-pro-text-to-image", prompt="a fox [fail]")

    assert (done["status"], bool(done["billing"]["refund"]), "usage" in done) == ("failed", True, False)


def test_its_hybrid_tasks_are_followed_to_their_location(call_with: Any) -> None:
    """Versions from 0.12 read the body in the envelope."""
    call = call_with(status_link="location", status_link_envelope=True)
    created = call.create("/api/v1/flux/text_to_image", model="flux-2-klein")
    call.clock.now += 20
    for location in (created.headers["location"], f"/api/v1/tasks/{created.json()['id']}"):
        task = call.request("GET", location, headers=USER_AGENT).json()

        assert (task["id"], task["status"]) == (created.json()["id"], "completed")
        assert task["response"]["body"]["images"]
