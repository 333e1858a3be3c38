"""A process that can end at any point, played on one event loop.

Everything a process does to the world goes through its clock, its line to the service and its journal. Each of them
counts its steps and asks whether the process ends there; afterwards nothing it does has any effect. What it sent is
on its way and arrives all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import uuid
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import httpx

from flux2_tool._redaction import SecretStr
from flux2_tool.credentials import Credentials
from flux2_tool.journal import Journal, Liveness, Moment, Owner, ThreadedJournal
from flux2_tool.settings import load_settings
from tests.support.hosted import HostedEngine, hosted
from tests.support.stores import Opener
from tests.support.virtual_time import VirtualClock

_CURRENT: contextvars.ContextVar[SimulatedProcess | None] = contextvars.ContextVar("process", default=None)


class ProcessDiedError(BaseException):
    """The process has ended. No code of the package may catch this."""


class SimulatedProcess:
    """One run of the program.

    Args:
        name: Unique in its world.
        machine: Its end is seen at once on this machine only. "HOST:NAME" is a container of a host: of the same boot,
            in a PID namespace of its own.
        host: Which kind of host it serves.
        home: The data folder.
        network: The service, as it is reached.
        account: Key and base URL.
        liveness: Tells whether the process of a name runs, as far as this one can see.
        cut_at: The step at which it ends, from 1; None lets it live.
        settings: Overrides.
    """

    def __init__(
        self,
        name: str,
        *,
        machine: str,
        host: str,
        home: Path,
        network: httpx.AsyncBaseTransport,
        account: tuple[str, str],
        liveness: Callable[[str], Liveness],
        cut_at: int | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        self.name = name
        self.machine = machine
        self.host = host
        self.is_dead = False
        self.died_at: str | None = None
        self.stalled_until_s = 0.0
        self.clock_offset_s = 0.0
        self.calls = 0
        self.has_lost_its_peer = False
        self._steps = 0
        self._cut_at = cut_at
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._journals: list[ThreadedJournal] = []
        key, base_url = account
        self.tool = self._inside(
            lambda: hosted(
                load_settings({}, overrides={"home": home, "keep_days": 0, "tiers": ["pro", "klein"], **settings}),
                Credentials(api_key=SecretStr(key), base_url=base_url, source="explicit"),
                host=host,
                transport=_Line(self, network),
                clock=_Clock(self),
                random=random.Random(seed),  # noqa: S311
                new_id=_Ids(seed),
                owner=cast("Owner", _Name(f"{machine}/{name}", liveness)),
                opener=self._open_journal,
            )
        )

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something as a part of this process: it ends with it."""
        context = contextvars.copy_context()
        context.run(_CURRENT.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    def step(self, place: str) -> None:
        """Pass one of the points where the process may end."""
        self._steps += 1
        if not self.is_dead and self._steps == self._cut_at:
            self.die(place)
        if self.is_dead:
            raise ProcessDiedError(place)

    def die(self, place: str) -> None:
        """End here and now, without a last word."""
        if self.is_dead:
            return
        self.is_dead, self.died_at = True, place
        try:
            current = asyncio.current_task()
        except RuntimeError:
            current = None
        for task in list(self._tasks):
            if task is not current:
                task.cancel()

    async def aclose(self) -> None:
        """End in good order, or die on the way."""
        if not self.is_dead:
            with contextlib.suppress(ProcessDiedError, asyncio.CancelledError):
                await self.start(self.tool.aclose(delivered=not self.has_lost_its_peer))

    async def lose_its_peer(self) -> None:
        """End because whoever asked has died, and perhaps without having read the last answer."""
        self.has_lost_its_peer = True
        await self.aclose()

    def forget(self) -> None:
        """Close the files that the process held open; the world is over."""
        for journal in self._journals:
            journal.close_now()

    def _inside(self, make: Callable[[], HostedEngine]) -> HostedEngine:
        context = contextvars.copy_context()
        context.run(_CURRENT.set, self)
        return context.run(make)

    async def _open_journal(self, folder: Path | None, *, owner: Owner, now: float) -> Journal:
        self.step("before the journal is opened")
        journal = await Opener()(folder, owner=owner, now=now)
        self._journals.append(journal)
        return cast("Journal", _Steps(self, journal))

    def _adopt(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)


class _Ids:
    """Ids that a seed repeats."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311

    def __call__(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


class _Name:
    def __init__(self, name: str, liveness: Callable[[str], Liveness]) -> None:
        self.name = name
        self.liveness = liveness
        self._loop = asyncio.get_running_loop()

    def moment(self) -> Moment:
        host = self.name.partition("/")[0].partition(":")[0]
        return Moment(host, self._loop.time())  # also read in the journal's thread

    def close(self) -> None:
        """Nothing: the schedule says who is alive."""


class _Steps:
    """A journal whose every call is two points where the process may end: before it and after it."""

    def __init__(self, process: SimulatedProcess, journal: Journal) -> None:
        self._process = process
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._journal, name)

        async def call(*args: Any, **values: Any) -> Any:
            self._process.step(f"before {name}")
            result = await method(*args, **values)
            self._process.step(f"after {name}")
            return result

        return call


class _Line(httpx.AsyncBaseTransport):
    """The line to the service: what is on its way arrives even when the process ends."""

    def __init__(self, process: SimulatedProcess, network: httpx.AsyncBaseTransport) -> None:
        self._process = process
        self._network = network

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._process.step(f"before {request.method}")
        passage = asyncio.get_running_loop().create_task(
            _carried(self._network, request), context=contextvars.Context()
        )
        answer = await asyncio.shield(passage)
        self._process.step(f"with the answer to {request.method}")
        if isinstance(answer, httpx.HTTPError):
            raise answer
        return answer


async def _carried(network: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response | httpx.HTTPError:
    try:
        return await network.handle_async_request(request)
    except httpx.HTTPError as exc:
        return exc


class _Clock(VirtualClock):
    """Virtual time; a stalled process's pauses last until it runs again, and its wall clock can be set."""

    def __init__(self, process: SimulatedProcess) -> None:
        super().__init__()
        self._process = process

    def now(self) -> float:
        return super().now() + self._process.clock_offset_s

    async def sleep(self, seconds: float) -> None:
        until_s = max(self.monotonic() + seconds, self._process.stalled_until_s)
        await super().sleep(until_s - self.monotonic())
        self._process.step("after a pause")

    async def wait(self, event: asyncio.Event, timeout_s: float) -> bool:
        is_set = await super().wait(event, timeout_s)
        self._process.step("after a wait")
        return is_set


def adopt_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have every task of a loop belong to the process that started it, and its death be no news."""

    def make(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **options)
        context = options.get("context")
        process = _CURRENT.get() if context is None else context.get(_CURRENT)
        if process is not None:
            process._adopt(task)
        return task

    def hear(loop: asyncio.AbstractEventLoop, news: dict[str, Any]) -> None:
        if not isinstance(news.get("exception"), ProcessDiedError):
            loop.default_exception_handler(news)

    loop.set_task_factory(make)
    loop.set_exception_handler(hear)
