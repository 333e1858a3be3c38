"""Persistent files, `/v1/files`: kept until they are deleted, listed by page, and fetched with the key.

Facts: paths, fields and the multipart form are those of the vendor's SDK (runapi-core 0.10); the forms of OpenAI's API
are followed where it does not say more. Limits are made up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.parser import BytesParser
from email.policy import HTTP
from functools import partial, wraps
from typing import Any, Concatenate

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from flux2_tool.sandbox.access import api_key
from flux2_tool.sandbox.fault_middleware import with_faults
from flux2_tool.sandbox.faults import Fault
from flux2_tool.sandbox.files import MOST_FILE_BYTES, mime_type_of
from flux2_tool.sandbox.ledger import fingerprint
from flux2_tool.sandbox.responses import error_response, json_response
from flux2_tool.sandbox.service import Sandbox
from flux2_tool.sandbox.storage import PersistentFile

FILES_PATH = "/v1/files"
_USUAL_LIMIT, _MOST_LIMIT = 20, 100

Answer = Callable[[Sandbox, Request, str], Awaitable[Response]]


def routes(sandbox: Sandbox) -> list[BaseRoute]:
    """The routes of persistent files."""
    return [
        route_with_key(sandbox, "POST", FILES_PATH, _create),
        route_with_key(sandbox, "GET", FILES_PATH, _list),
        route_with_key(sandbox, "GET", f"{FILES_PATH}/{{id}}", _retrieve),
        route_with_key(sandbox, "GET", f"{FILES_PATH}/{{id}}/content", _content),
        route_with_key(sandbox, "DELETE", f"{FILES_PATH}/{{id}}", _delete),
    ]


def route_with_key(sandbox: Sandbox, method: str, path: str, answer: Answer) -> Route:
    """A route of the files' kind, for which a good key is required."""
    return Route(path, with_faults(sandbox, "files", partial(_with_key(answer), sandbox)), methods=[method])


def _with_key(answer: Answer) -> Callable[Concatenate[Sandbox, Request, ...], Awaitable[Response]]:
    @wraps(answer)
    async def respond(sandbox: Sandbox, request: Request, fault: Fault | None) -> Response:
        key = sandbox.authorized_key(api_key(request))
        if key is None:
            return error_response(sandbox.options, 401, "Invalid or missing API key")
        return await answer(sandbox, request, fingerprint(key))

    return respond


async def _create(sandbox: Sandbox, request: Request, account: str) -> Response:
    fields = form_of(request.headers.get("content-type", ""), await request.body())
    errors = {name: ["is required"] for name in ("file", "purpose") if name not in fields}
    if errors:
        return error_response(sandbox.options, 422, "Validation failed", errors=errors)
    filename, content = fields["file"]
    if len(content) > MOST_FILE_BYTES:
        return error_response(sandbox.options, 413, f"The file is larger than {MOST_FILE_BYTES} bytes")
    purpose = fields["purpose"][1].decode(errors="replace")
    return json_response(described(keep_file(sandbox, filename or "upload", purpose, content, account=account)))


def keep_file(sandbox: Sandbox, filename: str, purpose: str, content: bytes, *, account: str) -> PersistentFile:
    """Store a new file of an account."""
    file = PersistentFile(
        id=sandbox.new_id("file-"),
        filename=filename,
        purpose=purpose,
        content=content,
        mime_type=mime_type_of(content),
        created_at=sandbox.clock(),
        key_fingerprint=account,
    )
    sandbox.storage.persistent[file.id] = file
    return file


async def _list(sandbox: Sandbox, request: Request, account: str) -> Response:
    query = request.query_params
    found = [file for file in sandbox.storage.persistent.values() if file.key_fingerprint == account]
    if query.get("order", "desc") == "desc":
        found.reverse()
    if "purpose" in query:
        found = [file for file in found if file.purpose == query["purpose"]]
    ids = [file.id for file in found]
    if query.get("after") in ids:
        found = found[ids.index(query["after"]) + 1 :]
    limit = query.get("limit", "")
    most = max(1, min(int(limit), _MOST_LIMIT)) if limit.isdecimal() else _USUAL_LIMIT
    page = found[:most]
    return json_response(
        {
            "object": "list",
            "data": [described(file) for file in page],
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
            "has_more": len(found) > most,
        }
    )


async def _retrieve(sandbox: Sandbox, request: Request, account: str) -> Response:
    file = _found(sandbox, request, account)
    return error_response(sandbox.options, 404, "Not found") if file is None else json_response(described(file))


async def _content(sandbox: Sandbox, request: Request, account: str) -> Response:
    file = _found(sandbox, request, account)
    if file is None:
        return error_response(sandbox.options, 404, "Not found")
    return Response(file.content, media_type=file.mime_type)


async def _delete(sandbox: Sandbox, request: Request, account: str) -> Response:
    file = _found(sandbox, request, account)
    if file is None:
        return error_response(sandbox.options, 404, "Not found")
    del sandbox.storage.persistent[file.id]
    return json_response({"id": file.id, "object": "file", "deleted": True})


def _found(sandbox: Sandbox, request: Request, account: str) -> PersistentFile | None:
    file = sandbox.storage.persistent.get(request.path_params["id"])
    return file if file is not None and file.key_fingerprint == account else None


def described(file: PersistentFile) -> dict[str, Any]:
    """The file as the service describes it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": len(file.content),
        "created_at": int(file.created_at),
        "expires_at": None,
        "filename": file.filename,
        "purpose": file.purpose,
    }


def form_of(content_type: str, body: bytes) -> dict[str, tuple[str | None, bytes]]:
    """The fields of a multipart form, each with its file name; none for any other body."""
    if not content_type.lower().startswith("multipart/form-data"):
        return {}
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields: dict[str, tuple[str | None, bytes]] = {}
    for part in message.iter_parts() if message.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            fields[name] = (part.get_filename(), content)
    return fields
