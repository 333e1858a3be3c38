"""`tasks` and `resume`: what the journal knows, and finishing what was interrupted."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from flux2_tool.cli.options import Number, wait_option
from flux2_tool.cli.terminal import note, write_json, write_line
from flux2_tool.manifest import load_manifest

if TYPE_CHECKING:
    from flux2_tool.journal import Journal, Record

_STATES = ("sending", "processing", "completed", "failed", "not_created", "unknown")
_UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86400.0}


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return a time in the past, "30m", "2h", "7d" or a date, as seconds since 1970."""
    if value is None:
        return None
    length = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", value)
    if length is not None:
        return time.time() - float(length[1]) * _UNITS_S[length[2]]
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo is not None else moment.astimezone()).timestamp()
    except (ValueError, OverflowError, OSError):
        said = f'"{value}" is neither a length such as 30m, 2h or 7d nor a date such as 2026-11-23'
        raise click.BadParameter(said, ctx, param) from None


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.option("--state", "states", multiple=True, type=click.Choice(_STATES), help="Only these; may be repeated.")
@click.option("--since", callback=_moment, metavar="WHEN", help="Only newer ones: 30m, 2h, 7d, or a date.")
@click.pass_context
def tasks(ctx: click.Context, as_json: bool, states: tuple[str, ...], since: float | None) -> int:
    """List what was asked for: state, reference, cost, and the prompt's beginning, oldest first."""
    if ctx.invoked_subcommand is not None:
        return 0
    journal = _open()
    try:
        found = journal.records(states=states, since=since)  # type: ignore[arg-type]
    finally:
        journal.close()
    if as_json:
        write_json([record_object(record) for record in found])
        return 0
    for record in found:
        write_line(_line(record_object(record)))
    if not found:
        note("no tasks")
    if any(record.state in ("sending", "processing") for record in found):
        note("hint:  flux2-tool resume finishes what no running process takes care of")
    _note_lost(found)
    return 0


def _note_lost(found: Sequence[Record]) -> None:
    """Say how to go on with requests whose outcome is unknown, if there are any."""
    lost = [record for record in found if record.state == "unknown" and record.task_id is None]
    if lost:
        what = "a request" if len(lost) == 1 else f"{len(lost)} requests"
        note(
            f"hint:  {what} of unknown outcome: flux2-tool resume --resend {lost[-1].record_id[:8]} sends it once more"
        )


@tasks.command(short_help="Forget tasks that are over and older.")
@click.option("--older-than", "days", type=Number(min=0), default=30.0, metavar="DAYS", help="Default 30 days.")
def prune(days: float) -> int:
    """Forget tasks that are over and older. What is open or of unknown outcome stays; RunAPI is not asked."""
    journal = _open()
    try:
        count = journal.prune(before=time.time() - days * _UNITS_S["d"])
    finally:
        journal.close()
    note(f"forgot {count} task{'' if count == 1 else 's'} older than {days:g} days")
    return 0


def _record_id(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return a record's id without "record:"; it must be long enough to mean one record only."""
    if value is None:
        return None
    found = re.fullmatch(r"(?:record:)?([0-9a-f-]{8,36})", value.lower())
    if found is None:
        said = f'"{value}" is no record id such as record:1a2b3c4d; `flux2-tool tasks --state unknown` lists them'
        raise click.BadParameter(said, ctx, param)
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
    """Finish the tasks of your key that a process that is gone has left behind, and print their images.

    A request of unknown outcome is sent again by itself only for a while after its first attempt. --resend sends it
    once more however long ago that was, under its first idempotency key: RunAPI answers the task it already made if
    it still knows the key, and makes a new image, which costs, if it does not.
    """
    # Imported here because `--help` must not pay for httpx and jsonschema.
    from flux2_tool.cli.exits import exit_code_of
    from flux2_tool.cli.outcome import print_failure, print_outcome
    from flux2_tool.cli.run import run_resume

    tool = load_manifest().tools["get_image_task"]

    def show(results: list[dict[str, Any]]) -> int:
        if as_json:
            write_json(results)
            for result in results:
                if "error" in result:
                    print_failure(result["error"], tool=tool)
            return max((exit_code_of(result) for result in results), default=0)
        if not results:
            note("nothing was interrupted")
            journal = _open()
            try:
                _note_lost(journal.records(states=("unknown",)))
            finally:
                journal.close()
        return max((print_outcome(result, tool=tool, as_json=False) for result in results), default=0)

    return run_resume(record_id, show=show, wait_s=wait_s)


resume.params.append(wait_option(load_manifest()))


def record_object(record: Record) -> dict[str, Any]:
    """Return a record as `tasks --json` shows it; times are UTC, an id without a task is "record:…"."""
    from flux2_tool.clock import iso_utc

    def moment(value: float | None) -> str | None:
        return None if value is None else iso_utc(value)

    return {
        "ref": f"task:{record.task_id}" if record.task_id else f"record:{record.record_id[:8]}",
        "record_id": record.record_id,
        "task_id": record.task_id,
        "state": record.state,
        "tool": record.tool,
        "model": record.model,
        "resolution": record.resolution,
        "label": record.label,
        "session": record.session,
        "base_url": record.base_url,
        "created_at": moment(record.created_at),
        "accepted_at": moment(record.accepted_at),
        "finished_at": moment(record.finished_at),
        "returned_at": moment(record.returned_at),
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
    """Return what was billed, which is nothing for what failed, or what is expected: the list price, or a live one."""
    if record.state in ("failed", "not_created"):
        return {"usd": record.cost_usd or 0.0, "basis": "billed"}
    if record.state == "completed" and record.cost_usd is not None:
        return {"usd": record.cost_usd, "basis": "billed"}
    if record.price_usd is None:
        return {"usd": None, "basis": "unknown"}
    model = load_manifest().models.get(record.model)
    is_listed = model is not None and model.prices_usd.get(record.resolution) == record.price_usd
    return {"usd": record.price_usd, "basis": "list price" if is_listed else "expected"}


def _line(record: Mapping[str, Any]) -> str:
    cost = record["cost"]
    price = "price unknown" if cost["usd"] is None else f"{cost['usd']:.2f} USD ({cost['basis']})"
    expired = " (link expired)" if any(image["expired"] for image in record["images"]) else ""
    shown = "" if record["state"] != "completed" or record["returned_at"] else " (not shown yet)"
    return f"{record['created_at']}  {record['state']:<11}  {record['ref']}  {price}  {record['label']}{shown}{expired}"


def _open() -> Journal:
    from flux2_tool.cli.open_journal import opened_journal
    from flux2_tool.settings import load_settings

    return opened_journal(load_settings(os.environ))
