"""What Python code gives to a call, checked by its type before anything is sent: sources, tasks, folders, options.

The tools' own arguments are checked by `schema/validation.py`, as for every host; what is here exists in Python alone.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

from flux2_tool.engine.save_targets import SaveTarget
from flux2_tool.exceptions import Flux2Error, InvalidArgumentsError
from flux2_tool.hosts.python.earlier_sets import ref_of
from flux2_tool.schema.results import ImageInfo, ToolResult
from flux2_tool.schema.value_text import shown
from flux2_tool.settings import Settings

_ONE: Final = (str, os.PathLike, ToolResult, ImageInfo)
_BYTES: Final = (bytes, bytearray, memoryview)
# More than a call may have, so that one with too many is told so; an endless iterator ends here.
_MOST_READ: Final = 100
_MOST_NAMED: Final = 8
_SOURCE: Final = 'text (a link, a path, "task:ID"), a path (os.PathLike), an earlier result or one of its images'
_SOURCE_HINT: Final = (
    "Save a picture that is in memory to a file and pass the file's path, or pass its bytes as a data: URL: "
    '"data:image/png;base64," + base64.b64encode(data).decode().'
)


def sources_of(sources: Any) -> list[str]:
    """Return one source or several as the tool's argument has them.

    Raises:
        InvalidArgumentsError: One is of a type that names no picture; every such one is named.
    """
    if isinstance(sources, _ONE):
        return [_source(sources, "sources")]
    is_file = callable(getattr(sources, "read", None))
    if is_file or isinstance(sources, (*_BYTES, Mapping)) or not isinstance(sources, Iterable):
        raise _wrong(f"sources must be {_SOURCE}, or a list of these, not {_type_of(sources)}", _SOURCE_HINT)
    every = list(islice(sources, _MOST_READ))
    wrong = [f"sources[{index}] is {_type_of(one)}" for index, one in enumerate(every) if not isinstance(one, _ONE)]
    if wrong:
        named = ", ".join(wrong[:_MOST_NAMED]) + (f" and {len(wrong) - _MOST_NAMED} more" * (len(wrong) > _MOST_NAMED))
        raise _wrong(f"{named}; each source must be {_SOURCE}", _SOURCE_HINT)
    return [_source(one, f"sources[{index}]") for index, one in enumerate(every)]


def task_of(task: Any) -> str:
    """Return what names a task.

    Raises:
        InvalidArgumentsError: It is no text.
    """
    if isinstance(task, str):
        return task
    raise _wrong(
        f"task must be a task's id or reference (text) or an earlier result, not {_type_of(task)}",
        "Pass result.task.ref, or the result itself.",
    )


def folder_of(path: Any) -> Path | None:
    """Return the folder that an `output_dir` means, None without one; "~" is the home folder.

    Raises:
        InvalidArgumentsError: It is no path, or no folder can have this name.
    """
    if path is None:
        return None
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(text, str):
        raise _wrong(
            f"output_dir must be a folder's path (text or os.PathLike), not {_type_of(path)}",
            'Pass a path such as "pictures" or Path("pictures").',
        )
    return SaveTarget.of_folder(text).folder


def check_option_types(options: Mapping[str, Any]) -> None:
    """Check the types of a call's or a tool's options, whose names are known, and that a wait is one.

    Raises:
        InvalidArgumentsError: The value of one is of another type, or the wait is negative or not finite.
    """
    for name, (kind, is_right) in _KINDS.items():
        value = options.get(name)
        if value is not None and not is_right(value):
            raise _wrong(f"{name} must be {kind}, not {_type_of(value)}", f"Correct {name}, or leave it out.")
    wait_s = options.get("wait_s")
    # False for what is no number (NaN), and for a whole number of more than a float can hold.
    if wait_s is not None and not 0 <= wait_s <= sys.float_info.max:
        raise _wrong(f"wait_s must be 0 or more seconds, not {shown(wait_s)}", "Correct wait_s, or leave it out.")


@contextmanager
def hints_in_tracebacks() -> Iterator[None]:
    """Add an error's hint to its traceback, where a developer reads it."""
    try:
        yield
    except Flux2Error as exc:
        if exc.hint:
            exc.add_note(f"Hint: {exc.hint}")
        raise


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_plain_function(value: Any) -> bool:
    """Return whether a value can be called and awaits nothing."""
    return callable(value) and not _is_async(value)


def _is_async(value: Any) -> bool:
    return inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(value, "__call__", None))  # noqa: B004


_KINDS: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "wait_s": ("a number of seconds", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    "session": ("text", _is_text),
    "on_progress": ("a function that is not async", is_plain_function),
    "new": ("True or False", lambda value: isinstance(value, bool)),
    "api_key": ("text", _is_text),
    "base_url": ("text", _is_text),
    "settings": ("a Settings", lambda value: isinstance(value, Settings)),
    "environ": ("a mapping of names to text", lambda value: isinstance(value, Mapping)),
}


def _source(source: Any, where: str) -> str:
    if isinstance(source, ImageInfo):
        return source.task_ref or source.path or source.url
    if isinstance(source, ToolResult):
        if len(source.tasks) > 1:
            raise _wrong(
                f"{where}: this result has {len(source.tasks)} pictures", "Name one of them, such as result.images[0]."
            )
        return ref_of(source)
    return os.fsdecode(source)


def _type_of(value: Any) -> str:
    """Return a value's type for a message; never the value, which may be a picture."""
    if value is None:
        return "None"
    if callable(value) and _is_async(value):
        return "an async one"
    kind = type(value)
    # A module in C has the name of its own in Python behind an underscore, as io has.
    module = kind.__module__.lstrip("_")
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _wrong(message: str, hint: str) -> InvalidArgumentsError:
    text = f"{message}. Nothing was sent."
    return InvalidArgumentsError(text, hint=hint, violations=(text,))
