"""A tool's parameters in the subsets of JSON Schema that some models' APIs take.

OpenAI's strict mode wants every property required, so that one that may be left out becomes nullable; it takes no
bounds on a text's length. Gemini's `Schema` is OpenAPI's and knows no `additionalProperties`. Sources:
platform.openai.com/docs/guides/structured-outputs (supported schemas), ai.google.dev/api/caching (Schema).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_NOT_STRICT: Final = frozenset({"minLength", "maxLength"})
_NOT_GEMINI: Final = frozenset({"additionalProperties"})


def strict_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return offered parameters as OpenAI's strict mode takes them; null stands for an argument that is left out."""
    required = parameters["required"]
    properties = {
        name: _strict(item) if name in required else _nullable(_strict(item))
        for name, item in parameters["properties"].items()
    }
    return {**parameters, "properties": properties, "required": list(properties)}


def gemini_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return offered parameters as Gemini's function declarations take them."""
    return {
        key: value
        for key, value in parameters.items()
        if key not in _NOT_GEMINI and not (key == "required" and not value)
    }


def _strict(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _strict(value) if key == "items" else value for key, value in item.items() if key not in _NOT_STRICT}


def _nullable(item: Mapping[str, Any]) -> dict[str, Any]:
    more = {"enum": [*item["enum"], None]} if "enum" in item else {}
    return {**item, "type": [item["type"], "null"], **more}
