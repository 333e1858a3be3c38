"""What one call of the Python API may be given beside the tools' own arguments, and the refusal of anything else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypedDict

from flux2_tool.engine.wait import OnProgress
from flux2_tool.exceptions import InvalidArgumentsError
from flux2_tool.schema.argument_aliases import alias_hint
from flux2_tool.schema.manifest import Tool, load_manifest
from flux2_tool.schema.results import ImageInfo, ToolResult
from flux2_tool.schema.validation import public_names, refusal, validate_arguments
from flux2_tool.schema.value_text import nearest, shown_text
from flux2_tool.schema.violations import near_text
from flux2_tool.settings import Settings

Source = str | os.PathLike[str] | ToolResult | ImageInfo


class WaitOptions(TypedDict, total=False):
    """How one call waits.

    Attributes:
        wait_s: The longest wait, in seconds; the result's state is "processing" when the image takes longer.
        session: The call's session, instead of the tool's own.
        output_dir: A folder to save the pictures in, "~" for the home folder; checked before anything is sent. A failed
            download is a warning.
        on_progress: Called at every change and every few seconds of the wait, on the event loop's thread.
    """

    wait_s: float | None
    session: str | None
    output_dir: str | os.PathLike[str] | None
    on_progress: OnProgress | None


class ImageOptions(WaitOptions, total=False):
    """How one call makes its images.

    Attributes:
        count: How many pictures, 1 to 4, each a task of its own and charged; by default 1.
        new: Always make, and pay for, a new image, even if an equal call of the session still waits.
        enable_safety_checker: RunAPI's safety checker; pro and flex only.
        callback_url: A public webhook address; its host must be one of the setting `callback_hosts`.
    """

    count: int | None
    new: bool
    enable_safety_checker: bool | None
    callback_url: str | None


# The tools' arguments that have another name here.
_NAMES: Final = {"source_image_urls": "sources", "task_id": "task", "timeoutSeconds": "wait_s"}
_WAITS: Final = frozenset(("timeoutseconds", "timeout", "timeout_s", "timeout_seconds", "wait"))


def check_options(tool: str, arguments: Mapping[str, Any], options: Mapping[str, Any], settings: Settings) -> None:
    """Refuse keywords that a named method does not take, as unknown arguments are refused everywhere.

    Args:
        tool: The method's tool.
        arguments: Those of the call; where a keyword is refused, what is wrong with them is told as well.
        options: The keywords.
        settings: The operator's rules.

    Raises:
        InvalidArgumentsError: There is such a keyword. Nothing was sent.
    """
    manifest = load_manifest()
    takes = WaitOptions if tool == "get_image_task" else ImageOptions
    found = list(_unknown(manifest.tools[tool], options, takes.__annotations__))
    if not found:
        return
    try:
        validate_arguments(manifest, tool, arguments, tiers=settings.tiers, agent_host=False)
    except InvalidArgumentsError as exc:
        found += exc.violations
    raise refusal(manifest.tools[tool], found)


def check_call_options(options: Mapping[str, Any]) -> None:
    """Refuse keywords that `call` does not take; the tool's arguments are an object of their own.

    Raises:
        InvalidArgumentsError: There is one. Nothing was sent.
    """
    takes = list(WaitOptions.__annotations__)
    found = [
        f'unknown keyword "{shown_text(name)}" of call: '
        + (_renamed(name) or f"beside tool and arguments it takes {', '.join(takes)}{near_text(nearest(name, takes))}")
        for name in options
        if name not in takes
    ]
    if found:
        hint = "correct the program that calls the tool; nothing was sent"
        raise InvalidArgumentsError("; ".join(found), hint=hint, violations=tuple(found))


def _unknown(tool: Tool, options: Mapping[str, Any], takes: Mapping[str, Any]) -> Iterator[str]:
    names = list(dict.fromkeys([*(_NAMES.get(name, name) for name in public_names(tool)), *takes]))
    for name in options:
        if name not in takes:
            advice = _renamed(name) or alias_hint(name, tool)
            advice = advice or f"{tool.name} takes {', '.join(names)}{near_text(nearest(name, names))}"
            yield f'unknown argument "{shown_text(name)}": {advice.replace("source_image_urls", "sources")}'


def _renamed(name: str) -> str | None:
    known = "wait_s" if name.casefold() in _WAITS else _NAMES.get(name)
    return None if known is None else f"it is called {known} here"
