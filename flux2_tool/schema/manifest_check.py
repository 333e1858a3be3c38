"""Find every problem of a manifest: violations of `manifest_schema.json`, and drift between its parts.

Pure functions over text and data. Drift is what a schema cannot express: a tier of a tool that does not exist, a price
for a resolution that does not exist, a default that its own schema rejects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # comes with jsonschema

from flux2_tool.exceptions import error_types
from flux2_tool.schema.expand import (
    DEFAULT,
    RESOLUTION,
    SOURCES,
    VALUES,
    expanded_settings,
    expanded_tools,
    variable_of,
)
from flux2_tool.schema.manifest import MAX_MANIFEST_BYTES, Tool
from flux2_tool.schema.yaml_text import parse_yaml

VERSION_LINE = re.compile(r'(?m)^version: "(?P<version>[^"]+)"$')
MAX_DEPTH = 40
_LISTS = {
    VALUES: ("aspect_ratios", "output_resolutions", "models", "tiers", "error_codes"),
    DEFAULT: ("output_resolutions", "models", "tiers"),
}


def _schema_of_schemas() -> dict[str, Any]:
    """Return what a JSON Schema of known keywords must match: the vocabularies' own schemas as one.

    JSON Schema itself lets unknown keywords pass, such as what a comma makes of an unquoted description in { braces }.
    """
    parts = [part["$ref"] for part in Draft202012Validator.META_SCHEMA["allOf"]]
    vocabularies = [REGISTRY.contents(f"https://json-schema.org/draft/2020-12/{part}") for part in parts]
    whole = {
        "type": ["object", "boolean"],
        "properties": {name: item for part in vocabularies for name, item in part["properties"].items()},
        "patternProperties": {"^x-": True},
        "additionalProperties": False,
        "$defs": {name: item for part in vocabularies for name, item in part.get("$defs", {}).items()},
    }
    found: dict[str, Any] = json.loads(json.dumps(whole).replace('"$dynamicRef": "#meta"', '"$ref": "#"'))
    return found


_SCHEMA_OF_SCHEMAS: Final = _schema_of_schemas()
_SCHEMAS: Final = Draft202012Validator(_SCHEMA_OF_SCHEMAS, format_checker=Draft202012Validator.FORMAT_CHECKER)


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema a manifest must match."""
    text = files("flux2_tool.schema").joinpath("manifest_schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def check_manifest(text: str) -> list[str]:
    """Return every problem of a manifest's text as "path: what is wrong"; an empty list means that it is valid."""
    if len(text) > MAX_MANIFEST_BYTES:
        return [f"(file): longer than {MAX_MANIFEST_BYTES} characters"]
    try:
        data = parse_yaml(text)
    except yaml.MarkedYAMLError as exc:
        where = f"line {exc.problem_mark.line + 1}" if exc.problem_mark else "(file)"
        return [f"{where}: not usable YAML: {exc.problem or exc.context or 'unreadable'}"]
    except yaml.YAMLError as exc:
        return [f"(file): not usable YAML: {str(exc).splitlines()[0]}"]
    except (RecursionError, ValueError) as exc:
        return [f"(file): not usable YAML: {exc}"]
    shape = list(_shape_problems(data))
    if shape:
        return shape
    found = [
        f"{_path(error.absolute_path)}: {_shortened(error.message)}"
        for error in Draft202012Validator(manifest_schema()).iter_errors(data)
    ]
    if found:
        return sorted(found)
    if VERSION_LINE.search(text) is None:
        found.append('version: must be on a line of its own as version: "X.Y.Z", the build reads that line')
    drift = [*_tier_drift(data), *_reference_drift(data, ""), *_variable_drift(data), *_group_drift(data)]
    names = [tool["name"] for tool in data["tools"]]
    drift.extend(f"tools: duplicate name {name}" for name in _duplicates(names))
    if drift:
        return [*found, *drift]
    return [*found, *_expanded_drift(data)]


def _duplicates(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _shape_problems(data: Any) -> Iterator[str]:
    stack: list[tuple[Any, str, int]] = [(data, "", 0)]
    while stack:
        value, path, depth = stack.pop()
        if depth > MAX_DEPTH:
            yield f"{path[:80]}…: nested deeper than {MAX_DEPTH} levels (does an alias contain itself?)"
            return
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    yield f"{path or '(file)'}: the key {key!r} is not text; put it in quotes"
                    continue
                stack.append((item, f"{path}.{key}" if path else key, depth + 1))
        elif isinstance(value, list):
            stack.extend((item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value))
        elif value is not None and not isinstance(value, str | int | float | bool):
            yield f"{path}: {type(value).__name__} is not JSON data; put it in quotes"


def _tier_drift(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield each statement of a tier that no tool, argument or resolution supports."""
    tools = {tool["name"]: tool["input_schema"]["properties"] for tool in data["tools"]}
    slugs = [model["slug"] for tier in data["tiers"].values() for model in tier["models"].values()]
    yield from (f"tiers: duplicate slug {slug}" for slug in _duplicates(slugs))
    for name, tier in data["tiers"].items():
        arguments = {argument for tool in tier["models"] for argument in tools.get(tool, {})}
        for word in ("requires", "forbids"):
            for argument in tier.get(word, []):
                if argument not in arguments:
                    yield f"tiers.{name}.{word}: none of its tools has an argument {argument}"
        for tool, model in tier["models"].items():
            path = f"tiers.{name}.models.{tool}"
            if tool not in tools:
                yield f"{path}: there is no tool {tool}; tools are {', '.join(tools)}"
            elif "model" not in tools[tool]:
                yield f"{path}: that tool has no argument model"
            else:
                yield from _entry_drift(data, {**tier, **model}, tools[tool], path, tier=name)
    for index, tool in enumerate(data["tools"]):
        offered = [
            tier for tier in data["tiers"].values() if tier["enabled_by_default"] and tool["name"] in tier["models"]
        ]
        if "model" in tool["input_schema"]["properties"] and not offered:
            yield f"tools[{index}]: no tier that is enabled by default has a model for {tool['name']}"


def _entry_drift(
    data: Mapping[str, Any], entry: Mapping[str, Any], properties: Mapping[str, Any], path: str, *, tier: str
) -> Iterator[str]:
    """Yield each problem of one model; `entry` includes its tier's values."""
    if missing := [word for word in ("use_for", "prices_usd", "typical_s") if word not in entry]:
        yield f"{path}: {' and '.join(missing)} must be given here or at the tier"
        return
    if tier not in entry["slug"].split("-"):
        yield f"{path}.slug: {tier} is not part of the slug"
    forbids, resolutions = entry.get("forbids", []), data["output_resolutions"]
    if RESOLUTION in forbids or RESOLUTION not in properties:
        resolutions = resolutions[:1]
    for word in ("prices_usd", "typical_s"):
        for resolution in entry[word]:
            if resolution not in resolutions:
                yield f"{path}.{word}.{resolution}: an image can only be {' or '.join(resolutions)}"
    if set(entry["prices_usd"]) != set(entry["typical_s"]):
        yield f"{path}: prices_usd and typical_s must name the same resolutions"
    for argument in set(forbids) & {*entry.get("requires", []), "model", "prompt"}:
        yield f"{path}.forbids: {argument} must be given"
    ratios = [*data["aspect_ratios"], *properties.get("aspect_ratio", {}).get("x-values-also", [])]
    for ratio in entry.get("refuses_aspect_ratios", []):
        if ratio not in ratios:
            yield f"{path}.refuses_aspect_ratios: there is no {ratio}"
    if "max_sources" in entry and entry["max_sources"] > properties.get(SOURCES, {}).get("maxItems", 0):
        yield f"{path}.max_sources: more than the tool takes"


def _reference_drift(value: Any, path: str) -> Iterator[str]:
    """Yield each reference to a list that does not exist."""
    if isinstance(value, dict):
        for word, item in value.items():
            where = f"{path}.{word}" if path else word
            if word in _LISTS and item not in _LISTS[word]:
                yield f"{where}: {item} is not one of {', '.join(_LISTS[word])}"
            yield from _reference_drift(item, where)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _reference_drift(item, f"{path}[{index}]")


def _variable_drift(data: Mapping[str, Any]) -> Iterator[str]:
    variables = [item["env"] for item in data["settings"].values() if item.get("env")]
    yield from (f"settings: duplicate variable {name}" for name in _duplicates(variables))
    for key, item in data["settings"].items():
        if item.get("env") == variable_of(key):
            yield f"settings.{key}.env: is {variable_of(key)} anyway; leave it out"
        elif item.get("env") is not None and item["env"] not in data["environment"]:
            yield f"settings.{key}.env: must be null or one of {', '.join(data['environment'])}"


def _group_drift(data: Mapping[str, Any]) -> Iterator[str]:
    grouped = [key for group in data["setting_groups"] for key in group["settings"]]
    yield from (f"setting_groups: {key} is in two of them" for key in _duplicates(grouped))
    yield from (f"setting_groups: {key} is no setting" for key in grouped if key not in data["settings"])
    yield from (f"settings.{key}: is in none of setting_groups" for key in data["settings"] if key not in grouped)
    yield from (
        f"setting_groups: duplicate id {name}" for name in _duplicates([g["id"] for g in data["setting_groups"]])
    )


def _expanded_drift(data: Mapping[str, Any]) -> Iterator[str]:
    try:
        tools, settings = list(expanded_tools(data)), dict(expanded_settings(data))
    except (KeyError, TypeError, AttributeError, ValueError) as exc:  # pragma: no cover - a net behind the schema
        yield f"(file): cannot be expanded: {type(exc).__name__} {exc}"
        return
    for key, setting in settings.items():
        yield from _schema_drift(setting.schema, f"settings.{key}")
    for index, tool in enumerate(tools):
        yield from _tool_drift(tool, f"tools[{index}]")


def _tool_drift(tool: Tool, path: str) -> Iterator[str]:
    yield from _object_drift(tool.input_schema, f"{path}.input_schema")
    yield from _object_drift(tool.output_schema, f"{path}.output_schema")
    placeholders = re.findall(r"\{(\w*)\}", tool.description)
    if placeholders != (["tiers"] if tool.models else []):
        wanted = "must hold {tiers} once and no other placeholder" if tool.models else "holds a placeholder"
        yield f"{path}.description: {wanted}"
    code = tool.output_schema["properties"]["error"].get("properties", {}).get("code", {})
    if code.get("enum") != [kind.code for kind in error_types()]:
        yield f"{path}.output_schema.properties.error.properties.code: must have x-values-from: error_codes"


def _object_drift(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield each problem of an object's schema and of its members' defaults."""
    found = list(_schema_drift(schema, path))
    yield from found
    if found:
        return
    properties = schema["properties"]
    for name in schema.get("required", []):
        if name not in properties:
            yield f"{path}.required: there is no property {name}"
    for name, item in properties.items():
        yield from _default_drift(item, f"{path}.properties.{name}")


def _schema_drift(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield why this is not a JSON Schema of known keywords, or does not accept its own default."""
    error = best_match(_SCHEMAS.iter_errors(schema))
    if error is None:
        yield from _default_drift(schema, path)
        return
    text = f"not a JSON Schema: {_shortened(error.message)}"
    if error.validator == "additionalProperties":
        known = _SCHEMA_OF_SCHEMAS["properties"]
        names = ", ".join(repr(name) for name in error.instance if name not in known and not name.startswith("x-"))
        text = f"unknown keyword {_shortened(names)}; is a text in braces not in quotes?"
    yield f"{path}.{_path(error.absolute_path)}: {text}"


def _default_drift(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield why a schema does not accept its own default."""
    if "default" in schema:
        errors = Draft202012Validator(schema).iter_errors(schema["default"])
        yield from (f"{path}.default: {_shortened(error.message)}" for error in errors)


def _path(parts: Any) -> str:
    found = ""
    for part in parts:
        found += f"[{part}]" if isinstance(part, int) else f".{part}" if found else str(part)
    return found or "(top level)"


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"
