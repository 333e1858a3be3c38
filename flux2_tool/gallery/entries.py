"""Which pictures of the journal can still be shown, and what is said of each. Only looks whether files are there."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flux2_tool._clock import iso_utc
from flux2_tool._files import is_file
from flux2_tool._net import is_loopback_url
from flux2_tool.journal import Record
from flux2_tool.schema.manifest import Manifest
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.tasks.record_cost import RecordCost, cost_of

LONGEST_PROMPT: Final = 6000
# They turn the text around them, and a page has its own way to show text of any direction.
_TURNING: Final = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One picture that can still be shown.

    Attributes:
        key: Names it on the page and in addresses; letters, digits and hyphens.
        ref: Its task, or its record where RunAPI gave no id.
        made_at: When it was finished, in seconds since 1970.
        account: Tells accounts apart; no part of a key.
        path: Its saved copy.
        url: Its link, where it has not ended.
        expires_at: When the link ends, in UTC, None when that is not known.
    """

    key: str
    record_id: str
    ref: str
    prompt: str
    model: str
    resolution: str
    is_edit: bool
    made_at: float
    cost: RecordCost
    account: str
    base_url: str
    path: Path | None
    url: str | None
    expires_at: str | None

    @property
    def is_sandbox(self) -> bool:
        """Whether a mock on this machine made it, and not RunAPI."""
        return is_loopback_url(self.base_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """The pictures of a journal, newest first.

    Attributes:
        gone: How many can no longer be shown: the link has ended, and there is no copy.
    """

    shown: tuple[Entry, ...]
    gone: int = 0


def entries_of(records: Iterable[Record], manifest: Manifest, *, now: float) -> Entries:
    """Return the pictures that can still be shown.

    Args:
        records: The journal's.
        manifest: For list prices.
        now: The wall clock, in seconds since 1970.
    """
    found = [entry for record in records for entry in _of_record(record, manifest, now=now)]
    shown = [entry for entry in found if entry.path is not None or entry.url is not None]
    shown.reverse()  # of one second, the later ones first
    shown.sort(key=lambda entry: entry.made_at, reverse=True)
    return Entries(shown=tuple(shown), gone=len(found) - len(shown))


def _of_record(record: Record, manifest: Manifest, *, now: float) -> Iterator[Entry]:
    if record.state != "completed":
        return
    prompt, cost = prompt_of(record.body) or record.label, cost_of(record, manifest)
    for index, (url, expires_at) in enumerate(record.images):
        copy = Path(record.saved[index].path) if index < len(record.saved) else None
        has_ended = expires_at is not None and expires_at <= iso_utc(now)
        yield Entry(
            key="".join(c if c.isascii() and c.isalnum() else "-" for c in f"{record.record_id}-{index}"),
            record_id=record.record_id,
            ref=TaskRef.text_of(record.task_id) or f"record:{record.record_id[:8]}",
            prompt=prompt,
            model=record.model,
            resolution=record.resolution,
            is_edit=record.tool == "remix_image",
            made_at=record.finished_at or record.created_at,
            cost=cost,
            account=record.fingerprint[:8],
            base_url=record.base_url,
            path=copy if copy is not None and is_file(copy) else None,
            url=None if has_ended else url,
            expires_at=expires_at,
        )


def file_address(entry: Entry) -> str | None:
    """Return the file: address of a picture's saved copy, whatever characters its path has; None without one."""
    return None if entry.path is None else entry.path.absolute().as_uri()


def prompt_of(body: bytes) -> str:
    """Return a request's whole prompt as text that harms no page: lines stay, what steers or turns text does not."""
    try:
        prompt = str(json.loads(body)["prompt"])
    except (KeyError, TypeError, ValueError):
        return ""
    kept = "".join(c for c in prompt[:LONGEST_PROMPT] if _is_kept(c))
    return kept.strip() + ("…" if len(prompt) > LONGEST_PROMPT else "")


def _is_kept(character: str) -> bool:
    if character in "\n\t":
        return True
    # Control characters, halves of surrogates, and places of no character; joiners of emoji are none of them.
    return unicodedata.category(character) not in ("Cc", "Cs") and character not in _TURNING
