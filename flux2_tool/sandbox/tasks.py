"""A task's states, computed from the clock at each request: nothing runs in the background but callbacks."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from flux2_tool.sandbox.catalog import MODELS, Action, Service, median_duration_s
from flux2_tool.sandbox.options import SandboxOptions

Route = Literal["guide", "service"]
State = Literal["pending", "processing", "completed", "failed"]

# Bounds a drawn duration at three standard deviations, so that no test waits for an outlier.
_WIDEST_SIGMAS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a task failed, in the service's words."""

    code: str
    message: str


@dataclass(slots=True, kw_only=True)
class Task:
    """One generation. `finish_at` and `failure` are fixed at the start and visible only once the clock gets there.

    `missing_images` is how many completed responses come without images; -1 means all of them. Until `busy_until`,
    repeats of the POST are told that it is in progress.
    """

    id: str
    service: Service
    route: Route
    action: Action
    model: str
    arguments: Mapping[str, Any]
    size_px: tuple[int, int]
    key_fingerprint: str
    idempotency_key: str | None
    created_at: float
    started_at: float
    finish_at: float
    price_cents: int
    image_id: str
    failure: Failure | None = None
    missing_images: int = 0
    busy_until: float = 0.0
    billed_cents: int = 0
    settled: bool = False
    polls: int = 0
    first_seen_finished_at: float | None = None

    def state(self, now: float) -> State:
        """The status that the service returns at a time."""
        if now >= self.finish_at:
            return "failed" if self.failure else "completed"
        return "processing" if now >= self.started_at else "pending"

    def fail(self, now: float, failure: Failure) -> bool:
        """End an unfinished task now; False when it is too late for that."""
        if self.settled or now >= self.finish_at:
            return False
        self.failure = failure
        self.started_at = min(self.started_at, now)
        self.finish_at = now
        return True


def draw_duration_s(action: Action, arguments: Mapping[str, Any], options: SandboxOptions, rng: random.Random) -> float:
    """How long a new task takes: log-normal around its model's median, or as the options or the prompt say."""
    tier = MODELS[action][arguments["model"]]
    median_s = median_duration_s(tier, arguments.get("output_resolution", "1k"))
    sigmas = max(-_WIDEST_SIGMAS, min(_WIDEST_SIGMAS, rng.gauss(0.0, 1.0)))
    if "[slow]" in arguments["prompt"]:
        return options.slow_s / options.speed
    if options.duration_s is not None:
        return options.duration_s
    return median_s * math.exp(tier.sigma * sigmas) / options.speed


def foreseen_failure(prompt: str) -> Failure | None:
    """The failure a prompt asks for with one of the markers."""
    if "[moderated]" in prompt:
        return Failure(
            code="content_policy_violation",
            message="The request was rejected by the content policy (moderation): prompt flagged as unsafe",
        )
    if "[fail]" in prompt:
        return Failure(code="generation_failed", message="Image generation failed, please try again")
    return None


def iso(at: float) -> str:
    """A clock reading as the service writes times."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
