"""Read a tool call's arguments from their JSON text; `validation.py` judges what they are.

Pure. Python's parser keeps the last of two equal keys, and refuses numbers of thousands of digits in words of its own.
"""

from __future__ import annotations

import json
from typing import Any, Final

from flux2_tool.exceptions import InvalidArgumentsError

# What Python turns into an integer and back without complaint, whatever its own limit is set to.
_MAX_DIGITS: Final = 600


def arguments_of_json(text: str) -> Any:
    """Return a tool call's arguments from their JSON text.

    Raises:
        InvalidArgumentsError: It is not JSON, or has a duplicate key; the message says which.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_int=_number)
    except json.JSONDecodeError as exc:
        raise no_arguments(f"the arguments are not JSON: {exc.msg} at character {exc.pos + 1}") from exc
    except RecursionError as exc:
        raise no_arguments("the arguments are nested too deep") from exc


def no_arguments(message: str) -> InvalidArgumentsError:
    """Return the error for text that is not a call's arguments."""
    return InvalidArgumentsError(message, hint="give one JSON object", violations=(message,))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise no_arguments("the arguments contain a duplicate key")
    return found


def _number(digits: str) -> int | float:
    """Return a number; one of very many digits as a float, which may be infinite, so that it is refused by name."""
    return float(digits) if len(digits) > _MAX_DIGITS else int(digits)
