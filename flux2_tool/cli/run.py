"""Run one tool call for a command: settings, key, progress, Ctrl-C, and the result object in every case."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from flux2_tool.cli.open_journal import opened_journal
from flux2_tool.cli.terminal import Reporter, progress
from flux2_tool.context import CallContext, working_folder, workspace_of
from flux2_tool.credentials import Credentials, resolve_credentials
from flux2_tool.engine.engine import Flux2Tool
from flux2_tool.engine.wait import CancelToken, Progress
from flux2_tool.exceptions import ConfigurationError, Flux2Error
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.results import error_object
from flux2_tool.schema.validation import validate_arguments
from flux2_tool.settings import Settings, load_settings

Result = TypeVar("Result")
Shown = TypeVar("Shown")
Work = Callable[[Flux2Tool, CancelToken, Reporter], Awaitable[Result]]


def run_call(
    tool: str,
    arguments: Any,
    *,
    show: Callable[[dict[str, Any]], Shown],
    wait_s: float | None = None,
    output_dir: Path | None = None,
    session: str | None = None,
    new: bool = False,
    by_model: bool = False,
    environ: Mapping[str, str] | None = None,
    account: tuple[Settings, Credentials] | None = None,
) -> Shown:
    """Show the result object of one call, an error object when it fails, and return what showing it came to.

    Args:
        tool: A tool's name.
        arguments: Its arguments, whatever they are.
        show: Prints the result object. Only when it has, the image counts as returned.
        wait_s: The longest wait, in seconds; by default the setting's or the command line's.
        output_dir: Where to save the image too.
        session: Whose call this is.
        new: Always make a new image.
        by_model: Whether a model chose the arguments; else a person did, whose source files may lie anywhere.
        environ: By default the process's own.
        account: Settings and credentials to use instead of those of the environment.
    """
    environ = os.environ if environ is None else environ
    output_dir = None if output_dir is None else output_dir.absolute()
    try:
        settings, credentials = account or _account(environ, checked=(tool, arguments), by_model=by_model)
    except Flux2Error as exc:
        return show(error_object(exc))

    folder = working_folder()
    caller = CallContext(
        session=session,
        is_owner=True,
        workspace_dir=workspace_of(folder, environ) if by_model else folder,
        by_model=by_model,
        any_folder=not by_model,
    )

    def work(flux: Flux2Tool, cancel: CancelToken, report: Reporter) -> Awaitable[dict[str, Any]]:
        return flux.call(
            tool,
            arguments,
            wait_s=wait_s,
            caller=caller,
            new=new,
            on_progress=lambda state: report(_progress_line(state)),
            output_dir=output_dir,
            cancel=cancel,
        )

    return _in_loop(settings, credentials, work, show)


def run_resume(
    record_id: str | None,
    *,
    show: Callable[[list[dict[str, Any]]], Shown],
    wait_s: float | None = None,
    environ: Mapping[str, str] | None = None,
) -> Shown:
    """Show the result objects of what was interrupted, or of one request that is sent again; see `run_call`.

    Args:
        record_id: The request to send again, by the beginning of its id.
        show: Prints the result objects.
        wait_s: The longest wait, in seconds; by default the setting's or the command line's.
        environ: By default the process's own.

    Raises:
        Flux2Error: There is no usable key, configuration or journal.
    """
    settings, credentials = _account(os.environ if environ is None else environ)
    if settings.journal == "off":
        raise ConfigurationError(
            "the task journal is off, so there is nothing to resume", hint="unset FLUX2_TOOL_JOURNAL, then try again"
        )
    # Without a readable journal "nothing was interrupted" would be a guess.
    opened_journal(settings).close()
    if wait_s is not None:
        settings = replace(settings, wait_s=wait_s)

    async def work(flux: Flux2Tool, cancel: CancelToken, report: Reporter) -> list[dict[str, Any]]:
        if record_id is not None:
            report("sending the request once more")
            return [await flux.resend(record_id, cancel=cancel)]

        def on_begun(count: int) -> None:
            if count:
                report(f"{count} to finish")

        return await flux.resume(on_begun=on_begun, cancel=cancel)

    return _in_loop(settings, credentials, work, show)


def run_raw(task_id: str, *, environ: Mapping[str, str] | None = None) -> str | dict[str, Any]:
    """Return RunAPI's last answer about a task as redacted JSON text, or an error object."""
    try:
        checked = ("get_image_task", {"task_id": task_id})
        settings, credentials = _account(os.environ if environ is None else environ, checked=checked)
    except Flux2Error as exc:
        return error_object(exc)

    def work(flux: Flux2Tool, _abort: CancelToken, _report: Reporter) -> Awaitable[str | dict[str, Any]]:
        return flux.raw_response(task_id)

    return _in_loop(settings, credentials, work, lambda answer: answer)


def _account(
    environ: Mapping[str, str], *, checked: tuple[str, Any] | None = None, by_model: bool = False
) -> tuple[Settings, Credentials]:
    settings = load_settings(environ)
    if checked is not None:
        # Wrong arguments are the nearer fault: say so even before a key is asked for.
        tool, arguments = checked
        validate_arguments(
            load_manifest(),
            tool,
            arguments,
            tiers=settings.tiers,
            agent_host=by_model,
            callback_hosts=settings.callback_hosts,
            safety_checker=settings.safety_checker,
        )
    return settings, resolve_credentials(environ=environ, settings_base_url=settings.base_url)


def _in_loop(
    settings: Settings,
    credentials: Credentials,
    work: Work[Result],
    show: Callable[[Result], Shown],
) -> Shown:
    """Run work with a tool of its own, progress on stderr, and Ctrl-C as an end of the wait; then show its result."""
    return asyncio.run(_run(settings, credentials, work, show))


async def _run(
    settings: Settings,
    credentials: Credentials,
    work: Work[Result],
    show: Callable[[Result], Shown],
) -> Shown:
    cancel = CancelToken()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        # The first Ctrl-C ends the wait in good order; the second ends the process.
        cancel.set()
        loop.remove_signal_handler(signal.SIGINT)

    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGINT, interrupt)

    flux = Flux2Tool(settings=settings, credentials=credentials, host="cli")
    is_shown = False
    try:
        with progress() as report:
            result = await work(flux, cancel, report)
        shown = show(result)
        is_shown = True
        return shown
    finally:
        await flux.aclose(delivered=is_shown)


def _progress_line(state: Progress) -> str:
    named = f" (task {state.task_id})" if state.task_id else ""
    return f"{state.message}{named} · {state.elapsed_s:.0f} s"
