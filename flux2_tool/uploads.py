"""Bring local source pictures to RunAPI: prepare, PUT without the key, confirm; once per content while its URL lives.

Uploading is free and makes no image, so a failed step is simply begun again. Source of the calls: `wire.py`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx

from flux2_tool import wire
from flux2_tool.answers import AnswerUnreadableError, decode_json, is_web_url, read_error
from flux2_tool.client import (
    ForeignRedirectError,
    HttpAnswer,
    MaybeSentError,
    NotSentError,
    RunapiClient,
    is_loopback_url,
)
from flux2_tool.clock import Clock
from flux2_tool.download import DownloadError, check_link
from flux2_tool.errors import (
    AuthenticationError,
    Flux2Error,
    RateLimitedError,
    ServiceUnavailableError,
    SourceRefusedError,
    UnexpectedAnswerError,
)
from flux2_tool.pictures import Picture

ATTEMPTS: Final = 3
RETRY_DELAY_S: Final = 1.0
PUT_TIMEOUT_S: Final = 120.0
# An uploaded picture's URL must outlive the time RunAPI may take before it fetches it.
SPARE_LIFE_S: Final = 10 * 60.0
_FORBIDDEN_HEADERS: Final = frozenset({"authorization", "cookie", "host", "transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Uploaded:
    url: str
    until: float


class Uploads:
    """The uploads of one process.

    Args:
        clock: Time.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str, str], _Uploaded] = {}
        self._running: dict[tuple[str, str, str], asyncio.Task[_Uploaded]] = {}

    async def url_of(
        self, client: RunapiClient, storage: httpx.AsyncClient, *, fingerprint: str, picture: Picture, where: str
    ) -> str:
        """Return a URL that RunAPI can fetch a picture from, uploading it unless the same bytes are there already.

        Args:
            client: The account's client.
            storage: Carries no key of its own; sends the bytes.
            fingerprint: The account's; accounts never share an upload.
            picture: What to upload.
            where: Names the argument in errors.

        Raises:
            Flux2Error: The upload failed. No image was made and nothing was charged.
        """
        digest = hashlib.sha256(picture.data).hexdigest()
        key = (fingerprint, client.base_url, digest)
        known = self._known.get(key)
        if known is not None and known.until - SPARE_LIFE_S > self._clock.now():
            return known.url
        running = self._running.get(key)
        if running is None:
            running = asyncio.get_running_loop().create_task(self._upload(client, storage, picture, digest, where))
            self._running[key] = running
            running.add_done_callback(lambda _task: self._running.pop(key, None))
        uploaded = await asyncio.shield(running)
        self._known[key] = uploaded
        return uploaded.url

    async def _upload(
        self, client: RunapiClient, storage: httpx.AsyncClient, picture: Picture, digest: str, where: str
    ) -> _Uploaded:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._upload_once(client, storage, picture, digest, where)
            except Flux2Error as exc:
                if not exc.retryable or attempt == ATTEMPTS:
                    raise
                await self._clock.sleep(RETRY_DELAY_S * attempt)
        raise AssertionError  # the last attempt returns or raises

    async def _upload_once(
        self, client: RunapiClient, storage: httpx.AsyncClient, picture: Picture, digest: str, where: str
    ) -> _Uploaded:
        prepared = await _post(
            client,
            wire.FILES_PREPARE_PATH,
            {
                "filename": f"{digest[:16]}{picture.suffix}",
                "byte_size": len(picture.data),
                "checksum": base64.b64encode(hashlib.md5(picture.data, usedforsecurity=False).digest()).decode("ascii"),
            },
            where,
        )
        signed_id, upload_url, headers = (prepared.get(name) for name in ("signed_id", "upload_url", "headers"))
        if not isinstance(signed_id, str) or not is_web_url(upload_url) or not _are_headers(headers):
            raise _unexpected("answered the upload's preparation without a usable upload_url, headers and signed_id")
        try:
            check_link(upload_url, loopback_allowed=is_loopback_url(client.base_url))
        except DownloadError as exc:
            raise _unexpected(f"named an upload address that is refused: {exc}") from exc
        await _put(storage, upload_url, headers or {}, picture.data, where)
        confirmed = await _post(client, wire.FILES_CONFIRM_PATH, {"signed_id": signed_id}, where)
        url = confirmed.get("url")
        if not is_web_url(url):
            raise _unexpected("confirmed the upload without a URL")
        return _Uploaded(url=url, until=_until(confirmed.get("expires_at"), self._clock.now()))


async def _post(client: RunapiClient, path: str, body: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    try:
        answer = await client.send("POST", path, body=json.dumps(body).encode("utf-8"))
    except (NotSentError, MaybeSentError) as exc:
        raise _unavailable(f"RunAPI could not take {where}: {exc}.") from exc
    except ForeignRedirectError as exc:
        raise _unexpected(f"redirects the upload elsewhere: {exc}") from exc
    if not 200 <= answer.status_code < 300:
        raise _error_of(answer, where)
    try:
        decoded = decode_json(answer.body, answer.content_type)
    except AnswerUnreadableError as exc:
        raise _unavailable(f"RunAPI answered POST {path} with {exc}.") from exc
    return decoded if isinstance(decoded, Mapping) else {}


async def _put(storage: httpx.AsyncClient, url: str, headers: Mapping[str, str], data: bytes, where: str) -> None:
    # Only the status counts: the body of the answer is not read, however long it is or lasts.
    sending = storage.stream("PUT", url, content=data, headers=dict(headers), follow_redirects=False)
    try:
        async with asyncio.timeout(PUT_TIMEOUT_S), sending as response:
            code = response.status_code
    except TimeoutError as exc:
        raise _unavailable(f"{where} was not uploaded within {PUT_TIMEOUT_S:g} s.") from exc
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as exc:
        raise _unavailable(f"{where} could not be uploaded ({type(exc).__name__}).") from exc
    if code in wire.RETRYABLE_CODES:
        raise _unavailable(f"RunAPI's storage answered HTTP {code} to the upload of {where}.")
    if not 200 <= code < 300:
        raise _unexpected(f"named a storage that refused the upload of {where} (HTTP {code})")


def _error_of(answer: HttpAnswer, where: str) -> Flux2Error:
    try:
        words = read_error(decode_json(answer.body, answer.content_type)).message
    except AnswerUnreadableError as exc:
        words = str(exc)
    code, request_id = answer.status_code, answer.request_id
    said = f'HTTP {code}, it says: "{words}"' if words else f"HTTP {code}"
    if code in (401, 403):
        return AuthenticationError(
            f"RunAPI refused the key ({said}).", hint="Replace RUNAPI_API_KEY with a valid key.", request_id=request_id
        )
    if code == 429:
        return RateLimitedError(f"RunAPI limits the rate ({said}).", hint="Wait a little.", request_id=request_id)
    if code in (400, 413, 415, 422):
        return SourceRefusedError(
            f"RunAPI refused {where} ({said}). Nothing was charged.",
            hint="Use another picture, or a smaller one.",
            request_id=request_id,
        )
    if code in wire.RETRYABLE_CODES or code >= 500:
        return _unavailable(f"RunAPI could not take {where} ({said}).", request_id)
    return _unexpected(f"answered the upload of {where} with {said}", request_id)


def _unavailable(message: str, request_id: str | None = None) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        f"{message} No image was requested.", hint="Call again in a minute.", request_id=request_id
    )


def _unexpected(what: str, request_id: str | None = None) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(
        f"RunAPI {what}. No image was requested.",
        hint="Use a public link as the source instead.",
        request_id=request_id,
    )


def _are_headers(headers: Any) -> bool:
    if headers is None:
        return True
    return isinstance(headers, Mapping) and all(
        isinstance(name, str)
        and isinstance(value, str)
        and name.isascii()
        and value.isascii()
        and (name + value).isprintable()
        and name.lower() not in _FORBIDDEN_HEADERS
        for name, value in headers.items()
    )


def _until(value: Any, now: float) -> float:
    """Return when an uploaded file's URL ends; an hour from now where the service does not say."""
    limit = now + wire.UPLOAD_URL_LIFE_S
    try:
        return min(limit, datetime.fromisoformat(str(value)).timestamp())
    except (ValueError, OverflowError):
        return limit
