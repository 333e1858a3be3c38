"""Check values against a JSON Schema of draft 2020-12; jsonschema, slow to import, is asked only where it may object.

Most values are right, which takes no more than the few keywords that the manifest uses. Only a "yes" counts: where it
is "no", or the schema has another keyword, jsonschema judges, and its errors are what is reported. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

Schema = Mapping[str, Any]


def schema_errors(value: Any, schema: Schema) -> Iterable[ValidationError]:
    """Return jsonschema's errors of a value, none for one that matches the schema."""
    if conforms(value, schema):
        return ()
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema).iter_errors(value)


def conforms(value: Any, schema: Schema) -> bool:
    """Return whether it is certain that a value of JSON's types matches a schema."""
    for keyword, wanted in schema.items():
        if keyword in _ANNOTATIONS or keyword.startswith("x-"):
            continue
        rule = _RULES.get(keyword)
        if rule is None or not rule(value, wanted, schema):
            return False
    return True


def _has_type(value: Any, wanted: Any, _schema: Schema) -> bool:
    of_kind = _TYPES.get(wanted) if isinstance(wanted, str) else None
    return of_kind is not None and isinstance(value, of_kind) and (of_kind is bool or not isinstance(value, bool))


def _properties_match(value: Any, wanted: Mapping[str, Schema], _schema: Schema) -> bool:
    return not isinstance(value, dict) or all(
        conforms(value[name], schema) for name, schema in wanted.items() if name in value
    )


def _has_no_others(value: Any, wanted: Any, schema: Schema) -> bool:
    if wanted is not False:
        return False
    return not isinstance(value, dict) or all(name in schema.get("properties", {}) for name in value)


def _rule_matches(value: Any, condition: Schema, schema: Schema) -> bool:
    """Check `if` with `then`: unless the condition is certainly not met, the consequence must hold."""
    return _cannot_match(value, condition) or conforms(value, schema.get("then", {}))


def _cannot_match(value: Any, condition: Schema) -> bool:
    """Return whether it is certain that an object does not match the condition of a model's rule."""
    if not isinstance(value, dict):
        return False
    chosen = condition.get("properties", {})
    return any(name not in value for name in condition.get("required", ())) or any(
        isinstance(schema.get("const"), str) and name in value and value[name] != schema["const"]
        for name, schema in chosen.items()
    )


def _has_no_repeat(value: Any, wanted: Any, _schema: Schema) -> bool:
    if not wanted or not isinstance(value, list):
        return True
    return all(isinstance(item, str) for item in value) and len(set(value)) == len(value)


def _is_one_of(value: Any, wanted: Any, _schema: Schema) -> bool:
    return isinstance(value, str) and value in wanted


_ANNOTATIONS: Final = frozenset(("title", "description", "default", "examples", "then"))
_TYPES: Final[Mapping[str, type | tuple[type, ...]]] = MappingProxyType(
    {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
)
_RULES: Final[Mapping[str, Callable[[Any, Any, Schema], bool]]] = MappingProxyType(
    {
        "type": _has_type,
        "enum": _is_one_of,
        "const": lambda value, wanted, _: isinstance(value, str) and value == wanted,
        "properties": _properties_match,
        "additionalProperties": _has_no_others,
        "required": lambda value, wanted, _: not isinstance(value, dict) or all(name in value for name in wanted),
        "items": lambda value, wanted, _: not isinstance(value, list) or all(conforms(item, wanted) for item in value),
        "minItems": lambda value, wanted, _: not isinstance(value, list) or len(value) >= wanted,
        "maxItems": lambda value, wanted, _: not isinstance(value, list) or len(value) <= wanted,
        "uniqueItems": _has_no_repeat,
        "minLength": lambda value, wanted, _: not isinstance(value, str) or len(value) >= wanted,
        "maxLength": lambda value, wanted, _: not isinstance(value, str) or len(value) <= wanted,
        "pattern": lambda value, wanted, _: not isinstance(value, str) or re.search(wanted, value) is not None,
        "minimum": lambda value, wanted, _: not isinstance(value, int | float) or value >= wanted,
        "maximum": lambda value, wanted, _: not isinstance(value, int | float) or value <= wanted,
        "allOf": lambda value, wanted, _: all(conforms(value, schema) for schema in wanted),
        "if": _rule_matches,
    }
)
