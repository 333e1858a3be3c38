"""The command `flux2-tool`: a group whose subcommands are imported only when they run.

`--help` must stay quick, so the list of commands is here, and nothing heavy is imported for it.
"""

from __future__ import annotations

import importlib
import logging
import shlex
import sys
import types
from collections.abc import Sequence
from typing import Any

import click

from flux2_tool._platform import unsupported_system
from flux2_tool.cli.collector import leave_garbage_at_exit
from flux2_tool.cli.end_signals import exit_code_after_signal
from flux2_tool.cli.exit_codes import EXIT_CODES_HELP, INTERRUPTED, WRONG_SETUP
from flux2_tool.cli.streams import standard_streams
from flux2_tool.cli.terminal import print_error, untold_output_failure, write_json
from flux2_tool.exceptions import ConfigurationError, Flux2Error, InternalError, InvalidArgumentsError
from flux2_tool.hosts.log_stream import log_to_stderr, unblocked_stderr

logger = logging.getLogger(__name__)

PROGRAM = "flux2-tool"

# Each command's module, attribute and line of help.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "generate": ("flux2_tool.cli.tool_commands", "generate", "Make an image from a prompt."),
    "remix": ("flux2_tool.cli.tool_commands", "remix", "Edit or combine images."),
    "task": ("flux2_tool.cli.tool_commands", "task", "Fetch the image of an earlier task."),
    "tasks": ("flux2_tool.cli.tasks", "tasks", "List requests and their states."),
    "gallery": ("flux2_tool.cli.gallery", "gallery", "Write a page with every picture and what was spent."),
    "resume": ("flux2_tool.cli.tasks", "resume", "Finish interrupted tasks."),
    "call": ("flux2_tool.cli.call", "call", "Call a tool the way an agent does, JSON in and out."),
    "prices": ("flux2_tool.cli.prices", "prices", "List what images cost."),
    "estimate": ("flux2_tool.cli.prices", "estimate", "Say what a call would cost, without making it."),
    "balance": ("flux2_tool.cli.prices", "balance", "Show what the account can spend."),
    "doctor": ("flux2_tool.cli.doctor", "doctor", "Find what is wrong, and how to fix it."),
    "probe": ("flux2_tool.cli.probe", "probe", "Pay for one image; record RunAPI's responses."),
    "demo": ("flux2_tool.cli.demo", "demo", "Run a full example against a sandbox, without a key."),
    "sandbox": ("flux2_tool.cli.sandbox", "sandbox", "Serve a mock of RunAPI on this machine."),
    "journal": ("flux2_tool.cli.journal", "journal", "Copy the task journal to PostgreSQL, and back."),
    "openclaw": ("flux2_tool.cli.openclaw", "openclaw", "Install into OpenClaw, show the state, remove."),
    "mcp": ("flux2_tool.cli.mcp", "mcp", "Serve the tools to Claude Code, Codex, Cursor and other MCP hosts."),
    "manifest": ("flux2_tool.cli.manifest", "manifest", "Check the manifest, export tool definitions."),
    "worker": ("flux2_tool.cli.worker", "worker", "Run the process the OpenClaw plugin talks to."),
}


class LazyGroup(click.Group):
    """A group that lists its commands without importing them, and imports one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for an unknown name."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            raise click.UsageError(f'there is no command "{name}"' + (f" (nearest: {near[0]})" if near else ""), ctx)
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from flux2_tool.schema.manifest import load_manifest

        click.echo(f"{PROGRAM} {load_manifest().version}")
        ctx.exit()


@click.group(cls=LazyGroup, invoke_without_command=True, epilog=EXIT_CODES_HELP)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, on stderr.")
@click.pass_context
def cli(ctx: click.Context, verbose: bool) -> int:
    """Flux 2 images by RunAPI, for OpenClaw agents and for people.

    The key is read from RUNAPI_API_KEY, or from ~/.config/runapi/config.json.
    """
    if verbose:
        log_to_stderr(logging.INFO)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see `exit_codes.py`."""
    _leave_out_httpx_command()
    leave_garbage_at_exit()
    # Whoever started the command may not read its stderr, which must not hold up the call in it.
    with standard_streams(), unblocked_stderr(in_order=True):
        reason = unsupported_system()
        if reason is not None:
            print_error(reason)
            return ConfigurationError.exit_code
        code = _main(argv)
        failure = untold_output_failure()
        if failure is not None:
            hint = "make room there, or write it to another place"
            print_error(f"the output could not be written to stdout: {failure.strerror}", hint=hint)
            code = code or WRONG_SETUP
        return exit_code_after_signal(code)


def _leave_out_httpx_command() -> None:
    """Keep httpx from loading a command line of its own, whose rich and pygments take longer than httpx itself."""
    stub = types.ModuleType("httpx._main")
    stub.__dict__["main"] = lambda: None
    sys.modules.setdefault(stub.__name__, stub)


def _main(argv: Sequence[str] | None) -> int:
    try:
        code: Any = cli.main(args=None if argv is None else list(argv), prog_name=PROGRAM, standalone_mode=False)
    except click.UsageError as exc:
        return _usage_error(exc, sys.argv[1:] if argv is None else argv)
    except click.ClickException as exc:  # pragma: no cover - no command raises another of click's own
        print_error(exc.format_message())
        return exc.exit_code
    except (KeyboardInterrupt, click.Abort):
        print_error("interrupted")
        return INTERRUPTED
    except Flux2Error as exc:
        print_error(exc.message, hint=exc.hint)
        return exc.exit_code
    except Exception as exc:
        logger.exception("a command failed by a defect")
        print_error(f"flux2-tool failed by a defect ({type(exc).__name__})", hint="report this with the text above")
        return InternalError.exit_code
    return code if isinstance(code, int) else 0


def _usage_error(exc: click.UsageError, argv: Sequence[str]) -> int:
    command = exc.ctx.command_path if exc.ctx is not None else PROGRAM
    message, hint = exc.format_message(), f"{command} --help" + _dash_hint(exc, argv)
    if exc.ctx is not None and exc.ctx.command.name == "call":
        from flux2_tool.schema.results import error_object

        write_json(error_object(InvalidArgumentsError(message, hint=hint, violations=(message,))))
    print_error(message, hint=hint)
    return exc.exit_code


def _dash_hint(exc: click.UsageError, argv: Sequence[str]) -> str:
    """Return how a text is given that was taken for an option, where this may be what happened."""
    if exc.ctx is None or not any(isinstance(item, click.Argument) for item in exc.ctx.command.params):
        return ""
    if isinstance(exc, click.NoSuchOption):
        texts = [text for text in argv if text.startswith(exc.option_name) and (" " in text or not exc.possibilities)]
    else:
        texts = [text for text in argv if text.startswith("-") and " " in text]
    if not texts or "--" in argv:
        return ""
    return f'; a text that begins with "-" goes after "--": {exc.ctx.command_path} -- {shlex.quote(texts[0])}'
