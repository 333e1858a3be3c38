"""Print a call's outcome for a person, and return the exit code."""

from __future__ import annotations

import json
from typing import Final

from flux2_tool.cli.exit_codes import DONE, NOT_SAVED, STILL_PROCESSING
from flux2_tool.cli.open_journal import JOURNAL_HINT
from flux2_tool.cli.options import option_hint
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
from flux2_tool.exceptions import Flux2Error, InvalidArgumentsError
from flux2_tool.schema.manifest import Tool
from flux2_tool.schema.money import cost_text
from flux2_tool.schema.results import ToolResult, as_object
from flux2_tool.schema.task_ref import TaskRef

_FETCH_LATER: Final = frozenset({"cancelled", "service_unavailable", "rate_limited", "unexpected_answer"})


def exit_code_of(outcome: ToolResult | Flux2Error) -> int:
    """Return the exit code of a call's outcome."""
    if isinstance(outcome, Flux2Error):
        return outcome.exit_code
    if outcome.task.state != "completed":
        return STILL_PROCESSING
    # By the warning and not by the paths: there is one where a second copy was asked for and is missing, too.
    return NOT_SAVED if any(warning.startswith(f"{UNSAVED}:") for warning in outcome.warnings) else DONE


def print_outcome(outcome: ToolResult | Flux2Error, *, tool: Tool, as_json: bool) -> int:
    """Print URLs or saved paths on stdout, one a line, and everything else on stderr."""
    if as_json:
        write_json(as_object(outcome))
    else:
        _print_images(outcome)
    code = print_failure(outcome, tool=tool) if isinstance(outcome, Flux2Error) else _print_notes(outcome)
    task_id = outcome.task_to_fetch if isinstance(outcome, Flux2Error) else outcome.task.id
    if are_notes_lost() and code != DONE and not as_json and task_id is not None:
        write_line(str(TaskRef(task_id)))
    note_unwritten(outcome)
    return code


def note_unwritten(*outcomes: ToolResult | Flux2Error) -> None:
    """Say on stderr what was not written to stdout: such a result counts as not shown, and its task shows it again."""
    failure = take_output_failure()
    if failure is None:
        return
    note(f"warning: stdout could not be written ({failure.strerror}), so the result counts as not shown")
    for outcome in outcomes:
        task_id = outcome.task_to_fetch if isinstance(outcome, Flux2Error) else outcome.task.id
        if task_id is not None:
            note(f"hint:  {_fetch_command(task_id)}")


def _print_images(outcome: ToolResult | Flux2Error) -> None:
    for image in () if isinstance(outcome, Flux2Error) else outcome.images:
        if image.path:
            write_path(image.path)
        else:
            write_line(image.url)


def _print_notes(outcome: ToolResult) -> int:
    for warning in outcome.warnings:
        note(f"warning: {warning}")
    task, timing = outcome.task, outcome.timing
    if task.joined:
        note("this is an equal request's image, which was interrupted or never shown; --new makes another")
    elapsed = "" if timing.elapsed_s is None else f" after {timing.elapsed_s:.1f} s"
    if task.state == "processing":
        note(f"still processing{elapsed}; it goes on at RunAPI")
        note(f"hint:  {_fetch_command(task.id)}")
    else:
        note(f"done{elapsed}, {cost_text(outcome.cost.usd, outcome.cost.basis)}, {task.ref or 'no task id'}")
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
    hint = error.hint
    if isinstance(error, InvalidArgumentsError) and tool is not None and error.charged == "no":
        hint = option_hint([*others, last], tool) or ("" if error.violations else hint)
    if error.task_id is not None and error.code in _FETCH_LATER:
        hint = _fetch_command(error.task_id)
    elif error.code == "cancelled" and error.charged == "unknown":
        hint = "find out and fetch the image with: flux2-tool resume"
    elif error.code == "journal_unavailable":
        hint = JOURNAL_HINT
    request = f" (request {error.request_id})" if error.request_id else ""
    print_error(f"{last}{request}", hint=hint)
    if error.charged == "unknown":
        note("note:  whether this image is charged is not known")
    return exit_code_of(error)


def _fetch_command(task_id: str | None) -> str:
    return f"fetch the image later with: flux2-tool task {task_id}"
