"""`call`: a tool exactly as an agent calls it, under an agent's rules.

One JSON object on stdout in every case, all else on stderr.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import click

from flux2_tool.cli.options import session_options, typed_text, waiting_options
from flux2_tool.cli.terminal import write_json
from flux2_tool.schema.argument_text import arguments_of_json, no_arguments
from flux2_tool.schema.manifest import load_manifest

MAX_ARGUMENTS_BYTES = 1024 * 1024

logger = logging.getLogger(__name__)


def _run(tool: str, arguments: str, session: str | None, new: bool, wait_s: float | None, output: str | None) -> int:
    # Imported here because `--help` must not pay for httpx and jsonschema.
    from flux2_tool.cli.output import exit_code_of, note_unwritten, print_failure
    from flux2_tool.cli.run import run_call
    from flux2_tool.exceptions import CancelledCallError, Flux2Error
    from flux2_tool.hosts.outcome import internal_error
    from flux2_tool.schema.recent import CallResult
    from flux2_tool.schema.results import as_object
    from flux2_tool.schema.validation import without_nulls

    codes: list[int] = []

    def show(outcome: CallResult | Flux2Error) -> int:
        if not codes:  # exactly one object, also when Ctrl-C comes after it
            write_json(as_object(outcome))
            codes.append(exit_code_of(outcome))
            if isinstance(outcome, Flux2Error):
                print_failure(outcome, tool=None)
            note_unwritten(outcome)
        return codes[0]

    try:
        given = without_nulls(parse_arguments(arguments))
    except Flux2Error as exc:
        return show(exc)
    try:
        return run_call(
            tool,
            given,
            show=show,
            wait_s=wait_s,
            output=output,
            session=session,
            new=new,
            by_model=True,
        )
    except Flux2Error as exc:
        return show(exc)
    except KeyboardInterrupt:  # pragma: no cover - only before the call's own handler is in place
        return show(CancelledCallError("The call was interrupted.", charged="unknown"))
    except BrokenPipeError:
        raise
    except Exception as exc:  # pragma: no cover - a net: the engine reports defects itself
        logger.exception("a call failed by a defect")
        return show(internal_error(exc))


def parse_arguments(text: str) -> Any:
    """Return the JSON of an argument, or of stdin for "-".

    Raises:
        InvalidArgumentsError: It is not JSON, has a duplicate key, or is too large; the message says which.
    """
    if text == "-":
        data = sys.stdin.buffer.read(MAX_ARGUMENTS_BYTES + 1)
        if len(data) > MAX_ARGUMENTS_BYTES:
            raise no_arguments(f"the arguments are longer than {MAX_ARGUMENTS_BYTES} bytes")
        try:
            # PowerShell writes UTF-16 into pipes and files.
            text = data.decode(json.detect_encoding(data))
        except UnicodeDecodeError as exc:
            raise no_arguments(f"the arguments are not {exc.encoding.upper()} (byte {exc.start})") from exc
    return arguments_of_json(typed_text(text))


call = click.Command(
    "call",
    callback=_run,
    params=[
        click.Argument(["tool"], metavar="TOOL"),
        click.Argument(["arguments"], metavar="JSON|-"),
        *session_options(),
        *(option for option in waiting_options(load_manifest()) if option.name not in ("as_json", "show")),
    ],
    help="""Call TOOL with the arguments JSON ("-" reads them from stdin).

    Prints exactly one JSON object on stdout, the result or the error; everything else goes to stderr. The rules for
    agents apply: source files lie in this folder (and not where this is the home folder or above it), and the
    operator's settings decide on callbacks and the safety checker. Name each conversation with --session, so that a
    model that repeats itself is stopped.
    """,
)
