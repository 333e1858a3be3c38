"""The sandbox's responses, in every shape the service is known to use."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from flux2_tool.sandbox.options import SandboxOptions
from flux2_tool.sandbox.tasks import Route, State, Task, iso

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    402: "insufficient_credits",
    404: "not_found",
    405: "method_not_allowed",
    409: "idempotency_conflict",
    410: "gone",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "validation_failed",
    429: "rate_limited",
    455: "maintenance",
    501: "not_implemented",
}

_PHRASES = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(json_bytes(content), status, headers, media_type="application/json")


def json_bytes(content: Any) -> bytes:
    """A body of JSON."""
    return _encode(content).encode(errors="surrogatepass")


def error_response(
    options: SandboxOptions,
    status: int,
    message: str,
    *,
    errors: Mapping[str, list[str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error in the shape the options ask for; `errors` (by field) rides along in any JSON shape."""
    shape = options.error_shape
    if shape == "html":
        return html_page(status, message, headers)
    content: dict[str, Any]
    if shape == "text":
        content = {"error": message}
    elif shape == "object":
        content = {"error": {"code": _CODES.get(status, "server_error"), "message": message}}
    else:
        content = {shape: message}
    if errors:
        content["errors"] = errors
    return json_response(content, status, headers)


def html_page(status: int, message: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """An error page as a proxy in front of the service would write it."""
    title = f"{status} {_PHRASES.get(status, 'Error')}"
    page = (
        f"<!DOCTYPE html>\n<html><head><title>{title}</title></head>\n"
        f"<body><center><h1>{title}</h1></center><p>{html.escape(message)}</p></body></html>\n"
    )
    return Response(page, status, headers, media_type="text/html; charset=utf-8")


def storage_error(status: int, code: str, message: str) -> Response:
    """An error of the object store, in its XML."""
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{html.escape(message)}</Message></Error>"
    )
    return Response(text, status, media_type="application/xml")


def created_response(
    options: SandboxOptions, task: Task, route: Route, now: float, *, link: str, replayed: bool
) -> Response:
    """The response to a create POST, also to one that was repeated: the task in its present state, by route."""
    content: dict[str, Any]
    headers = {"x-runapi-task-id": task.id} if options.task_id_header or options.body_shape == "header" else {}
    if route == "guide":
        content = {"task_id": task.id, "status": task.state(now), "model": task.model}
    else:
        content = {"id": task.id}
        if options.status_in_create:
            content["status"] = task.state(now)
        if options.billing:
            content["billing"] = _billing(task)
    if replayed:
        content["task_replayed"] = True
    if link and options.status_link == "status_url":
        content["status_url"] = link
    elif link and options.status_link == "urls_get":
        content["urls"] = {"get": link}
    elif link:
        headers["location"] = link
    if options.body_shape == "header":
        content = {name: value for name, value in content.items() if name not in ("id", "task_id")}
    if options.body_shape == "data":
        content = {"data": content}
    return json_response(content, headers=headers)


def task_content(
    options: SandboxOptions, task: Task, state: State | str, *, guide: bool, image_url: str | None
) -> dict[str, Any]:
    """The content of a poll's response, before any wrapping."""
    content: dict[str, Any] = {"task_id": task.id} if guide else {"id": task.id}
    content["status"] = state
    if guide:
        content["model"] = task.model
    if state == "completed":
        if image_url is not None:
            content[options.result_field] = _images(options.result_field, image_url)
        content.update(_cost(options, task, with_facts=options.billing and not guide))
    elif state == "failed" and task.failure is not None:
        if options.billing and not guide:
            content["billing"] = _billing(task, refunded=options.refunds, settled=not options.refunds)
        failure = task.failure
        content["error"] = (
            {"code": failure.code, "message": failure.message} if options.error_shape == "object" else failure.message
        )
    return {"data": content} if options.body_shape == "data" else content


def callback_content(options: SandboxOptions, task: Task, *, image_url: str | None) -> dict[str, Any]:
    """The body of a callback: a poll's response without `billing`, which no source promises there."""
    ended: State = "failed" if task.failure else "completed"
    return task_content(replace(options, billing=False), task, ended, guide=False, image_url=image_url)


def envelope(options: SandboxOptions, content: Mapping[str, Any], task: Task, state: State | str) -> dict[str, Any]:
    """A stored response as the task's `Location` returns it; `response` is there once the task is finished."""
    wrapped: dict[str, Any] = {"id": task.id, "status": state}
    if state in ("completed", "failed"):
        wrapped["response"] = {
            "status": 200 if state == "completed" else 422,
            "content_type": "application/json",
            "headers": {},
            "body": _encode(content) if options.envelope_text else content,
        }
    return wrapped


def _images(result_field: str, url: str) -> Any:
    if result_field in ("image_url", "url", "output"):
        return url
    if result_field in ("image_urls", "result"):
        return [url]
    return [{"url": url}]


def _billing(task: Task, *, settled: bool = False, refunded: bool = False) -> dict[str, Any]:
    """What is known of a task's money. A hundred million micro cents are a dollar."""
    cents = task.price_cents
    return {
        "reservation": {"amount_cents": cents},
        "settlement": {"charged_amount_cents": cents, "amount_micro_cents": cents * 1_000_000} if settled else None,
        "refund": {"refunded_at": iso(task.finish_at)} if refunded else None,
    }


def _cost(options: SandboxOptions, task: Task, *, with_facts: bool) -> dict[str, Any]:
    if options.cost_field == "usage":
        usage = {"usage": {"cost": task.price_cents / 100, "generated_images": 1}}
        return {**usage, "billing": _billing(task, settled=True)} if with_facts else usage
    if options.cost_field == "settlement":
        return {"billing": {"settlement": {"charged_amount_cents": task.price_cents}}}
    return {"cost_cents": task.price_cents} if options.cost_field == "cost_cents" else {}
