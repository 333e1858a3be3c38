"""Read a tool call's arguments from their JSON text; `validation.py` judges what they are.

Pure. Python's parser keeps the last of two equal keys, and refuses a byte order mark and numbers of thousands of digits
in words of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from flux2_tool.exceptions import InvalidArgumentsError
from flux2_tool.schema.json_numbers import json_number
from flux2_tool.schema.value_text import shown_text


def arguments_of_json(text: str) -> Any:
    """Return a tool call's arguments from their JSON text.

    Raises:
        InvalidArgumentsError: It is not JSON, or has a duplicate key; the message says where, or which key.
    """
    try:
        # A number of very many digits may become an infinite float, so that it is refused by name.
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_without_duplicates, parse_int=json_number)
    except json.JSONDecodeError as exc:
        what = exc.msg.removesuffix(" at")  # some of the parser's texts end so already
        raise no_arguments(f"the arguments are not JSON: {what} at character {exc.pos + 1}") from exc
    except RecursionError as exc:
        raise no_arguments("the arguments are nested too deep") from exc


def no_arguments(message: str, *, hint: str = "give one JSON object") -> InvalidArgumentsError:
    """Return the error for text that is not a call's arguments."""
    return InvalidArgumentsError(message, hint=hint, violations=(message,))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        repeated, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise no_arguments(f'the arguments give the key "{shown_text(repeated)}" twice', hint="give each key once")
    return found
