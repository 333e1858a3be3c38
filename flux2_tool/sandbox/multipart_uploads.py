"""Uploads of a persistent file in parts, `/v1/uploads`: begin one, add parts, complete it in the order of the part ids.

Facts: paths and fields are those of the vendor's SDK (runapi-core 0.10); the hour that an upload lives is made up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from flux2_tool.sandbox.access import json_object
from flux2_tool.sandbox.persistent_files import described, form_of, keep_file, route_with_key
from flux2_tool.sandbox.responses import error_response, json_response
from flux2_tool.sandbox.service import Sandbox

UPLOADS_PATH = "/v1/uploads"
LIFE_S = 3600


@dataclass(slots=True, kw_only=True)
class _Upload:
    id: str
    size_bytes: int
    filename: str
    purpose: str
    created_at: float
    account: str
    status: str = "pending"
    parts: dict[str, bytes] = field(default_factory=dict)
    file: dict[str, Any] | None = None


class MultipartUploads:
    """The uploads of one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._uploads: dict[str, _Upload] = {}

    def routes(self) -> list[BaseRoute]:
        """The routes of uploads."""
        return [
            route_with_key(self._sandbox, "POST", UPLOADS_PATH, self._create),
            route_with_key(self._sandbox, "POST", f"{UPLOADS_PATH}/{{id}}/parts", self._add_part),
            route_with_key(self._sandbox, "POST", f"{UPLOADS_PATH}/{{id}}/complete", self._complete),
            route_with_key(self._sandbox, "POST", f"{UPLOADS_PATH}/{{id}}/cancel", self._cancel),
        ]

    async def _create(self, sandbox: Sandbox, request: Request, account: str) -> Response:
        body = await json_object(request) or {}
        missing = [name for name in ("bytes", "filename", "mime_type", "purpose") if not body.get(name)]
        if missing or not isinstance(body["bytes"], int):
            errors = {name: ["is required"] for name in missing or ["bytes"]}
            return error_response(sandbox.options, 422, "Validation failed", errors=errors)
        upload = _Upload(
            id=sandbox.new_id("upload_"),
            size_bytes=body["bytes"],
            filename=str(body["filename"]),
            purpose=str(body["purpose"]),
            created_at=sandbox.clock(),
            account=account,
        )
        self._uploads[upload.id] = upload
        return json_response(_described(upload))

    async def _add_part(self, sandbox: Sandbox, request: Request, account: str) -> Response:
        upload = self._pending(request, account)
        fields = form_of(request.headers.get("content-type", ""), await request.body())
        if upload is None:
            return error_response(sandbox.options, 404, "Not found")
        if "data" not in fields:
            return error_response(sandbox.options, 422, "Validation failed", errors={"data": ["is required"]})
        part_id = sandbox.new_id("part_")
        upload.parts[part_id] = fields["data"][1]
        created_at = int(sandbox.clock())
        return json_response({"id": part_id, "object": "upload.part", "created_at": created_at, "upload_id": upload.id})

    async def _complete(self, sandbox: Sandbox, request: Request, account: str) -> Response:
        upload = self._pending(request, account)
        if upload is None:
            return error_response(sandbox.options, 404, "Not found")
        part_ids = (await json_object(request) or {}).get("part_ids")
        if not isinstance(part_ids, list) or not all(part_id in upload.parts for part_id in part_ids):
            return error_response(sandbox.options, 422, "Validation failed", errors={"part_ids": ["are not known"]})
        content = b"".join(upload.parts[part_id] for part_id in part_ids)
        if len(content) != upload.size_bytes:
            complaint = [f"are {len(content)} bytes, not the announced {upload.size_bytes}"]
            return error_response(sandbox.options, 422, "Validation failed", errors={"part_ids": complaint})
        file = keep_file(sandbox, upload.filename, upload.purpose, content, account=account)
        upload.status, upload.file = "completed", described(file)
        return json_response(_described(upload))

    async def _cancel(self, sandbox: Sandbox, request: Request, account: str) -> Response:
        upload = self._pending(request, account)
        if upload is None:
            return error_response(sandbox.options, 404, "Not found")
        upload.status = "cancelled"
        upload.parts.clear()
        return json_response(_described(upload))

    def _pending(self, request: Request, account: str) -> _Upload | None:
        upload = self._uploads.get(request.path_params["id"])
        if upload is None or upload.account != account or upload.status != "pending":
            return None
        return upload if self._sandbox.clock() < upload.created_at + LIFE_S else None


def _described(upload: _Upload) -> dict[str, Any]:
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.size_bytes,
        "created_at": int(upload.created_at),
        "expires_at": int(upload.created_at) + LIFE_S,
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.status,
        "file": upload.file,
    }
