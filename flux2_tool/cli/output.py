"""Print a result object the way a person reads it, and return the exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from flux2_tool.cli.exit_codes import DONE, exit_code_of
from flux2_tool.cli.open_journal import JOURNAL_HINT
from flux2_tool.cli.options import option_hint
from flux2_tool.cli.terminal import note, print_error, write_json, write_line
from flux2_tool.schema.manifest import Tool
from flux2_tool.schema.task_ref import TaskRef


def print_outcome(result: Mapping[str, Any], *, tool: Tool, as_json: bool) -> int:
    """Print URLs or saved paths on stdout, one a line, and what else there is to say on stderr."""
    if as_json:
        write_json(result)
    if "error" in result:
        print_failure(result["error"], tool=tool)
        return exit_code_of(result)
    if not as_json:
        for image in result["images"]:
            write_line(image["path"] or image["url"])
    for warning in result["warnings"]:
        note(f"warning: {warning}")
    task, cost, timing = result["task"], result["cost"], result["timing"]
    if task["joined"]:
        note("this is an equal request's image, which was interrupted or never shown; --new makes another")
    elapsed = "" if timing["elapsed_s"] is None else f" after {timing['elapsed_s']:.1f} s"
    if task["state"] == "processing":
        note(f"still processing{elapsed}; it goes on at RunAPI")
        note(f"hint:  {fetch_command(task['id'])}")
    else:
        price = "price unknown" if cost["usd"] is None else f"{cost['usd']:.2f} USD ({cost['basis']})"
        note(f"done{elapsed}, {price}, {task['ref'] or 'no task id'}")
    return exit_code_of(result)


def show_images(result: Mapping[str, Any]) -> None:
    """Open finished images in the person's own viewer: the saved copy, else the link."""
    import click

    from flux2_tool.credentials import KEY_VARIABLE

    # The viewer inherits the environment, lives on, and needs no key.
    key = os.environ.pop(KEY_VARIABLE, None)
    try:
        for image in result.get("images", ()) if "error" not in result else ():
            if click.launch(image["path"] or image["url"]) != 0:
                note("the image could not be shown: this machine has no viewer for it")
    finally:
        if key is not None:
            os.environ[KEY_VARIABLE] = key


def print_raw(answer: str | Mapping[str, Any], *, tool: Tool) -> int:
    """Print RunAPI's own answer as text, or the error that stood in its way."""
    if isinstance(answer, str):
        try:
            write_json(json.loads(answer))
        except ValueError:  # a very long one is cut
            write_line(answer)
        return DONE
    print_failure(answer["error"], tool=tool)
    return exit_code_of(answer)


def print_failure(error: Mapping[str, Any], *, tool: Tool | None) -> None:
    """Print an error object: what was wrong, then what to do."""
    violations = error.get("violations") or [error["message"]]
    for violation in violations[:-1]:
        print_error(violation)
    hint = error["hint"] or ""
    if error["code"] == "invalid_arguments" and tool is not None and error["charged"] == "no":
        hint = option_hint(violations, tool) or ""
    if error["task_ref"] and error["code"] in _FETCH_LATER:
        hint = fetch_command(error["task_ref"])
    elif error["code"] == "cancelled" and error["charged"] == "unknown":
        hint = "find out and fetch the image with: flux2-tool resume"
    elif error["code"] == "journal_unavailable":
        hint = JOURNAL_HINT
    request = f" (request {error['request_id']})" if error["request_id"] else ""
    print_error(f"{violations[-1]}{request}", hint=hint)
    if error["charged"] == "unknown":
        note("note:  whether this image is charged is not known")


_FETCH_LATER = frozenset({"cancelled", "service_unavailable", "rate_limited", "unexpected_answer"})


def fetch_command(task: str) -> str:
    """Return the command that fetches a task's image later."""
    return f"fetch the image later with: flux2-tool task {TaskRef.parse(task).task_id}"
