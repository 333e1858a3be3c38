"""Faults the sandbox injects: scripted one by one for tests, or at seeded rates for chaos.

A fault is either *before* (the request never reaches the service: no task is created) or *accepted* (the service
does its work, a task is created, and then the response goes wrong). Each kind below says which it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from threading import Lock
from typing import Any, Literal, get_args

Target = Literal["create", "poll", "storage", "files", "account", "any"]
Kind = Literal[
    "latency",  # wait delay_s, then go on as usual; with accepted, do the work first
    "status",  # respond with `status`, Retry-After and a JSON, HTML, text or empty body; with accepted, after the work
    "drop_before",  # close the connection without a response, nothing created
    "drop_after",  # the same once the work is done: task created, response lost
    "truncated_body",  # accepted: the connection closes in the middle of the response
    "broken_json",  # accepted: a complete response whose JSON is cut off
    "oversized_body",  # accepted: a valid response with size_bytes of padding
    "retry_after",  # accepted: the usual response, with a Retry-After header
    "redirect",  # `status` (307 unless 3xx is given) to `value`, by default another origin; accepted: to the task
    "in_progress",  # create, accepted: as drop_after, and repeats of the POST get 409 "in progress" for delay_s
    "stray",  # accepted: the response is the one about another task of this key that was polled, if there is any
    "unknown_status",  # poll: this response's status is `value`
    "no_images",  # poll: this completed response has no images; create: the task never gets any
    "late_images",  # create: images only after `polls` completed responses without
    "failed",  # create or poll: the task fails with `value` as its text, unless it is already finished
    "envelope",  # create: the response has a Location that returns envelopes
]
Body = Literal["json", "html", "text", "empty"]

ELSEWHERE = "http://127.0.0.2:9/elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, for the next `times` requests that match `on`.

    Args:
        kind: What goes wrong; see `Kind`.
        on: Which requests it hits.
        times: How many of them, one after another; ignored for rates.
        accepted: For latency, status and a create's redirect: do the work first, so that a task is created.
        delay_s: Wait this long as well; the whole of a latency fault. For in_progress, how long repeats are refused.
        status: The HTTP status of a status or redirect fault.
        retry_after: Seconds, or "date:SECONDS" for an HTTP date that far ahead, or any text as it is.
        body: What a status fault's body is made of.
        value: The unknown status, the failure's text, the redirect's target or the error's text.
        polls: For late_images.
        size_bytes: For oversized_body.
    """

    kind: Kind
    on: Target = "any"
    times: int = 1
    accepted: bool = False
    delay_s: float = 0.0
    status: int = 503
    retry_after: str | float | None = None
    body: Body = "json"
    value: str = ""
    polls: int = 3
    size_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("kind", self.kind, get_args(Kind)),
            ("on", self.on, get_args(Target)),
            ("body", self.body, get_args(Body)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fault:
        """Build a fault from a JSON object with the fields above.

        Raises:
            ValueError: A field is unknown or a value is not allowed.
        """
        unknown = sorted(set(data) - {item.name for item in fields(cls)})
        if unknown:
            raise ValueError(f"unknown fault field {', '.join(unknown)}")
        try:
            return cls(**data)
        except TypeError as exc:
            raise ValueError(f"not a fault: {exc}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRate:
    """A fault that hits each matching request with a probability from 0 to 1."""

    rate: float
    fault: Fault


class Faults:
    """The faults to come. Scripted ones go first, in their order; then the rates are drawn.

    Safe to fill from another thread than the server's.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._lock = Lock()
        self._queue: list[Fault] = []
        self._rates: tuple[FaultRate, ...] = ()
        self.committed: dict[str, int] = {}

    def queue(self, *faults: Fault) -> None:
        """Add faults to the script."""
        with self._lock:
            self._queue.extend(fault for fault in faults if fault.times > 0)

    def set_rates(self, rates: Iterable[FaultRate], *, seed: int | None = None) -> None:
        """Replace the rates; a seed makes the draws that follow repeatable."""
        with self._lock:
            self._rates = tuple(rates)
            if seed is not None:
                self._rng.seed(seed)

    def clear(self) -> None:
        """Drop the script and the rates."""
        with self._lock:
            self._queue.clear()
            self._rates = ()

    def pending(self) -> list[Fault]:
        """The script that is left, in order."""
        with self._lock:
            return list(self._queue)

    def take(self, target: Target) -> Fault | None:
        """Return the fault for a request that has just arrived, if it gets one."""
        if not self._queue and not self._rates:
            return None
        with self._lock:
            fault = self._scripted(target) or self._drawn(target)
            if fault is not None:
                self.committed[fault.kind] = self.committed.get(fault.kind, 0) + 1
            return fault

    def _scripted(self, target: Target) -> Fault | None:
        for index, fault in enumerate(self._queue):
            if fault.on in (target, "any"):
                if fault.times > 1:
                    self._queue[index] = replace(fault, times=fault.times - 1)
                else:
                    del self._queue[index]
                return fault
        return None

    def _drawn(self, target: Target) -> Fault | None:
        matching = [item for item in self._rates if item.fault.on in (target, "any")]
        if not matching:
            return None
        draw = self._rng.random()
        for item in matching:
            draw -= item.rate
            if draw < 0:
                return item.fault
        return None
