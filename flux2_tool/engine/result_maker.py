"""Make what a call returns: its pictures, its result, or the last pictures of its conversation.

What does so is imported by the first call that gets there, because a process that makes one image sends its request
first; `cli/needed_later.py` and `hosts/worker/needed_later.py` load it while the image is being made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from flux2_tool.context import CallContext
from flux2_tool.engine.accounts import Accounts
from flux2_tool.engine.earlier_images import EarlierImages
from flux2_tool.engine.host_profile import HostProfile
from flux2_tool.engine.runtime import Runtime
from flux2_tool.engine.save_targets import SaveTarget
from flux2_tool.engine.wait import ToolCall
from flux2_tool.runapi.prices import Prices
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import Settings
from flux2_tool.tasks.registry import Registry
from flux2_tool.tasks.task import ImageTask

if TYPE_CHECKING:
    from flux2_tool.engine.pictures import Pictures
    from flux2_tool.schema.recent import RecentImages
    from flux2_tool.schema.results import ImageInfo, ToolResult

# By then the request is sent, unless it waits for others; no picture is made sooner.
_LOADED_AFTER_S: Final = 0.3


class ResultMaker:
    """Makes the results of one engine's calls.

    Args:
        manifest: List prices.
        settings: Where pictures are saved, the enabled tiers, caps.
        host: Its words, and whether it keeps copies.
        runtime: Time and decoding.
        registry: The journal's records.
        accounts: Connections.
    """

    def __init__(
        self,
        *,
        manifest: Manifest,
        settings: Settings,
        host: HostProfile,
        runtime: Runtime,
        registry: Registry,
        accounts: Accounts,
    ) -> None:
        self._manifest = manifest
        self._settings = settings
        self._host = host
        self._runtime = runtime
        self._registry = registry
        self._accounts = accounts
        self._pictures: Pictures | None = None

    @contextmanager
    def expected(self, targets: Sequence[SaveTarget]) -> Iterator[None]:
        """Make ready, while the block waits for pictures, what checks those that will be saved."""
        if not targets:
            yield
            return
        with ExitStack() as ready:
            loaded = asyncio.get_running_loop().call_later(
                _LOADED_AFTER_S, lambda: ready.enter_context(self._loaded_pictures().expected())
            )
            try:
                yield
            finally:
                loaded.cancel()

    async def pictures(
        self, call: ToolCall, image_tasks: Sequence[ImageTask], targets: Sequence[SaveTarget]
    ) -> tuple[list[ImageInfo], list[str]]:
        """Return the pictures of a call's tasks, saved within the rest of its wait, and warnings."""
        return await self._loaded_pictures().of(call, image_tasks, targets)

    def _loaded_pictures(self) -> Pictures:
        if self._pictures is None:
            from flux2_tool.engine.pictures import Pictures
            from flux2_tool.engine.saving import saver_of

            saver = saver_of(self._settings, self._host, self._runtime, self._registry.kept, self._accounts)
            self._pictures = Pictures(saver, self._accounts)
        return self._pictures

    def result(self, image_tasks: Sequence[ImageTask], **facts: Any) -> ToolResult:
        """Return the result of a call; for the facts see `result_builder.report`."""
        from flux2_tool.engine.result_builder import report

        now, tiers = self._runtime.clock.now(), self._settings.tiers
        return report(image_tasks, self._manifest, host=self._host, tiers=tiers, now=now, **facts)

    async def recent(self, call: ToolCall, caller: CallContext, earlier: EarlierImages, prices: Prices) -> RecentImages:
        """Return the last pictures of a caller's conversation; see `LookingBack.result`."""
        from flux2_tool.engine.budget_left import BudgetReport
        from flux2_tool.engine.looking_back import LookingBack

        tasks, clock = self._registry.recent, self._runtime.clock
        budget = BudgetReport(self._manifest, self._settings, tasks, prices, clock)
        return await LookingBack(tasks, budget, earlier, self._host, self._settings, clock).result(call, caller)

    async def aclose(self) -> None:
        """End what runs beside the calls."""
        if self._pictures is not None:
            await self._pictures.aclose()
