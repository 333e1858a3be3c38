"""A client in a process of its own, as the benchmark drives it: one picture asked for, one answer awaited.

Two programs stand behind it: this project's worker (`our_client.py`) and one that runs the vendor's SDK
(`vendor_client.py`). Both take a line a picture, so that neither pays for the driving what the other does not.
"""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from benchmarks.kinds import Kind
from benchmarks.line_process import LineProcess
from benchmarks.meter import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a client answered about one picture.

    Attributes:
        kind: What was asked for.
        task_id: The sandbox's id of it; None when it failed.
        failure: What went wrong.
        foretold_s: How long the client said at first that it would take.
    """

    kind: Kind
    task_id: str | None
    failure: str | None = None
    foretold_s: float | None = None


class Client(ABC):
    """Asks for pictures through one process."""

    name: ClassVar[str]

    def __init__(self, process: LineProcess, *, api_key: str, base_url: str) -> None:
        self.api_key = api_key
        self._base_url = base_url
        self._process = process
        process.on_end = self._ended
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)

    @property
    def meter(self) -> Meter:
        """Reads what the process costs."""
        return self._process.meter

    async def make(self, kind: Kind, prompt: str) -> Made:
        """Ask for one picture and wait for it."""
        number = next(self._numbers)
        return self._made(number, kind, await self._ask(number, self._question(number, kind, prompt)))

    async def close(self) -> None:
        """End the process."""
        await self._process.end()

    async def _ask(self, number: int, question: dict[str, Any]) -> dict[str, Any]:
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._process.send(question)
        try:
            return await answer
        finally:
            del self._waiting[number]

    def _answered(self, number: Any, message: dict[str, Any]) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def _ended(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(RuntimeError(f"{self.name} ended by itself: {self._process.last_words()}"))

    @abstractmethod
    def _question(self, number: int, kind: Kind, prompt: str) -> dict[str, Any]:
        """Return the line that asks for a picture."""

    @abstractmethod
    def _made(self, number: int, kind: Kind, answer: dict[str, Any]) -> Made:
        """Read the line that answers."""
