"""Read the links to pictures from RunAPI's responses, and how long they live. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from flux2_tool._clock import iso_utc
from flux2_tool._net import is_private_url, is_web_url
from flux2_tool.runapi import contract

# One task makes one picture; more links than this are ignored.
MAX_IMAGES: Final = 64
_MAX_DEPTH: Final = 6
# A scheme or a path, and not words such as "none yet".
_LIKE_A_LINK: Final = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:[^\s]|/[^\s])")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLink:
    """The link to one finished picture."""

    url: str
    expires_at: str | None = None


def image_links(body: Any, fields: tuple[str, ...] = contract.IMAGE_FIELDS) -> tuple[ImageLink, ...]:
    """Return the picture links in the first field that has any: a string, a list, or objects with a URL."""
    return tuple(_links_in(body, fields, 0)[:MAX_IMAGES]) if isinstance(body, Mapping) else ()


def names_unusable_links(body: Any) -> bool:
    """Return whether a field that is for pictures alone has a link, also one that nothing can be fetched by: relative,
    of another scheme, with a user name, too long."""
    holders = [body, *(body.get(field) for field in ("data", "result"))] if isinstance(body, Mapping) else []
    return any(
        isinstance(holder, Mapping) and _has_link_text(holder, contract.UNAMBIGUOUS_IMAGE_FIELDS, 0)
        for holder in holders
    )


def read_instant(value: Any) -> str | None:
    """Return an ISO 8601 time in this package's format (UTC), or None if it is not one."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return iso_utc((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def usable(links: tuple[ImageLink, ...], https_only: bool) -> tuple[ImageLink, ...]:
    """Return the links that may be fetched and shown: to no private address, and with https where that is asked for."""
    return tuple(
        link
        for link in links
        if (not https_only or urlsplit(link.url).scheme == "https")
        and not is_private_url(link.url, loopback_allowed=not https_only)
    )


@lru_cache(maxsize=256)
def url_expiry(url: str, finished_at: float) -> str:
    """Return when an image link expires, in UTC: as a presigned URL says, else seven days after the task ended.

    Source: AWS Signature Version 4, query parameters X-Amz-Date and X-Amz-Expires.
    """
    query = {name.lower(): values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    try:
        # Not by strptime, which reads a module of Python's from a file when it is first needed.
        signed = datetime.fromisoformat(query["x-amz-date"]).replace(tzinfo=UTC).timestamp()
        life_s = float(query["x-amz-expires"])
        if not 0 <= life_s <= 10 * contract.IMAGE_URL_LIFE_S:
            raise ValueError(life_s)
        return iso_utc(signed + life_s)
    except (KeyError, ValueError, OverflowError):
        return iso_utc(finished_at + contract.IMAGE_URL_LIFE_S)


def _links_in(holder: Mapping[str, Any], fields: tuple[str, ...], depth: int) -> list[ImageLink]:
    for field in fields:
        found = _links_of(holder.get(field), depth)
        if found:
            return found
    return []


def _has_link_text(value: Any, fields: tuple[str, ...], depth: int) -> bool:
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, Mapping):
        return any(_has_link_text(value.get(field), contract.IMAGE_FIELDS, depth + 1) for field in fields)
    if isinstance(value, list):
        return any(_has_link_text(item, fields, depth + 1) for item in value[:MAX_IMAGES])
    return isinstance(value, str) and depth > 0 and _LIKE_A_LINK.match(value) is not None


def _links_of(value: Any, depth: int) -> list[ImageLink]:
    if depth > _MAX_DEPTH:
        return []
    if is_web_url(value):
        return [ImageLink(url=value)]
    if isinstance(value, list):
        found = [link for item in value[:MAX_IMAGES] for link in _links_of(item, depth + 1)]
        return list({link.url: link for link in found}.values())[:MAX_IMAGES]
    if isinstance(value, Mapping):
        url = value.get(contract.IMAGE_URL_FIELD)
        if is_web_url(url):
            return [ImageLink(url=url, expires_at=read_instant(value.get(contract.IMAGE_EXPIRY_FIELD)))]
        return _links_in(value, contract.IMAGE_FIELDS, depth + 1)
    return []
