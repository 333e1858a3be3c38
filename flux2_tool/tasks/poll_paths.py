"""The possible paths of a task's status, the likeliest first. Pure; `runapi/contract.py` has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from flux2_tool.runapi import contract


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPath:
    """A possible path of a task's status.

    Attributes:
        template: As in `runapi/contract.py`; None for a status URL from the service.
        service: The one that has the template, or one of those that do.
        action: The action in the path, if it has one.
        reference: The path to request, or a URL of the same origin.
    """

    template: str | None
    service: contract.ServiceName
    action: contract.Action | None
    reference: str


def poll_paths(
    task_id: str | None,
    *,
    services: Sequence[contract.Service],
    actions: Sequence[contract.Action],
    routes: Sequence[contract.Route],
    status_url: str | None = None,
    remembered: str | None = None,
) -> tuple[PollPath, ...]:
    """Return the possible paths of a task's status, the likeliest first.

    Args:
        task_id: The task's id; None leaves only the status URL.
        services: The service that made it, or all when unknown.
        actions: The action that made it, or both when unknown.
        routes: The routes, the one that accepted it first.
        status_url: A same-origin status URL from the create response.
        remembered: The template that worked for this base URL before.
    """
    name = services[0].name
    found = [] if status_url is None else [PollPath(template=None, service=name, action=None, reference=status_url)]
    if task_id is None:
        return tuple(found)
    segment = quote(task_id, safe="")
    templates: list[tuple[str, contract.ServiceName, contract.Action | None]] = [
        (service.create_paths[route] + "/{id}", service.name, action)
        for service in services
        for route in routes
        for action in actions
        if route in service.create_paths and action in service.actions
    ]
    shared = {template: service.name for service in reversed(services) for template in service.task_paths}
    listed = dict.fromkeys(template for service in services for template in service.task_paths)
    templates += [(template, shared[template], None) for template in listed]
    if remembered is not None:
        templates.sort(key=lambda item: item[0] != remembered)
    for template, name, action in templates:
        reference = template.replace("{action}", action or "").replace("{id}", segment)
        found.append(PollPath(template=template, service=name, action=action, reference=reference))
    return tuple(found)
