"""`doctor`: check this installation, and name the command that fixes each problem."""

from __future__ import annotations

import os

import click

from flux2_tool.cli.exit_codes import DONE, WRONG_SETUP
from flux2_tool.cli.terminal import write_json, write_line
from flux2_tool.schema.manifest import load_manifest


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--openclaw", metavar="PATH", help="The openclaw command. Default: the one on PATH.")
@click.option("--no-openclaw", is_flag=True, help="Do not check OpenClaw, which takes some seconds.")
def doctor(as_json: bool, openclaw: str | None, no_openclaw: bool) -> int:
    """Check everything an image needs; make none, and spend nothing.

    Each line is ok, a note about this shell alone, a warning or a failure, with the command that fixes it. Exit code 3
    when there is a failure.
    """
    from flux2_tool.diagnostics.doctor import report, run_checks

    findings = run_checks(load_manifest(), os.environ, command=openclaw, with_openclaw=not no_openclaw)
    failed = any(finding.state == "failure" for finding in findings)
    if as_json:
        write_json({"ok": not failed, "findings": [finding.as_object() for finding in findings]})
    else:
        for line in report(findings):
            write_line(line)
    return WRONG_SETUP if failed else DONE
