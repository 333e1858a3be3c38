"""Start the task of a call that asks for an image: its sources, its price, the exact request, and the claim on it."""

from __future__ import annotations

from dataclasses import replace

from flux2_tool.context import CallContext
from flux2_tool.engine.accounts import Accounts
from flux2_tool.engine.refusals import Refusals
from flux2_tool.engine.request_builder import RequestBuilder
from flux2_tool.engine.runtime import Runtime
from flux2_tool.engine.source_resolver import SourceResolver
from flux2_tool.engine.wait import ToolCall, raise_error_of, unless_cancelled
from flux2_tool.exceptions import CancelledCallError, CreditsExhaustedError
from flux2_tool.journal import ClaimRules
from flux2_tool.runapi import contract
from flux2_tool.runapi.cache import RouteCache
from flux2_tool.runapi.prices import Price, Prices, list_price
from flux2_tool.runapi.uploads import Uploads
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import Settings
from flux2_tool.tasks.budget import OverBudgetError, caps_of
from flux2_tool.tasks.deduplication import inherited_session_prefix
from flux2_tool.tasks.registry import Registry, TaskHandle
from flux2_tool.tasks.task import ImageTask


class TaskStarter:
    """Starts the tasks of one engine.

    Args:
        manifest: Models and list prices.
        settings: The operator's rules.
        registry: Joins equal requests, begins new ones.
        accounts: Connections.
        routes: Which of RunAPI's routes worked last.
        callback_url: Our own webhook, if there is one.
        runtime: Time and ids.
    """

    def __init__(
        self,
        *,
        manifest: Manifest,
        settings: Settings,
        registry: Registry,
        accounts: Accounts,
        routes: RouteCache,
        callback_url: str | None,
        runtime: Runtime,
    ) -> None:
        self._manifest = manifest
        self._settings = settings
        self._registry = registry
        self._accounts = accounts
        self._routes = routes
        self._clock = runtime.clock
        self._uploads = Uploads(clock=self._clock)
        self._prices = Prices(manifest=manifest, folder=settings.home, clock=self._clock)
        self._refusals = Refusals(manifest=manifest, settings=settings, prices=self._prices, clock=self._clock)
        self._sources = SourceResolver(
            registry=registry,
            uploads=self._uploads,
            settings=settings,
            clock=self._clock,
            decoder=runtime.decoder,
        )
        self._requests = RequestBuilder(
            manifest=manifest, settings=settings, callback_url=callback_url, new_id=runtime.new_id
        )

    async def start(self, call: ToolCall, caller: CallContext, *, new: bool) -> TaskHandle:
        """Resolve the sources, build the exact request once, then join an equal task or begin one.

        Args:
            call: Its arguments are validated.
            caller: Its budget, session and folders apply.
            new: Never join an equal task.

        Raises:
            CancelledCallError: The host stopped the call; nothing was sent.
            Flux2Error: A source, a cap or the journal prevents it; nothing was sent.
        """
        # A caller who may not spend at all is refused before anything is uploaded.
        rules = self._rules(call, caller, new=new)
        sources, warnings = None, list[str]()
        if "source_image_urls" in call.arguments:
            storage = self._accounts.http(call.account.base_url)
            given = call.arguments["source_image_urls"]
            sources = await self._sources.resolve(call, caller, given, storage=storage)
            warnings = sources.warnings
        price = await self._price(call)
        prepared = self._requests.build(
            call, caller, sources=sources, routes=self._route_order(call.account.base_url), price_usd=price.usd
        )
        if call.cancel.is_set:
            raise CancelledCallError("The call was stopped before anything was sent.", charged="no")
        beginning = self._registry.begin(
            call.account, prepared.intent, prepared.request, rules, deadline_s=call.deadline_s
        )
        try:
            begun = await unless_cancelled(beginning, call.cancel)
        except OverBudgetError as exc:
            raise await self._refusals.over_budget(call, prepared.intent, exc) from exc
        if begun is None:
            raise CancelledCallError("The call was stopped before anything was sent.", charged="no")
        return replace(begun, warnings=[*warnings, *begun.warnings])

    async def raise_error_of(self, call: ToolCall, image_task: ImageTask) -> None:
        """Raise the error that an image task ended with, if any; one about money says what can be done."""
        error = image_task.error
        if isinstance(error, CreditsExhaustedError):
            raise await self._refusals.out_of_credits(call, image_task, error)
        raise_error_of(image_task)

    async def aclose(self) -> None:
        """Stop background work: price requests, and uploads that no call waits for."""
        await self._prices.aclose()
        await self._uploads.aclose()

    def _rules(self, call: ToolCall, caller: CallContext, *, new: bool) -> ClaimRules:
        return ClaimRules(
            join="never" if new else "orphaned" if caller.session is None else "session",
            inherited_session_prefix=inherited_session_prefix(caller.session),
            repeat_max=self._settings.repeat_max if caller.by_model and caller.session is not None else None,
            repeat_window_s=self._settings.repeat_window_s,
            caps=caps_of(self._settings, caller, base_url=call.account.base_url, now=self._clock.now()),
        )

    async def _price(self, call: ToolCall) -> Price:
        """Return the image's expected price; wait for RunAPI's only if there is no list price."""
        model, resolution = self._manifest.image_kind(call.tool, call.arguments)
        client = call.account.client
        if list_price(self._manifest, model, resolution).usd is None:
            return await self._prices.price_of(client, model=model, resolution=resolution)
        price = await self._prices.price_of(client, model=model, resolution=resolution, timeout_s=0.0)
        if price.basis != "quote":
            self._prices.prefetch(client, model=model, resolution=resolution)
        return price

    def _route_order(self, base_url: str) -> tuple[contract.Route, ...]:
        if self._settings.route != "auto":
            return (self._settings.route,)
        first = self._routes.get(base_url, "create")
        return ("service", "guide") if first == "service" else ("guide", "service")
