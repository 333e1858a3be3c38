"""Many `flux2-tool` at once, each in a process of its own that costs a fork: `python -m tests.support.forked_commands`.

Reads a JSON list from stdin, the arguments of one command in each item; forks for each, and writes what the commands
print to stdout, one JSON string a line, in the same order, when all have ended.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import IO

# What a call imports, once for all.
from flux2_tool.cli import main
from flux2_tool.schema.manifest import load_manifest


def _forked(arguments: Sequence[str], output: IO[bytes]) -> int:
    """Start a command and return its process id."""
    pid = os.fork()
    if pid == 0:
        os.dup2(output.fileno(), sys.stdout.fileno())
        sys.exit(main(arguments))
    return pid


def run_all(commands: Sequence[Sequence[str]]) -> list[str]:
    """Return what commands print that run at the same time."""
    load_manifest()
    outputs = [tempfile.TemporaryFile() for _ in commands]  # noqa: SIM115 - the children inherit them
    started = [_forked(arguments, output) for arguments, output in zip(commands, outputs, strict=True)]
    for pid in started:
        os.waitpid(pid, 0)
    printed = []
    for output in outputs:
        with output:
            output.seek(0)
            printed.append(output.read().decode())
    return printed


if __name__ == "__main__":
    for text in run_all(json.load(sys.stdin)):
        print(json.dumps(text))
