"""HTTP with RunAPI: one request, one bounded response, the key sent only to the base URL's origin.

Redirects are therefore followed here, not by httpx, and never to another origin. `tasks/submit.py` and `tasks/poll.py`
decide whether to repeat a request; this module only reports whether a failed one may have reached the service. Source
of paths and headers: `contract.py`.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal, TypeGuard, cast
from urllib.parse import urljoin

import httpx

from flux2_tool._net import is_web_url, origin_of, split_url
from flux2_tool._network_errors import UnusableConnectionError
from flux2_tool._redaction import MASK, SecretStr, holds_key, masked, masked_json, masked_text, visible
from flux2_tool._unzip import PLAIN, ZIPPED, UnzipError, coding_of, unzipped
from flux2_tool.runapi import contract
from flux2_tool.runapi.backoff import parse_retry_after
from flux2_tool.runapi.http_client import HttpClient, HttpTimeouts
from flux2_tool.runapi.rate_limit import RateLimiter
from flux2_tool.runapi.responses import UnreadableResponseError, decode_json
from flux2_tool.runapi.send_errors import (
    CrossOriginRedirectError,
    MaybeSentError,
    NotSentError,
    RedirectLoopError,
    UnusableNetworkError,
)
from flux2_tool.runapi.sending import Sending
from flux2_tool.runapi.text import MAX_TITLE_PAGE_BYTES, as_token, quoted, without_tags

MAX_RESPONSE_BYTES: Final = 4 * 1024 * 1024
MAX_REDIRECTS: Final = 3

_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
# A body without escapes, tags or invisible characters: decoding cannot reveal a key that was not masked before.
_PLAIN_BODY: Final = re.compile(rb"[\t\r\n -;=-\[\]-~]*")
# Python reads it from a file when it is first needed, which fails where no more files can be opened.
_IDNA: Final = codecs.lookup("idna")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """An HTTP response.

    Attributes:
        was_redirected: Whether another response led the request there.
        is_body_lost: Whether it had a body that could not be read to its end; `body` is empty then.
    """

    status_code: int
    headers: Mapping[str, str]
    body: bytes
    was_redirected: bool = False
    is_body_lost: bool = False

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    @property
    def request_id(self) -> str | None:
        """The service's id of this request, for its support."""
        value = self.headers.get(contract.REQUEST_ID_HEADER)
        return as_token(value, 128) if value else None


class RunapiClient:
    """One RunAPI account at one base URL, over a shared HTTP client.

    Args:
        http: From `http_client.open_http`; the caller closes it.
        base_url: Without a trailing "/v1" or "/".
        api_key: Sent as a bearer token to this base URL's origin only; None for the calls that need no key.
        user_agent: The package's name and version.
        attempt_timeout_s: The bound on one whole attempt, response included.
        rate_limiter: The account's, shared by all its calls; None for calls that are not limited.
    """

    def __init__(
        self,
        http: HttpClient,
        *,
        base_url: str,
        api_key: SecretStr | None,
        user_agent: str,
        attempt_timeout_s: float = HttpTimeouts().attempt_s,
        rate_limiter: RateLimiter | None = None,
    ) -> None:
        self._http = http
        self.base_url = base_url
        self._api_key = api_key
        self._user_agent = user_agent
        self._attempt_timeout_s = attempt_timeout_s
        self._rate_limiter = rate_limiter

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no record or message may contain."""
        return () if self._api_key is None else (self._api_key.get_secret_value(),)

    def without_key(self) -> RunapiClient:
        """Return a client of the same service that never sends the key."""
        return RunapiClient(
            self._http,
            base_url=self.base_url,
            api_key=None,
            user_agent=self._user_agent,
            attempt_timeout_s=self._attempt_timeout_s,
        )

    def same_origin_url(self, reference: str, *, seen_at: str | None = None) -> str | None:
        """Return an absolute URL for a link from the service, or None when it is of another origin.

        Args:
            reference: Absolute or relative, as the service gave it; need not be valid.
            seen_at: The URL of the response that contains it; by default the base URL.
        """
        try:
            split_url(reference)
            url = urljoin(seen_at or f"{self.base_url}/", reference)
            return url if is_web_url(url) and origin_of(url) == origin_of(self.base_url) else None
        except ValueError:
            return None

    @property
    def is_slowed(self) -> bool:
        """Whether RunAPI limits this account's rate, so that a request has to wait for its permit."""
        return self._rate_limiter is not None and self._rate_limiter.is_slowed

    @property
    def is_held(self) -> bool:
        """Whether nothing may be sent for this account now, because RunAPI limits its rate."""
        return self._rate_limiter is not None and self._rate_limiter.is_closed

    async def acquire_permit(self) -> float | None:
        """Wait until this account may send a request; return the permit to pass to `send` at once."""
        return None if self._rate_limiter is None else await self._rate_limiter.acquire()

    async def send(
        self,
        method: Literal["GET", "POST"],
        path_or_url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        permit: float | None = None,
        result_codes: Container[int] = (303,),
        sending: Sending | None = None,
    ) -> HttpResponse:
        """Send one request and return its response, whatever its status code.

        It is complete, but for one that needs no body: a success that names its task in a header, and anything but a
        success, of which the status code decides.

        Waits for the account's permit first, unless the caller passes one. Redirects within the origin are followed
        with method and body unchanged, except those of a POST that link to its result.

        Args:
            result_codes: The status codes of these; they are returned.
            sending: Follows the request, to know whether it has left; of a redirected one the first.

        Raises:
            NotSentError: Nothing reached the service.
            MaybeSentError: The request may have arrived; the response was lost.
            CrossOriginRedirectError: The service redirects to another origin, or (RedirectLoopError) too often.
        """
        url = path_or_url if "://" in path_or_url else f"{self.base_url}{path_or_url}"
        sent = {"User-Agent": self._user_agent}
        if self._api_key is not None:
            sent["Authorization"] = f"Bearer {self._api_key.get_secret_value()}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        permit = await self.acquire_permit() if permit is None else permit
        for redirects in range(MAX_REDIRECTS + 1):
            try:
                response = await self._attempt(method, url, body, sent, sending)
            except NotSentError as exc:
                if redirects:
                    raise MaybeSentError(f"it was redirected, and then {exc}") from exc
                raise
            self._record_response(response, permit)
            is_result = method == "POST" and response.status_code in result_codes
            if response.status_code not in _REDIRECTS or "location" not in response.headers or is_result:
                return replace(response, was_redirected=True) if redirects else response
            target = self.same_origin_url(response.headers["location"], seen_at=url)
            if target is None:
                where = quoted(response.headers["location"].partition("?")[0], 100)
                raise CrossOriginRedirectError(
                    f"HTTP {response.status_code} to {where}, not within the base URL's origin"
                )
            url = target
        raise RedirectLoopError(f"more than {MAX_REDIRECTS} redirects")

    def _record_response(self, response: HttpResponse, permit: float | None) -> None:
        if self._rate_limiter is not None and permit is not None:
            retry_after_s = parse_retry_after(response.headers.get("retry-after"), now=self._rate_limiter.now())
            self._rate_limiter.record_response(
                is_rate_limited=response.status_code == 429, sent_at_s=permit, retry_after_s=retry_after_s
            )

    def _without_key(self, status_code: int, headers: list[tuple[bytes, bytes]], body: bytes) -> HttpResponse:
        """Return a response with our key masked, which may be shown and stored."""
        key = next(iter(self.secrets), None)
        # All values at once; no key contains the separator.
        joined = b" ".join(value for _name, value in headers)
        if _masked_header(joined, key) != joined:
            headers = [(name, _masked_header(value, key)) for name, value in headers]
        response = HttpResponse(status_code=status_code, headers=httpx.Headers(headers), body=masked(body, key))
        if key is None or _PLAIN_BODY.fullmatch(response.body):
            return response
        return replace(response, body=_masked_after_decoding(response.body, response.content_type, key))

    async def _attempt(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], sending: Sending | None
    ) -> HttpResponse:
        try:
            parsed = _parsed(url)
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise NotSentError(f"the URL cannot be used ({self._description(exc)})") from exc
        response: httpx.Response | None = None
        try:
            async with asyncio.timeout(self._attempt_timeout_s):
                response = await self._http.send_shortly(method, parsed, content=body, headers=headers, sending=sending)
                received = await _read_bounded(response)
        except UnusableConnectionError as exc:
            raise UnusableNetworkError(str(exc), exc.hint) from exc
        except _NOT_SENT as exc:
            raise NotSentError(f"no connection ({self._description(exc)})") from exc
        except TimeoutError as exc:
            if sending is not None and sending.is_unsent:
                raise NotSentError(f"no connection within {self._attempt_timeout_s:g} s") from exc
            if _needs_no_body(response):
                return self._without_body(response)
            raise MaybeSentError(f"no complete response within {self._attempt_timeout_s:g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as exc:
            # OSError for a TLS record that cannot be read, ValueError for whatever httpx cannot parse of a response.
            if sending is not None and sending.is_unsent:
                raise NotSentError(f"no connection ({self._description(exc)})") from exc
            if _needs_no_body(response):
                return self._without_body(response)
            raise MaybeSentError(f"the response was lost ({self._description(exc)})") from exc
        if len(received) > MAX_RESPONSE_BYTES:
            if _needs_no_body(response):
                return self._without_body(response)
            raise MaybeSentError(f"HTTP {response.status_code} with more than {MAX_RESPONSE_BYTES // 1024 // 1024} MiB")
        return self._received(response, received)

    def _without_body(self, response: httpx.Response) -> HttpResponse:
        return replace(self._received(response, b""), is_body_lost=True)

    def _received(self, response: httpx.Response, body: bytes) -> HttpResponse:
        return self._without_key(response.status_code, response.headers.raw, body)

    def _description(self, exc: Exception) -> str:
        # A parser's error may repeat what it could not parse.
        message = masked_text(str(exc), next(iter(self.secrets), None))
        return f"{type(exc).__name__}: {quoted(message, 120)}" if message.strip() else type(exc).__name__


def _needs_no_body(response: httpx.Response | None) -> TypeGuard[httpx.Response]:
    """Return whether nothing that counts is lost with a response's body."""
    return response is not None and (not response.is_success or contract.TASK_ID_HEADER in response.headers)


@lru_cache(maxsize=256)
def _parsed(url: str) -> httpx.URL:
    """Return a URL for requests; a task's is polled again and again.

    Raises:
        httpx.InvalidURL: It is none.
        UnicodeError: No name can be looked up for its host.
    """
    parsed = httpx.URL(url)
    # What looking the name up and showing it do first.
    _ = _IDNA.encode(parsed.raw_host.decode("ascii")), parsed.host
    return parsed


async def _read_bounded(response: httpx.Response) -> bytes:
    """Return a response's decompressed body; stop reading soon after `MAX_RESPONSE_BYTES`."""
    received, coding = bytearray(), coding_of(response.headers.get("content-encoding"))
    blocks = cast("httpx.AsyncByteStream", response.stream)
    try:
        if coding not in PLAIN and coding not in ZIPPED:
            raise UnzipError(f"it was sent in the encoding {quoted(coding, 40)}, which was not asked for")
        async for chunk in unzipped(blocks, coding) if coding in ZIPPED else blocks:
            received += chunk
            if len(received) > MAX_RESPONSE_BYTES:
                break
    finally:
        await response.aclose()
    return bytes(received)


def _masked_header(value: bytes, key: str | None) -> bytes:
    return masked_text(value.decode("utf-8", "surrogateescape"), key).encode("utf-8", "surrogateescape")


def _masked_after_decoding(body: bytes, content_type: str, key: str) -> bytes:
    """Return a body with the key masked where it appears only after decoding or removing characters."""
    try:
        found = decode_json(body, content_type)
    except UnreadableResponseError:
        # A page's title is shown without the tags in it.
        page = without_tags(body[:MAX_TITLE_PAGE_BYTES].decode("utf-8", "replace"))
        return MASK if holds_key(visible(page), key) else body
    clean = masked_json(found, key)
    return body if clean is found else json.dumps(clean).encode()
