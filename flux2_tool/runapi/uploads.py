"""Upload local source pictures to RunAPI: prepare, PUT without the key, confirm; once per content while its URL lives.

Uploading is free and makes no image, so a failed upload is simply repeated. Source of the calls: `contract.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import httpx

from flux2_tool._clock import Clock
from flux2_tool._net import is_loopback_url, is_private_url, is_web_url
from flux2_tool._network_errors import UnusableConnectionError
from flux2_tool.exceptions import (
    Flux2Error,
    ServiceUnavailableError,
    SourceRefusedError,
    UnexpectedAnswerError,
)
from flux2_tool.images.decoder import PictureCopy
from flux2_tool.images.download import DownloadError, check_link, public_only, streamed
from flux2_tool.runapi import contract
from flux2_tool.runapi.backoff import RETRY_AFTER_CEILING_S, parse_retry_after
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.error_mapping import error_from_response
from flux2_tool.runapi.responses import UnreadableResponseError, decode_json
from flux2_tool.runapi.send_errors import CrossOriginRedirectError, MaybeSentError, NotSentError, UnusableNetworkError

ATTEMPTS: Final = 3
RETRY_DELAY_S: Final = 1.0
PUT_TIMEOUT_S: Final = 120.0
_NOTHING_REQUESTED: Final = "No image was requested."
_USE_A_LINK: Final = "Use a public link as the source instead."
_FORBIDDEN_HEADERS: Final = frozenset({"authorization", "cookie", "host", "transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Uploaded:
    url: str
    expires_at: float


class _RetryAfterError(Exception):
    """A step failed, and the service asked for a delay before the next attempt, in seconds."""

    def __init__(self, error: Flux2Error, wait_s: float) -> None:
        super().__init__(error.message)
        self.error = error
        self.wait_s = wait_s


class Uploads:
    """The uploads of one process. An upload continues when its caller stops waiting, for the next call to use.

    Args:
        clock: Time.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str, str], _Uploaded] = {}
        self._running: dict[tuple[str, str, str], asyncio.Task[_Uploaded]] = {}

    async def url_of(
        self, client: RunapiClient, storage: httpx.AsyncClient, *, fingerprint: str, picture: PictureCopy, where: str
    ) -> str:
        """Return a URL from which RunAPI can fetch a picture; upload it unless the same bytes are there already.

        Args:
            client: The account's client.
            storage: Sends the bytes, without a key.
            fingerprint: The account's; accounts never share an upload.
            picture: What to upload.
            where: The argument's name, for errors.

        Raises:
            Flux2Error: The upload failed. No image was made and nothing was charged.
        """
        key = (fingerprint, client.base_url, picture.facts.sha256)
        known = self._known.get(key)
        if known is not None and known.expires_at - contract.SOURCE_SPARE_LIFE_S > self._clock.now():
            return known.url
        running = self._running.get(key)
        if running is None:
            running = asyncio.get_running_loop().create_task(self._upload(client, storage, picture, where))
            self._running[key] = running
            running.add_done_callback(partial(self._store_result, key))
        try:
            return (await asyncio.shield(running)).url
        except Flux2Error as exc:
            # Each waiting call gets an error of its own, which its host may add to.
            raise copy(exc) from None

    async def aclose(self) -> None:
        """Cancel the uploads in progress."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _store_result(self, key: tuple[str, str, str], done: asyncio.Task[_Uploaded]) -> None:
        del self._running[key]
        if not done.cancelled() and done.exception() is None:
            now = self._clock.now()
            self._known = {one: uploaded for one, uploaded in self._known.items() if uploaded.expires_at > now}
            self._known[key] = done.result()

    async def _upload(
        self, client: RunapiClient, storage: httpx.AsyncClient, picture: PictureCopy, where: str
    ) -> _Uploaded:
        for attempt in range(1, ATTEMPTS + 1):
            wait_s = RETRY_DELAY_S * attempt
            try:
                return await self._upload_once(client, storage, picture, where)
            except _RetryAfterError as exc:
                error, wait_s = exc.error, max(wait_s, exc.wait_s)
            except Flux2Error as exc:
                error = exc
            if not error.retryable or attempt == ATTEMPTS or wait_s > RETRY_AFTER_CEILING_S:
                raise error
            await self._clock.sleep(wait_s)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    async def _upload_once(
        self, client: RunapiClient, storage: httpx.AsyncClient, picture: PictureCopy, where: str
    ) -> _Uploaded:
        facts = picture.facts
        prepared = await self._post(
            client,
            contract.FILES_PREPARE_PATH,
            {
                "filename": f"{facts.sha256[:16]}{facts.suffix}",
                "byte_size": facts.size_bytes,
                "checksum": facts.md5,
            },
            where,
        )
        signed_id, upload_url, headers = (prepared.get(name) for name in ("signed_id", "upload_url", "headers"))
        if not isinstance(signed_id, str):
            raise _unexpected("answered the upload's preparation without a usable signed_id: it must be text")
        if not is_web_url(upload_url):
            raise _unexpected("answered the upload's preparation without a usable upload_url: it must be a plain URL")
        if not _are_headers(headers):
            raise _unexpected(
                "answered the upload's preparation without usable headers: they must be names and values of visible "
                f"ASCII, none of them {', '.join(sorted(_FORBIDDEN_HEADERS))}"
            )
        try:
            check_link(upload_url, loopback_allowed=is_loopback_url(client.base_url))
        except DownloadError as exc:
            raise _unexpected(f"named an upload address that is refused: {exc}") from exc
        code, response_headers = await _put(
            storage, upload_url, headers or {}, picture, where, loopback_allowed=is_loopback_url(client.base_url)
        )
        if code in contract.RETRYABLE_CODES:
            error = _unavailable(f"RunAPI's storage answered HTTP {code} to the upload of {where}.")
            raise _with_retry_after(error, self._retry_after_s(response_headers))
        if not 200 <= code < 300:
            raise _unexpected(f"named a storage that refused the upload of {where} (HTTP {code})")
        confirmed = await self._post(client, contract.FILES_CONFIRM_PATH, {"signed_id": signed_id}, where)
        url = confirmed.get("url")
        if not is_web_url(url) or is_private_url(url, loopback_allowed=is_loopback_url(client.base_url)):
            raise _unexpected("confirmed the upload without a public URL")
        return _Uploaded(url=url, expires_at=_expires_at(confirmed.get("expires_at"), self._clock.now()))

    async def _post(self, client: RunapiClient, path: str, body: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        try:
            response = await client.send("POST", path, body=json.dumps(body).encode("utf-8"))
        except UnusableNetworkError as exc:
            raise exc.as_set_up_error() from exc
        except (NotSentError, MaybeSentError) as exc:
            raise _unavailable(f"RunAPI could not take {where}: {exc}.") from exc
        except CrossOriginRedirectError as exc:
            raise _unexpected(f"redirects the upload elsewhere: {exc}") from exc
        if not 200 <= response.status_code < 300:
            wait_s = self._retry_after_s(response.headers)
            error = error_from_response(
                response,
                request=f"the upload of {where}",
                refused=SourceRefusedError,
                outcome=_NOTHING_REQUESTED,
                check=_USE_A_LINK,
                retry_after_s=wait_s,
            )
            raise _with_retry_after(error, wait_s)
        try:
            decoded = decode_json(response.body, response.content_type)
        except UnreadableResponseError as exc:
            raise _unavailable(f"RunAPI answered POST {path} with {exc}.") from exc
        return decoded if isinstance(decoded, Mapping) else {}

    def _retry_after_s(self, headers: Mapping[str, str]) -> float | None:
        now = datetime.fromtimestamp(self._clock.now(), tz=UTC)
        return parse_retry_after(headers.get("retry-after"), now=now)


def _with_retry_after(error: Flux2Error, wait_s: float | None) -> Exception:
    """Return a failed step's error, with the response's Retry-After if it has one."""
    return error if wait_s is None else _RetryAfterError(error, wait_s)


async def _put(
    storage: httpx.AsyncClient,
    url: str,
    headers: Mapping[str, str],
    picture: PictureCopy,
    where: str,
    *,
    loopback_allowed: bool,
) -> tuple[int, Mapping[str, str]]:
    """Send the bytes and return the response's status code and headers; its body is not read."""
    try:
        guard = public_only(url, loopback_allowed=loopback_allowed)
        # Storage wants to know the length, which httpx does not of blocks.
        sent = {name: text for name, text in headers.items() if name.lower() != "content-length"}
        sent["Content-Length"] = str(picture.facts.size_bytes)
        sending = streamed(
            storage, "PUT", url, content=picture.blocks(), headers=sent, follow_redirects=False, extensions=guard
        )
        async with asyncio.timeout(PUT_TIMEOUT_S), sending as response:
            return response.status_code, response.headers
    except DownloadError as exc:
        raise _unexpected(f"named an upload address that is refused: {exc}") from exc
    except TimeoutError as exc:
        raise _unavailable(f"{where} was not uploaded within {PUT_TIMEOUT_S:g} s.") from exc
    except UnusableConnectionError as exc:
        raise UnusableNetworkError(f"{where} cannot be uploaded: {exc}", exc.hint).as_set_up_error() from exc
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as exc:
        # OSError for a TLS record that cannot be read, ValueError for whatever httpx cannot parse of a response.
        raise _unavailable(f"{where} could not be uploaded ({type(exc).__name__}).") from exc


def _unavailable(message: str, request_id: str | None = None) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        f"{message} {_NOTHING_REQUESTED}", hint="Call again in a minute.", request_id=request_id
    )


def _unexpected(what: str, request_id: str | None = None) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(
        f"RunAPI {what}. {_NOTHING_REQUESTED}",
        hint=_USE_A_LINK,
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


def _expires_at(value: Any, now: float) -> float:
    """Return when an uploaded file's URL expires, in seconds since 1970; at most UPLOAD_URL_LIFE_S from now."""
    limit = now + contract.UPLOAD_URL_LIFE_S
    try:
        moment = datetime.fromisoformat(str(value))
        return min(limit, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return limit
