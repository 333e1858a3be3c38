"""The options of a sandbox, set before it starts or (most of them) while it runs.

Plain fields with plain values, so that a command line, a test or `PATCH /_sandbox/options` fills them alike.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

PollPath = Literal["guide", "service", "service_plain", "v1_tasks", "api_tasks"]
ErrorShape = Literal["text", "object", "message", "detail", "errorMessage", "msg", "html"]
BodyShape = Literal["flat", "data", "header"]
ResultField = Literal["images", "image_urls", "image_url", "url", "output", "outputs", "result", "data"]
CostField = Literal["usage", "settlement", "cost_cents", "none"]
StatusLink = Literal["none", "location", "status_url", "urls_get"]
Forgery = Literal["none", "bad_signature", "stale_timestamp", "wrong_task", "unsigned"]

POLL_PATHS: frozenset[PollPath] = frozenset(get_args(PollPath))
ROUTE_OFF_STATUSES = (404, 405, 410, 501)

MARKERS_HELP = """\
Words in a prompt that steer its task: [fail] fails, [moderated] fails with a content-policy error,
[slow] takes slow_s (120 s) instead of its usual time. Nothing that fails is charged.
Keys: any bearer key that starts with "sk-" is good, unless api_keys names the only good ones.
Max's price (10 cents) is made up; no source at hand publishes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """Options of one sandbox. Times are seconds of the sandbox's clock, money is US cents.

    Args:
        guide_route: Serve `POST /v1/text_to_image` and `/v1/remix_image`.
        service_route: Serve `POST /api/v1/flux_2/text_to_image` and `.../remix_image`.
        flux_service: Serve `POST /api/v1/flux/text_to_image`, which has klein.
        route_off_status: The status of a create on a route that is switched off: 404, 405, 410 or 501.
        poll_paths: The poll addresses that work; the others give 404.
        visible_after_s: A poll sooner than this after the create gives 404.
        api_keys: The only good keys; empty means every key that starts with "sk-".
        error_shape: Which of the service's error bodies to use.
        task_id_header: Whether the response to a create names the task in the header X-RunAPI-Task-Id, too.
        body_shape: Task responses as they are, inside `data`, or (create only) with the id in a header alone.
        status_in_create: Whether the service route's create response has a `status`.
        result_field: The field that carries the finished images.
        cost_field: The field that carries what a finished task cost.
        billing: Whether the service's responses have `billing`: what is reserved, settled and refunded.
        refunds: Whether a task that fails costs nothing; False charges for it.
        status_link: Whether and where the create response links to a status URL.
        status_link_envelope: That URL returns an envelope `{"id", "status", "response": {...}}`.
        envelope_text: The body in an envelope, there and at /api/v1/tasks/{id}, is JSON text instead of an object.
        status_link_origin: Scheme and host of that URL; empty means the sandbox's own.
        speed: Divides every simulated duration; 50 makes a 6 s picture in 0.12 s.
        duration_s: An exact duration for every task, instead of a drawn one; `speed` does not change it.
        slow_s: How long a prompt with [slow] takes, before `speed`.
        idempotency_life_s: How long an `Idempotency-Key` is remembered; None means for ever.
        balance_cents: What each account (one per key) can spend at the start.
        image_url_base: Put in front of `/storage/...` instead of the sandbox's own address.
        image_life_s: How long an image URL is good.
        upload_life_s: How long the URL of an uploaded file is good.
        drawn_images: Draw real pictures; False serves plain ones of the right size, for benchmarks.
        callbacks: Send the end of a task to its `callback_url`; False loses what is due while it is off.
        callback_secret: Base64 of the key that signs callbacks; empty means one of the sandbox's own making.
        callback_delay_s: How long after its task's end a callback is first delivered; `speed` does not change it.
        callback_timeout_s: How long a receiver may take to respond, in real seconds, before the next delivery.
        callback_duplicates: How many more times an acknowledged event is delivered, under the same id.
        callback_early: Deliver the end as soon as the task is made, while polls still say that it runs.
        callback_forgery: Send this first, once, claiming that the task failed: bad_signature (signed with another
            secret), stale_timestamp (well signed, ten minutes old), wrong_task (well signed, an event and a task
            that do not exist) or unsigned (no signature header). All but wrong_task bear the true event's id.
        seed: Of every random choice; None takes a fresh one, which the ledger names.
    """

    guide_route: bool = True
    service_route: bool = True
    flux_service: bool = True
    route_off_status: int = 404
    poll_paths: frozenset[PollPath] = field(default=POLL_PATHS)
    visible_after_s: float = 0.0
    api_keys: frozenset[str] = field(default=frozenset(), repr=False)
    error_shape: ErrorShape = "text"
    task_id_header: bool = True
    body_shape: BodyShape = "flat"
    status_in_create: bool = True
    result_field: ResultField = "images"
    cost_field: CostField = "usage"
    billing: bool = True
    refunds: bool = True
    status_link: StatusLink = "none"
    status_link_envelope: bool = False
    envelope_text: bool = False
    status_link_origin: str = ""
    speed: float = 1.0
    duration_s: float | None = None
    slow_s: float = 120.0
    idempotency_life_s: float | None = None
    balance_cents: int = 10_000
    image_url_base: str = ""
    image_life_s: int = 7 * 24 * 3600
    upload_life_s: int = 3600
    drawn_images: bool = True
    callbacks: bool = True
    callback_secret: str = field(default="", repr=False)
    callback_delay_s: float = 0.0
    callback_timeout_s: float = 10.0
    callback_duplicates: int = 0
    callback_early: bool = False
    callback_forgery: Forgery = "none"
    seed: int | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{item.name} is {value}; it must be a finite number")
        if not self.speed > 0:
            raise ValueError(f"speed is {self.speed}; it must be above 0")
        if self.route_off_status not in ROUTE_OFF_STATUSES:
            raise ValueError(f"route_off_status is {self.route_off_status}; allowed: {ROUTE_OFF_STATUSES}")
        unknown = self.poll_paths - POLL_PATHS
        if unknown:
            raise ValueError(f"poll_paths has {sorted(unknown)}; allowed: {sorted(POLL_PATHS)}")
        if not (self.callback_delay_s >= 0 and self.callback_timeout_s > 0):
            raise ValueError("callback_delay_s must not be below 0, and callback_timeout_s must be above 0")
        if not isinstance(self.callback_duplicates, int) or self.callback_duplicates < 0:
            raise ValueError(f"callback_duplicates is {self.callback_duplicates}; it must be 0, 1, 2, ...")
        if self.callback_secret and not _is_base64(self.callback_secret):
            raise ValueError("callback_secret must be base64")
        for name, allowed in _WORDS.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")

    def changed(self, changes: Mapping[str, Any]) -> SandboxOptions:
        """Return a copy with some fields changed, as JSON carries them (lists for sets).

        Raises:
            ValueError: A name or a value is not allowed; the message says which and what is.
        """
        known = {item.name for item in fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ValueError(f"unknown option {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        values: dict[str, Any] = {name: _from_json(name, value) for name, value in changes.items()}
        return replace(self, **values)


def _from_json(name: str, value: Any) -> Any:
    if name in ("poll_paths", "api_keys"):
        if not isinstance(value, list | set | frozenset) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name} must be a list of strings")
        return frozenset(value)
    nullable = name in ("duration_s", "idempotency_life_s", "seed")
    default = getattr(_DEFAULTS, name)
    numeric = nullable or (isinstance(default, int | float) and not isinstance(default, bool))
    if nullable and value is None:
        return value
    if numeric and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{name} must be a number, not {value!r}")
    if not numeric and type(value) is not type(default):
        raise ValueError(f"{name} must be a {type(default).__name__}, not {value!r}")
    return value


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return False


_WORDS: dict[str, tuple[str, ...]] = {
    "error_shape": get_args(ErrorShape),
    "body_shape": get_args(BodyShape),
    "result_field": get_args(ResultField),
    "cost_field": get_args(CostField),
    "status_link": get_args(StatusLink),
    "callback_forgery": get_args(Forgery),
}

_DEFAULTS = SandboxOptions()
