"""`probe`: one paid image, and a transcript without secrets that checks the table of the API."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flux2_tool._files import is_folder, is_there
from flux2_tool.cli.end_signals import EndSignals
from flux2_tool.cli.exit_codes import WRONG_SETUP
from flux2_tool.cli.terminal import agreed, note, note_unwritten_output, progress, write_line, write_path
from flux2_tool.context import working_folder
from flux2_tool.exceptions import ConfigurationError, Flux2Error
from flux2_tool.schema.manifest import load_manifest

if TYPE_CHECKING:
    from flux2_tool.credentials import Credentials
    from flux2_tool.diagnostics.probe import ProbeResult
    from flux2_tool.settings import Settings


@click.command()
@click.option("--yes", is_flag=True, help="Agree to the cost without being asked.")
@click.option(
    "--output", "path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Where to write the transcript. Default: flux2-probe-DATE.md here.",
)  # fmt: skip
def probe(yes: bool, path: Path | None) -> int:
    """Pay for one pro image at 1k and write down, without secrets, RunAPI's responses.

    The transcript has paths, codes, names and types, and says row by row whether this tool's table of the API
    is right. Attach it to a report of an unexpected answer.
    """
    from flux2_tool.cli.prices import price_now
    from flux2_tool.credentials import resolve_credentials
    from flux2_tool.diagnostics.probe import MODEL, RESOLUTION
    from flux2_tool.schema.variables import check_variables, unknown_variables
    from flux2_tool.settings import load_settings

    settings = load_settings(os.environ)
    check_variables(unknown_variables(os.environ, load_manifest().settings))
    credentials = resolve_credentials(environ=os.environ, settings_base_url=settings.base_url)
    path = path or Path(time.strftime("flux2-probe-%Y%m%d-%H%M%S.md", time.gmtime()))
    note(f"This makes one image, {MODEL} at {RESOLUTION}, at {credentials.base_url} with the key from")
    note(f"{credentials.source}. It costs {price_now(MODEL, RESOLUTION)}; all else it does is free.")
    if not yes and not agreed("Pay for it?", hint="to agree to the cost, run: flux2-tool probe --yes"):
        note("nothing was sent")
        return WRONG_SETUP
    _check_writable(path)
    # After a signal the image may be paid for: the transcript is still written.
    with EndSignals() as signals:
        found = asyncio.run(_run(settings, credentials, signals))
        return _report(found, path)


def _report(found: ProbeResult, path: Path) -> int:
    """Write the transcript, say what was found, and return the exit code."""
    from flux2_tool.cli.output import exit_code_of, print_failure

    try:
        path.write_text(found.transcript, encoding="utf-8", errors="backslashreplace")
    except OSError as exc:
        for line in found.transcript.splitlines():
            write_line(line)
        raise ConfigurationError(f"cannot write {path}: {exc.strerror}", hint="the transcript is on stdout") from exc
    write_path(str(path))
    note_unwritten_output()
    seen = [row for row in found.table if row.verdict != "not seen"]
    wrong = [row for row in seen if row.verdict == "wrong"]
    for row in wrong:
        note(f"not as the table says: {row.what}: {row.seen} (expected {row.expected})")
    note(f"{len(seen) - len(wrong)} of {len(seen)} rows are as the table says")
    if isinstance(found.outcome, Flux2Error):
        return print_failure(found.outcome, tool=None)
    for image in found.outcome.images:
        note(f"the image: {image.url}")
    return exit_code_of(found.outcome)


def _check_writable(path: Path) -> None:
    """Raise before anything is paid when the transcript could not be kept."""
    if not path.is_absolute() and working_folder() is None:
        raise ConfigurationError("the working folder has been deleted", hint="choose another file with --output")
    if is_there(path):
        raise ConfigurationError(f"{path} exists already", hint="choose another file with --output")
    if not is_folder(path.absolute().parent) or not os.access(path.absolute().parent, os.W_OK):
        raise ConfigurationError(f"cannot write to {path.absolute().parent}", hint="choose another file with --output")


async def _run(settings: Settings, credentials: Credentials, signals: EndSignals) -> ProbeResult:
    from flux2_tool.cli.run import cancelled_by
    from flux2_tool.diagnostics.probe import probe

    with cancelled_by(signals) as cancel, progress() as report:
        return await probe(
            settings,
            credentials,
            load_manifest(),
            now=time.time(),
            on_progress=lambda state: report(state.message),
            cancel=cancel,
        )
