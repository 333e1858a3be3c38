"""RunAPI's services, paths, statuses, field names and headers: the one table a correction touches.

Gathered from the vendor's OpenClaw guide for Flux 2 (route `guide`) and its SDKs and MCP contract (route `service`);
none of it is tested against the live service, so it is read leniently. Data only: no functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Route = Literal["guide", "service"]
Action = Literal["text_to_image", "remix_image"]
ServiceName = Literal["flux_2", "flux"]
PricedName = Literal["flux-2", "flux_2", "flux"]

ACTIONS: Final[tuple[Action, ...]] = ("text_to_image", "remix_image")
ROUTES: Final[tuple[Route, ...]] = ("guide", "service")


# ---- services and their paths --------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One of RunAPI's services: some of the models, under paths of their own.

    Attributes:
        models: Those it has; of the first service, every model that no other one names.
        actions: What its models do.
        create_paths: By route, of the routes that it has.
        task_paths: Status paths of a task, tried after the create paths plus "/{id}".
        priced_as: Spellings of its name in questions for prices.
    """

    name: ServiceName
    models: frozenset[str] = frozenset()
    actions: tuple[Action, ...] = ACTIONS
    create_paths: Mapping[Route, str]
    task_paths: tuple[str, ...]
    priced_as: tuple[PricedName, ...]


FLUX_2: Final = Service(
    name="flux_2",
    create_paths=MappingProxyType({"guide": "/v1/{action}", "service": "/api/v1/flux_2/{action}"}),
    task_paths=("/v1/tasks/{id}", "/api/v1/tasks/{id}", "/api/v1/flux_2/{id}"),
    priced_as=("flux-2", "flux_2"),
)
FLUX: Final = Service(
    name="flux",
    models=frozenset({"flux-2-klein"}),
    actions=("text_to_image",),
    create_paths=MappingProxyType({"service": "/api/v1/flux/{action}"}),
    task_paths=("/v1/tasks/{id}", "/api/v1/tasks/{id}", "/api/v1/flux/{id}"),
    priced_as=("flux",),
)
SERVICES: Final = (FLUX_2, FLUX)

# Older spellings that responses may have: endings of a model's name, and actions.
OLD_MODEL_ENDINGS: Final = MappingProxyType({"-image-to-image": "-remix-image"})
OLD_ACTIONS: Final = MappingProxyType({"image_to_image": "remix_image"})

# A Location names a task if it contains this, a collection and an id: "/api/v1/task_results/tsk_1". The collection is
# an action or has one of the words in its name; in any other one, such as "users", an id has a digit.
API_PATH_PART: Final = "/v1/"
TASK_COLLECTION_WORDS: Final = ("task", "result", "flux")

PRICE_QUOTES_PATH: Final = "/api/v1/price_quotes"
PRICE_SCHEDULES_PATH: Final = "/api/v1/price_schedules"
BALANCE_PATH: Final = "/api/v1/me/balance"

FILES_PREPARE_PATH: Final = "/api/v1/files/prepare"
FILES_CONFIRM_PATH: Final = "/api/v1/files/confirm"

# ---- statuses, compared in lower case, "_" and "-" as spaces ---------------------------------------------------------
ACTIVE_STATUSES: Final = frozenset({"pending", "processing", "queued", "running"})
COMPLETED_STATUSES: Final = frozenset({"completed", "complete", "succeeded", "success", "finished"})
FAILED_STATUSES: Final = frozenset({"failed", "error", "canceled", "cancelled", "timeout"})
# The model maker's own spellings: moderation ended the task, and there is no such task.
MODERATED_STATUSES: Final = frozenset({"request moderated", "content moderated"})
NO_SUCH_TASK_STATUSES: Final = frozenset({"task not found"})

# ---- fields, as dotted paths, first present wins --------------------------------------------------------------------
TASK_ID_FIELDS: Final = ("id", "task_id", "data.id", "data.task_id")
# Of these, the one that may be an image's in a poll response.
INNER_ID_FIELD: Final = "data.id"
STATUS_FIELDS: Final = ("status", "state", "data.status", "data.state")
# The task's own status, when the outer one is about the request.
INNER_STATUS_FIELDS: Final = ("data.status", "data.state")
STATUS_URL_FIELDS: Final = ("status_url", "urls.get", "data.status_url", "data.urls.get")
MODEL_FIELDS: Final = ("model", "data.model")
IMAGE_FIELDS: Final = ("images", "image_urls", "image_url", "url", "output", "outputs", "result", "data")
# The create response repeats the one of an earlier POST under the same idempotency key.
REPLAYED_FIELDS: Final = ("task_replayed", "data.task_replayed")
# A task with one of these is finished even if the response names no status.
UNAMBIGUOUS_IMAGE_FIELDS: Final = ("images", "image_urls", "image_url", "output", "outputs")
# The SDK's: in no other one is a picture certainly the task's, and not a source of it.
RESULT_IMAGE_FIELDS: Final = ("images",)
# In an image that is an object.
IMAGE_URL_FIELD: Final = "url"
IMAGE_EXPIRY_FIELD: Final = "expires_at"
ERROR_FIELDS: Final = ("error", "message", "detail", "errorMessage", "msg", "data.error", "data.message")
COST_USD_FIELDS: Final = ("usage.cost", "data.usage.cost")
COST_CENTS_FIELDS: Final = (
    "billing.settlement.charged_amount_cents",
    "data.billing.settlement.charged_amount_cents",
    "cost_cents",
    "data.cost_cents",
)
# A hundred million of these are a US dollar.
COST_MICRO_CENTS_FIELDS: Final = (
    "billing.settlement.amount_micro_cents",
    "data.billing.settlement.amount_micro_cents",
)
# When a failed task's charge was refunded; null if it was not.
REFUND_FIELDS: Final = ("billing.refund.refunded_at", "data.billing.refund.refunded_at")
# Prices: statuses of a valid price, and units that mean one image.
PRICED_STATUSES: Final = frozenset({"available", "priced", "active"})
IMAGE_UNITS: Final = frozenset(
    {"image", "per_image", "call", "per_call", "request", "per_request", "generation", "per_generation"}
)
# Words in a failure's code or text that mean moderation, not a fault; as whole words, since a field may be called
# enable_safety_checker.
REFUSAL_WORDS: Final = (
    "moderation",
    "moderated",
    "content policy",
    "content_policy",
    "content_policy_violation",
    "content_moderation",
    "safety",
    "safety_violation",
    "unsafe",
    "nsfw",
    "flagged",
    "sensitive",
)

# ---- headers --------------------------------------------------------------------------------------------------------
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
CLIENT_REQUEST_HEADER: Final = "X-Client-Request-Id"
REQUEST_ID_HEADER: Final = "x-request-id"
TASK_ID_HEADER: Final = "X-RunAPI-Task-Id"
# Of a webhook: event id, signing time in Unix seconds, and base64 of the HMAC-SHA256 over "{id}.{timestamp}." and the
# raw body, keyed with the account's base64-decoded secret.
WEBHOOK_HEADERS: Final = ("X-Callback-Id", "X-Callback-Timestamp", "X-Callback-Signature")

# ---- HTTP status codes ----------------------------------------------------------------------------------------------
# In response to the create POST, the codes that prove that it created nothing, whatever the body. Every other code but
# 2xx, and these after a redirect, may have created a task.
NOT_CREATED_CODES: Final = frozenset({400, 401, 402, 403, 413, 415, 422, 429})
# The same, because this route does not exist; the other may.
ROUTE_MISSING_CODES: Final = frozenset({404, 405, 410, 501})
# The task was created; the Location links to it.
SEE_TASK_CODES: Final = frozenset({301, 302, 303})
FORBIDDEN_CODE: Final = 403
KEY_REFUSED_CODES: Final = frozenset({401, FORBIDDEN_CODE})
CREDITS_CODE: Final = 402
# The idempotency key is in use already: by a request with other input, or by one still in progress.
CONFLICT_CODE: Final = 409
RATE_LIMIT_CODE: Final = 429
# The request's content is refused; 451 is always moderation.
REFUSED_CODES: Final = frozenset({400, 413, 415, 422})
MODERATION_CODE: Final = 451
# Transient errors, like every other 5xx: try the same request again.
RETRYABLE_CODES: Final = frozenset({408, 425, 429, 455, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 529})

# In a 409, as parts of its text, compared like statuses: the key belongs to other input, so no repeat is ever answered
# otherwise; unless one of the second group says that the first request is still at work.
INPUT_DIFFERS_TEXTS: Final = (
    "differ",
    "mismatch",
    "t match",
    "not the same",
    "same param",
    "same request body",
    "another request body",
    "another payload",
    "other input",
    "other param",
    "other arg",
    "key reuse",
    "payload changed",
    "input changed",
)
IN_PROGRESS_TEXTS: Final = (
    "in progress",
    "inprogress",
    "in flight",
    "outstanding",
    "concurrent",
    "still",
    "processing",
    "being processed",
    "pending",
    "locked",
    "try again",
    "retry",
)

# ---- lifetimes and bounds -------------------------------------------------------------------------------------------
IMAGE_URL_LIFE_S: Final = 7 * 24 * 3600
UPLOAD_URL_LIFE_S: Final = 3600
# A source's URL must stay valid for this long, because RunAPI fetches it later.
SOURCE_SPARE_LIFE_S: Final = 10 * 60
MAX_TASK_ID_CHARS: Final = 256
