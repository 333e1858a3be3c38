"""The files API: prepare, then PUT to storage, then confirm; or hand a URL or base64 over directly.

The sandbox contacts nothing outside, so a URL elsewhere becomes a drawn picture that shows the address; a host of the
top-level domain `invalid` cannot be fetched.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import ipaddress
import mimetypes
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from starlette.requests import Request
from starlette.responses import Response

from flux2_tool.sandbox.access import api_key, base_url, json_object
from flux2_tool.sandbox.catalog import is_web_url
from flux2_tool.sandbox.faults import Fault
from flux2_tool.sandbox.ledger import fingerprint
from flux2_tool.sandbox.objects import stored_bytes
from flux2_tool.sandbox.pictures import picture_size_px, png_of
from flux2_tool.sandbox.responses import error_response, json_response
from flux2_tool.sandbox.service import Sandbox
from flux2_tool.sandbox.storage import IMAGES_PATH, UPLOADS_PATH, StoredFile
from flux2_tool.sandbox.tasks import iso

MOST_FILE_BYTES = 100 * 1024 * 1024
_PREPARED_LIFE_S = 300
OUTSIDE_SIZE_PX = (1024, 768)


async def prepare(sandbox: Sandbox, request: Request, fault: Fault | None) -> Response:
    """Announce a file; the response says where to PUT its bytes and with which headers."""
    options = sandbox.options
    key = sandbox.authorized_key(api_key(request))
    if key is None:
        return error_response(options, 401, "Invalid or missing API key")
    body = await json_object(request)
    if body is None:
        return error_response(options, 400, "The request body is not a JSON object")
    errors = _prepare_problems(body)
    if errors:
        return error_response(options, 422, "Validation failed", errors=errors)
    if body["byte_size"] > MOST_FILE_BYTES:
        return error_response(options, 413, f"The file is larger than {MOST_FILE_BYTES} bytes")
    file = StoredFile(
        signed_id=sandbox.new_id("sgn_"),
        filename=body["filename"],
        byte_size=body["byte_size"],
        md5_base64=body["checksum"],
        mime_type=mimetypes.guess_type(body["filename"])[0] or "application/octet-stream",
        key_fingerprint=fingerprint(key),
    )
    sandbox.storage.files[file.signed_id] = file
    target = sandbox.storage.presign(
        "PUT", f"{UPLOADS_PATH}{file.signed_id}", at=sandbox.clock(), life_s=_PREPARED_LIFE_S
    )
    return json_response(
        {
            "signed_id": file.signed_id,
            "upload_url": f"{(options.image_url_base or base_url(request)).rstrip('/')}{target}",
            "headers": {"Content-Type": file.mime_type, "Content-MD5": file.md5_base64},
        }
    )


async def confirm(sandbox: Sandbox, request: Request, fault: Fault | None) -> Response:
    """Turn uploaded bytes into a file with a URL of its own."""
    options = sandbox.options
    key = sandbox.authorized_key(api_key(request))
    if key is None:
        return error_response(options, 401, "Invalid or missing API key")
    body = await json_object(request) or {}
    file = sandbox.storage.files.get(str(body.get("signed_id")))
    if file is None or file.key_fingerprint != fingerprint(key):
        return error_response(options, 404, "Not found")
    if file.content is None:
        return error_response(options, 422, "Validation failed", errors={"signed_id": ["has not been uploaded yet"]})
    return _described(sandbox, request, file)


async def create(sandbox: Sandbox, request: Request, fault: Fault | None) -> Response:
    """Take a file as base64, or from a URL."""
    options = sandbox.options
    key = sandbox.authorized_key(api_key(request))
    if key is None:
        return error_response(options, 401, "Invalid or missing API key")
    body = await json_object(request)
    source = (body or {}).get("source")
    if body is None or not isinstance(source, dict):
        return error_response(options, 422, "Validation failed", errors={"source": ["is required"]})
    content = _content_of(sandbox, source)
    if isinstance(content, str):
        return error_response(options, 422, "Validation failed", errors={"source": [content]})
    file = StoredFile(
        signed_id=sandbox.new_id("sgn_"),
        filename=str(body.get("file_name") or "upload.png"),
        byte_size=len(content),
        md5_base64=base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode(),
        mime_type=mime_type_of(content),
        key_fingerprint=fingerprint(key),
        content=content,
        size_px=picture_size_px(content),
    )
    sandbox.storage.files[file.signed_id] = file
    return _described(sandbox, request, file)


def mime_type_of(content: bytes) -> str:
    """The type of a picture by its content."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return Image.MIME.get(picture.format or "", "application/octet-stream")
    except (OSError, ValueError, Image.DecompressionBombError):
        return "application/octet-stream"


def _prepare_problems(body: dict[str, Any]) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    filename = body.get("filename")
    if not isinstance(filename, str) or not filename.strip() or "/" in filename:
        errors["filename"] = ["is required"]
    byte_size = body.get("byte_size")
    if not isinstance(byte_size, int) or isinstance(byte_size, bool) or byte_size < 1:
        errors["byte_size"] = ["must be a positive integer"]
    try:
        digest = base64.b64decode(str(body.get("checksum")), validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 16:
        errors["checksum"] = ["must be the base64 of an MD5 digest"]
    return errors


def _content_of(sandbox: Sandbox, source: dict[str, Any]) -> bytes | str:
    """The bytes that a source names, or what is wrong with it."""
    if source.get("type") == "base64":
        text = str(source.get("data", ""))
        if text.startswith("data:"):
            text = text.partition(",")[2]
        try:
            return base64.b64decode(text, validate=True) or "is empty"
        except binascii.Error:
            return "is not valid base64"
    if source.get("type") == "url":
        if not is_web_url(source.get("url")):
            return "must have an http(s) url"
        found = sandbox.storage.find_url(source["url"])
        content = stored_bytes(sandbox, found) if found else _outside(sandbox, source["url"])
        return content or "could not be fetched"
    return "type must be one of: url, base64"


def _outside(sandbox: Sandbox, url: str) -> bytes | None:
    """A picture in the place of one that is elsewhere; None for an address that can have none."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host.endswith(".invalid") or parts.path.startswith(IMAGES_PATH) or _is_inside(host):
        return None
    return png_of(url, "a public URL", OUTSIDE_SIZE_PX, sources=(), drawn=sandbox.options.drawn_images)


def _is_inside(host: str) -> bool:
    """Whether a service on the internet could not reach a host: an address of this machine or of a private network."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost"


def _described(sandbox: Sandbox, request: Request, file: StoredFile) -> Response:
    now = sandbox.clock()
    file.confirmed_at = file.confirmed_at if file.confirmed_at is not None else now
    life_s = sandbox.options.upload_life_s
    signed = sandbox.storage.presign("GET", file.path, at=file.confirmed_at, life_s=life_s)
    return json_response(
        {
            "file_name": file.filename,
            "url": f"{(sandbox.options.image_url_base or base_url(request)).rstrip('/')}{signed}",
            "size_bytes": file.byte_size,
            "mime_type": file.mime_type,
            "created_at": iso(file.confirmed_at),
            "expires_at": iso(file.confirmed_at + life_s),
        }
    )
