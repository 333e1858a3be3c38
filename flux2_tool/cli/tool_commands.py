"""`generate`, `remix` and `task`: the three tools as commands for people."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from flux2_tool.cli.collector import no_collection
from flux2_tool.cli.options import argument_options, given_arguments, session_options, waiting_options
from flux2_tool.exceptions import Flux2Error
from flux2_tool.schema.manifest import Tool, load_manifest

if TYPE_CHECKING:
    from flux2_tool.schema.recent import CallResult

_MANIFEST = load_manifest()
# In the place of an id: the last pictures; see `engine/looking_back.py`.
RECENT = "recent"


def _check_is_of_many(of_one: dict[str, bool]) -> None:
    """Refuse options, by whether they are given, that mean one task where the last pictures are asked for."""
    if given := [option for option, is_given in of_one.items() if is_given]:
        raise click.UsageError(f"{given[0]} needs the ID of a task.")


# What prints is imported only when there is something to print; see `needed_later.py`.


def _print_raw(outcome: str | Flux2Error, *, tool: Tool) -> int:
    from flux2_tool.cli.output import print_raw

    return print_raw(outcome, tool=tool)


def _print_result(outcome: CallResult | Flux2Error, *, tool: Tool, as_json: bool, show: bool) -> int:
    from flux2_tool.cli.output import print_outcome, show_images
    from flux2_tool.schema.results import ToolResult

    if show and isinstance(outcome, ToolResult):
        show_images(outcome)
    return print_outcome(outcome, tool=tool, as_json=as_json)


def _command(name: str, tool_name: str, *, positional: dict[str, str], help_text: str) -> click.Command:
    """Build the command of a tool; `positional` maps arguments to how help shows them."""
    tool = _MANIFEST.tools[tool_name]

    def run(
        wait_s: float | None,
        output: str | None,
        as_json: bool,
        show: bool = False,
        session: str | None = None,
        new: bool = False,
        raw: bool = False,
        **values: Any,
    ) -> int:
        # Imported here because `--help` must not pay for httpx.
        with no_collection():
            from flux2_tool.cli.run import run_call, run_raw

        if tool_name == "get_image_task" and values["task_id"] in (None, RECENT):
            _check_is_of_many({"--raw": raw, "--output": output is not None, "--open": show})
        if raw:
            return run_raw(values["task_id"], show=partial(_print_raw, tool=tool))
        return run_call(
            tool_name,
            given_arguments(values),
            show=partial(_print_result, tool=tool, as_json=as_json, show=show),
            wait_s=wait_s,
            output=output,
            session=session,
            new=new,
        )

    schema = tool.input_schema["properties"]
    arguments: list[click.Parameter] = [
        click.Argument(
            [argument],
            metavar=shown,
            nargs=-1 if schema[argument]["type"] == "array" else 1,
            required=argument in tool.input_schema.get("required", ()),
        )
        for argument, shown in positional.items()
    ]
    # --wait is the same for people, without the bound that protects an agent's turn.
    options = argument_options(tool, without={*positional, "timeoutSeconds"})
    own: list[click.Parameter] = session_options()
    if tool_name == "get_image_task":
        own = [
            click.Option(["--raw"], is_flag=True, help="Print RunAPI's last answer about it, redacted, and end."),
            click.Option(["--session"], metavar="NAME", help="Without ID: list the last pictures of this session."),
        ]
    params = [*arguments, *options, *own, *waiting_options(_MANIFEST)]
    return click.Command(name, params=params, callback=run, help=help_text)


generate = _command(
    "generate",
    "text_to_image",
    positional={"prompt": "PROMPT"},
    help_text="Make an image from PROMPT and print its URL, or its path with --output.",
)
remix = _command(
    "remix",
    "remix_image",
    positional={"prompt": "PROMPT", "source_image_urls": "SOURCE..."},
    help_text="Change or combine the SOURCE pictures (files, http(s) URLs, task:ID, task:last) as PROMPT says.",
)
task = _command(
    "task",
    "get_image_task",
    positional={"task_id": "[ID]"},
    help_text="Wait for the image of an earlier task and print its URL, or its path with --output. "
    "Without ID: list the last pictures and what may still be spent.",
)
