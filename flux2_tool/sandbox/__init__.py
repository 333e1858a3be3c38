"""The sandbox: a mock server of RunAPI on loopback, for demos, tests, chaos runs and benchmarks. Needs the extra
`sandbox`.

It imports nothing from the rest of the package: if it shared the client's names, a misspelt field would pass.

    app = create_app(SandboxOptions(duration_s=5), clock=fake_clock)      # in process, httpx.ASGITransport(app)
    with running_sandbox(SandboxOptions(speed=50)) as (base_url, sandbox):  # over real sockets
        sandbox.faults.queue(Fault(kind="drop_after", on="create"))
        ...
        assert sandbox.ledger.billed_cents == 5
"""

from __future__ import annotations

from flux2_tool.sandbox.app import SandboxApp, create_app
from flux2_tool.sandbox.fault_middleware import ConnectionDropped
from flux2_tool.sandbox.faults import Fault, FaultRate, Faults
from flux2_tool.sandbox.ledger import CallbackDelivery, CreateRecord, Download, Leak, Ledger
from flux2_tool.sandbox.options import MARKERS_HELP, SandboxOptions
from flux2_tool.sandbox.server import running_sandbox, serve
from flux2_tool.sandbox.service import Sandbox
from flux2_tool.sandbox.tasks import Task

__all__ = [
    "MARKERS_HELP",
    "CallbackDelivery",
    "ConnectionDropped",
    "CreateRecord",
    "Download",
    "Fault",
    "FaultRate",
    "Faults",
    "Leak",
    "Ledger",
    "Sandbox",
    "SandboxApp",
    "SandboxOptions",
    "Task",
    "create_app",
    "running_sandbox",
    "serve",
]
