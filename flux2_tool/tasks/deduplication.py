"""Define which requests are equal, and the error for one that is repeated too often. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from flux2_tool._clock import iso_utc
from flux2_tool.context import CONNECTION
from flux2_tool.exceptions import RepeatedRequestError
from flux2_tool.journal import ClaimRules, Record, repeats_left
from flux2_tool.schema.task_ref import TaskRef


def dedup_key(*, session: str | None, fingerprint: str, base_url: str, tool: str, arguments: Mapping[str, Any]) -> str:
    """Return a key that is the same for equal requests.

    Args:
        arguments: With the defaults filled in, so that omitting an argument equals passing its default.
    """
    text = json.dumps([session, fingerprint, base_url, tool, arguments], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def inherited_session_prefix(session: str | None) -> str | None:
    """Return the prefix of the sessions whose tasks this one may inherit: a connection inherits from earlier ones."""
    return CONNECTION if session is not None and session.startswith(CONNECTION) else None


def repeated_error(equal: tuple[Record, ...], rules: ClaimRules, *, count: int = 1) -> RepeatedRequestError:
    """Return the error for a request that was repeated too often, with the images it made.

    Args:
        equal: The images of equal requests in the window.
        rules: How many there may be.
        count: How many more were requested: fewer may still be allowed.
    """
    left = repeats_left(equal, rules.repeat_max or 0)
    if left:
        counted = sum(not record.failed_free for record in equal)
        requested = f"{counted} were requested already, so only {left}" if counted else f"only {left}"
        return RepeatedRequestError(
            f"At most {rules.repeat_max} equal images may be requested within {rules.repeat_window_s:g} s: "
            f"{requested} of these {count} may be. Nothing was sent.",
            hint=f"Call again with count {left} if the user still wants them; more need another prompt.",
        )
    made = [record for record in equal if record.state != "failed"]
    results = [
        TaskRef.text_of(record.task_id) or f"one of unknown outcome ({iso_utc(record.created_at)})" for record in made
    ]
    if len(made) < len(equal):
        results.append(f"{len(equal) - len(made)} failed")
    return RepeatedRequestError(
        f"This same request was already made {len(equal)} times within {rules.repeat_window_s:g} s: "
        f"{', '.join(results)}. Nothing was sent.",
        hint="Show the images that were made (get_image_task fetches each again). Do not repeat this call; another "
        "image needs another prompt from the user."
        if made
        else "Tell the user that this request makes no image, and ask for other words. Do not repeat this call.",
    )
