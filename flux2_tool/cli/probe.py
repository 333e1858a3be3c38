"""`probe`: one paid image, and a transcript without secrets that shows where the table of the API is right."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flux2_tool.cli.exit_codes import WRONG_SETUP, exit_code_of
from flux2_tool.cli.terminal import note, progress, write_line
from flux2_tool.exceptions import ConfigurationError
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
    """Pay for one pro image at 1k and write down, without secrets, what RunAPI answers.

    The transcript has paths, codes, names and types, and says row by row whether the table this tool goes by is
    right. Attach it to a report of an unexpected answer.
    """
    from flux2_tool.cli.output import print_failure
    from flux2_tool.cli.prices import price_now
    from flux2_tool.credentials import resolve_credentials
    from flux2_tool.diagnostics.probe import MODEL, RESOLUTION
    from flux2_tool.settings import load_settings

    settings = load_settings(os.environ)
    credentials = resolve_credentials(environ=os.environ, settings_base_url=settings.base_url)
    path = path or Path(time.strftime("flux2-probe-%Y%m%d-%H%M%S.md", time.gmtime()))
    note(f"This makes one image, {MODEL} at {RESOLUTION}, at {credentials.base_url} with the key from")
    note(f"{credentials.source}. It costs {price_now(MODEL, RESOLUTION)}; all else it does is free.")
    if not yes and not _agreed():
        note("nothing was sent")
        return WRONG_SETUP
    _check_writable(path)
    found = asyncio.run(_run(settings, credentials))
    try:
        path.write_text(found.transcript, encoding="utf-8")
    except OSError as exc:
        for line in found.transcript.splitlines():
            write_line(line)
        raise ConfigurationError(f"cannot write {path}: {exc.strerror}", hint="the transcript is on stdout") from exc
    write_line(str(path))
    seen = [row for row in found.table if row.verdict != "not seen"]
    wrong = [row for row in seen if row.verdict == "wrong"]
    for row in wrong:
        note(f"not as the table says: {row.what}: {row.seen} (expected {row.expected})")
    note(f"{len(seen) - len(wrong)} of {len(seen)} rows are as the table says")
    for image in found.result.get("images", []):
        note(f"the image: {image['url']}")
    if "error" in found.result:
        print_failure(found.result["error"], tool=None)
    return exit_code_of(found.result)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "there is no terminal to ask on", hint="to agree to the cost, run: flux2-tool probe --yes"
        )
    return click.confirm("Pay for it?", err=True)


def _check_writable(path: Path) -> None:
    """Raise before anything is paid when the transcript could not be kept."""
    if path.exists():
        raise ConfigurationError(f"{path} exists already", hint="choose another file with --output")
    if not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise ConfigurationError(f"cannot write to {path.absolute().parent}", hint="choose another file with --output")


async def _run(settings: Settings, credentials: Credentials) -> ProbeResult:
    from flux2_tool.diagnostics.probe import probe
    from flux2_tool.engine.wait import CancelToken

    cancel, loop = CancelToken(), asyncio.get_running_loop()

    def interrupt() -> None:
        # The image may be paid for by now: end the wait and write down what was seen. The second Ctrl-C ends it all.
        cancel.set()
        loop.remove_signal_handler(signal.SIGINT)

    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGINT, interrupt)
    with progress() as report:
        return await probe(
            settings,
            credentials,
            load_manifest(),
            now=time.time(),
            on_progress=lambda state: report(state.message),
            cancel=cancel,
        )
