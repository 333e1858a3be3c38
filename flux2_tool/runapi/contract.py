"""RunAPI's paths, statuses, field names and headers: the one table a correction touches.

Gathered from the vendor's OpenClaw guide for Flux 2 (route `guide`) and its SDK and MCP contract (route `service`);
none of it is tested against the live service, so it is read leniently. Data only: no functions.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal

Route = Literal["guide", "service"]
Action = Literal["text_to_image", "remix_image"]
ServiceName = Literal["flux-2", "flux_2"]

ACTIONS: Final[tuple[Action, ...]] = ("text_to_image", "remix_image")
ROUTES: Final[tuple[Route, ...]] = ("guide", "service")

# ---- paths ---------------------------------------------------------------------------------------------------------
CREATE_PATHS: Final = MappingProxyType(
    {
        "guide": "/v1/{action}",
        "service": "/api/v1/flux_2/{action}",
    }
)
# Status paths of a task, tried after the create paths plus "/{id}".
TASK_PATHS: Final = ("/v1/tasks/{id}", "/api/v1/tasks/{id}", "/api/v1/flux_2/{id}")

# Part of every API path; a Location that contains it ends in the task id.
API_PATH_PART: Final = "/v1/"

PRICE_QUOTES_PATH: Final = "/api/v1/price_quotes"
PRICE_SCHEDULES_PATH: Final = "/api/v1/price_schedules"
BALANCE_PATH: Final = "/api/v1/me/balance"

FILES_PREPARE_PATH: Final = "/api/v1/files/prepare"
FILES_CONFIRM_PATH: Final = "/api/v1/files/confirm"

# ---- statuses, compared in lower case -------------------------------------------------------------------------------
ACTIVE_STATUSES: Final = frozenset({"pending", "processing", "queued", "running"})
COMPLETED_STATUSES: Final = frozenset({"completed", "complete", "succeeded", "success", "finished"})
FAILED_STATUSES: Final = frozenset({"failed", "error", "canceled", "cancelled", "timeout"})

# ---- fields, as dotted paths, first present wins --------------------------------------------------------------------
TASK_ID_FIELDS: Final = ("id", "task_id", "data.id", "data.task_id")
STATUS_FIELDS: Final = ("status", "state", "data.status", "data.state")
# The task's own status, when the outer one is about the request.
INNER_STATUS_FIELDS: Final = ("data.status", "data.state")
STATUS_URL_FIELDS: Final = ("status_url", "urls.get", "data.status_url", "data.urls.get")
MODEL_FIELDS: Final = ("model", "data.model")
IMAGE_FIELDS: Final = ("images", "image_urls", "image_url", "url", "output", "outputs", "result", "data")
# A task with one of these is finished even if the response names no status.
UNAMBIGUOUS_IMAGE_FIELDS: Final = ("images", "image_urls", "image_url", "output", "outputs")
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
# Prices: spellings of the service's name, statuses of a valid price, and units that mean one image.
SERVICE_NAMES: Final[tuple[ServiceName, ...]] = ("flux-2", "flux_2")
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
# In response to the create POST: this route does not exist, nothing was created.
ROUTE_MISSING_CODES: Final = frozenset({404, 405, 410, 501})
KEY_REFUSED_CODES: Final = frozenset({401, 403})
CREDITS_CODE: Final = 402
# The idempotency key is in use already.
CONFLICT_CODE: Final = 409
RATE_LIMIT_CODE: Final = 429
# The request's content is refused; 451 is always moderation.
REFUSED_CODES: Final = frozenset({400, 413, 415, 422})
MODERATION_CODE: Final = 451
# Transient errors, like every other 5xx: try the same request again.
RETRYABLE_CODES: Final = frozenset({408, 425, 429, 455, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 529})

# ---- lifetimes and bounds -------------------------------------------------------------------------------------------
IMAGE_URL_LIFE_S: Final = 7 * 24 * 3600
UPLOAD_URL_LIFE_S: Final = 3600
# A source's URL must stay valid for this long, because RunAPI fetches it later.
SOURCE_SPARE_LIFE_S: Final = 10 * 60
MAX_TASK_ID_CHARS: Final = 256
