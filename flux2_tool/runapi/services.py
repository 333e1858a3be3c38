"""Which of RunAPI's services has a model, which of its routes are tried, and the names that responses spell otherwise.

Pure functions over the table in `contract.py`.
"""

from __future__ import annotations

from typing import Literal

from flux2_tool.runapi import contract


def service_of(model: str) -> contract.Service:
    """Return the service that has a model; an unlisted model is the first service's."""
    return next((service for service in contract.SERVICES if model in service.models), contract.SERVICES[0])


def routes_of(
    service: contract.Service, *, setting: Literal["auto", "guide", "service"], remembered: str | None
) -> tuple[contract.Route, ...]:
    """Return the routes of a create, in the order they are tried.

    Args:
        setting: The operator's choice between the routes; a service with one route has no other to choose.
        remembered: The route that worked last.
    """
    routes: list[contract.Route] = [route for route in contract.ROUTES if route in service.create_paths]
    if setting in routes:
        return tuple(route for route in routes if route == setting)
    return tuple(sorted(routes, key=lambda route: route != remembered))


def current_model(name: str) -> str:
    """Return a model's present name for one that a response may spell in an older way."""
    for old, new in contract.OLD_MODEL_ENDINGS.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def current_action(name: str) -> str:
    """Return an action's present name for one that a response may spell in an older way."""
    return contract.OLD_ACTIONS.get(name, name)
