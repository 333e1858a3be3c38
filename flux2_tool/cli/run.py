"""Run tool calls for a command: settings, key, progress, signals, and one outcome that is shown in every case."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flux2_tool.cli.end_signals import EndSignals
from flux2_tool.cli.open_journal import opened_journal, refuse_other_journal
from flux2_tool.cli.options import typed_text
from flux2_tool.cli.terminal import Reporter, output_failure, progress
from flux2_tool.context import CallContext, working_folder, workspace_of
from flux2_tool.credentials import Credentials, resolve_credentials
from flux2_tool.engine.engine import Engine
from flux2_tool.engine.host_profile import LOCAL
from flux2_tool.engine.save_targets import SaveTarget
from flux2_tool.engine.wait import CancelToken, Progress
from flux2_tool.exceptions import ConfigurationError, Flux2Error
from flux2_tool.hosts.outcome import outcome_of
from flux2_tool.settings import Settings, load_settings

if TYPE_CHECKING:
    from flux2_tool.schema.recent import CallResult
    from flux2_tool.schema.results import ToolResult

logger = logging.getLogger(__name__)

_NEEDED_LATER: Final = "flux2_tool.cli.needed_later"

Result = TypeVar("Result")
Shown = TypeVar("Shown")
Work = Callable[[Engine, CancelToken, Reporter], Awaitable[Result]]
# Takes the error instead of a result when the work as a whole failed.
Show = Callable[[Result | Flux2Error], Shown]


def run_call(
    tool: str,
    arguments: Any,
    *,
    show: Show[CallResult, Shown],
    wait_s: float | None = None,
    output: str | None = None,
    session: str | None = None,
    new: bool = False,
    by_model: bool = False,
    environ: Mapping[str, str] | None = None,
    account: tuple[Settings, Credentials] | None = None,
) -> Shown:
    """Run one call, show its result or its error, and return what `show` returns.

    Args:
        tool: A tool's name.
        arguments: Its arguments, not yet checked.
        show: Prints the outcome; the image counts as delivered once it returns.
        wait_s: The longest wait, in seconds; by default the setting's or the command line's.
        output: Where to also save the image: a folder or a file, as a person writes it.
        session: The call's session.
        new: Always make a new image.
        by_model: Whether a model chose the arguments; else a person did, whose source files may be anywhere.
        environ: The environment variables, by default the process's own.
        account: Settings and credentials to use instead of those of the environment.
    """
    environ = os.environ if environ is None else environ
    folder = working_folder()
    caller = CallContext(
        session=None if session is None else typed_text(session),
        is_owner=LOCAL.callers_are_owners,
        workspace_dir=workspace_of(folder, environ) if by_model else folder,
        by_model=by_model,
        any_folder=not by_model,
    )

    async def work(engine: Engine, cancel: CancelToken, report: Reporter) -> CallResult:
        def on_progress(state: Progress) -> None:
            report(progress_line(state))
            if state.task_id is not None:
                importlib.import_module(_NEEDED_LATER)

        return await engine.call(
            tool,
            arguments,
            wait_s=wait_s,
            caller=caller,
            new=new,
            on_progress=on_progress,
            output=None if output is None else SaveTarget.of(output),
            cancel=cancel,
        )

    return _run(work, show, environ, account)


def run_resume(
    record_id: str | None, *, show: Show[list[ToolResult | Flux2Error], Shown], wait_s: float | None = None
) -> Shown:
    """Resume interrupted requests, or send one request again, and show the outcomes; see `run_call`.

    Args:
        record_id: The request to send again, by the beginning of its id.
        show: Prints the outcomes, or the error when there is no usable key, configuration or journal.
        wait_s: The longest wait, in seconds; by default the setting's or the command line's.
    """

    async def work(engine: Engine, cancel: CancelToken, report: Reporter) -> list[ToolResult | Flux2Error]:
        if engine.settings.journal == "off":
            raise ConfigurationError(
                "the task journal is off, so there is nothing to resume",
                hint="unset FLUX2_TOOL_JOURNAL, then try again",
            )
        # Without a readable journal "nothing was interrupted" would be a guess.
        with opened_journal(engine.settings):
            pass
        if record_id is not None:
            report("sending the request once more")
            return [await outcome_of(engine.resend(record_id, wait_s=wait_s, cancel=cancel))]

        def on_begun(count: int) -> None:
            if count:
                report(f"{count} to finish")

        return await engine.resume(wait_s=wait_s, on_begun=on_begun, cancel=cancel)

    return _run(work, show, os.environ)


def run_raw(task_id: str, *, show: Show[str, Shown]) -> Shown:
    """Show RunAPI's last response about a task as redacted JSON text; see `run_call`."""

    def work(engine: Engine, _cancel: CancelToken, _report: Reporter) -> Awaitable[str]:
        return engine.raw_response(task_id)

    return _run(work, show, os.environ)


@contextmanager
def cancelled_by(signals: EndSignals) -> Iterator[CancelToken]:
    """Have a signal cancel the wait while the block runs. Needs a running event loop."""
    cancel, loop = CancelToken(), asyncio.get_running_loop()
    with signals.waiting(lambda: loop.call_soon_threadsafe(cancel.set)):
        yield cancel


def _run(
    work: Work[Result],
    show: Show[Result, Shown],
    environ: Mapping[str, str],
    account: tuple[Settings, Credentials] | None = None,
) -> Shown:
    """Run work with an engine of its own, with progress on stderr; then show its outcome.

    It is shown while the event loop does not run: whoever reads stdout may be slow, and a signal must still end the
    process.
    """
    engines: list[Engine] = []
    signals = EndSignals()

    async def worked(cancel: CancelToken, report: Reporter) -> Result:
        settings = load_settings(environ) if account is None else account[0]
        refuse_other_journal(settings, environ)
        # Resolved after the arguments are checked: argument errors are reported first.
        credentials = (
            partial(resolve_credentials, environ=environ, settings_base_url=settings.base_url)
            if account is None
            else lambda: account[1]
        )
        read = environ if account is None else None
        engines.append(Engine(settings=settings, environ=read, credentials=credentials, host=LOCAL))
        return await work(engines[0], cancel, report)

    async def waited() -> Result | Flux2Error:
        with cancelled_by(signals) as cancel, progress() as report:
            return await outcome_of(worked(cancel, report))

    is_shown = False
    with signals, _event_loop() as runner:
        try:
            outcome = runner.run(waited())
            with signals.showing():
                shown = show(outcome)
            is_shown = output_failure() is None
            return shown
        finally:
            for engine in engines:
                runner.run(engine.aclose(delivered=is_shown))


@contextmanager
def _event_loop() -> Iterator[asyncio.Runner]:
    """Run an event loop; that it cannot be closed as it should changes nothing of what was done in it."""
    runner = asyncio.Runner()
    try:
        yield runner
    finally:
        try:
            runner.close()
        except RuntimeError as exc:  # the thread that waits for the others cannot be started
            logger.warning("the event loop could not be closed: %s", exc)


def progress_line(state: Progress) -> str:
    """Return a call's progress as one line; the seconds follow "·"."""
    named = f" (task {state.task_id})" if state.task_id else ""
    return f"{state.message}{named} · {state.elapsed_s:.0f} s"
