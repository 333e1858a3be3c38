"""Storage over HTTP: fetching pictures and files, receiving uploads. The API key must never arrive here."""

from __future__ import annotations

import asyncio
import base64
import hashlib

from starlette.requests import Request
from starlette.responses import Response

from flux2_tool.sandbox.access import KEY_HEADERS
from flux2_tool.sandbox.faults import Fault
from flux2_tool.sandbox.ledger import Download, Leak
from flux2_tool.sandbox.pictures import picture_size_px, png_of
from flux2_tool.sandbox.responses import storage_error
from flux2_tool.sandbox.service import Sandbox
from flux2_tool.sandbox.storage import StoredFile, query_of
from flux2_tool.sandbox.tasks import Task

_MOST_REMIX_STEPS = 2


async def picture(sandbox: Sandbox, request: Request, fault: Fault | None) -> Response:
    """Serve a finished task's picture, drawn when it is first asked for."""
    refusal = _refusal(sandbox, request)
    task = sandbox.storage.find(request.url.path)
    if refusal is None and (not isinstance(task, Task) or task.state(sandbox.clock()) != "completed"):
        refusal = storage_error(404, "NoSuchKey", "The specified key does not exist.")
    response = refusal
    if response is None and isinstance(task, Task):
        content = await asyncio.to_thread(stored_bytes, sandbox, task)
        response = Response(content, media_type="image/png")
    return _recorded(sandbox, request, response, task.id if isinstance(task, Task) else None)


async def uploaded(sandbox: Sandbox, request: Request, fault: Fault | None) -> Response:
    """Serve an uploaded file while its URL lives."""
    response = _refusal(sandbox, request)
    file = sandbox.storage.find(request.url.path)
    if response is None:
        if isinstance(file, StoredFile) and file.content is not None:
            response = Response(file.content, media_type=file.mime_type)
        else:
            response = storage_error(404, "NoSuchKey", "The specified key does not exist.")
    return _recorded(sandbox, request, response, None)


async def upload(sandbox: Sandbox, request: Request, fault: Fault | None) -> Response:
    """Receive the bytes of a prepared file, once, with exactly the headers that were issued for it."""
    response = _refusal(sandbox, request)
    content = await request.body()
    file = sandbox.storage.files.get(request.path_params["id"])
    if response is None:
        response = _received(file, request, content)
    now = sandbox.clock()
    sandbox.ledger.uploads.append(Download(at=now, path=request.url.path, task_id=None, status=response.status_code))
    return response


def stored_bytes(sandbox: Sandbox, found: Task | StoredFile, *, depth: int = 0) -> bytes | None:
    """The content behind a storage address.

    A remix shows its sources, also remixes, down to a few steps; None stands for a source that is not ours.
    """
    if isinstance(found, StoredFile):
        return found.content
    sources: list[bytes | None] = []
    for url in found.arguments.get("source_image_urls", []):
        source = sandbox.storage.find_url(url) if depth < _MOST_REMIX_STEPS else None
        sources.append(stored_bytes(sandbox, source, depth=depth + 1) if source else None)
    return png_of(
        found.arguments["prompt"],
        found.model,
        found.size_px,
        sources=tuple(sources),
        drawn=sandbox.options.drawn_images,
    )


def _received(file: StoredFile | None, request: Request, content: bytes) -> Response:
    if file is None:
        return storage_error(404, "NoSuchKey", "The specified key does not exist.")
    if file.content is not None:
        return storage_error(412, "PreconditionFailed", "This upload address has been used already.")
    expected = {"content-type": file.mime_type, "content-md5": file.md5_base64}
    if any(request.headers.get(name) != value for name, value in expected.items()):
        return storage_error(403, "SignatureDoesNotMatch", "The headers are not those the address was issued for.")
    digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    if digest != file.md5_base64 or len(content) != file.byte_size:
        return storage_error(400, "BadDigest", "The content does not match its announced MD5 or size.")
    file.content = content
    file.size_px = picture_size_px(content)
    return Response(status_code=200)


def _refusal(sandbox: Sandbox, request: Request) -> Response | None:
    now, path = sandbox.clock(), request.url.path
    if any(name in request.headers for name in KEY_HEADERS):
        sandbox.ledger.authorization_leaks.append(Leak(at=now, path=path, where="key in a header to storage"))
        return storage_error(400, "InvalidArgument", "Only one auth mechanism allowed")
    query = query_of(request.scope["query_string"])
    refusal = sandbox.storage.refusal(request.method, path, query, now=now)
    return storage_error(*refusal) if refusal else None


def _recorded(sandbox: Sandbox, request: Request, response: Response | None, task_id: str | None) -> Response:
    response = response or storage_error(404, "NoSuchKey", "The specified key does not exist.")
    record = Download(at=sandbox.clock(), path=request.url.path, task_id=task_id, status=response.status_code)
    sandbox.ledger.downloads.append(record)
    return response
