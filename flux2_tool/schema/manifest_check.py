"""Find every problem of a manifest: against `manifest_schema.json`, and for drift between its parts.

Pure functions over text and data. Drift is what a schema cannot see: a default model that does not
exist, a setting without a hint, an error code the package does not raise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from flux2_tool.exceptions import Flux2Error
from flux2_tool.schema.manifest import MAX_MANIFEST_BYTES, parse_yaml

VERSION_LINE = re.compile(r'(?m)^version: "(?P<version>[^"]+)"$')
MAX_DEPTH = 40
_WORKS_WITHOUT_VARIABLE = "python"
_OTHER_VARIABLES = {"base_url": "RUNAPI_BASE_URL"}


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema a manifest must match."""
    text = files("flux2_tool.schema").joinpath("manifest_schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def check_manifest(text: str) -> list[str]:
    """Return every problem of a manifest's text as "path: what is wrong"; an empty list means that it is right."""
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
        found.append('version: must stand on a line of its own as version: "X.Y.Z", the build reads that line')
    found.extend(_model_drift(data))
    found.extend(_setting_drift(data))
    for index, tool in enumerate(data["tools"]):
        found.extend(_tool_drift(data, tool, f"tools[{index}]"))
    names = [tool["name"] for tool in data["tools"]]
    found.extend(f"tools: the name {name} stands twice" for name in sorted(set(names)) if names.count(name) > 1)
    return found


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


def _model_drift(data: Mapping[str, Any]) -> Iterator[str]:
    tools = {tool["name"]: tool for tool in data["tools"]}
    for slug, model in data["models"].items():
        path = f"models.{slug}"
        tool = tools.get(model["tool"])
        if tool is None:
            yield f"{path}.tool: there is no tool {model['tool']}; tools are {', '.join(tools)}"
            continue
        properties = tool["input_schema"]["properties"]
        if slug not in properties.get("model", {}).get("enum", []):
            yield f"{path}: the tool {model['tool']} does not list this model in its input_schema"
        if model["tier"] not in slug.split("-"):
            yield f"{path}.tier: {model['tier']} is not part of the slug"
        resolutions = properties.get("output_resolution", {}).get("enum", [])
        for key in ("prices_usd", "typical_s"):
            for resolution in model[key]:
                if resolution not in resolutions:
                    yield f"{path}.{key}.{resolution}: the tool offers only {', '.join(resolutions) or 'none'}"
        if set(model["prices_usd"]) != set(model["typical_s"]):
            yield f"{path}: prices_usd and typical_s must name the same resolutions"


def _setting_drift(data: Mapping[str, Any]) -> Iterator[str]:
    properties, hints = data["config_schema"]["properties"], data["config_hints"]
    for key in sorted(set(properties) - set(hints)):
        yield f"config_hints: the setting {key} has no hint"
    for key in sorted(set(hints) - set(properties)):
        yield f"config_hints.{key}: there is no such setting in config_schema"
    for key, hint in hints.items():
        wanted = None if key == _WORKS_WITHOUT_VARIABLE else _OTHER_VARIABLES.get(key, f"FLUX2_TOOL_{key.upper()}")
        if hint["env"] != wanted:
            yield f"config_hints.{key}.env: must be {wanted or 'null'}"
    yield from _schema_drift(data["config_schema"], "config_schema")
    for key, schema in properties.items():
        if "description" not in schema:
            yield f"config_schema.properties.{key}: has no description"


def _tool_drift(data: Mapping[str, Any], tool: Mapping[str, Any], path: str) -> Iterator[str]:
    schema = tool["input_schema"]
    properties = schema["properties"]
    yield from _schema_drift(schema, f"{path}.input_schema")
    yield from _schema_drift(tool["output_schema"], f"{path}.output_schema")
    placeholders = set(re.findall(r"\{(\w*)\}", tool["description"]))
    if placeholders != ({"tiers"} if "model" in properties else set()):
        wanted = "must hold {tiers} once and no other placeholder" if "model" in properties else "holds a placeholder"
        yield f"{path}.description: {wanted}"
    if "model" in properties:
        model = properties["model"]
        if "default" not in model:
            yield f"{path}.input_schema.properties.model: has no default"
        for slug in model.get("enum", []):
            known = data["models"].get(slug)
            if known is None:
                yield f"{path}.input_schema.properties.model.enum: there is no model {slug}"
            elif known["tool"] != tool["name"]:
                yield f"{path}.input_schema.properties.model.enum: {slug} belongs to the tool {known['tool']}"
    codes = tool["output_schema"]["properties"]["error"].get("properties", {}).get("code", {}).get("enum", [])
    raised = error_codes()
    for code in sorted(raised.symmetric_difference(codes)):
        said = "is missing" if code in raised else "is raised by no error of this package"
        yield f"{path}.output_schema.properties.error.properties.code.enum: {code} {said}"


def error_codes() -> set[str]:
    """Return the codes of all errors this package raises."""
    found: set[str] = set()
    pending = list(Flux2Error.__subclasses__())
    while pending:
        kind = pending.pop()
        found.add(kind.code)
        pending.extend(kind.__subclasses__())
    return found


def _schema_drift(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as exc:
        yield f"{path}.{_path(exc.absolute_path)}: not a JSON Schema: {_shortened(exc.message)}"
        return
    except re.error as exc:
        yield f"{path}: a pattern is not a regular expression: {exc}"
        return
    properties = schema["properties"]
    for name in schema.get("required", []):
        if name not in properties:
            yield f"{path}.required: there is no property {name}"
    for name, item in properties.items():
        if "default" not in item:
            continue
        for error in Draft202012Validator(item).iter_errors(item["default"]):
            yield f"{path}.properties.{name}.default: {_shortened(error.message)}"


def _path(parts: Any) -> str:
    found = ""
    for part in parts:
        found += f"[{part}]" if isinstance(part, int) else f".{part}" if found else str(part)
    return found or "(top level)"


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"
