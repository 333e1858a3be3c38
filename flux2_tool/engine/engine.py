"""The entry point of every host: a tool's name and arguments in, a `ToolResult` out, or a `Flux2Error` raised.

Validation comes first, then the sources, then the image task and the wait; nothing is sent or paid before the
arguments are valid.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flux2_tool.context import CallContext
from flux2_tool.engine.accounts import Accounts, CredentialsSource
from flux2_tool.engine.approvals import QUESTION_WAIT_S, Question
from flux2_tool.engine.earlier_images import EarlierImages
from flux2_tool.engine.given_call import GivenCalls
from flux2_tool.engine.host_profile import LOCAL, HostProfile
from flux2_tool.engine.orphans import outcomes_of
from flux2_tool.engine.result_maker import ResultMaker
from flux2_tool.engine.runtime import Runtime
from flux2_tool.engine.save_targets import SaveTarget, checked_targets
from flux2_tool.engine.task_registry import registry_of
from flux2_tool.engine.task_starter import TaskStarter
from flux2_tool.engine.wait import (
    LOOKUP_WAIT_S,
    CancelToken,
    OnProgress,
    OpenCalls,
    ToolCall,
    raise_error_of,
    record_warnings,
    wait_for,
)
from flux2_tool.engine.webhooks import take_webhook, webhook_inbox_of
from flux2_tool.exceptions import Flux2Error, TaskNotFoundError
from flux2_tool.runapi.cache import ROUTES_FILE, RouteCache
from flux2_tool.schema.manifest import Manifest, load_manifest
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.settings import Settings
from flux2_tool.tasks.claims import TaskHandle
from flux2_tool.tasks.task import ImageTask

if TYPE_CHECKING:
    from flux2_tool.schema.recent import CallResult
    from flux2_tool.schema.results import ToolResult

logger = logging.getLogger(__name__)

CLOSE_GRACE_S: Final = 3.0


class Engine:
    """Runs the manifest's tools against RunAPI.

    Args:
        settings: The configuration.
        environ: Where it was read, if there: misspelt caps in it let no image be made.
        credentials: Returns the credentials of calls without their own.
        host: Which kind of host calls.
        manifest: By default the one that ships with the package.
        runtime: Time, network and the like, which tests replace.
        is_peer_in_process: Whether the caller runs in this process.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        environ: Mapping[str, str] | None = None,
        credentials: CredentialsSource | None = None,
        host: HostProfile = LOCAL,
        manifest: Manifest | None = None,
        runtime: Runtime | None = None,
        is_peer_in_process: bool = False,
    ) -> None:
        runtime = runtime or Runtime()
        self.settings = settings
        self.manifest = manifest or load_manifest()
        self.host = host
        self._process, self._clock = runtime.owner.name, runtime.clock
        self._accounts = Accounts(credentials, user_agent=f"flux2-tool/{self.manifest.version}", runtime=runtime)
        self._calls = OpenCalls()
        routes = RouteCache(None if settings.home is None else settings.home / ROUTES_FILE)
        self._webhook_inbox = webhook_inbox_of(settings, host, self._clock)
        self._registry = registry_of(
            settings,
            manifest=self.manifest,
            routes=routes,
            webhook_inbox=self._webhook_inbox,
            runtime=runtime,
            paces=self._accounts.paces,
            is_peer_in_process=is_peer_in_process,
            receipt=host.receipt,
        )
        self.received, self.lost = self._registry.received, self._registry.lost
        self._results = ResultMaker(
            manifest=self.manifest,
            settings=settings,
            host=host,
            runtime=runtime,
            registry=self._registry,
            accounts=self._accounts,
        )
        self._earlier = EarlierImages(self._registry.families)
        self._starter = TaskStarter(
            manifest=self.manifest,
            settings=settings,
            registry=self._registry,
            accounts=self._accounts,
            routes=routes,
            callback_url=None if self._webhook_inbox is None else self._webhook_inbox.callback_url,
            runtime=runtime,
        )
        self._given = GivenCalls(manifest=self.manifest, settings=settings, host=host, environ=environ or {})

    async def call(
        self,
        tool: str,
        arguments: Any,
        *,
        caller: CallContext | None = None,
        credentials: CredentialsSource | None = None,
        wait_s: float | None = None,
        longest_wait_s: float | None = None,
        new: bool = False,
        others: Sequence[str] = (),
        output_dir: Path | None = None,
        output: SaveTarget | None = None,
        on_progress: OnProgress | None = None,
        cancel: CancelToken | None = None,
    ) -> CallResult:
        """Run one tool call.

        Args:
            tool: A tool's name in the manifest.
            arguments: Any value; it is validated first.
            caller: The call's context; by default only whether the host's callers are owners.
            credentials: Returns the credentials, once the arguments are valid; by default the engine's own.
            wait_s: How long to wait for the image, in seconds; by default the setting, else the host's default.
            longest_wait_s: The limit of any wait, in seconds, because the host gives up then.
            new: Always make a new image; never join an equal call's task.
            others: Of `get_image_task`, further tasks to fetch together with that of the arguments, as one result.
            output_dir: A folder to save the pictures in, besides `save_dir`; a failed download is a warning.
            output: The same, as a folder or a file.
            on_progress: Called at every change and every few seconds of the wait.
            cancel: Stops the wait.

        Returns:
            The task, completed or still processing when the wait ended; of `get_image_task` without an id the last
            pictures.

        Raises:
            Flux2Error: There is no image; the class says what to do, `charged` whether it cost anything.
        """
        cancel = cancel or CancelToken()
        caller = self.host.in_session(caller, process=self._process)
        try:
            with self._calls.opened(cancel):
                caller = await self._registry.families.complete(caller, names_tasks=tool != "text_to_image")
                async with self._earlier.told_in_errors(caller, cancel):
                    arguments, warnings = self._given.read(tool, arguments, by_model=caller.by_model)
                    targets = await checked_targets(output or SaveTarget.in_folder(output_dir), self.settings.save_dir)
                    call = self._open_call(tool, arguments, credentials, wait_s=wait_s, cancel=cancel)
                    call.warnings += warnings
                    call.on_progress = on_progress or call.on_progress
                    if longest_wait_s is not None:
                        call.deadline_s = min(call.deadline_s, call.begun_s + longest_wait_s)
                    if self.host.is_agent:
                        self._registry.resume_soon(call.account)
                    return await self._run(call, caller, new=new, others=others, targets=targets)
        except Flux2Error as exc:
            logger.info("%s: %s", self._given.known_name(tool), exc.code)
            raise

    async def question(
        self,
        tool: str,
        arguments: Any,
        *,
        caller: CallContext | None = None,
        credentials: CredentialsSource | None = None,
    ) -> Question | None:
        """Return what a person has to be asked before such a call, None if nothing; for the arguments see `call`.

        Nothing is requested or uploaded. A call that will fail, or join a task already paid for, needs no consent.
        """
        caller = self.host.in_session(caller, process=self._process)
        if self.settings.ask_above_usd is None or tool == "get_image_task":
            return None
        try:
            with self._calls.opened(cancel := CancelToken()):
                arguments, _ = self._given.read(tool, arguments, by_model=caller.by_model)
                call = self._open_call(tool, arguments, credentials, wait_s=QUESTION_WAIT_S, cancel=cancel)
                caller = await self._registry.families.complete(caller, names_tasks=tool != "text_to_image")
                return await self._starter.question(call, caller)
        except Flux2Error as exc:
            logger.info("no question: %s", exc.code)
            return None

    async def resume(
        self,
        *,
        wait_s: float | None = None,
        on_begun: Callable[[int], None] = lambda _count: None,
        cancel: CancelToken | None = None,
    ) -> list[ToolResult | Flux2Error]:
        """Resume the orphaned tasks of the engine's own account, wait for them, and return their outcomes."""
        call = self._open_call("get_image_task", {}, wait_s=wait_s, cancel=cancel)
        orphaned = await self._registry.resume(call.account, at_most_every_s=0.0, include_abandoned=True)
        on_begun(len(orphaned))
        return await self._finish(call, orphaned)

    async def resend(
        self, record_id: str, *, wait_s: float | None = None, cancel: CancelToken | None = None
    ) -> ToolResult:
        """Resend a request of unknown outcome under its first idempotency key, and wait for its image.

        Raises:
            TaskNotFoundError: No such request of this account begins with the id.
            Flux2Error: As `call`.
        """
        call = self._open_call("get_image_task", {}, wait_s=wait_s, cancel=cancel)
        image_task = await self._registry.resend(call.account, record_id)
        if image_task is None:
            raise TaskNotFoundError(
                f'No request of unknown outcome begins with the id "{record_id}".',
                hint="`flux2-tool tasks --state unknown` lists them.",
            )
        [outcome] = await self._finish(call, [image_task])
        if isinstance(outcome, Flux2Error):
            raise outcome
        return outcome

    async def raw_response(self, task_id: str) -> str:
        """Return RunAPI's last response about a task as redacted JSON text, after one more poll unless it is over.

        Raises:
            Flux2Error: There is no response about it.
        """
        arguments = {"task_id": task_id}
        self._given.check("get_image_task", arguments, by_model=False)
        call = self._open_call("get_image_task", arguments, wait_s=LOOKUP_WAIT_S)
        image_task = await self._registry.find(call.account, TaskRef.parse(task_id), caller=CallContext(is_owner=True))
        if image_task.raw_response is None or not image_task.is_over:
            await wait_for(call, [image_task], clock=self._clock, until_response=True)
        if image_task.raw_response is not None:
            return image_task.raw_response
        raise_error_of(image_task)
        raise TaskNotFoundError(f"There is no response about task {task_id} yet.", hint="Ask again in a moment.")

    def webhook(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Process a request to the webhook's address, byte for byte; return whether RunAPI sent it."""
        return take_webhook(self._webhook_inbox, self._registry, headers, body)

    async def aclose(self, *, delivered: bool = True) -> None:
        """End every call's wait and close the connections; no call may follow. Tasks at RunAPI continue.

        Args:
            delivered: Whether the latest results reached the caller; if not, an equal call gets them again.
        """
        await self._calls.close(timeout_s=CLOSE_GRACE_S)
        await self._starter.aclose()
        await self._results.aclose()
        await self._registry.aclose(delivered=delivered)
        await self._accounts.aclose()

    async def let_go(self) -> None:
        """Release the records, after the event loop that the engine ran on has ended without `aclose`."""
        await self._registry.let_go()

    # ---- one call ----------------------------------------------------------------------------------------------------

    def _open_call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        credentials: CredentialsSource | None = None,
        *,
        wait_s: float | None,
        cancel: CancelToken | None = None,
    ) -> ToolCall:
        given_s = arguments.get("timeoutSeconds", wait_s)
        chosen_s = self.host.longest_wait_s(self.settings) if given_s is None else given_s
        now_s = self._clock.monotonic()
        return ToolCall(
            tool=tool,
            arguments=arguments,
            account=self._accounts.open(credentials),
            begun_s=now_s,
            deadline_s=now_s + max(0.0, float(chosen_s)),
            cancel=cancel or CancelToken(),
        )

    async def _run(
        self, call: ToolCall, caller: CallContext, *, new: bool, others: Sequence[str], targets: Sequence[SaveTarget]
    ) -> CallResult:
        if call.is_looking_back:
            return await self._results.recent(call, caller, self._earlier, self._starter.prices)
        if call.tool == "get_image_task":
            refs = [TaskRef.parse(text) for text in (call.arguments["task_id"], *others)]
            found = [await self._registry.find(call.account, ref, caller=caller) for ref in refs]
            begun = TaskHandle(image_tasks=tuple(found))
        else:
            begun = await self._starter.start(call, caller, new=new)
        image_tasks = begun.image_tasks
        with self._results.expected(targets):
            await wait_for(call, image_tasks, clock=self._clock)
        for image_task in image_tasks:
            await self._registry.check_lookup(image_task, caller)
        await self._starter.raise_error_of(call, image_tasks)
        ready, warnings, is_complete = list[ImageTask](), list[str](), False
        with self._registry.returning(caller) as returned:
            while not is_complete:
                images, of_saving = await self._results.pictures(call, image_tasks, targets)
                ready += (fresh := [one for one in image_tasks if one.state == "completed" and one not in ready])
                self._starter.note_bills(call, fresh)
                # OpenClaw's own image tool provides a folder: it passes on files, no links, and only all together.
                is_all_there = all(one.is_over for one in image_tasks) and all(image.path for image in images)
                if (is_all_there or not caller.source_dirs) and not caller.is_watching:
                    returned[:] = ready
                warnings += await record_warnings(call, image_tasks, clock=self._clock)
                warnings += await self._earlier.warnings_beside(image_tasks, caller, call.cancel)
                # One that was completed meanwhile is called so in the result, which then has its picture, too.
                is_complete = all(one in ready for one in image_tasks if one.state == "completed")
            if call.cancel.is_set:
                returned.clear()
            return self._results.result(
                image_tasks,
                joined=begun.joined,
                fetched=call.tool == "get_image_task",
                handed_over=caller.is_handed_over,
                images=images,
                warnings=[*call.warnings, *begun.warnings, *of_saving, *dict.fromkeys(warnings)],
            )

    # ---- interrupted tasks -------------------------------------------------------------------------------------------

    async def _finish(self, call: ToolCall, image_tasks: Sequence[ImageTask]) -> list[ToolResult | Flux2Error]:
        # Together, because the caller gets no result before the last of them is over.
        with self._registry.returning(CallContext()) as returned:
            outcomes = await outcomes_of(call, image_tasks, clock=self._clock, reported=self._reported)
            returned += [one for one in image_tasks if one.state == "completed"]
        return outcomes

    async def _reported(self, call: ToolCall, image_task: ImageTask) -> ToolResult:
        targets = await checked_targets(None, self.settings.save_dir)
        images, warnings = await self._results.pictures(call, [image_task], targets)
        return self._results.result([image_task], images=images, warnings=warnings)
