"""Creating and polling tasks: both routes, each poll address, and the envelope at a task's Location."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from flux2_tool.sandbox.access import KEY_HEADERS, api_key, base_url
from flux2_tool.sandbox.callbacks import follow
from flux2_tool.sandbox.catalog import Action, Service, problems
from flux2_tool.sandbox.fault_middleware import ConnectionDropped, apply_after, apply_before, redirect_response
from flux2_tool.sandbox.faults import Fault
from flux2_tool.sandbox.ledger import CreateRecord, Leak, fingerprint
from flux2_tool.sandbox.options import PollPath, SandboxOptions
from flux2_tool.sandbox.responses import created_response, envelope, error_response, json_response, task_content
from flux2_tool.sandbox.service import ConflictError, Sandbox, input_digest
from flux2_tool.sandbox.storage import IMAGES_PATH
from flux2_tool.sandbox.tasks import Route, Task

RESULTS_PATH = "/api/v1/task_results/"

MOST_BODY_BYTES = 1024 * 1024
MOST_KEY_CHARS = 512
_SECRET_HEADERS = (*KEY_HEADERS, "proxy-authorization")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What one create path makes: a route of a service, and its action."""

    service: Service
    route: Route
    action: Action

    def is_served(self, options: SandboxOptions) -> bool:
        """Whether the options have it switched on."""
        if self.service == "flux":
            return options.flux_service
        return options.guide_route if self.route == "guide" else options.service_route


async def create(sandbox: Sandbox, request: Request, endpoint: Endpoint) -> Response:
    """Handle a create POST and record it, whatever its outcome."""
    now = sandbox.clock()
    sandbox.settle(now)
    key = api_key(request)
    record = CreateRecord(
        at=now,
        route=endpoint.route,
        action=endpoint.action,
        path=request.url.path,
        headers=[(name, value) for name, value in request.headers.items() if name not in _SECRET_HEADERS],
        key_fingerprint=fingerprint(key) if key else None,
        idempotency_key=request.headers.get("idempotency-key"),
        body=await request.body(),
    )
    sandbox.ledger.creates.append(record)
    if key and key.encode() in record.body:
        sandbox.ledger.authorization_leaks.append(Leak(at=now, path=record.path, where="create body"))
    options = sandbox.options
    if not endpoint.is_served(options):
        record.outcome, record.status = "route_off", options.route_off_status
        return error_response(options, options.route_off_status, "Not found")
    fault = sandbox.faults.take("create")
    if fault is None:
        response = _accept(sandbox, request, record, endpoint, None)
    else:
        response = await _faulty_create(sandbox, request, record, endpoint, fault)
    record.status = response.status_code
    return response


async def _faulty_create(
    sandbox: Sandbox, request: Request, record: CreateRecord, endpoint: Endpoint, fault: Fault
) -> Response:
    record.fault = fault.kind
    try:
        instead = await apply_before(sandbox, fault)
    except ConnectionDropped:
        record.outcome = "dropped_before"
        raise
    if instead is not None:
        record.outcome = "redirected" if fault.kind == "redirect" else "fault"
        return instead
    response = _accept(sandbox, request, record, endpoint, fault)
    if fault.kind == "redirect" and record.task_id is not None:
        return redirect_response(fault, f"{RESULTS_PATH}{record.task_id}")
    return await apply_after(sandbox, fault, response)


def _accept(
    sandbox: Sandbox, request: Request, record: CreateRecord, endpoint: Endpoint, fault: Fault | None
) -> Response:
    """Handle a create that reached the service."""
    options, now, action = sandbox.options, sandbox.clock(), endpoint.action
    key = sandbox.authorized_key(api_key(request))
    if key is None:
        record.outcome = "unauthorized"
        return error_response(options, 401, "Invalid or missing API key")
    refusal = _refuse_form(sandbox, request, record)
    if refusal is not None:
        record.outcome = "invalid"
        return refusal
    try:
        body: Any = json.loads(record.body)
    except ValueError:
        record.outcome = "invalid"
        return error_response(options, 400, "The request body is not valid JSON")
    errors = problems(endpoint.service, action, body) if isinstance(body, dict) else {"base": ["must be a JSON object"]}
    if errors:
        record.outcome = "invalid"
        return error_response(options, 422, "Validation failed", errors=errors)
    key_fingerprint, digest = fingerprint(key), input_digest(action, body)
    task = None
    if record.idempotency_key is not None:
        try:
            task = sandbox.remembered(key_fingerprint, record.idempotency_key, digest, now)
        except ConflictError:
            record.outcome = "conflict"
            return error_response(options, 409, "Idempotency-Key was already used with a different request")
    made = task is None
    record.outcome = "created" if made else "replayed"
    if task is None:
        task = sandbox.make_task(
            service=endpoint.service,
            route=endpoint.route,
            action=action,
            arguments=body,
            key_fingerprint=key_fingerprint,
            idempotency_key=record.idempotency_key,
            digest=digest,
            now=now,
            fault=fault,
        )
    if task is None:
        record.outcome = "no_credits"
        return error_response(options, 402, "Insufficient credits")
    record.task_id = task.id
    if not made and now < task.busy_until:
        record.outcome = "in_progress"
        return error_response(options, 409, "A request with this Idempotency-Key is still in progress")
    if made and "callback_url" in body:
        follow(sandbox, task, body["callback_url"], partial(image_url, sandbox, base_url(request), task))
    if fault is not None and fault.kind == "stray":
        task = sandbox.another_task(task)
    return created_response(
        options, task, endpoint.route, now, link=_status_link(sandbox, request, task, fault), replayed=not made
    )


def _refuse_form(sandbox: Sandbox, request: Request, record: CreateRecord) -> Response | None:
    options = sandbox.options
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return error_response(options, 415, "Content-Type must be application/json")
    if len(record.body) > MOST_BODY_BYTES:
        return error_response(options, 413, f"The request body is larger than {MOST_BODY_BYTES} bytes")
    idempotency_key = record.idempotency_key
    if idempotency_key is not None and not 1 <= len(idempotency_key) <= MOST_KEY_CHARS:
        return error_response(options, 400, f"Idempotency-Key must have 1 to {MOST_KEY_CHARS} characters")
    return None


def _status_link(sandbox: Sandbox, request: Request, task: Task, fault: Fault | None) -> str:
    options = sandbox.options
    if fault is not None and fault.kind == "envelope":
        return f"{RESULTS_PATH}{task.id}?envelope=1"
    if options.status_link == "none":
        return ""
    origin = options.status_link_origin
    if not origin and options.status_link != "location":
        origin = base_url(request)
    return f"{origin}{RESULTS_PATH}{task.id}" + ("?envelope=1" if options.status_link_envelope else "")


async def poll(
    sandbox: Sandbox,
    request: Request,
    fault: Fault | None,
    path: PollPath | None,
    service: Service | None,
    action: Action | None,
) -> Response:
    """Return a task's state at one of the poll addresses; `path` None is the address in a create's response."""
    options, now, ledger = sandbox.options, sandbox.clock(), sandbox.ledger
    ledger.polls += 1
    key = sandbox.authorized_key(api_key(request))
    if key is None:
        return error_response(options, 401, "Invalid or missing API key")
    task = ledger.tasks.get(request.path_params["id"])
    if (
        (path is not None and path not in options.poll_paths)
        or task is None
        or task.key_fingerprint != fingerprint(key)
        or (service is not None and task.service != service)
        or (action is not None and task.action != action)
        or now < task.created_at + options.visible_after_s
    ):
        ledger.polls_not_found += 1
        return error_response(options, 404, "Not found")
    if fault is not None and fault.kind == "stray":
        task = sandbox.another_task(task)
    else:
        task.polls += 1
    if fault is not None and fault.kind == "failed":
        sandbox.fail_task(task, now, fault.value)
    state = task.state(now)
    finished = state in ("completed", "failed")
    status = (fault.value or "verifying") if fault is not None and fault.kind == "unknown_status" else state
    with_image = status == "completed" and not _withheld(task, fault)
    if finished and task.first_seen_finished_at is None and (with_image or status == "failed"):
        task.first_seen_finished_at = now
    content = task_content(
        options,
        task,
        status,
        guide=path in ("guide", "v1_tasks"),
        image_url=image_url(sandbox, base_url(request), task) if with_image else None,
    )
    if path == "api_tasks" or (path is None and "envelope" in request.query_params):
        content = envelope(options, content, task, status)
    return json_response(content)


def image_url(sandbox: Sandbox, base: str, task: Task) -> str:
    """The signed address of a finished task's picture; the same at every poll."""
    signed = sandbox.storage.presign(
        "GET", f"{IMAGES_PATH}{task.image_id}.png", at=task.finish_at, life_s=sandbox.options.image_life_s
    )
    return f"{(sandbox.options.image_url_base or base).rstrip('/')}{signed}"


def _withheld(task: Task, fault: Fault | None) -> bool:
    if fault is not None and fault.kind == "no_images":
        return True
    if task.missing_images > 0:
        task.missing_images -= 1
        return True
    return task.missing_images < 0
