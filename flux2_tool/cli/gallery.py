"""`gallery`: the journal's pictures and spending as one page for people."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from flux2_tool._files import open_file
from flux2_tool.cli.options import moment
from flux2_tool.cli.terminal import clean, note, progress, write_path
from flux2_tool.exceptions import ConfigurationError, JournalUnavailableError

if TYPE_CHECKING:
    from flux2_tool.gallery.making import Gallery
    from flux2_tool.settings import Settings

_NAME: Final = "gallery.html"
_HEAD_BYTES: Final = 200


@click.command()
@click.option("--output", metavar="FILE", help="Write the page there: a file, a folder, or - for stdout.")
@click.option("--open", "show", is_flag=True, help="Show the page in your browser.")
@click.option("--offline", is_flag=True, help="Fetch no picture: only saved copies, and what earlier pages fetched.")
@click.option("--since", callback=moment, metavar="WHEN", help="Only newer pictures: 30m, 2h, 7d, or a date.")
def gallery(output: str | None, show: bool, offline: bool, since: float | None) -> int:
    """Write a page with every picture that can still be shown, and print its path.

    One file that loads nothing from anywhere: thumbnails, prompts, costs, and the spending by day. A picture comes from
    its saved copy, else from its link while that works. The page is for its owner alone (mode 600).
    """
    # Imported here because `--help` must not pay for it.
    from flux2_tool.cli.open_journal import data_folder_of, note_other_journal
    from flux2_tool.settings import load_settings

    if output == "-" and show:
        raise click.UsageError("--open shows a file, and --output - writes none")
    settings = load_settings(os.environ)
    home = data_folder_of(settings)
    target = None if output == "-" else _target(output, home)
    note_other_journal(settings)
    made = _made(settings, home, offline=offline, since=since)
    if not made.has_journal:
        note(f"no tasks in {home} yet")
    for text in made.notes:
        note(f"note:  {text}")
    if target is None:
        # ASCII alone, whatever encoding stdout has; the style and the script have nothing else.
        sys.stdout.write(made.html.decode("utf-8").encode("ascii", "xmlcharrefreplace").decode("ascii"))
        return 0
    _write(target, made.html)
    write_path(str(target))
    if show:
        _show(target)
    return 0


def _made(settings: Settings, home: Path, *, offline: bool, since: float | None) -> Gallery:
    from flux2_tool.cli.open_journal import JOURNAL_HINT
    from flux2_tool.gallery.entries import file_address
    from flux2_tool.gallery.making import GalleryMaker
    from flux2_tool.images.decoder import shared_decoder
    from flux2_tool.journal import JournalError, place_of
    from flux2_tool.schema.manifest import load_manifest

    with progress() as report:
        maker = GalleryMaker(
            home=home,
            place=place_of(settings) or home,
            cap_usd=_cap_usd(settings, home),
            manifest=load_manifest(),
            decoder=shared_decoder(),
            file_of=file_address,
            is_offline=offline,
            since=since,
            on_step=lambda done, all_: report(f"making the page · {done} of {all_} pictures"),
        )
        try:
            return asyncio.run(maker.make(now=time.time()))
        except JournalError as exc:
            raise JournalUnavailableError(f"{exc}.", hint=exc.hint or JOURNAL_HINT) from exc


def _cap_usd(settings: Settings, home: Path) -> float:
    """Return the cap per day: of a data folder in OpenClaw's state folder the plugin's, which this shell does not set.

    The plugin keeps a record of the guards that were in force last, without those at their defaults.
    """
    from flux2_tool._folders import is_state_data_folder
    from flux2_tool.openclaw.settings_record import read_record

    if is_state_data_folder(home, os.environ):
        recorded = (read_record(home.parent) or {}).get("daily_cap_usd")
        if isinstance(recorded, int | float):
            return float(recorded)
    return settings.daily_cap_usd


def _target(output: str | None, home: Path) -> Path:
    """Return the file to write.

    Raises:
        ConfigurationError: It is another file than a page of ours, or nothing can be written there.
    """
    from flux2_tool._folders import expanded

    if output is None:
        return home / "gallery" / _NAME
    try:
        path = expanded(output, os.environ).absolute()
        if output.endswith("/") or path.is_dir():
            path /= _NAME
        is_free = not os.path.lexists(path) or _is_ours(path)
    except (OSError, ValueError) as exc:
        why = f"it {exc}" if isinstance(exc, ValueError) else exc.strerror
        raise ConfigurationError(f'the page cannot be written to "{output}": {why}', hint="name another file") from exc
    if not is_free:
        message = f"{path} is there already and is no page of flux2-tool gallery; nothing was written"
        raise ConfigurationError(message, hint="name another file, or move that one away")
    return path


def _is_ours(path: Path) -> bool:
    from flux2_tool.gallery.page import MARK

    if not path.is_file() or path.is_symlink():
        return False
    with open_file(path, follows_links=False) as file:
        return MARK.encode() in file.read(_HEAD_BYTES)


def _write(path: Path, html: bytes) -> None:
    """Write the page for its owner alone, whole or not at all.

    Raises:
        ConfigurationError: It cannot be written.
    """
    from flux2_tool.gallery.writing import written

    try:
        written(path, html)
    except (OSError, ValueError) as exc:
        why = getattr(exc, "strerror", None) or type(exc).__name__
        hint = "name a file in a folder that is yours: flux2-tool gallery --output FILE"
        raise ConfigurationError(f"the page cannot be written to {clean(str(path))}: {why}", hint=hint) from exc


def _show(path: Path) -> None:
    from flux2_tool.cli.viewer import has_display, launched

    if not has_display():
        note("hint:  this machine has no display; copy the file to one that has, or open it through your editor")
    elif not launched(str(path)):
        note("the page could not be shown: this machine has no browser for it")
