"""Turn jsonschema's errors into sentences a model or a person can act on.

Pure functions. A sentence names the path, the given value (shortened), the allowed values and the nearest one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from flux2_tool.schema.manifest import Tool
from flux2_tool.schema.value_text import allowed, kind_of, nearest, nearest_bound, shown

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError


_SOURCES = "source_image_urls["
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]")
_CONTROLS = re.compile(r"[\x00-\x1f]")
_NOT_IN_LINKS = re.compile(r"[\x00-\x1f\s]")
_NAMED = {"\t": "a tab", "\n": "a line break", "\r": "a line break", " ": "a space"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One violation. A `narrow` one is of one model's rule and replaces the general one of its path and kind."""

    path: str
    kind: str
    text: str
    narrow: bool = False


def without_repeats(found: Sequence[Violation]) -> Iterator[Violation]:
    """Yield the violations, without those that a more specific one at the same path covers."""
    narrowed = {(item.path, item.kind) for item in found if item.narrow}
    settled = {item.path: item.kind for item in found if item.kind in ("type", "minLength")}
    for item in found:
        general = not item.narrow and (item.path, item.kind) in narrowed
        if not general and settled.get(item.path, item.kind) == item.kind:
            yield item


def violations_of(
    tool: Tool,
    arguments: dict[str, Any],
    unreadable: set[str],
    error: ValidationError,
    tiers: Sequence[str],
) -> Iterator[Violation]:
    """Yield the violations of one jsonschema error.

    Args:
        tool: The tool that is called.
        arguments: The arguments jsonschema saw.
        unreadable: Names of arguments excluded from validation, which do not count as missing.
        error: The error.
        tiers: The enabled tiers, for naming models.
    """
    path = _path(error.absolute_path)
    narrow = "then" in error.absolute_schema_path
    model = arguments.get("model", tool.default_model)
    schema = _property_at(tool, list(error.absolute_path))
    kind, value = str(error.validator), cast("Any", error.validator_value)
    if kind == "required":
        for name in value:
            if name not in arguments and name not in unreadable:
                part = tool.input_schema["properties"][name]
                if narrow:
                    part = {**part, **cast("Any", error.schema).get("properties", {}).get(name, {})}
                who = f"{model} requires {name}" if narrow else f"{name} is missing; {tool.name} requires it"
                yield Violation(path=name, kind=f"required {name}", text=f"{who}: {allowed(part)}", narrow=narrow)
        return
    text = _sentence(tool, error, path, {**schema, kind: value}, tiers)
    if narrow:
        text = _model_sentence(error, path, str(model))
    yield Violation(path=path, kind=kind, text=text, narrow=narrow)


def _property_at(tool: Tool, parts: list[Any]) -> dict[str, Any]:
    schema: dict[str, Any] = tool.input_schema
    for part in parts:
        schema = schema["items"] if isinstance(part, int) else schema["properties"][part]
    return schema


def _sentence(tool: Tool, error: ValidationError, path: str, schema: dict[str, Any], tiers: Sequence[str]) -> str:
    given, kind = cast("Any", error.instance), error.validator
    if path == "model":
        enabled = [model.slug for model in tool.enabled_models(tiers)]
        schema = {**schema, "enum": enabled or schema["enum"]}
    if kind == "enum":
        choices = schema["enum"]
        return f"{path} {shown(given)} is not {allowed({'enum': choices})}" + near_text(nearest(given, choices))
    if kind == "type":
        return f"{path} must be {allowed(schema)}, not {kind_of(given)}"
    if kind in ("minimum", "maximum"):
        return f"{path} {shown(given)} is not {allowed(schema)}" + near_text(nearest_bound(given, schema))
    if kind == "minLength":
        return f"{path} is empty; it must be {allowed(schema)}"
    if kind == "maxLength":
        return f"{path} has {len(given)} characters; at most {schema['maxLength']} are allowed"
    if kind == "pattern":
        if not given.strip():
            return f"{path} is only white space; it must be {allowed(schema)}"
        reason = _no_source(given) if path.startswith(_SOURCES) else None
        if reason is not None:
            return f"{path} {shown(given)} {reason}; it must be {allowed(schema)}"
        return f"{path} {shown(given)} is not {allowed(schema)}"
    if kind in ("minItems", "maxItems"):
        return f"{path} has {len(given)}; {allowed(schema)} is allowed" + near_text(schema[kind])
    return f"{path} is not {allowed(schema)}"


def _no_source(text: str) -> str | None:
    """Return why a text is no source picture, where that can be told; it follows the text in a sentence."""
    trimmed = text.strip()
    if _WINDOWS_PATH.match(trimmed):
        return "is a path of Windows, which cannot be opened here (in WSL, wslpath translates it)"
    if trimmed[:5].lower() == "data:":
        return f'{_data_fault(trimmed)}; write it as "data:image/png;base64,…"'
    is_link = trimmed[:5].lower() in ("http:", "https")
    found = (_NOT_IN_LINKS if is_link else _CONTROLS).search(trimmed)
    if found is None:
        return None
    what = _NAMED.get(found[0], f"a character that it must not have (U+{ord(found[0]):04X})")
    position = text.index(trimmed) + found.start() + 1
    remedy = "rename the file" if not is_link else "write it as %20" if found[0] == " " else "write the link without it"
    return f"has {what} at position {position}; {remedy}"


def _data_fault(url: str) -> str:
    _, comma, data = url.partition(",")
    if not comma:
        return "has no comma before its data"
    return "has too much before its comma" if data else "has no data after its comma"


def _model_sentence(error: ValidationError, path: str, model: str) -> str:
    given, kind, value = cast("Any", error.instance), error.validator, cast("Any", error.validator_value)
    if kind == "not":
        return f"{model} does not take {path}; leave it out"
    if kind == "enum":
        near = nearest(given, value)
        return f"{model} takes {path} {', '.join(value)} only, not {shown(given)}" + near_text(near)
    if kind == "maxItems":
        amount = f"exactly {value} source picture" if value == 1 else f"at most {value} source pictures"
        return f"{model} takes {amount}, {len(given)} were given ({path})"
    return f"{model} does not take this {path}"


def near_text(value: Any) -> str:
    """Return the ending of a sentence that names the nearest allowed value, if there is one."""
    return "" if value is None else f" (nearest: {value})"


def _path(parts: Any) -> str:
    found = ""
    for part in parts:
        found += f"[{part}]" if isinstance(part, int) else f".{part}" if found else str(part)
    return found
