"""`worker`: the process the OpenClaw plugin talks to, over stdin and stdout."""

from __future__ import annotations

import click


def _run() -> int:
    from flux2_tool.hosts.worker.server import main

    return main()


worker = click.Command(
    "worker",
    callback=_run,
    help="Serve tool calls as JSON-RPC on stdin and stdout, for the OpenClaw plugin. Ends when its input does.",
)
