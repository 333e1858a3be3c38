"""doctor's look at a gateway whose journal is in PostgreSQL: only its worker knows the address."""

from __future__ import annotations

from typing import Any

import pytest

from tests.diagnostics.test_doctor_gateway import RUNNING, _installed, _look, _only
from tests.openclaw.conftest import FakeOpenClaw

CONFIG = {"plugins.entries.flux2.config": {"journal_url": "__OPENCLAW_REDACTED__"}}
JOURNAL: dict[str, Any] = {
    "server_version": "17.2",
    "latency_s": 0.0123,
    "clock_ahead_s": -0.26,
    "others": {"gateway-2": 2, "office": 1},
    "tasks": 8,
    "open": 1,
    "unknown": 0,
    "wrong_sums": 0,
}
FACTS = (
    "PostgreSQL 17.2, 12.3 ms away, its clock 0.3 s behind this machine's; "
    "3 other processes of flux2-tool connected (2 on gateway-2, 1 on office); 8 tasks, 1 open, 0 of unknown outcome"
)


def said(journal: Any) -> dict[str, Any]:
    return {**RUNNING, "settings": {"journal_url": "…"}, "account": {**RUNNING["account"], "journal": journal}}


@pytest.mark.parametrize(
    ("journal", "state", "message", "fix"),
    [
        pytest.param({}, "ok", FACTS, "", id="well"),
        pytest.param({"clock_ahead_s": 9.0}, "warning", "9.0 s ahead of this machine's", "chrony", id="a clock"),
        pytest.param({"latency_s": 0.2}, "warning", "200.0 ms away", "near the gateways", id="far away"),
        pytest.param({"unknown": 1}, "warning", "1 of unknown outcome", "tasks --state unknown", id="an unknown one"),
        pytest.param({"wrong_sums": 1}, "warning", "caps count wrong amounts", "tasks prune", id="wrong sums"),
        pytest.param({"others": {}}, "ok", "no other process of flux2-tool is connected", "", id="alone"),
        pytest.param(
            {"error": "the journal postgresql://db/flux2 cannot be opened: no", "hint": "start the database"},
            "failure",
            "the journal postgresql://db/flux2 cannot be opened: no",
            "start the database",
            id="away",
        ),
    ],
)
def test_the_gateways_worker_tells_of_its_shared_journal(
    openclaw: FakeOpenClaw, journal: dict[str, Any], state: str, message: str, fix: str
) -> None:
    """This shell sees the address masked, and its own database may be another one."""
    _installed(openclaw, said({**JOURNAL, **journal}), config=CONFIG)

    findings = _look(openclaw)

    found = _only(findings, "gateway journal")
    assert found.state == state
    assert message in found.message
    assert fix in found.fix
    assert [one for one in findings if one.area == "plugin" and one.state != "ok"] == []


@pytest.mark.parametrize(
    "answer", [None, said(None), said({"latency_s": "soon"}), said("no"), {**RUNNING, "account": None}]
)
def test_a_shared_journal_that_the_gateway_does_not_tell_of_is_a_warning(openclaw: FakeOpenClaw, answer: Any) -> None:
    """The file in the data folder, which this shell could read, is not what the gateway uses."""
    _installed(openclaw, answer, config=CONFIG)

    found = _only(_look(openclaw), "gateway journal")

    assert found.state == "warning"
    assert "only the gateway knows its address" in found.message
