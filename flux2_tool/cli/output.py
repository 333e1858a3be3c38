"""Print a call's outcome for a person, and return the exit code."""

from __future__ import annotations

import json
from typing import Final

from flux2_tool.cli.exit_codes import DONE, NOT_SAVED, SOME_FAILED, STILL_PROCESSING
from flux2_tool.cli.open_journal import JOURNAL_HINT
from flux2_tool.cli.options import option_hint
from flux2_tool.cli.recent import print_recent
from flux2_tool.cli.terminal import (
    are_notes_lost,
    note,
    print_error,
    take_output_failure,
    write_json,
    write_line,
    write_path,
)
from flux2_tool.engine.saving import NOT_SAVED as UNSAVED
from flux2_tool.exceptions import CancelledCallError, Flux2Error, InvalidArgumentsError
from flux2_tool.journal.errors import FILE_HINT
from flux2_tool.schema.manifest import Tool
from flux2_tool.schema.money import cost_text
from flux2_tool.schema.recent import CallResult, RecentImages
from flux2_tool.schema.results import ToolResult, as_object
from flux2_tool.schema.task_ref import TaskRef

_RESUME_HINT: Final = "hint:  what has no task id yet, flux2-tool resume finishes"
_FETCH_LATER: Final = frozenset({"cancelled", "service_unavailable", "rate_limited", "unexpected_answer"})


def exit_code_of(outcome: CallResult | Flux2Error) -> int:
    """Return the exit code of a call's outcome."""
    if isinstance(outcome, Flux2Error):
        return outcome.exit_code
    if isinstance(outcome, RecentImages):
        return DONE
    if outcome.task.state != "completed":
        return STILL_PROCESSING
    if any(task.state != "completed" for task in outcome.tasks):
        return SOME_FAILED
    # By the warning and not by the paths: there is one where a second copy was asked for and is missing, too.
    return NOT_SAVED if any(warning.startswith(f"{UNSAVED}:") for warning in outcome.warnings) else DONE


def print_outcome(outcome: CallResult | Flux2Error, *, tool: Tool, as_json: bool) -> int:
    """Print URLs or saved paths on stdout, one a line, and everything else on stderr."""
    if isinstance(outcome, RecentImages):
        return _print_recent(outcome, as_json=as_json)
    if as_json:
        write_json(as_object(outcome))
    else:
        _print_images(outcome)
    code = print_failure(outcome, tool=tool) if isinstance(outcome, Flux2Error) else _print_notes(outcome)
    if are_notes_lost() and code != DONE and not as_json:
        for task_id in _missing_ids(outcome):
            write_line(str(TaskRef(task_id)))
    note_unwritten(outcome)
    return code


def note_unwritten(*outcomes: CallResult | Flux2Error) -> None:
    """Say on stderr what was not written to stdout: such a result counts as not shown, and its task shows it again.

    A look back shows nothing for the first time: it is a list like any other, of which `| head` wants no more.
    """
    results = [outcome for outcome in outcomes if not isinstance(outcome, RecentImages)]
    failure = take_output_failure() if results else None
    if failure is None:
        return
    note(f"warning: stdout could not be written ({failure.strerror}), so the result counts as not shown")
    for outcome in results:
        for task_id in _task_ids(outcome):
            note(f"hint:  {_fetch_command(task_id)}")


def _task_ids(outcome: ToolResult | Flux2Error) -> list[str]:
    """Return the tasks whose images a later command can fetch."""
    if isinstance(outcome, CancelledCallError) and outcome.set_task_ids:
        return list(outcome.set_task_ids)
    if isinstance(outcome, Flux2Error):
        return [] if outcome.task_to_fetch is None else [outcome.task_to_fetch]
    return [task.id for task in outcome.tasks if task.id is not None and task.state != "failed"]


def _missing_ids(outcome: ToolResult | Flux2Error) -> list[str]:
    """Return those of them whose images are not there; of one that was only not saved, itself."""
    ids = _task_ids(outcome)
    if isinstance(outcome, Flux2Error) or all(task.state == "completed" for task in outcome.tasks):
        return ids
    made = {task.id for task in outcome.tasks if task.state == "completed"}
    return [task_id for task_id in ids if task_id not in made]


def _print_recent(result: RecentImages, *, as_json: bool) -> int:
    if as_json:
        write_json(as_object(result))
    else:
        print_recent(result)
    return DONE


def _print_images(outcome: ToolResult | Flux2Error) -> None:
    for image in () if isinstance(outcome, Flux2Error) else outcome.images:
        if image.path:
            write_path(image.path)
        else:
            write_line(image.url)


def _print_notes(outcome: ToolResult) -> int:
    for warning in outcome.warnings:
        note(f"warning: {warning}")
    task, timing, count = outcome.task, outcome.timing, len(outcome.tasks)
    if task.joined:
        what = (
            "this is an equal request's image, which was" if count == 1 else "these are an equal request's, which were"
        )
        note(f"{what} interrupted or never shown; --new makes {'another' if count == 1 else 'others'}")
    elapsed = "" if timing.elapsed_s is None else f" after {timing.elapsed_s:.1f} s"
    if task.state == "processing":
        waiting = [one.id for one in outcome.tasks if one.state == "processing"]
        which = "" if count == 1 else f": {len(waiting)} of {count} images"
        note(f"still processing{elapsed}{which}; {'it goes' if count == 1 else 'they go'} on at RunAPI")
        for task_id in filter(None, waiting):
            note(f"hint:  {_fetch_command(task_id)}")
        if None in waiting:
            note(_RESUME_HINT)
    else:
        refs = " ".join(one.ref for one in outcome.tasks if one.state == "completed" and one.ref is not None)
        note(f"done{elapsed}, {cost_text(outcome.cost.usd, outcome.cost.basis)}, {refs or 'no task id'}")
    return exit_code_of(outcome)


def show_images(result: ToolResult) -> None:
    """Open finished images in the person's own viewer: the saved copy, else the link."""
    from flux2_tool.cli.viewer import launched

    for image in result.images:
        if not launched(image.path or image.url):
            note("the image could not be shown: this machine has no viewer for it")


def print_raw(outcome: str | Flux2Error, *, tool: Tool) -> int:
    """Print RunAPI's own response as text, or the error."""
    if isinstance(outcome, Flux2Error):
        return print_failure(outcome, tool=tool)
    try:
        write_json(json.loads(outcome))
    except ValueError:  # a very long one is cut
        write_line(outcome)
    return DONE


def print_failure(error: Flux2Error, *, tool: Tool | None) -> int:
    """Print the error, then its hint, and return the exit code. With a tool, the hint names its options."""
    violations = error.violations if isinstance(error, InvalidArgumentsError) else ()
    *others, last = violations or [error.message]
    for violation in others:
        print_error(violation)
    hint, of_set = error.hint, list[str]()
    if isinstance(error, InvalidArgumentsError) and tool is not None and error.charged == "no":
        hint = option_hint([*others, last], tool) or ("" if error.violations else hint)
    if error.task_id is not None and error.code in _FETCH_LATER:
        hint, *of_set = map(_fetch_command, _task_ids(error))
    elif error.code == "cancelled" and error.charged == "unknown":
        hint = "find out and fetch the image with: flux2-tool resume"
    elif error.code == "journal_unavailable" and error.hint == FILE_HINT:
        hint = JOURNAL_HINT
    request = f" (request {error.request_id})" if error.request_id else ""
    print_error(f"{last}{request}", hint=hint)
    for command in of_set:
        note(f"hint:  {command}")
    if isinstance(error, CancelledCallError) and error.set_task_ids and error.is_partly_open:
        note(_RESUME_HINT)
    for warning in error.warnings:
        note(f"warning: {warning}")
    if error.charged == "unknown":
        note("note:  whether this image is charged is not known")
    return exit_code_of(error)


def _fetch_command(task_id: str) -> str:
    return f"fetch the image later with: flux2-tool task {TaskRef.command_word(task_id)}"
