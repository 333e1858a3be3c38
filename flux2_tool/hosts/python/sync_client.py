"""The Python API for code without an event loop: `from flux2_tool import SyncFlux2Tool`. It wraps the async API.

with SyncFlux2Tool() as flux:
    print(flux.text_to_image("a red fox in the snow").images[0].url)
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from flux2_tool.exceptions import CancelledCallError
from flux2_tool.hosts.python.client import Flux2Tool
from flux2_tool.hosts.python.fork_pause import LOOPS
from flux2_tool.hosts.python.frameworks import SessionOf, sync_langchain_tools
from flux2_tool.hosts.python.given_values import is_plain_function
from flux2_tool.schema.export import Format

# A thread of the tool's that hangs, as on a dead disk, must not hold up the end of the program.
CLOSE_S: Final = 15.0

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _sync(
    method: Callable[Concatenate[Flux2Tool, Parameters], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[SyncFlux2Tool, Parameters], Result]:
    """Return a blocking version of an async method."""

    @functools.wraps(method)
    def blocking(self: SyncFlux2Tool, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        exits = _Exits()
        told: Any = kwargs.get("on_progress")
        if is_plain_function(told):
            kwargs["on_progress"] = exits.watched(told)
        return self._wait(lambda: method(self._flux, *args, **kwargs), exits)

    return blocking


class _Exits:
    """What ends the program, raised by a call's `on_progress`: it ends the wait as Ctrl-C does, and not the thread."""

    def __init__(self) -> None:
        self.raised: BaseException | None = None
        self.waiting: asyncio.Task[Any] | None = None

    def watched(self, told: Callable[..., Any]) -> Callable[..., None]:
        def on_progress(*args: Any) -> None:
            try:
                told(*args)
            except (KeyboardInterrupt, SystemExit) as exc:
                self.raised = self.raised or exc
                if self.waiting is not None:
                    self.waiting.cancel()

        return on_progress

    async def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        self.waiting = asyncio.current_task()
        return await work


class SyncFlux2Tool:
    """The same tool for code without an event loop: each method waits for its result.

    It runs a `Flux2Tool` on a thread of its own, may be used from several threads, and is closed by `close`, `with` or
    the end of the program. A forked child gets a thread of its own at its first call.

    Args:
        flux: The tool to run; by default `Flux2Tool()`.
    """

    def __init__(self, flux: Flux2Tool | None = None) -> None:
        if flux is not None and not isinstance(flux, Flux2Tool):
            raise TypeError(f"flux must be a Flux2Tool, not {type(flux).__name__}; a key is given to that one")
        self._flux = flux or Flux2Tool()
        self._start()
        _every.add(self)

    text_to_image = _sync(Flux2Tool.text_to_image)
    remix_image = _sync(Flux2Tool.remix_image)
    get_image_task = _sync(Flux2Tool.get_image_task)
    recent = _sync(Flux2Tool.recent)
    call = _sync(Flux2Tool.call)

    def definitions(self, shape: Format, *, strict: bool = False) -> list[dict[str, Any]]:
        """Return the tool definitions for a model; see `Flux2Tool.definitions`."""
        return self._flux.definitions(shape, strict=strict)

    def langchain_tools(self, *, session: SessionOf = None, wait_s: float | None = None) -> list[Any]:
        """Return the tools for LangChain's agents that run without an event loop; see `Flux2Tool.langchain_tools`."""
        return sync_langchain_tools(self.call, self.definitions("anthropic"), session=session, wait_s=wait_s)

    def openai_agents_tools(
        self, *, session: SessionOf = None, wait_s: float | None = None, strict: bool = True
    ) -> list[Any]:
        """Return the tools for `Runner.run_sync`, which has an event loop; see `Flux2Tool.openai_agents_tools`."""
        return self._flux.openai_agents_tools(session=session, wait_s=wait_s, strict=strict)

    def pydantic_ai_tools(self, *, session: SessionOf = None, wait_s: float | None = None) -> list[Any]:
        """Return the tools for `Agent.run_sync`, which has an event loop; see `Flux2Tool.pydantic_ai_tools`."""
        return self._flux.pydantic_ai_tools(session=session, wait_s=wait_s)

    def close(self) -> None:
        """End the waits of other threads' calls, close the connections and end the thread.

        Tasks at RunAPI continue, and the journal records them. A second call does nothing.
        """
        self._check_thread()
        with self._lock:
            self._is_inherited = False
            self._finalizer()

    def __enter__(self) -> Self:
        """Return the tool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _start(self) -> None:
        # Reentrant, because a signal handler may close the tool while its thread begins a call.
        self._lock = threading.RLock()
        self._loop = asyncio.new_event_loop()
        LOOPS.add(self._loop)
        self._thread: threading.Thread | None
        self._thread = thread = threading.Thread(target=_run, args=(self._loop,), name="flux2-tool", daemon=True)
        thread.start()
        # Also at the end of a script that never closes it, so that the images it got count as delivered.
        self._finalizer = weakref.finalize(self, _end, self._flux, self._loop, thread)
        self._is_inherited = False

    def _forget_parents(self) -> None:
        """Begin anew in a forked child, where the parent's thread does not exist."""
        _inherited.append(self._loop)  # closing it would disturb the parent's, which shares its selector
        self._lock = threading.RLock()  # another thread of the parent's may have held it
        self._thread = None  # that of the parent's may be the one that forked
        self._is_inherited = self._finalizer.alive
        self._finalizer.detach()

    def _wait(self, work: Callable[[], Coroutine[Any, Any, Result]], exits: _Exits) -> Result:
        self._check_thread()
        with self._lock:
            if self._is_inherited:
                self._start()
            if not self._finalizer.alive:
                raise RuntimeError("this SyncFlux2Tool is closed, so nothing was sent; make a new one")
            if not threading.main_thread().is_alive():
                # Its threads have ended, so that a request could be sent and its answer not waited for.
                raise RuntimeError("the program is ending; nothing was sent")
            future = asyncio.run_coroutine_threadsafe(exits.wait(work()), self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            if exits.raised is not None:
                raise exits.raised from None
            raise CancelledCallError(
                "The tool was closed during this call. The image may have been accepted and may be charged.",
                hint="Call again with exactly the same arguments if the image is still wanted.",
                charged="unknown",
            ) from None
        finally:
            # After Ctrl-C the wait must not continue in the background; a finished one ignores this.
            future.cancel()

    def _check_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("on_progress must not call the tool")


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _end(flux: Flux2Tool, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Close the tool, then its loop and thread. Called once: by `close`, by garbage collection, or when Python ends."""
    asyncio.run_coroutine_threadsafe(_close(flux, loop), loop)
    # Garbage collection may run on the loop's own thread, which cannot join itself.
    if threading.current_thread() is not thread:
        thread.join(CLOSE_S)


async def _close(flux: Flux2Tool, loop: asyncio.AbstractEventLoop) -> None:
    try:
        await flux.aclose()
        # A call that did not end in time would block its thread forever.
        late = asyncio.all_tasks(loop) - {asyncio.current_task()}
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        # At the end of Python its threads have ended already, and no thread can be started to end them.
        with contextlib.suppress(RuntimeError):
            await loop.shutdown_default_executor()
    finally:
        loop.stop()


_every: weakref.WeakSet[SyncFlux2Tool] = weakref.WeakSet()
_inherited: list[object] = []


def _after_fork() -> None:
    for tool in list(_every):
        tool._forget_parents()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
