"""The command's fixtures, and those of the OpenClaw that a test scripts."""

from __future__ import annotations

from tests.cli.conftest import bare, clock, command, sandbox, service
from tests.openclaw.conftest import openclaw

__all__ = ["bare", "clock", "command", "openclaw", "sandbox", "service"]
