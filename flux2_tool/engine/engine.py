"""The one entry of every host: a tool's name and arguments in, one result object out.

Validation comes first, then the sources, then the image task and the wait; nothing is sent or paid before the
arguments are right. A tool's failure is a result object with `error`, never an exception.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx

from flux2_tool._clock import Clock, SystemClock
from flux2_tool._net import is_loopback_url
from flux2_tool.context import AGENT_HOSTS, CONNECTION, CallContext
from flux2_tool.credentials import Credentials
from flux2_tool.engine.request_builder import build_request
from flux2_tool.engine.result_builder import report
from flux2_tool.engine.saving import image_infos
from flux2_tool.engine.source_resolver import SOURCE_LOOKUP_WAIT_S, SourceResolver
from flux2_tool.engine.sources import TASK_PREFIX
from flux2_tool.engine.wait import Call, CancelToken, OnProgress, OpenCalls, wait_for
from flux2_tool.exceptions import CancelledCallError, Flux2Error, InternalError, TaskNotFoundError
from flux2_tool.journal import ClaimRules, OpenJournal, Owner, ThisProcess, open_journal
from flux2_tool.runapi import contract
from flux2_tool.runapi.cache import ROUTES_FILE, RouteCache
from flux2_tool.runapi.client import HttpTimeouts, RunapiClient, open_http
from flux2_tool.runapi.prices import Price, Prices, list_price
from flux2_tool.runapi.rate_limit import ConcurrencyLimiter, RateLimiter
from flux2_tool.runapi.uploads import Uploads
from flux2_tool.schema.manifest import Host, Manifest, load_manifest
from flux2_tool.schema.results import ImageInfo, ToolResult, as_object, error_object
from flux2_tool.schema.validation import validate_arguments
from flux2_tool.settings import Settings, host_wait_s
from flux2_tool.tasks.budget import caps_of
from flux2_tool.tasks.deduplication import inherited_session_prefix
from flux2_tool.tasks.poll_schedule import PollScheduler
from flux2_tool.tasks.registry import Account, Registry, TaskHandle
from flux2_tool.tasks.task import ImageTask, TaskDependencies
from flux2_tool.tasks.webhook_inbox import WebhookInbox, WebhookRefusedError

logger = logging.getLogger(__name__)

DEFAULT_TYPICAL_S: Final = 10.0
# A picture that comes as the wait ends may still be fetched for this long: it is made, and an agent asks for it once.
SAVE_GRACE_S: Final = 8.0
CLOSE_GRACE_S: Final = 3.0


class Flux2Tool:
    """Runs the manifest's tools against RunAPI.

    Args:
        settings: The configuration.
        credentials: The default account; a call may bring its own.
        host: Which kind of host calls; decides the default wait and how results are worded.
        manifest: By default the one that ships with the package.
        transport: Replaces the network, for tests.
        timeouts: Bounds of one HTTP attempt.
        clock: Time.
        random: Jitter.
        new_id: Makes idempotency keys, record and request ids.
        owner: Who owns what is begun here; by default this process.
        opener: Opens the task journal; by default the SQLite file in the data folder.
        is_peer_in_process: Whether whoever gets the results is this very process.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        credentials: Credentials | None = None,
        host: Host = "cli",
        manifest: Manifest | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        timeouts: HttpTimeouts | None = None,
        clock: Clock | None = None,
        random: random_module.Random | None = None,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        owner: Owner | None = None,
        opener: OpenJournal = open_journal,
        is_peer_in_process: bool = False,
    ) -> None:
        self.settings = settings
        self.manifest = manifest or load_manifest()
        self.host = host
        self._credentials = credentials
        self._transport = transport
        self._timeouts = timeouts or HttpTimeouts()
        self._clock = clock or SystemClock()
        self._random = random or random_module.Random()  # noqa: S311 - jitter needs no secrecy
        self._new_id = new_id
        self._memory = RouteCache(settings.home / ROUTES_FILE)
        self._http: dict[str, httpx.AsyncClient] = {}
        self._webhook_inbox = _webhook_inbox_of(settings, host, self._clock)
        self._rate_limiters: dict[tuple[str, str], RateLimiter] = {}
        self._calls = OpenCalls()
        self._uploads = Uploads(clock=self._clock)
        self._prices = Prices(manifest=self.manifest, folder=settings.home, clock=self._clock)
        # Whose calls without a session are: a connection's over MCP; an OpenClaw that names no session has but one.
        owner = owner or ThisProcess()
        self._own_session = f"{CONNECTION}{owner.name}" if host == "mcp" else "default"
        self._registry = Registry(
            folder=settings.home,
            mode=settings.journal,
            owner=owner,
            opener=opener,
            is_peer_in_process=is_peer_in_process,
            dependencies=TaskDependencies(
                clock=self._clock,
                random=self._random,
                memory=self._memory,
                poll_scheduler=PollScheduler(
                    typical_s=self._typical_s, history=lambda kind: self._registry.durations(kind)
                ),
                create_slots=ConcurrencyLimiter(settings.max_creates),
                webhook_inbox=self._webhook_inbox,
                route=settings.route,
                resend_window_s=settings.resend_window_s,
            ),
        )
        self._source_resolver = SourceResolver(
            registry=self._registry, uploads=self._uploads, settings=settings, clock=self._clock
        )

    async def call(
        self,
        tool: str,
        arguments: Any,
        *,
        credentials: Credentials | None = None,
        wait_s: float | None = None,
        longest_wait_s: float | None = None,
        session: str | None = None,
        caller: CallContext | None = None,
        new: bool = False,
        on_progress: OnProgress | None = None,
        output_dir: Path | None = None,
        cancel: CancelToken | None = None,
    ) -> dict[str, Any]:
        """Run one tool call to its result object.

        Args:
            tool: A tool's name in the manifest.
            arguments: What the agent gave; anything at all, it is validated first.
            credentials: The account to use; by default the tool's own.
            wait_s: How long to wait for the image, in seconds; by default the setting, else the host's default.
            longest_wait_s: What no wait may pass, whatever the arguments ask for, because the host gives up then.
            session: Whose call this is; equal calls of one session share a task until its image was returned.
            caller: All that the host tells of the call; by default `session` and nothing else.
            new: Always make a new image, whatever equal calls came before.
            on_progress: Told about the wait at every change and every few seconds.
            output_dir: Where to save the pictures as well; a failed download is a warning.
            cancel: Stops the wait.

        Returns:
            The manifest's output schema: `{"task", "images", …}`, or `{"error": {…}}`. It raises only
            asyncio.CancelledError.
        """
        cancel = cancel or CancelToken()
        caller = caller or CallContext(session=session, is_owner=self.host != "native")
        if self.host in AGENT_HOSTS:
            caller = replace(caller, session=caller.session or self._own_session, by_model=True)
        try:
            with self._calls.opened(cancel):
                validate_arguments(
                    self.manifest,
                    tool,
                    arguments,
                    tiers=self.settings.tiers,
                    agent_host=caller.by_model,
                    callback_hosts=self.settings.callback_hosts,
                    safety_checker=self.settings.safety_checker,
                )
                account = self._account(credentials)
                call = self._open_call(tool, arguments, account, wait_s, on_progress, cancel)
                if longest_wait_s is not None:
                    call.deadline_s = min(call.deadline_s, call.begun_s + longest_wait_s)
                if self.host in AGENT_HOSTS:
                    self._registry.resume(account)
                return as_object(
                    await self._run(call, caller, new=new, output_dir=output_dir or self.settings.save_dir)
                )
        except Flux2Error as exc:
            logger.info("%s: %s", tool if tool in self.manifest.tools else "unknown tool", exc.code)
            return error_object(exc)
        except Exception as exc:
            logger.exception("a call failed by a defect")
            return error_object(
                InternalError(
                    f"flux2-tool failed by a defect ({type(exc).__name__}).",
                    hint="Please report this with the log; before generating again, look at the account.",
                    charged="unknown",
                )
            )

    async def resume(
        self, *, on_begun: Callable[[int], None] = lambda _count: None, cancel: CancelToken | None = None
    ) -> list[dict[str, Any]]:
        """Finish what processes that are gone have left of the tool's own account, and return each result object."""
        account = self._account(None)
        left = self._registry.resume(account, at_most_every_s=0.0, abandoned_too=True)
        on_begun(len(left))
        return await self._finish(account, left, cancel)

    async def resend(self, record_id: str, *, cancel: CancelToken | None = None) -> dict[str, Any]:
        """Send a request of unknown outcome once more, under its first idempotency key, and wait for its image."""
        account = self._account(None)
        try:
            image_task = self._registry.resend(account, record_id)
        except Flux2Error as exc:
            return error_object(exc)
        if image_task is None:
            return error_object(
                TaskNotFoundError(
                    f'No request of unknown outcome begins with the id "{record_id}".',
                    hint="`flux2-tool tasks --state unknown` lists them.",
                )
            )
        return (await self._finish(account, [image_task], cancel))[0]

    async def raw_response(self, task_id: str) -> str | dict[str, Any]:
        """Return RunAPI's last answer about a task as redacted JSON text, asking once more unless it is over."""
        try:
            account = self._account(None)
            image_task = self._registry.find(
                account, task_id.removeprefix(TASK_PREFIX), caller=CallContext(is_owner=True)
            )
            call = self._open_call("get_image_task", {}, account, SOURCE_LOOKUP_WAIT_S, None, None)
            if image_task.raw_response is None or not image_task.is_over:
                await wait_for(call, image_task, clock=self._clock, until_answered=True)
        except Flux2Error as exc:
            return error_object(exc)
        if image_task.raw_response is not None:
            return image_task.raw_response
        return error_object(
            image_task.error
            or TaskNotFoundError(f"There is no answer about task {task_id} yet.", hint="Ask again in a moment.")
        )

    def webhook(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Take in what came to the webhook's address; returns whether RunAPI sent it.

        Args:
            headers: The request's; names in any case.
            body: The request's body, byte for byte.
        """
        if self._webhook_inbox is None:
            return False
        try:
            task_id = self._webhook_inbox.receive(headers, body)
        except WebhookRefusedError as exc:
            # Anybody can send one, and must not be able to fill the log that people read.
            logger.info("a webhook was refused: %s", exc)
            return False
        if task_id is not None:
            self._registry.notify_finished(task_id)
        return True

    async def aclose(self, *, delivered: bool = True) -> None:
        """End every call's wait and close the connections; no call may follow. Tasks at RunAPI go on.

        Args:
            delivered: Whether the results of the last moments have reached who asked; when not, an equal call gets
                them again.
        """
        await self._calls.close(timeout_s=CLOSE_GRACE_S)
        await self._prices.aclose()
        await self._uploads.aclose()
        await self._registry.aclose(delivered=delivered)
        await asyncio.gather(*(http.aclose() for http in self._http.values()))
        self._http.clear()

    # ---- one call ----------------------------------------------------------------------------------------------------

    def _account(self, credentials: Credentials | None) -> Account:
        chosen = credentials or self._credentials
        if chosen is None:
            raise InternalError("no credentials were given to this call")
        return Account(client=self._client(chosen), fingerprint=chosen.fingerprint)

    def _open_call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        account: Account,
        wait_s: float | None,
        on_progress: OnProgress | None,
        cancel: CancelToken | None,
    ) -> Call:
        chosen_s = arguments.get("timeoutSeconds")
        chosen_s = wait_s if chosen_s is None else chosen_s
        chosen_s = host_wait_s(self.settings, self.host, manifest=self.manifest) if chosen_s is None else chosen_s
        now_s = self._clock.monotonic()
        return Call(
            tool=tool,
            arguments=arguments,
            account=account,
            begun_s=now_s,
            deadline_s=now_s + max(0.0, float(chosen_s)),
            cancel=cancel or CancelToken(),
            on_progress=on_progress or (lambda _progress: None),
        )

    async def _run(self, call: Call, caller: CallContext, *, new: bool, output_dir: Path | None) -> ToolResult:
        if call.tool == "get_image_task":
            task_id = str(call.arguments["task_id"]).removeprefix(TASK_PREFIX)
            begun = TaskHandle(image_task=self._registry.find(call.account, task_id, caller=caller))
        else:
            begun = await self._begin(call, caller, new=new)
        image_task = begun.image_task
        await wait_for(call, image_task, clock=self._clock)
        if image_task.error is not None:
            raise image_task.error
        images, warnings = await self._images(call, image_task, output_dir)
        # OpenClaw's own image tool, which lends a folder, passes on files and no links.
        is_all_there = not caller.source_dirs or all(image.path for image in images)
        if image_task.stage == "completed" and is_all_there and not call.cancel.is_set:
            self._registry.delivered(image_task, caller.session)
        if image_task.entry is not None:
            warnings += image_task.entry.warnings
        return report(
            image_task,
            self.manifest,
            host=self.host,
            now=self._clock.now(),
            joined=begun.joined,
            images=images,
            warnings=[*begun.warnings, *warnings],
        )

    async def _begin(self, call: Call, caller: CallContext, *, new: bool) -> TaskHandle:
        """Resolve the sources, build the exact request once, then join an equal one or begin it."""
        # Whoever may not spend at all is told so before anything is uploaded.
        rules = self._rules(call, caller, new=new)
        sources = None
        if "source_image_urls" in call.arguments:
            sources = await self._source_resolver.gather(
                call,
                caller,
                call.arguments["source_image_urls"],
                storage=self._http_for(call.account.base_url),
            )
        price = await self._price(call)
        order = build_request(
            self.manifest,
            call.tool,
            call.arguments,
            caller=caller,
            account=call.account,
            sources=sources,
            safety_checker=self.settings.safety_checker,
            callback_url=None if self._webhook_inbox is None else self._webhook_inbox.callback_url,
            routes=self._routes(call.account.base_url),
            price_usd=price.usd,
            unknown_price_usd=self.settings.unknown_price_usd,
            new_id=self._new_id,
        )
        if call.cancel.is_set:
            raise CancelledCallError("The call was stopped before anything was sent.", charged="no")
        return self._registry.begin(call.account, order.intent, order.request, rules)

    async def _images(
        self, call: Call, image_task: ImageTask, folder: Path | None
    ) -> tuple[list[ImageInfo], list[str]]:
        """Return an image task's pictures, saved within what is left of the call's wait, and the warnings of it."""
        base_url = call.account.base_url
        stopped = asyncio.Event()
        call.cancel.watch(stopped)
        try:
            return await image_infos(
                image_task,
                http=self._http_for(base_url),
                folder=folder,
                loopback_allowed=is_loopback_url(base_url),
                within_s=max(0.0, call.deadline_s - self._clock.monotonic()) + SAVE_GRACE_S,
                stopped=stopped,
            )
        finally:
            call.cancel.unwatch(stopped)

    async def _price(self, call: Call) -> Price:
        """Return what the image will cost; only a price that nobody published is waited for."""
        tool = self.manifest.tools[call.tool]
        model = str(call.arguments.get("model", tool.default_model))
        resolution = str(call.arguments.get("output_resolution", "1k"))
        client = call.account.client
        if list_price(self.manifest, model, resolution).usd is None:
            return await self._prices.price_of(client, model=model, resolution=resolution)
        price = await self._prices.price_of(client, model=model, resolution=resolution, timeout_s=0.0)
        if price.basis != "quote":
            self._prices.prefetch(client, model=model, resolution=resolution)
        return price

    def _rules(self, call: Call, caller: CallContext, *, new: bool) -> ClaimRules:
        return ClaimRules(
            join="never" if new else "orphaned" if caller.session is None else "session",
            inherited_session_prefix=inherited_session_prefix(caller.session),
            repeat_max=self.settings.repeat_max if caller.by_model and caller.session is not None else None,
            repeat_window_s=self.settings.repeat_window_s,
            caps=caps_of(self.settings, caller, base_url=call.account.base_url, now=self._clock.now()),
        )

    async def _finish(
        self, account: Account, image_tasks: Sequence[ImageTask], cancel: CancelToken | None
    ) -> list[dict[str, Any]]:
        results = await asyncio.gather(*(self._finish_one(account, one, cancel) for one in image_tasks))
        # All at once, because nothing is shown before the last of them is over.
        for image_task in image_tasks:
            if image_task.stage == "completed":
                self._registry.delivered(image_task, None)
        return list(results)

    async def _finish_one(self, account: Account, image_task: ImageTask, cancel: CancelToken | None) -> dict[str, Any]:
        call = self._open_call("get_image_task", {}, account, None, None, cancel)
        try:
            await wait_for(call, image_task, clock=self._clock)
            if image_task.error is not None:
                raise image_task.error
        except Flux2Error as exc:
            return error_object(exc)
        images, warnings = await self._images(call, image_task, self.settings.save_dir)
        return as_object(
            report(image_task, self.manifest, host=self.host, now=self._clock.now(), images=images, warnings=warnings)
        )

    # ---- what calls share --------------------------------------------------------------------------------------------

    def _typical_s(self, model: str, resolution: str) -> float:
        known = self.manifest.models.get(model)
        return DEFAULT_TYPICAL_S if known is None else known.typical_s.get(resolution, DEFAULT_TYPICAL_S)

    def _routes(self, base_url: str) -> tuple[contract.Route, ...]:
        if self.settings.route != "auto":
            return (self.settings.route,)
        first = self._memory.get(base_url, "create")
        return ("service", "guide") if first == "service" else ("guide", "service")

    def _client(self, account: Credentials) -> RunapiClient:
        return RunapiClient(
            self._http_for(account.base_url),
            base_url=account.base_url,
            api_key=account.api_key,
            user_agent=f"flux2-tool/{self.manifest.version}",
            attempt_timeout_s=self._timeouts.attempt_s,
            rate_limiter=self._rate_limiters.setdefault(
                (account.base_url, account.fingerprint), RateLimiter(self._clock)
            ),
        )

    def _http_for(self, base_url: str) -> httpx.AsyncClient:
        if base_url not in self._http:
            self._http[base_url] = open_http(base_url, timeouts=self._timeouts, transport=self._transport)
        return self._http[base_url]


def _webhook_inbox_of(settings: Settings, host: Host, clock: Clock) -> WebhookInbox | None:
    """Return the webhooks of this process, where a gateway's route hands them on and they are configured."""
    if host != "native" or settings.callback_public_url is None or settings.callback_secret is None:
        return None
    return WebhookInbox(public_url=settings.callback_public_url, secret=settings.callback_secret, clock=clock)
