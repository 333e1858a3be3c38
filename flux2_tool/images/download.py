"""Download one finished picture: bounded, completely or not at all, and without the API key.

The link comes from a response, so it is untrusted: https only (plain http on loopback while the base URL is
loopback too), no private address as host, and the same checks for every redirect and connected address.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urljoin, urlsplit

import httpx

from flux2_tool._folders import is_system_name
from flux2_tool._net import is_loopback, is_private_address, is_private_url, is_web_url, split_url
from flux2_tool._network_errors import UnusableConnectionError
from flux2_tool._unzip import PLAIN, ZIPPED, UnzipError, coding_of, unzipped
from flux2_tool.images.decoder import Decoder, shared_decoder
from flux2_tool.images.errors import PictureError
from flux2_tool.images.file_kinds import HEAD_BYTES, UNKNOWN, kind_of
from flux2_tool.images.kept_files import mark_as_written, seal_of
from flux2_tool.images.part_file import PartFile, new_part

MAX_IMAGE_BYTES: Final = 64 * 1024 * 1024
DOWNLOAD_TIMEOUT_S: Final = 60.0
MAX_REDIRECTS: Final = 5
_WRITE_BYTES: Final = 1024 * 1024
_ITS_LINK: Final = "its link"
_REDIRECTED_LINK: Final = "the link that its own redirects to"
_UNREADABLE_REDIRECT: Final = "its link redirects to an unreadable address"
_SUFFIX: Final = re.compile(r"[a-z0-9]{2,8}")
_USUAL_TYPES: Final = ("png", "jpeg", "webp", "gif")
# What a storage says that knows no more than that these are bytes; and where it says nothing.
_BARE_BYTES: Final = ("", "application/octet-stream", "binary/octet-stream")


# Whether the same link may deliver the picture a moment later: storage may not have it yet just after it was made.
Again = Literal["no", "while fresh", "yes"]


class DownloadError(Exception):
    """The picture could not be saved. The message says why; the link itself may still work.

    Args:
        message: Why.
        again: Whether it is worth fetching it once more.
        retry_after: The response's Retry-After header.
    """

    def __init__(self, message: str, *, again: Again = "no", retry_after: str | None = None) -> None:
        super().__init__(message)
        self.again: Again = again
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage:
    """A picture on disk.

    Attributes:
        width_px: 0 with `height_px` for a format that this installation does not decode.
        own_suffix: The suffix of its format, which its name may not have.
    """

    path: Path
    width_px: int
    height_px: int
    own_suffix: str


def file_stem(*, at: float, slug: str, task_id: str | None) -> str:
    """Return a file name without suffix, from time, prompt and task id; it sorts by time."""
    stamp = datetime.fromtimestamp(at, tz=UTC).strftime("%Y%m%d-%H%M%S")
    safe_id = "".join(character if character.isalnum() or character in "-_" else "-" for character in task_id or "task")
    stem = f"{stamp}-{slug}-{safe_id[-24:]}"
    return stem if is_system_name(stem) else f"{stamp}-{_ascii(slug)}-{_ascii(safe_id[-24:])}"


def _ascii(text: str) -> str:
    """Return what is ASCII of a name for a locale whose file names have little more."""
    return "".join(character for character in text if character.isascii()).strip("-") or "image"


async def download_image(
    http: httpx.AsyncClient,
    url: str,
    folder: Path,
    stem: str,
    *,
    suffix: str | None = None,
    sealed: bool = False,
    loopback_allowed: bool,
    timeout_s: float = DOWNLOAD_TIMEOUT_S,
    decoder: Decoder | None = None,
) -> SavedImage:
    """Save the picture of a link as `folder/stem.<type>` and return its path and size in pixels.

    Args:
        http: A client that sends no key.
        url: The link as the service gave it.
        folder: Created if missing; files are readable by their owner only.
        stem: The file's name; if another picture has it, a number is added.
        suffix: With the dot; by default that of the picture's format.
        sealed: Whether the name tells the content; see `kept_files.py`.
        loopback_allowed: Whether plain http to this machine is allowed, as for a sandbox.
        timeout_s: The bound on everything, from the folder to the finished file, in seconds.
        decoder: Decodes the picture; by default this process's own.

    Raises:
        DownloadError: The link is refused, unreachable, too large, or not a picture. No file is left on disk.
    """
    decoder = decoder or shared_decoder()
    stage = f"it did not arrive within {timeout_s:.3g} s"
    try:
        async with asyncio.timeout(timeout_s), new_part(folder, stem) as part:
            media_type = await _fetch(http, url, part, loopback_allowed=loopback_allowed)
            stage = f"it arrived, but could not be checked and written within {timeout_s:.3g} s"
            async with _flushed(part):
                width_px, height_px, own_suffix = await _checked(part, media_type, decoder)
            path = await asyncio.to_thread(_published, part, own_suffix if suffix is None else suffix, sealed=sealed)
    except TimeoutError as exc:
        raise DownloadError(stage) from exc
    except PictureError as exc:
        raise DownloadError(f"the downloaded file {exc}", again="while fresh" if exc.is_broken else "no") from exc
    except UnusableConnectionError as exc:
        raise DownloadError(f"it did not arrive: {exc}; {exc.hint}") from exc
    except httpx.HTTPError as exc:
        if isinstance(exc, httpx.RemoteProtocolError) and "location header" in str(exc):  # httpx reads it, too
            raise DownloadError(_UNREADABLE_REDIRECT) from exc
        again: Again = "no" if isinstance(exc, httpx.UnsupportedProtocol) else "yes"
        raise DownloadError(f"it did not arrive ({type(exc).__name__})", again=again) from exc
    except (httpx.InvalidURL, httpx.StreamError) as exc:
        raise DownloadError(f"it did not arrive ({type(exc).__name__})") from exc
    except OSError as exc:
        raise DownloadError(f"it could not be written to {folder}: {exc.strerror}") from exc
    except UnicodeEncodeError as exc:
        raise DownloadError(f"the locale has no such file name: {folder / stem}") from exc
    return SavedImage(path=path, width_px=width_px, height_px=height_px, own_suffix=own_suffix)


@asynccontextmanager
async def _flushed(part: PartFile) -> AsyncIterator[None]:
    """Have a file on the disk by the end of the block, meanwhile.

    Raises:
        OSError: It cannot be written.
    """
    flushing = asyncio.ensure_future(asyncio.to_thread(part.flush))
    try:
        yield
    finally:
        # Nobody may close the file until then.
        await asyncio.wait([flushing])
        error = flushing.exception()
    if error is not None:
        raise error


def _published(part: PartFile, suffix: str, *, sealed: bool) -> Path:
    """Give a file its name and return it. Blocks."""
    if not sealed:
        return part.publish(suffix)
    path = part.publish(f"-{seal_of(part.file)}{suffix}")
    mark_as_written(path)
    return path


async def _checked(part: PartFile, media_type: str, decoder: Decoder) -> tuple[int, int, str]:
    """Return a picture's size in pixels and its suffix; a format that nothing here knows is taken as it came.

    So is a picture that is too large to be decoded: it is paid for, and saving it takes no decoding.

    Raises:
        PictureError: It is no whole picture.
    """
    try:
        picture = await decoder.check(part.file)
    except PictureError as exc:
        if exc.is_too_large:
            picture = await decoder.look(part.file)
            return picture.width_px, picture.height_px, picture.suffix
        label = media_type.partition(";")[0].strip().lower()
        head = await asyncio.to_thread(os.pread, part.file.fileno(), HEAD_BYTES, 0)
        if kind_of(head) is not UNKNOWN or not (label.startswith("image/") or label in _BARE_BYTES):
            raise
        return 0, 0, _suffix_of(label)
    return picture.width_px, picture.height_px, picture.suffix


def _suffix_of(label: str) -> str:
    """Return the suffix of a format that nothing here knows, by what it was called; a usual one it is certainly not."""
    kind, _, subtype = label.partition("/")
    name = subtype.removeprefix("x-").removeprefix("vnd.").partition("+")[0]
    is_name = kind == "image" and name not in _USUAL_TYPES and _SUFFIX.fullmatch(name)
    return f".{name}" if is_name else ".bin"


def check_link(url: str, *, loopback_allowed: bool, name: str = _ITS_LINK) -> None:
    """Raise DownloadError unless a link is https to a public host, or to loopback where that is allowed.

    Args:
        name: What the link is called in the error.
    """
    if not is_web_url(url):
        raise DownloadError(f"{name} is not a plain http(s) URL")
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if loopback_allowed and is_loopback(host):
        return
    if parts.scheme != "https":
        raise DownloadError(f"{name} is not https")
    if is_private_url(url, loopback_allowed=False):
        raise _private(name)


def public_only(url: str | httpx.URL, *, loopback_allowed: bool, name: str = _ITS_LINK) -> dict[str, Any]:
    """Return an httpx extension that aborts connections to private addresses before anything is sent.

    The name is resolved before the connection, so that no private address is even tried, and the connected address is
    checked as well, because the name may be resolved to another one then. The request raises DownloadError.
    Connections of a proxy cannot be checked. Source: the extension "trace" of httpx and httpcore.
    """
    host = httpx.URL(url).raw_host.decode("ascii")
    connected_host = ""

    def check(address: str) -> None:
        if is_private_address(address) and not (loopback_allowed and is_loopback(address)):
            raise _private(name)

    async def watch(event: str, info: Mapping[str, Any]) -> None:
        nonlocal connected_host
        if event == "connection.connect_tcp.started":
            connected_host = info["host"]
            if connected_host == host:
                for address in await _addresses_of(host, info["port"]):
                    check(address)
        elif event == "connection.connect_tcp.complete" and connected_host == host:
            stream = info["return_value"]
            try:
                check(str((stream.get_extra_info("server_addr") or ("",))[0]))
            except DownloadError:
                await stream.aclose()
                raise

    return {"trace": watch}


@asynccontextmanager
async def streamed(
    http: httpx.AsyncClient, method: str, url: str | httpx.URL, **options: Any
) -> AsyncIterator[httpx.Response]:
    """Send a request, and yield its response while the block runs.

    In httpx a response and its stream hold each other, and all that the request had. Here they let go of each other, so
    that nothing of them stays until Python's collector of circles runs, which is seldom where much is in memory.
    """
    async with http.stream(method, url, **options) as response:
        try:
            yield response
        finally:
            await response.aclose()
            response.stream = httpx.ByteStream(b"")


async def _addresses_of(host: str, port: int) -> set[str]:
    """Return the addresses that a name has now; none if it cannot be resolved, which the connection will report."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {str(address[0]) for *_, address in found}


def _private(name: str) -> DownloadError:
    return DownloadError(f"{name} leads to a private address")


async def _fetch(http: httpx.AsyncClient, url: str, part: PartFile, *, loopback_allowed: bool) -> str:
    """Store what a link delivers, and return its media type."""
    name = _ITS_LINK
    for _ in range(MAX_REDIRECTS + 1):
        check_link(url, loopback_allowed=loopback_allowed, name=name)
        address = httpx.URL(url)  # a signed one is long, and takes httpx a while
        guard = public_only(address, loopback_allowed=loopback_allowed, name=name)
        # A compressed answer could hold a thousand times of what arrives; pictures are compressed already.
        headers = {"Accept": "image/*", "Accept-Encoding": "identity"}
        async with streamed(http, "GET", address, headers=headers, extensions=guard) as response:
            if response.is_redirect and "location" in response.headers:
                url, name = _joined(url, response.headers["location"]), _REDIRECTED_LINK
                continue
            if not response.is_success:
                raise _status_error(response, name)
            await _store(response, part)
            return str(response.headers.get("content-type", ""))
    raise DownloadError(f"its link redirects more than {MAX_REDIRECTS} times")


def _status_error(response: httpx.Response, name: str) -> DownloadError:
    code = response.status_code
    again: Again = "no"
    if code in (408, 425, 429) or code >= 500:
        again = "yes"
    elif code in (403, 404):
        again = "while fresh"
    return DownloadError(f"{name} answered HTTP {code}", again=again, retry_after=response.headers.get("retry-after"))


async def _store(response: httpx.Response, part: PartFile) -> None:
    """Write a response's body, of which only a part is in memory at any time."""
    coding = coding_of(response.headers.get("content-encoding"))
    if coding in PLAIN:
        blocks = response.aiter_bytes()
    elif coding in ZIPPED:
        blocks = unzipped(response.aiter_raw(), coding)
    else:
        raise DownloadError(f'it was sent in the encoding "{coding[:20]}", which was not asked for')
    pending, size_bytes = bytearray(), 0
    try:
        async for block in blocks:
            pending += block
            size_bytes += len(block)
            if size_bytes > MAX_IMAGE_BYTES:
                raise DownloadError(f"it is larger than {MAX_IMAGE_BYTES // 1024 // 1024} MiB")
            if len(pending) >= _WRITE_BYTES:
                await asyncio.to_thread(part.write, bytes(pending))
                pending.clear()
    except UnzipError as exc:
        raise DownloadError(f"it did not arrive ({exc})", again="yes") from exc
    await asyncio.to_thread(part.write, bytes(pending))


def _joined(url: str, location: str) -> str:
    try:
        split_url(location)
        return urljoin(url, location)
    except ValueError as exc:
        raise DownloadError(_UNREADABLE_REDIRECT) from exc
