"""`tasks` and `resume`: list the journal's records, resume or settle interrupted requests."""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flux2_tool.cli.options import UNITS_S, Number, moment, wait_option
from flux2_tool.cli.terminal import note, write_json, write_line
from flux2_tool.exceptions import Flux2Error, TaskNotFoundError
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.money import cost_text, usd_text
from flux2_tool.schema.task_ref import TaskRef

if TYPE_CHECKING:
    from flux2_tool.journal import Record, SqlJournal
    from flux2_tool.settings import Settings

_STATES = ("sending", "processing", "completed", "failed", "not_created", "unknown")
_SHORTEST_ID = 8
_MOST_DAYS = 36500.0  # a time before that is none that a journal can have


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.option("--state", "states", multiple=True, type=click.Choice(_STATES), help="Only these; may be repeated.")
@click.option("--since", callback=moment, metavar="WHEN", help="Only newer ones: 30m, 2h, 7d, or a date.")
@click.pass_context
def tasks(ctx: click.Context, as_json: bool, states: tuple[str, ...], since: float | None) -> int:
    """List requests: state, reference, cost, and the start of the prompt, oldest first."""
    if ctx.invoked_subcommand is not None:
        return 0
    from flux2_tool.cli.open_journal import shown_place

    with _journal() as (journal, settings):
        _mark_unconfirmed(journal, settings)
        found = journal.records(states=states, since=since)  # type: ignore[arg-type]
    if as_json:
        write_json([record_object(record) for record in found])
        return 0
    for record in found:
        write_line(_line(record_object(record)))
    if not found:
        of_states = f" of the state {' or '.join(states)}" if states else ""
        note(f"no tasks{of_states} in {shown_place(settings)}{'' if since is None else ' since then'}")
    if any(record.state in ("sending", "processing") for record in found):
        note("hint:  flux2-tool resume resumes tasks without a running owner")
    _note_lost(found)
    return 0


def _note_lost(found: Sequence[Record]) -> None:
    """Say how to go on with requests whose outcome is unknown, if there are any."""
    lost = [record for record in found if record.state == "unknown" and record.task_id is None]
    if lost:
        what = "a request" if len(lost) == 1 else f"{len(lost)} requests"
        name = lost[-1].record_id[:8]
        note(f"hint:  {what} of unknown outcome: flux2-tool resume --resend {name} sends it once more")
        note(f"hint:  flux2-tool tasks forget {name} settles it, once the RunAPI dashboard has shown its outcome")


def _mark_unconfirmed(journal: SqlJournal, settings: Settings) -> None:
    """Mark as unknown the requests of dead processes that are too old to be sent again automatically."""
    from flux2_tool.journal import JournalError

    now = time.time()
    with contextlib.suppress(JournalError):  # a list that is a little behind is still a list
        journal.mark_unconfirmed(sent_before=now - settings.resend_window_s, now=now)


@tasks.command(short_help="Forget tasks that are over and older.")
@click.option("--older-than", "days", type=Number(0, _MOST_DAYS), default=30.0, metavar="DAYS", help="Default 30 days.")
def prune(days: float) -> int:
    """Forget tasks that are over and older. RunAPI is not contacted.

    Open tasks, unknown outcomes and undelivered images are kept, with the other pictures of their call, and so is
    everything that today's caps and the guard against repeats count. Copies that OpenClaw's plugin has kept of their
    pictures are removed with them.
    """
    # Imported here because `--help` must not pay for it.
    from flux2_tool.images.kept_files import FOLDER, prune_kept
    from flux2_tool.tasks.budget import local_day

    now = time.time()
    with _journal() as (journal, settings):
        before = min(now - days * UNITS_S["d"], local_day(now)[0], now - settings.repeat_window_s)
        count = journal.prune(before=before)
        named = {Path(copy.path).name for record in journal.records() for copy in record.saved}
    removed = []
    if settings.home is not None:
        folder = settings.home / FOLDER
        removed = prune_kept(
            folder, now=now, older_than_s=now - before, most_bytes=math.inf, spared={folder / name for name in named}
        )
    copies = f", and removed {len(removed)} kept picture{'' if len(removed) == 1 else 's'}" if removed else ""
    note(f"forgot {count} task{'' if count == 1 else 's'} older than {days:g} days{copies}")
    return 0


@tasks.command(short_help="Forget a request of unknown outcome.")
@click.argument("name", metavar="ID")
def forget(name: str) -> int:
    """Forget the request ID of unknown outcome, a record:ID or task:ID of `flux2-tool tasks`.

    Look at the RunAPI dashboard first: if its image was made, it was paid for. Afterwards its reserved price counts
    against no cap, and an equal request makes a new image.
    """
    wanted = name.removeprefix("record:").lower()
    with _journal() as (journal, settings):
        _mark_unconfirmed(journal, settings)
        found = [
            record
            for record in journal.records(states=("unknown",))
            if (len(wanted) >= _SHORTEST_ID and record.record_id.startswith(wanted))
            or record.task_id == TaskRef.parse(name).task_id
        ]
        if len(found) != 1 or not journal.forget(found[0].record_id, now=time.time()):
            raise TaskNotFoundError(
                f'no request of unknown outcome is called "{name}"',
                hint="flux2-tool tasks --state unknown lists them",
            )
    note(f"forgot {record_object(found[0])['ref']}, {found[0].label}")
    return 0


def _record_id(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return a record's id without "record:"; it must be long enough to mean one record only."""
    if value is None:
        return None
    found = re.fullmatch(r"(?:record:)?([0-9a-f-]{8,36})", value.lower())
    if found is None:
        message = f'"{value}" is no record id such as record:1a2b3c4d; `flux2-tool tasks --state unknown` lists them'
        raise click.BadParameter(message, ctx, param)
    return found[1]


@click.command()
@click.option(
    "--resend",
    "record_id",
    callback=_record_id,
    metavar="ID",
    help="Send this request of unknown outcome, a record:ID of `flux2-tool tasks`, once more.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result objects as one JSON list.")
def resume(record_id: str | None, as_json: bool, wait_s: float | None) -> int:
    """Finish the tasks of your key interrupted by the end of their process, and print their images.

    A request of unknown outcome is sent again by itself only for a while after its first attempt. --resend sends it
    once more however long ago that was, under its first idempotency key: RunAPI returns the task it already made if
    it still knows the key, and makes a new image, which costs, if it does not.
    """
    # Imported here because `--help` must not pay for httpx and jsonschema.
    from flux2_tool.cli.output import exit_code_of, note_unwritten, print_failure, print_outcome
    from flux2_tool.cli.run import run_resume
    from flux2_tool.schema.results import ToolResult, as_object

    tool = load_manifest().tools["get_image_task"]

    def show(outcomes: list[ToolResult | Flux2Error] | Flux2Error) -> int:
        if isinstance(outcomes, Flux2Error):
            raise outcomes
        if as_json:
            write_json([as_object(outcome) for outcome in outcomes])
            for outcome in outcomes:
                if isinstance(outcome, Flux2Error):
                    print_failure(outcome, tool=tool)
            note_unwritten(*outcomes)
            return max((exit_code_of(outcome) for outcome in outcomes), default=0)
        if not outcomes:
            note("nothing was interrupted")
            with _journal() as (journal, _):
                _note_lost(journal.records(states=("unknown",)))
        return max((print_outcome(outcome, tool=tool, as_json=False) for outcome in outcomes), default=0)

    return run_resume(record_id, show=show, wait_s=wait_s)


resume.params.append(wait_option(load_manifest()))


def record_object(record: Record) -> dict[str, Any]:
    """Return a record as `tasks --json` shows it; times are UTC, an id without a task is "record:…"."""
    from flux2_tool._clock import iso_utc

    def moment(value: float | None) -> str | None:
        return None if value is None else iso_utc(value)

    return {
        "ref": TaskRef.text_of(record.task_id) or f"record:{record.record_id[:8]}",
        "record_id": record.record_id,
        "task_id": record.task_id,
        "state": record.state,
        "tool": record.tool,
        "model": record.model,
        "resolution": record.resolution,
        "label": record.label,
        "session": record.session,
        "set": None
        if record.set_id is None
        else {"id": record.set_id, "number": record.set_index + 1, "of": record.set_size},
        "base_url": record.base_url,
        "created_at": moment(record.created_at),
        "accepted_at": moment(record.accepted_at),
        "finished_at": moment(record.finished_at),
        "delivered_at": moment(record.delivered_at),
        "cost": _cost(record),
        "images": [
            {
                "url": url,
                "expires_at": expires_at,
                "expired": expires_at is not None and expires_at <= iso_utc(time.time()),
            }
            for url, expires_at in record.images
        ],
        "error": None if record.error is None else {"code": record.error[0], "message": record.error[1]},
    }


def _cost(record: Record) -> dict[str, Any]:
    from flux2_tool.tasks.record_cost import cost_of

    return cost_of(record, load_manifest())._asdict()


def _line(record: Mapping[str, Any]) -> str:
    cost = record["cost"]
    # Nothing was created, so nothing was billed either.
    price = usd_text(cost["usd"]) if record["state"] == "not_created" else cost_text(cost["usd"], cost["basis"])
    expired = " (link expired)" if any(image["expired"] for image in record["images"]) else ""
    shown = "" if record["state"] != "completed" or record["delivered_at"] else " (not shown yet)"
    # Without a task's id there is no other way to its picture.
    links = "" if record["task_id"] else "".join(f"  {image['url']}" for image in record["images"])
    of_set = "" if record["set"] is None else f" ({record['set']['number']} of {record['set']['of']})"
    text = f"{record['label']}{of_set}{shown}{expired}{links}"
    return f"{record['created_at']}  {record['state']:<11}  {record['ref']}  {price}  {text}"


@contextlib.contextmanager
def _journal() -> Iterator[tuple[SqlJournal, Settings]]:
    """Open the journal with the settings that name it."""
    from flux2_tool.cli.open_journal import note_other_journal, opened_journal
    from flux2_tool.settings import load_settings

    settings = load_settings(os.environ)
    note_other_journal(settings)
    with opened_journal(settings) as journal:
        yield journal, settings
