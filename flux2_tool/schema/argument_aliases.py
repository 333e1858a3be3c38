"""Arguments of other image tools that Flux 2 does not have, and what to do instead.

Models know these names from other APIs; after a plain "unknown argument" they would only try again.
"""

from __future__ import annotations

from flux2_tool.schema.manifest import Tool

_SIZE = "there is no free size; use aspect_ratio and output_resolution"
_IN_PROMPT = "there is no such control; say it in prompt"
_OUTPUT = "the service chooses the file format; leave it out"

_ADVICE: dict[str, str] = {
    "seed": "there is no seed, the same prompt gives a new image each time; leave it out",
    "negative_prompt": "there is no negative prompt; say in prompt what should be there instead",
    **dict.fromkeys(("width", "height", "size", "image_size", "dimensions", "megapixels"), _SIZE),
    **dict.fromkeys(("output_format", "format", "quality", "output_quality", "response_format"), _OUTPUT),
    **dict.fromkeys(("style", "steps", "num_inference_steps", "guidance", "guidance_scale", "strength"), _IN_PROMPT),
    **dict.fromkeys(("mask", "mask_url"), "there is no mask; say in prompt what to change and what to keep"),
}
_RENAMED: dict[str, str] = {
    **dict.fromkeys(("text", "description", "input"), "prompt"),
    **dict.fromkeys(("resolution", "image_resolution"), "output_resolution"),
    **dict.fromkeys(("ratio", "aspect"), "aspect_ratio"),
    **dict.fromkeys(
        (
            *("n", "num", "num_images", "num_outputs", "number_of_images", "number_of_outputs", "image_count"),
            *("output_count", "batch_size", "quantity", "samples", "num_samples"),
        ),
        "count",
    ),
    **dict.fromkeys(("tier", "model_name", "model_id"), "model"),
    **dict.fromkeys(("webhook", "webhook_url", "callback"), "callback_url"),
    **dict.fromkeys(("id", "task", "ref", "task_ref", "taskid"), "task_id"),
    **dict.fromkeys(("timeout", "timeout_s", "timeout_seconds", "wait", "wait_s"), "timeoutSeconds"),
}
_SOURCES = "source_image_urls"
_PICTURES = frozenset(
    [
        *("image", "images", "image_url", "image_urls", "input_image", "input_images", "init_image", "image_input"),
        *("source", "source_image", "source_images", "source_image_url"),
        *("reference", "reference_image", "reference_images"),
    ]
)


def all_alias_hints(tool: Tool) -> dict[str, list[str]]:
    """Return every sentence of `alias_hint` about a tool, with the names that it answers."""
    found: dict[str, list[str]] = {}
    for name in sorted({*_ADVICE, *_RENAMED, *_PICTURES, _SOURCES}):
        hint = alias_hint(name, tool)
        if hint is not None:
            found.setdefault(hint, []).append(name)
    return found


def alias_hint(name: str, tool: Tool) -> str | None:
    """Return what to do instead of an argument this tool does not have, or None for an unlisted name."""
    key = name.strip().casefold().replace("-", "_").replace(" ", "_")
    properties = tool.input_schema["properties"]
    if key in _PICTURES or (key == _SOURCES and "prompt" in properties):
        if _SOURCES in properties:
            return 'give the pictures as source_image_urls, a list such as ["task:ID"]'
        if "prompt" in properties:
            return "this tool takes no pictures; use remix_image with source_image_urls"
        return None
    if _RENAMED.get(key) in properties:
        return f"it is called {_RENAMED[key]} here"
    return _ADVICE.get(key) if "prompt" in properties else None
