"""Expand the manifest's short form: one list of aspect ratios, one entry per tier, one per setting, no error codes.

In a schema `x-values-from: NAME` becomes the enum of that list, `x-values-also` adds to it, and
`x-default-from: NAME` becomes its default; these keys are removed. A tier's entry becomes one model for each tool it
names, and the model's requirements and restrictions become a rule of that tool's schema. Pure functions; data that
matches `manifest_schema.json` always expands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from flux2_tool.exceptions import error_types
from flux2_tool.schema.entries import Model, Setting, Tool, ToolHints

VALUES, ALSO, DEFAULT = "x-values-from", "x-values-also", "x-default-from"
RESOLUTION, SOURCES = "output_resolution", "source_image_urls"
SETTING_KEYS = frozenset(
    {"kind", "env", "label", "help", "allowed", "advanced", "sensitive", "placeholder", "dangerous", "guards"}
)
"""The keys of a setting's entry that are not part of its JSON Schema."""


def expanded_tools(raw: Mapping[str, Any]) -> Iterator[Tool]:
    """Yield each tool with its models and its full schemas."""
    for item in raw["tools"]:
        models = tuple(_models(raw, item))
        values, defaults = _lists(raw)
        values["models"] = [model.slug for model in models]
        defaults["models"] = next((model.slug for model in models if model.tier in defaults["tiers"]), None)
        schema = _filled(item["input_schema"], values, defaults)
        if rules := [rule for model in models if (rule := _rule(schema, model, default=defaults["models"]))]:
            schema["allOf"] = rules
        hints = item["hints"]
        yield Tool(
            name=item["name"],
            title=item["title"],
            description=item["description"],
            input_schema=schema,
            output_schema=_filled(item["output_schema"], values, defaults),
            hints=ToolHints(
                read_only=hints["readOnly"],
                destructive=hints["destructive"],
                idempotent=hints["idempotent"],
                open_world=hints["openWorld"],
                side_effecting=hints["sideEffecting"],
                replay_safe=hints["replaySafe"],
            ),
            models=models,
            default_model=defaults["models"],
        )


def expanded_settings(raw: Mapping[str, Any]) -> Iterator[tuple[str, Setting]]:
    """Yield each setting with its key."""
    values, defaults = _lists(raw)
    for key, item in raw["settings"].items():
        schema = {name: value for name, value in item.items() if name not in SETTING_KEYS}
        yield (
            key,
            Setting(
                schema=_filled(schema, values, defaults),
                kind=item.get("kind", ""),
                env=item.get("env", variable_of(key)),
                label=item["label"],
                help=item["help"],
                allowed=item.get("allowed", ""),
                advanced=item.get("advanced", False),
                placeholder=item.get("placeholder", ""),
                dangerous=item.get("dangerous"),
                sensitive=item.get("sensitive", False),
                guards=item.get("guards", ""),
            ),
        )


def variable_of(key: str) -> str:
    """Return the default environment variable of a setting."""
    return f"FLUX2_TOOL_{key.upper()}"


def _lists(raw: Mapping[str, Any]) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Return the lists that a schema may refer to, and their defaults."""
    tiers = raw["tiers"]
    values = {
        "aspect_ratios": raw["aspect_ratios"],
        "output_resolutions": raw["output_resolutions"],
        "tiers": list(tiers),
        "error_codes": [kind.code for kind in error_types()],
    }
    defaults = {
        "output_resolutions": raw["output_resolutions"][0],
        "tiers": [name for name, tier in tiers.items() if tier["enabled_by_default"]],
    }
    return values, defaults


def _filled(schema: Any, values: Mapping[str, Sequence[str]], defaults: Mapping[str, Any]) -> Any:
    """Return a copy of a schema with its lists and defaults in place."""
    if isinstance(schema, list):
        return [_filled(item, values, defaults) for item in schema]
    if not isinstance(schema, dict):
        return schema
    filled: dict[str, Any] = {}
    for keyword, item in schema.items():
        if keyword == VALUES:
            filled["enum"] = [*values[item], *schema.get(ALSO, ())]
        elif keyword == DEFAULT:
            filled |= {} if defaults[item] is None else {"default": defaults[item]}
        elif keyword != ALSO:
            filled[keyword] = _filled(item, values, defaults)
    return filled


def _models(raw: Mapping[str, Any], tool: Mapping[str, Any]) -> Iterator[Model]:
    values, defaults = _lists(raw)
    properties = tool["input_schema"]["properties"]
    ratios = _filled(properties.get("aspect_ratio", {}), values, defaults).get("enum", [])
    for name, tier in raw["tiers"].items():
        if tool["name"] not in tier["models"]:
            continue
        # A tier's values apply to each of its models that does not override them.
        entry = {**tier, **tier["models"][tool["name"]]}
        requires, forbids = (
            tuple(argument for argument in entry.get(word, ()) if argument in properties)
            for word in ("requires", "forbids")
        )
        has = [argument for argument in properties if argument not in forbids]
        refused = entry.get("refuses_aspect_ratios", ())
        yield Model(
            slug=entry["slug"],
            tool=tool["name"],
            tier=name,
            use_for=entry["use_for"],
            limits=entry.get("limits", ""),
            prices_usd=MappingProxyType(dict(entry["prices_usd"])),
            typical_s=MappingProxyType({key: float(value) for key, value in entry["typical_s"].items()}),
            requires=requires,
            forbids=forbids,
            aspect_ratios=tuple(ratio for ratio in ratios if "aspect_ratio" in has and ratio not in refused),
            resolutions=tuple(entry["prices_usd"]) if RESOLUTION in has else (),
            max_sources=entry.get("max_sources", properties[SOURCES]["maxItems"]) if SOURCES in has else 0,
        )


def _rule(schema: Mapping[str, Any], model: Model, *, default: str | None) -> dict[str, Any] | None:
    """Return one model's constraints beyond the tool's schema as a member of `allOf`, or None if it has none."""
    narrower: dict[str, Any] = {}
    for name, item in schema["properties"].items():
        takes = {"aspect_ratio": model.aspect_ratios, RESOLUTION: model.resolutions}.get(name)
        if name in model.forbids:
            narrower[name] = {"not": {}}
        elif takes is not None and len(takes) < len(item["enum"]):
            narrower[name] = {"enum": list(takes)}
        elif name == SOURCES and model.max_sources < item["maxItems"]:
            narrower[name] = {"maxItems": model.max_sources}
    then = {
        **({"required": list(model.requires)} if model.requires else {}),
        **({"properties": narrower} if narrower else {}),
    }
    if not then:
        return None
    chosen = {"properties": {"model": {"const": model.slug}}}
    # Without a model the default one is used, so its rule must apply then too.
    return {"if": chosen if model.slug == default else {"required": ["model"], **chosen}, "then": then}
