"""The content of a create POST, fixed before the first attempt, and as a record keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flux2_tool.journal import Record
from flux2_tool.runapi import contract
from flux2_tool.runapi.services import service_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """The content of a create POST.

    Attributes:
        service: The RunAPI service that has the model.
        action: The RunAPI action.
        body: The exact bytes of every attempt.
        idempotency_key: Opaque, one per image.
        client_request_id: Echoed and stored by the service, for support.
        routes: The routes that may be tried, in order.
        maybe_sent: Whether an earlier process may already have sent this request.
    """

    service: contract.Service
    action: contract.Action
    body: bytes
    idempotency_key: str
    client_request_id: str
    routes: Sequence[contract.Route]
    maybe_sent: bool = False

    @classmethod
    def of_record(cls, record: Record) -> CreateRequest:
        """Return the request of a record that another process or an earlier call began."""
        return cls(
            service=service_of(record.model),
            action=record.tool,
            body=record.body,
            idempotency_key=record.idempotency_key,
            client_request_id=record.client_request_id,
            routes=(record.route,),
            maybe_sent=True,
        )

    def create_path(self, route: contract.Route) -> str:
        """Return the path of the POST on one of the routes."""
        return self.service.create_paths[route].format(action=self.action)
