"""The Python API: `from flux2_tool import Flux2Tool`. Typed and async; `sync_client.py` wraps it for synchronous code.

    async with Flux2Tool() as flux:
        fox = await flux.text_to_image("a red fox in the snow", aspect_ratio="16:9")
        night = await flux.remix_image("make it night", fox)
        print(night.images[0].url, night.cost.usd)

There are two kinds of callers. The named methods are for code that people wrote: they return frozen results and raise
a `Flux2Error`. `call` is for a model's tool calls: it takes a tool's name and arguments, never raises, allows source
files in the working folder only (none if that is the home folder or above it), and limits repeated requests, as in
every agent's host.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

import httpx

from flux2_tool._clock import Clock, SystemClock
from flux2_tool.context import CallContext, working_folder, workspace_of
from flux2_tool.credentials import resolve_credentials
from flux2_tool.engine.engine import Engine
from flux2_tool.engine.host_profile import LOCAL, OPENCLAW, PYTHON_AGENT, HostProfile
from flux2_tool.engine.runtime import Runtime
from flux2_tool.exceptions import Flux2Error
from flux2_tool.hosts.outcome import outcome_of, result_object
from flux2_tool.hosts.python.earlier_sets import refs_of, with_others
from flux2_tool.hosts.python.frameworks import FrameworkTools
from flux2_tool.hosts.python.given_values import check_option_types, folder_of, hints_in_tracebacks, sources_of, task_of
from flux2_tool.hosts.python.loops import EnginesByLoop
from flux2_tool.hosts.python.options import ImageOptions, Source, WaitOptions, check_call_options, check_options
from flux2_tool.schema.argument_text import arguments_of_json
from flux2_tool.schema.export import Format, export
from flux2_tool.schema.generated import (
    AspectRatio,
    OutputResolution,
    RemixAspectRatio,
    RemixImageModel,
    TextToImageModel,
)
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.recent import CallResult, RecentImages, one_task
from flux2_tool.schema.results import ToolResult
from flux2_tool.schema.validation import without_nulls
from flux2_tool.settings import Settings, load_settings


class _How(TypedDict, total=False):
    new: bool
    others: Sequence[str]


class Flux2Tool(FrameworkTools):
    """Makes and edits pictures with Flux 2 by RunAPI.

    One tool may be used on several event loops, one after another or in several threads, and in a forked child: each
    has connections of its own, and all share the journal. With the setting `journal` "off", a tool keeps to one loop.

    Args:
        api_key: The key; by default RUNAPI_API_KEY, else `~/.config/runapi/config.json`.
        base_url: RunAPI's address; by default the one that belongs to the key.
        session: The calls' session: equal calls of one session share a task until its image was returned.
            Without one the named methods join only orphaned tasks; `call` has a session of its own.
        wait_s: The longest wait of a call, in seconds; by default the setting, else 900, and 50 for `call`.
        settings: By default those of the environment.
        environ: By default the process's own.
        transport: Replaces the network, for tests.
        clock: Replaces time, for tests.

    Raises:
        MissingApiKeyError: There is no key.
        ConfigurationError: A setting or the key is wrong.
        InvalidArgumentsError: An argument is of another type, or `wait_s` is negative or not finite.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        session: str | None = None,
        wait_s: float | None = None,
        settings: Settings | None = None,
        environ: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_option_types(
            {
                "api_key": api_key,
                "base_url": base_url,
                "session": session,
                "wait_s": wait_s,
                "settings": settings,
                "environ": environ,
            }
        )
        environ = os.environ if environ is None else environ
        read = environ if settings is None else None
        settings = settings or load_settings(environ)
        self.settings = settings if wait_s is None else replace(settings, wait_s=wait_s)
        self._session = session
        self._environ = environ
        self._is_closed = False
        credentials = resolve_credentials(
            environ=environ,
            explicit_key=api_key,
            explicit_base_url=base_url,
            settings_base_url=settings.base_url,
        )

        def engine(host: HostProfile) -> Engine:
            return Engine(
                settings=self.settings,
                environ=read,
                credentials=lambda: credentials,
                host=host,
                # Each its own: a task of the other engine then has another owner, so it is joined and not sent again.
                runtime=Runtime(transport=transport, clock=clock or SystemClock()),
                is_peer_in_process=True,
            )

        # A model's calls have an engine with other limits and another default wait. Both share the journal.
        self._engines = EnginesByLoop(lambda: (engine(LOCAL), engine(PYTHON_AGENT)), journal=self.settings.journal)

    async def text_to_image(
        self,
        prompt: str,
        *,
        model: TextToImageModel | None = None,
        aspect_ratio: AspectRatio | None = None,
        output_resolution: OutputResolution | None = None,
        **options: Unpack[ImageOptions],
    ) -> ToolResult:
        """Make a picture from text, or several with `count`.

        Args:
            prompt: What to show, in any language; text to render in quotes.
            model: By default the pro one.
            aspect_ratio: Width to height; max needs it.
            output_resolution: By default 1k; max makes no other.
            options: See `flux2_tool.hosts.python.options.ImageOptions`.

        Returns:
            The task with its images; without images while it is "processing", see `get_image_task`.

        Raises:
            InvalidArgumentsError: The arguments break a rule; `violations` names every one. Nothing was sent.
            Flux2Error: Any other failure; its class says what to do, `charged` whether it cost anything.
        """
        arguments = {
            "prompt": prompt,
            "model": model,
            "aspect_ratio": aspect_ratio,
            "output_resolution": output_resolution,
        }
        return await self._make("text_to_image", arguments, options)

    async def remix_image(
        self,
        prompt: str,
        sources: Source | Sequence[Source],
        *,
        model: RemixImageModel | None = None,
        aspect_ratio: RemixAspectRatio | None = None,
        output_resolution: OutputResolution | None = None,
        **options: Unpack[ImageOptions],
    ) -> ToolResult:
        """Edit or combine pictures.

        Args:
            prompt: What to change and what to keep.
            sources: In the order the prompt refers to them: earlier results of one picture, one of a result's
                `images`, "task:ID", "task:last" (of the session), public URLs, data URLs, and picture files in any
                folder, which are uploaded.
            model: By default the pro one; max takes exactly one source.
            aspect_ratio: Width to height; "auto" follows the source, but not for max.
            output_resolution: By default 1k; max makes no other.
            options: See `flux2_tool.hosts.python.options.ImageOptions`.

        Raises:
            InvalidArgumentsError: A source is of another type, such as bytes or an open file. Nothing was sent.
            SourceRefusedError: A source cannot be used. Nothing was sent.
            Flux2Error: See `text_to_image`.
        """
        with hints_in_tracebacks():
            every = sources_of(sources)
        arguments = {
            "prompt": prompt,
            "source_image_urls": every,
            "model": model,
            "aspect_ratio": aspect_ratio,
            "output_resolution": output_resolution,
        }
        return await self._make("remix_image", arguments, options)

    async def get_image_task(self, task: str | ToolResult, **options: Unpack[WaitOptions]) -> ToolResult:
        """Wait again for an image, or fetch an earlier result again. It creates and costs nothing.

        Args:
            task: A task's id or reference, or an earlier result: of several pictures all are waited for together.
            options: See `flux2_tool.hosts.python.options.WaitOptions`.

        Raises:
            TaskNotFoundError: RunAPI knows no such task under this key.
            Flux2Error: See `text_to_image`.
        """
        if not isinstance(task, ToolResult):
            with hints_in_tracebacks():
                task_id = task_of(task)
            return await self._run("get_image_task", {"task_id": task_id}, options)
        first, *others = refs_of(task)
        return with_others(await self._run("get_image_task", {"task_id": first}, options, others=others), task)

    async def recent(self, *, session: str | None = None) -> RecentImages:
        """Return the last pictures of a session, newest first, and what may still be spent; nothing is paid.

        Args:
            session: By default the tool's own; without one those that were made without a session.

        Raises:
            JournalUnavailableError: The task journal cannot be read.
            Flux2Error: The key or a setting is wrong.
        """
        found = await self._outcome("get_image_task", {}, {"session": session})
        if isinstance(found, RecentImages):
            return found
        raise TypeError("one task is not the last pictures")

    async def call(self, tool: str, arguments: Any, **options: Unpack[WaitOptions]) -> dict[str, Any]:
        """Run a model's tool call and return the object for the model to read.

        Args:
            tool: The tool's name, as in `definitions`.
            arguments: As given by the model, an object or its JSON text; validated first. Null members count as absent.
            options: See `flux2_tool.hosts.python.options.WaitOptions`. Give each conversation a `session` of its own.

        Returns:
            `{"task", "images", "cost", "timing", "warnings", "next"}` or `{"error": {…}}`; it raises nothing but
            asyncio.CancelledError, and RuntimeError once the tool is closed.
        """
        self._check_open()
        return await result_object(self._call(tool, arguments, options))

    def definitions(self, shape: Format, *, strict: bool = False) -> list[dict[str, Any]]:
        """Return the tool definitions for a model, as `flux2-tool manifest export` prints them.

        Args:
            shape: openai (chat completions), openai-responses, anthropic, gemini, mcp or openclaw.
            strict: For OpenAI's strict mode, whose nulls `call` takes for arguments that are left out.
        """
        settings = self.settings
        return export(
            load_manifest(),
            shape,
            tiers=settings.tiers,
            callback_hosts=settings.callback_hosts,
            wait_s=(OPENCLAW if shape == "openclaw" else PYTHON_AGENT).longest_wait_s(settings),
            strict=strict,
        )

    async def aclose(self) -> None:
        """End the waits of calls that still run and close the connections; a later call raises RuntimeError.

        Tasks at RunAPI continue, and the journal records them.
        """
        self._is_closed = True
        await self._engines.aclose()

    async def __aenter__(self) -> Self:
        """Return the tool."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("this Flux2Tool is closed, so nothing was sent; make a new one")

    async def _call(self, tool: str, arguments: Any, options: WaitOptions) -> CallResult:
        check_call_options(options)
        given = arguments_of_json(arguments) if isinstance(arguments, str) else arguments
        check_option_types(options)
        _, agents_engine = await self._engines.here()
        return await agents_engine.call(
            tool,
            without_nulls(given),
            wait_s=options.get("wait_s"),
            caller=CallContext(
                session=options.get("session") or self._session,
                is_owner=PYTHON_AGENT.callers_are_owners,
                workspace_dir=workspace_of(working_folder(), self._environ),
            ),
            on_progress=options.get("on_progress"),
            output_dir=folder_of(options.get("output_dir")),
        )

    async def _make(self, tool: str, arguments: dict[str, Any], options: ImageOptions) -> ToolResult:
        arguments["count"] = options.get("count")
        arguments["enable_safety_checker"] = options.get("enable_safety_checker")
        arguments["callback_url"] = options.get("callback_url")
        return await self._run(tool, arguments, options, new=options.get("new", False))

    async def _run(
        self, tool: str, arguments: Mapping[str, Any], options: WaitOptions, **how: Unpack[_How]
    ) -> ToolResult:
        return one_task(await self._outcome(tool, arguments, options, **how))

    async def _outcome(
        self, tool: str, arguments: Mapping[str, Any], options: WaitOptions, **how: Unpack[_How]
    ) -> CallResult:
        self._check_open()

        async def called() -> CallResult:
            given = {name: value for name, value in arguments.items() if value is not None}
            check_options(tool, given, options, self.settings)
            check_option_types(options)
            engine, _ = await self._engines.here()
            return await engine.call(
                tool,
                given,
                wait_s=options.get("wait_s"),
                caller=CallContext(
                    session=options.get("session") or self._session,
                    is_owner=LOCAL.callers_are_owners,
                    workspace_dir=working_folder(),
                    any_folder=True,
                ),
                **how,
                on_progress=options.get("on_progress"),
                output_dir=folder_of(options.get("output_dir")),
            )

        with hints_in_tracebacks():
            outcome = await outcome_of(called())
            if isinstance(outcome, Flux2Error):
                raise outcome
            return outcome
