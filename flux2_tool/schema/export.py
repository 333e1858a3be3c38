"""Derive the schemas a model is offered, and each host's tool definitions, from the manifest's input schemas.

Model providers reject `if`/`then`, `allOf` and `oneOf` in a tool's parameters, so an offered schema has
types, enums, bounds of numbers and lists, required and descriptions only; validation applies the full rules afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, get_args

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.manifest import Manifest, Model, Tool
from flux2_tool.schema.model_formats import gemini_parameters, strict_parameters

Format = Literal["openclaw", "mcp", "openai", "openai-responses", "anthropic", "gemini"]
FORMATS: tuple[Format, ...] = get_args(Format)
STRICT_FORMATS: tuple[Format, ...] = ("openai", "openai-responses")

# Not the lengths of texts: a model cannot count characters, every turn would carry them, and validation names them.
_BOUNDS = ("minItems", "maxItems", "minimum", "maximum")
_TIERS = "{tiers}"


def offered_parameters(
    tool: Tool,
    *,
    tiers: Sequence[str],
    callback_hosts: Sequence[str] = (),
    wait_s: float | None = None,
    longest_wait_s: float | None = None,
) -> dict[str, Any]:
    """Return the JSON Schema of a tool's arguments that a model is offered.

    Args:
        tool: One of the manifest's tools.
        tiers: The enabled tiers; models of others are left out.
        callback_hosts: Hosts an agent may give as callback; with none, callback_url is left out.
        wait_s: How long a call waits that asks for nothing else, in seconds; None if that is not known.
        longest_wait_s: The longest wait that a call may ask for, in seconds; None if the host sets no limit.

    Returns:
        A new object of type, enum, bounds, required, description, items and properties. `model` is
        required when the tool's default model is not enabled. An argument that every enabled model forbids is left out.
    """
    schema = tool.input_schema
    models = tool.enabled_models(tiers)
    slugs = [model.slug for model in models]
    properties: dict[str, Any] = {}
    for name, item in schema["properties"].items():
        audience = item.get("x-audience", "everyone")
        if audience == "operator" or (audience == "callback" and not callback_hosts):
            continue
        if models and all(name in model.forbids for model in models):
            continue
        offered = _offered_item(item)
        if name == "model":
            offered["enum"] = [slug for slug in offered["enum"] if slug in slugs]
        if name == "output_resolution":
            known = {resolution for model in models for resolution in model.resolutions}
            offered["enum"] = [resolution for resolution in offered["enum"] if resolution in known]
        if name == "timeoutSeconds" and longest_wait_s is not None:
            offered["maximum"] = _whole(min(offered["maximum"], longest_wait_s))
        if name == "timeoutSeconds" and wait_s is not None:
            offered["description"] += f" Default {_whole(wait_s)}."
        if audience == "callback":
            offered["description"] += f" Allowed hosts: {', '.join(callback_hosts)}."
        default = item.get("default")
        if default is not None and default in offered.get("enum", [default]):
            description = offered.get("description", "")
            offered["description"] = f"{description} Default {default}.".strip()
        properties[name] = offered
    required = list(schema.get("required", []))
    if tool.default_model is not None and tool.default_model not in slugs:
        required.append("model")
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def _offered_item(item: dict[str, Any]) -> dict[str, Any]:
    offered: dict[str, Any] = {}
    for key in ("type", "enum", *_BOUNDS, "description"):
        if key in item:
            offered[key] = copy.deepcopy(item[key])
    if "items" in item:
        offered["items"] = _offered_item(item["items"])
    return offered


def offered_description(tool: Tool, *, tiers: Sequence[str]) -> str:
    """Return a tool's description for a model, with the use, time and price of the enabled tiers."""
    prices = "; ".join(_tier_sentence(model) for model in tool.enabled_models(tiers))
    return tool.description.replace(_TIERS, f"Tiers, USD per image: {prices}")


def _tier_sentence(model: Model) -> str:
    prices = " ".join(
        f"{resolution} {price}" if model.resolutions else price
        for resolution, usd in model.prices_usd.items()
        for price in ["price unknown" if usd is None else f"{usd:.2f}"]
    )
    seconds = f"~{min(model.typical_s.values()):.0f} s"
    return f"{model.tier} ({', '.join(filter(None, (model.use_for, model.limits, seconds)))}) {prices}"


def export(
    manifest: Manifest,
    shape: str,
    *,
    tiers: Sequence[str],
    callback_hosts: Sequence[str] = (),
    wait_s: float | None = None,
    strict: bool = False,
) -> list[dict[str, Any]]:
    """Return the tool definitions in one host's standard format; a tool that no enabled tier has is left out.

    Args:
        manifest: The manifest.
        shape: openclaw (for the native plugin's generator), mcp, openai (chat completions), openai-responses, anthropic
            or gemini (function declarations).
        tiers: The enabled tiers.
        callback_hosts: Hosts an agent may give as callback.
        wait_s: How long a call waits by default, in seconds, and over MCP at most; None if that is not known.
        strict: For OpenAI's strict mode: every argument is required, and null stands for one that is left out.

    Raises:
        ConfigurationError: The shape is not one of these, or has no strict mode.
    """
    build = _BUILDERS.get(shape)
    if build is None:
        raise ConfigurationError(f'format "{shape}" is not one of {", ".join(FORMATS)}')
    if strict and shape not in STRICT_FORMATS:
        raise ConfigurationError(
            f"format {shape} has no strict mode", hint=f"strict is for {' and '.join(STRICT_FORMATS)}"
        )
    longest_wait_s = wait_s if shape == "mcp" else None
    return [
        build(
            tool,
            offered_description(tool, tiers=tiers),
            offered_parameters(
                tool, tiers=tiers, callback_hosts=callback_hosts, wait_s=wait_s, longest_wait_s=longest_wait_s
            ),
            strict,
        )
        for tool in manifest.tools.values()
        if tool.enabled_models(tiers) or not tool.models
    ]


def _openclaw(tool: Tool, description: str, parameters: dict[str, Any], _strict: bool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "label": tool.title,
        "description": description,
        "parameters": parameters,
        "metadata": {
            "sideEffecting": tool.hints.side_effecting,
            "replaySafe": tool.hints.replay_safe,
        },
    }


def _mcp(tool: Tool, description: str, parameters: dict[str, Any], _strict: bool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "title": tool.title,
        "description": description,
        "inputSchema": parameters,
        "outputSchema": copy.deepcopy(tool.output_schema),
        "annotations": {
            "title": tool.title,
            "readOnlyHint": tool.hints.read_only,
            "destructiveHint": tool.hints.destructive,
            "idempotentHint": tool.hints.idempotent,
            "openWorldHint": tool.hints.open_world,
        },
    }


def _openai(tool: Tool, description: str, parameters: dict[str, Any], strict: bool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "description": description, "parameters": parameters}
    if strict:
        function |= {"parameters": strict_parameters(parameters), "strict": True}
    return {"type": "function", "function": function}


def _openai_responses(tool: Tool, description: str, parameters: dict[str, Any], strict: bool) -> dict[str, Any]:
    # Said in either case: the Responses API takes a function without it as strict.
    return {
        "type": "function",
        "name": tool.name,
        "description": description,
        "parameters": strict_parameters(parameters) if strict else parameters,
        "strict": strict,
    }


def _gemini(tool: Tool, description: str, parameters: dict[str, Any], _strict: bool) -> dict[str, Any]:
    return {"name": tool.name, "description": description, "parameters": gemini_parameters(parameters)}


def _anthropic(tool: Tool, description: str, parameters: dict[str, Any], _strict: bool) -> dict[str, Any]:
    return {"name": tool.name, "description": description, "input_schema": parameters}


_BUILDERS: Final = {
    "openclaw": _openclaw,
    "mcp": _mcp,
    "openai": _openai,
    "openai-responses": _openai_responses,
    "anthropic": _anthropic,
    "gemini": _gemini,
}


def offered_tokens(definitions: Iterable[dict[str, Any]]) -> float:
    """Return an estimate of the definitions' size in tokens: characters of compact JSON divided by 4."""
    import json

    return sum(len(json.dumps(item, ensure_ascii=False, separators=(",", ":"))) for item in definitions) / 4
