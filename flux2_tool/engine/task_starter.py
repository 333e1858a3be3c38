"""Start the task of a call that asks for an image: its sources, its price, the exact request, and the claim on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flux2_tool.context import Approval, CallContext
from flux2_tool.engine.accounts import Accounts
from flux2_tool.engine.approvals import Approvals, Question, cost_of, question_of
from flux2_tool.engine.picture_sets import common_error
from flux2_tool.engine.request_builder import RequestBuilder
from flux2_tool.engine.runtime import Runtime
from flux2_tool.engine.wait import ToolCall, unless_cancelled
from flux2_tool.exceptions import CancelledCallError, CreditsExhaustedError, NotApprovedError
from flux2_tool.journal import ClaimRules
from flux2_tool.runapi import contract
from flux2_tool.runapi.cache import RouteCache
from flux2_tool.runapi.prices import Price, Prices, list_price
from flux2_tool.runapi.services import routes_of, service_of
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import Settings
from flux2_tool.tasks.budget import OverBudgetError, caps_of
from flux2_tool.tasks.claims import PreparedRequest, TaskHandle
from flux2_tool.tasks.deduplication import inherited_session_prefix
from flux2_tool.tasks.registry import Registry
from flux2_tool.tasks.task import ImageTask

if TYPE_CHECKING:
    from flux2_tool.engine.refusals import Refusals
    from flux2_tool.engine.source_resolver import ResolvedSources, SourceResolver


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
        self._new_id = runtime.new_id
        self._approvals = Approvals(settings)
        self.prices = Prices(manifest=manifest, folder=settings.home, clock=self._clock)
        self._decoder = runtime.decoder
        self._opened_sources: SourceResolver | None = None
        self._requests = RequestBuilder(
            manifest=manifest, settings=settings, callback_url=callback_url, new_id=runtime.new_id
        )

    async def start(self, call: ToolCall, caller: CallContext, *, new: bool) -> TaskHandle:
        """Resolve the sources, build the exact requests once, then join equal tasks or begin them.

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
            await self._check_consent(call, caller, rules)
            storage = self._accounts.http(call.account.base_url)
            given = call.arguments["source_image_urls"]
            sources = await self._sources().resolve(call, caller, given, storage=storage)
            warnings = sources.warnings
        price = await self._price(call, caller)
        prepared = self._prepared(call, caller, sources, price)
        if call.cancel.is_set:
            raise CancelledCallError("The call was stopped before anything was sent.", charged="no")
        begin = self._begin(call, caller, prepared, rules, price)
        begun = await unless_cancelled(begin, call.cancel, drop=TaskHandle.drop)
        if begun is None:
            raise CancelledCallError("The call was stopped before anything was sent.", charged="no")
        return replace(begun, warnings=[*warnings, *begun.warnings])

    async def raise_error_of(self, call: ToolCall, image_tasks: Sequence[ImageTask]) -> None:
        """Raise the error that a call's image tasks all ended with, if so; one about money says what can be done."""
        error = common_error(image_tasks)
        if isinstance(error, CreditsExhaustedError):
            raise await self._refusals().out_of_credits(call, image_tasks[0], error)
        if error is not None:
            raise error

    async def question(self, call: ToolCall, caller: CallContext) -> Question | None:
        """Return what a person has to be asked before this call, None if nothing.

        Args:
            call: Its arguments are validated; it asks for an image.
            caller: As for `start`.

        Raises:
            Flux2Error: The call would fail for another reason.
        """
        if not self._approvals.applies(caller):
            return None
        price = await self._price(call, caller)
        cost = cost_of(price, self._settings, images=call.count)
        if not self._approvals.needs_one(caller, cost):
            return None
        try:
            await self._try(call, caller, self._rules(call, caller, new=False), price)
        except NotApprovedError:
            model, resolution = self._manifest.image_kind(call.tool, call.arguments)
            approval = Approval(
                approval_id=self._new_id(), request_key=self._requests.key_of(call, caller), usd=cost.usd
            )
            prompt = call.arguments["prompt"]
            what = (call.tool, model, resolution)
            return question_of(approval, cost, what=what, count=call.count, prompt=prompt)
        return None

    def note_bills(self, call: ToolCall, made: Sequence[ImageTask]) -> None:
        """Remember what images were billed, as the expected price of the next ones."""
        for image_task in made:
            if image_task.final is not None and image_task.model and image_task.resolution:
                self.prices.note_bill(
                    call.account.client,
                    model=image_task.model,
                    resolution=image_task.resolution,
                    usd=image_task.final.cost_usd,
                )

    async def aclose(self) -> None:
        """Stop background work: price requests, and uploads that no call waits for."""
        await self.prices.aclose()
        if self._opened_sources is not None:
            await self._opened_sources.aclose()

    def _sources(self) -> SourceResolver:
        if self._opened_sources is None:
            # Imported here because most pictures are made of text alone.
            from flux2_tool.engine.source_resolver import SourceResolver
            from flux2_tool.runapi.uploads import Uploads

            self._opened_sources = SourceResolver(
                registry=self._registry,
                uploads=Uploads(clock=self._clock),
                settings=self._settings,
                clock=self._clock,
                decoder=self._decoder,
            )
        return self._opened_sources

    def _refusals(self) -> Refusals:
        # Imported here because most calls are not refused.
        from flux2_tool.engine.refusals import Refusals

        return Refusals(manifest=self._manifest, settings=self._settings, prices=self.prices, clock=self._clock)

    def _prepared(
        self, call: ToolCall, caller: CallContext, sources: ResolvedSources | None, price: Price
    ) -> list[PreparedRequest]:
        routes = self._route_order(call)
        return self._requests.build(call, caller, sources=sources, routes=routes, price_usd=price.usd)

    async def _begin(
        self, call: ToolCall, caller: CallContext, prepared: list[PreparedRequest], rules: ClaimRules, price: Price
    ) -> TaskHandle:
        """Join an equal task, or begin one that needs no consent or has it."""
        refusal = self._refusal(call, caller, price)
        approval = caller.approval if refusal is None else None
        # Before the claim, so that of two calls with one approval only the first may make an image.
        self._approvals.use(approval)
        is_new = False
        try:
            begun = await self._claim(call, prepared, replace(rules, needs_approval=refusal is not None))
            is_new = not begun.joined
        except NotApprovedError as exc:
            raise refusal or exc from None
        finally:
            if not is_new:
                self._approvals.give_back(approval)
        return begun

    async def _check_consent(self, call: ToolCall, caller: CallContext, rules: ClaimRules) -> None:
        """Refuse a call without the consent that it needs before its sources are uploaded, unless it will join.

        Raises:
            NotApprovedError: It would make a new image.
        """
        if not self._approvals.applies(caller):
            return
        price = await self._price(call, caller)
        refusal = self._refusal(call, caller, price)
        if refusal is None:
            return
        try:
            await self._try(call, caller, rules, price)
        except NotApprovedError:
            raise refusal from None

    async def _try(self, call: ToolCall, caller: CallContext, rules: ClaimRules, price: Price) -> None:
        """Do as `start` for a call without consent, up to the claim; nothing is uploaded, requested or recorded.

        Raises:
            NotApprovedError: It would make a new image.
            Flux2Error: It would fail for another reason.
        """
        sources = None
        if "source_image_urls" in call.arguments:
            storage = self._accounts.http(call.account.base_url)
            sources = await self._sources().check(call, caller, call.arguments["source_image_urls"], storage=storage)
        prepared = self._prepared(call, caller, sources, price)
        rules = replace(rules, needs_approval=True, is_trial=True)
        await self._claim(call, prepared, rules)

    async def _claim(self, call: ToolCall, prepared: list[PreparedRequest], rules: ClaimRules) -> TaskHandle:
        """Join or record a call's requests; a cap that they would exceed is reported with what still fits."""
        try:
            return await self._registry.begin(call.account, prepared, rules, deadline_s=call.deadline_s)
        except OverBudgetError as exc:
            raise await self._refusals().over_budget(call, prepared[0].intent, exc) from exc

    def _refusal(self, call: ToolCall, caller: CallContext, price: Price) -> NotApprovedError | None:
        cost = cost_of(price, self._settings, images=call.count)
        return self._approvals.refusal(caller, cost, self._requests.key_of(call, caller))

    def _rules(self, call: ToolCall, caller: CallContext, *, new: bool) -> ClaimRules:
        return ClaimRules(
            join="never" if new else "orphaned" if caller.session is None else "session",
            inherited_session_prefix=inherited_session_prefix(caller.session),
            repeat_max=self._settings.repeat_max if caller.by_model and caller.session is not None else None,
            repeat_window_s=self._settings.repeat_window_s,
            caps=caps_of(self._settings, caller, base_url=call.account.base_url, now=self._clock.now()),
        )

    async def _price(self, call: ToolCall, caller: CallContext) -> Price:
        """Return the image's expected price; wait for RunAPI's if there is no list price or a person may be asked."""
        model, resolution = self._manifest.image_kind(call.tool, call.arguments)
        client = call.account.client
        is_listed = list_price(self._manifest, model, resolution).usd is not None
        if not is_listed or self._approvals.applies(caller):
            return await self.prices.price_of(client, model=model, resolution=resolution)
        return await self.prices.price_of(client, model=model, resolution=resolution, timeout_s=0.0)

    def _route_order(self, call: ToolCall) -> tuple[contract.Route, ...]:
        model, _ = self._manifest.image_kind(call.tool, call.arguments)
        service = service_of(model)
        remembered = self._routes.get(call.account.base_url, "create", service=service.name)
        return routes_of(service, setting=self._settings.route, remembered=remembered)
