"""Generate what `image_provider.js` needs to serve OpenClaw's own tool `image_generate`, from the manifest.

    id, label       of the provider
    models[]        name as OpenClaw shows it, tier, text_to_image and remix_image (the slugs), aspect_ratios,
                    needs_aspect_ratio, resolutions, max_sources

Source: OpenClaw's own docs, `tools/image-image_task.md` and `plugins/sdk-provider-plugins/media-and-search.md`.
"""

from __future__ import annotations

from typing import Any

from flux2_tool.schema.manifest import Manifest, Tool

PROVIDER = "runapi"


def image_provider(manifest: Manifest) -> dict[str, Any]:
    """Return the provider's data, whose shape the module's docstring describes."""
    make, remix = manifest.tools["text_to_image"], manifest.tools["remix_image"]
    return {
        "id": PROVIDER,
        "label": f"RunAPI ({manifest.name})",
        "models": [
            _model(manifest, make_slug, remix_slug)
            for make_slug in make.input_schema["properties"]["model"]["enum"]
            for remix_slug in remix.input_schema["properties"]["model"]["enum"]
            if manifest.models[make_slug].tier == manifest.models[remix_slug].tier
        ],
    }


def _model(manifest: Manifest, make_slug: str, remix_slug: str) -> dict[str, Any]:
    make = _rules(manifest.tools["text_to_image"], make_slug)
    remix = _rules(manifest.tools["remix_image"], remix_slug)
    return {
        "name": make_slug.removesuffix("-text-to-image"),
        "tier": manifest.models[make_slug].tier,
        "text_to_image": make_slug,
        "remix_image": remix_slug,
        "aspect_ratios": make["properties"]["aspect_ratio"]["enum"],
        "needs_aspect_ratio": "aspect_ratio" in make["required"],
        "resolutions": make["properties"]["output_resolution"]["enum"],
        "max_sources": remix["properties"]["source_image_urls"]["maxItems"],
    }


def _rules(tool: Tool, slug: str) -> dict[str, Any]:
    """Return a tool's properties and required members as they are for one model."""
    schema = tool.input_schema
    properties = {name: dict(rule) for name, rule in schema["properties"].items()}
    required = list(schema["required"])
    for rule in schema.get("allOf", []):
        if rule["if"]["properties"]["model"]["const"] == slug:
            required += rule["then"].get("required", [])
            for name, narrower in rule["then"].get("properties", {}).items():
                properties[name] |= narrower
    return {"properties": properties, "required": required}
