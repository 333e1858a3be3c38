"""The Python API for code without an event loop: `from flux2_tool import SyncFlux2Tool`. The same code, waited for.

with SyncFlux2Tool() as flux:
    print(flux.text_to_image("a red fox in the snow").images[0].url)
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from flux2_tool.api import Flux2Tool
from flux2_tool.projection import Format

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _sync(
    method: Callable[Concatenate[Flux2Tool, Parameters], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[SyncFlux2Tool, Parameters], Result]:
    """Return a method of the async tool as one that waits."""

    @functools.wraps(method)
    def waiting(self: SyncFlux2Tool, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self._wait(method(self._flux, *args, **kwargs))

    return waiting


class SyncFlux2Tool:
    """The same tool for code without an event loop: each method waits for its result.

    It runs a `Flux2Tool` on a thread of its own, may be used from several threads, and should be closed, which
    `with` does.

    Args:
        flux: What to run; by default `Flux2Tool()`.
    """

    def __init__(self, flux: Flux2Tool | None = None) -> None:
        self._flux = flux or Flux2Tool()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="flux2-tool", daemon=True)
        self._thread.start()

    text_to_image = _sync(Flux2Tool.text_to_image)
    remix_image = _sync(Flux2Tool.remix_image)
    get_image_task = _sync(Flux2Tool.get_image_task)
    call = _sync(Flux2Tool.call)

    def definitions(self, shape: Format) -> list[dict[str, Any]]:
        """Return the tools as a model is offered them; see `Flux2Tool.definitions`."""
        return self._flux.definitions(shape)

    def close(self) -> None:
        """Stop following tasks, close the connections and end the thread. A second time does nothing."""
        if self._loop.is_closed():
            return
        self._wait(self._flux.aclose())
        self._wait(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        """Return the tool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self._loop.is_closed() or threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("it is closed" if self._loop.is_closed() else "on_progress must not call the tool")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            # After a Ctrl-C the wait must not go on behind the caller's back; when it is over this does nothing.
            future.cancel()
