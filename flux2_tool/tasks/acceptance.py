"""Parse RunAPI's response to a create POST: whether it accepted the task, and the task id.

An unrecognised acceptance means an image that is lost or paid twice, so every documented format is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from flux2_tool._net import is_loopback_url
from flux2_tool.runapi import contract
from flux2_tool.runapi.client import HttpResponse, RunapiClient
from flux2_tool.runapi.responses import (
    TaskResponse,
    UnreadableResponseError,
    decode_json,
    is_task_id,
    read_task,
    read_task_id,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedTask:
    """A task that RunAPI accepted. `task_id` is None only when the response had the finished images but no id.

    Attributes:
        names_another_request: Whether the response repeats another request's id than ours.
    """

    task_id: str | None
    route: contract.Route
    response: TaskResponse
    raw: Any
    request_id: str | None
    retry_after_s: float | None
    names_another_request: bool = False


def read_accepted(
    response: HttpResponse,
    *,
    client: RunapiClient,
    route: contract.Route,
    sent: Mapping[str, str],
    retry_after_s: float | None,
) -> AcceptedTask | None:
    """Return the task that a successful response accepts, or None when it contains neither a task id nor images.

    An id beside an error, with no status, is none of a task.

    Args:
        client: Its base URL decides which links belong to RunAPI.
        route: The route of the POST.
        sent: The POST's own headers, which a response may repeat.
        retry_after_s: The response's Retry-After, in seconds.
    """
    try:
        body = decode_json(response.body, response.content_type)
    except UnreadableResponseError:
        body = None
    task = read_task(body, https_only=not is_loopback_url(client.base_url))
    location = response.headers.get("location")
    link = client.same_origin_url(location) if location else None
    own_link = client.same_origin_url(task.status_url) if task.status_url else None
    status_url = link or task.status_url
    task_id = task.task_id or read_task_id({}, response.headers.get(contract.TASK_ID_HEADER))
    task_id = task_id or _task_id_in(link) or _task_id_in(own_link)
    if task_id is None and not (task.phase == "completed" and task.images):
        return None
    if task.phase == "absent" and isinstance(body, Mapping) and body.get("error"):
        return None
    return AcceptedTask(
        task_id=task_id,
        route=route,
        response=replace(task, status_url=status_url, task_id=task_id),
        raw=body,
        request_id=response.request_id,
        retry_after_s=retry_after_s,
        names_another_request=any(response.headers.get(name, value) != value for name, value in sent.items()),
    )


def _task_id_in(link: str | None) -> str | None:
    """Return the task's id from a link to it; None for any other page, such as a sign-in page or a create path."""
    _, _, rest = ("" if link is None else urlsplit(link).path).partition(contract.API_PATH_PART)
    *collections, segment = rest.rstrip("/").split("/")
    if not collections or not is_task_id(segment) or segment in contract.ACTIONS:
        return None
    words = (*contract.ACTIONS, *contract.TASK_COLLECTION_WORDS)
    is_of_tasks = any(word in collections[-1] for word in words)
    return segment if is_of_tasks or any(character.isdigit() for character in segment) else None
