"""What a message says a value may be, and which allowed one is nearest."""

from __future__ import annotations

from typing import Any

import pytest

from flux2_tool.schema.value_text import allowed, nearest_bound, shown


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, "from 1 to 9"),
        ({"type": "integer", "minimum": 1}, "of at least 1"),
        ({"type": "number", "maximum": 9}, "of at most 9"),
        ({"type": "string", "minLength": 1, "maxLength": 9}, "text of 1 to 9 characters"),
        ({"type": "string", "minLength": 1}, "text of at least 1 character"),
        ({"type": "string", "maxLength": 9}, "text of at most 9 characters"),
    ],
)
def test_bounds_are_said_whichever_of_them_a_schema_has(schema: dict[str, Any], said: str) -> None:
    """The manifest may drop one; a message that names none would leave a model guessing."""
    assert allowed(schema).endswith(said)


@pytest.mark.parametrize("schema", [{"type": "integer"}, {"type": "number"}])
def test_a_number_without_bounds_is_a_number(schema: dict[str, Any]) -> None:
    """Nothing dangles behind the word."""
    assert allowed(schema) == allowed(schema).strip()
    assert "None" not in allowed(schema)


@pytest.mark.parametrize(
    ("value", "bound"), [(0, 1), (10, 9), (5, None), (True, None), ("5", None), (None, None), (-0.5, 1)]
)
def test_the_nearest_bound_is_the_one_a_number_violates(value: Any, bound: int | None) -> None:
    """A suggestion for what is no number would be nonsense."""
    assert nearest_bound(value, {"minimum": 1, "maximum": 9}) == bound


def test_a_message_is_the_same_with_every_version_of_unicode() -> None:
    """The plugin's JavaScript knows other characters than this Python; what can never be seen is escaped by both."""
    assert shown("\U0003fffd\U000323af🦊") == '"\U0003fffd\U000323af🦊"'
    assert shown("\u2065\U000e0fff\ufdd0\ue000") == '"\\u2065\\ue0fff\\ufdd0\\ue000"'
