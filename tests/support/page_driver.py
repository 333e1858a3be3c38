"""Speaks to a script that drives a page in Chromium: one JSON command a line, one answer a line."""

from __future__ import annotations

import json
import subprocess
from typing import Any


def ask(process: subprocess.Popen[str], op: str, **options: Any) -> Any:
    """Send one command and return its answer."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps({"op": op, **options}) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    assert line, "the browser has ended"
    found = json.loads(line)
    assert "failed" not in found, found["failed"]
    return found["answer"]
