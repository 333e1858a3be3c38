"""Generate from the manifest the data with which `image_provider.js` serves OpenClaw's own tool `image_generate`.

    id, label       of the provider
    models[]        name as OpenClaw shows it, tier, text_to_image and remix_image (the slugs; the second is null, and
                    max_sources 0, for a tier that takes no sources), aspect_ratios, needs_aspect_ratio, resolutions
                    (none for a tier without a choice), max_sources

Source: OpenClaw's own docs, `tools/image-generation.md` and `plugins/sdk-provider-plugins/media-and-search.md`.
"""

from __future__ import annotations

from typing import Any

from flux2_tool.schema.manifest import Manifest, Model

PROVIDER = "runapi"


def image_provider(manifest: Manifest) -> dict[str, Any]:
    """Return the provider's data, whose shape the module's docstring describes."""
    remix_of = {model.tier: model for model in manifest.tools["remix_image"].models}
    return {
        "id": PROVIDER,
        "label": f"RunAPI ({manifest.name})",
        "models": [_model(make, remix_of.get(make.tier)) for make in manifest.tools["text_to_image"].models],
    }


def _model(make: Model, remix: Model | None) -> dict[str, Any]:
    return {
        "name": make.slug.removesuffix("-text-to-image"),
        "tier": make.tier,
        "text_to_image": make.slug,
        "remix_image": None if remix is None else remix.slug,
        "aspect_ratios": list(make.aspect_ratios),
        "needs_aspect_ratio": "aspect_ratio" in make.requires,
        "resolutions": list(make.resolutions),
        "max_sources": 0 if remix is None else remix.max_sources,
    }
