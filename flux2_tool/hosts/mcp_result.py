"""A result object as MCP's `CallToolResult`: the whole object for programs, and a short text for the model.

The text holds what a model uses: what to do next, the task's ref and state, the picture's path and link, the cost, and
warnings; of a failure what happened, what to do, and the facts. The names in it are the object's own. What `next` calls
images[0].url is the line of that name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from flux2_tool.schema.money import cost_text
from flux2_tool.schema.recent import LINK_ENDED

# OpenClaw's clients (openclaw-bundle-mcp, openclaw-node-host) show a model the structured content and every text that
# is not the same JSON. As observed with OpenClaw 2026.9.6.
SHOWS_OBJECT: Final = "openclaw"
_PLAIN_MODEL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_MODEL_CHARS: Final = 80


_SMALL_COPY: Final = "A small copy is beside this text, for hosts that show it; it is not the picture itself."


def as_tool_result(
    result: Mapping[str, Any], *, client: str = "", pictures: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return a result object as a `CallToolResult`. A lone surrogate, which UTF-8 cannot encode, becomes a "?".

    Args:
        result: A result or `{"error": {…}}`.
        client: The client's name. To OpenClaw's the text is `JSON.stringify` of the object with an indent of 2, which
            its model reads once; so whole numbers have no decimal point.
        pictures: Image contents, see `mcp_pictures.py`.
    """
    encoded = json.dumps(result, ensure_ascii=False).encode("utf-8", "replace")
    found = json.loads(encoded, parse_float=_javascript_number)
    if client.startswith(SHOWS_OBJECT):
        text = json.dumps(found, ensure_ascii=False, indent=2)
    else:
        text = "\n".join(_failure_lines(found["error"]) if "error" in found else _lines_of(found))
        text += f"\n{_SMALL_COPY}" if pictures else ""
    return {
        "content": [{"type": "text", "text": text}, *pictures],
        "structuredContent": found,
        "isError": "error" in result,
    }


def _lines_of(result: Mapping[str, Any]) -> Iterator[str]:
    return _recent_lines(result) if "recent" in result else _lines(result)


def _recent_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the last pictures' lines, as `recentText` in the plugin's recent.js words them, with path or link."""
    yield result["next"]
    for number, image in enumerate(result["recent"], 1):
        cost = "cost unknown" if image["usd"] is None else f"{image['usd']} USD"
        title = json.dumps(image["title"] or "", ensure_ascii=False)
        facts = [image["ref"] or "no task id", title, image["made_at"], cost, _model_text(image["model"])]
        where = image["path"] or image["url"]
        ended = LINK_ENDED if image["state"] == "completed" and not where else None
        yield f"{number}. {', '.join(fact for fact in (*facts, image['state'], ended) if fact)}"
        if where:
            yield f"   {where}"
    for warning in result["warnings"]:
        yield f"Note: {warning}"


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    task, cost = result["task"], result["cost"]
    if result["next"]:
        yield result["next"]
    tasks = result.get("tasks", ())
    several = len(tasks) > 1
    refs = [_ref_text(one) for one in tasks] if several else [task["ref"]]
    facts = [*refs, f"state: {task['state']}", _model_text(task["model"])]
    if task["state"] == "completed":
        facts.append(f"cost: {cost_text(cost['usd'], cost['basis'])}")
    yield ", ".join(fact for fact in facts if fact)
    for index, image in enumerate(result["images"]):
        for name in ("task_ref", "path", "url") if several else ("path", "url"):
            if image[name]:
                yield f"images[{index}].{name}: {image[name]}"
    for warning in result["warnings"]:
        yield f"Note: {warning}"


def _ref_text(task: Mapping[str, Any]) -> str | None:
    """Return the reference of one of several tasks, with its state where there is no picture."""
    ref: str | None = task["ref"]
    return ref if task["state"] == "completed" else f"{ref or 'one without an id yet'} ({task['state']})"


def _failure_lines(error: Mapping[str, Any]) -> Iterator[str]:
    """Yield a failure's lines, as `explain` in the plugin's failure.js words it."""
    yield error["message"]
    if error["hint"]:
        yield f"Hint: {error['hint']}"
    facts = [error["code"], f"charged: {error['charged']}", f"retryable: {'yes' if error['retryable'] else 'no'}"]
    if error["task_ref"]:
        facts.append(error["task_ref"])
    if error["request_id"]:
        facts.append(f"request {error['request_id']}")
    yield f"({', '.join(facts)})"
    for warning in error.get("warnings", ()):
        yield f"Note: {warning}"


def _model_text(model: str | None) -> str | None:
    """Return the model's name; the service may have named it, so that any other text is quoted."""
    if model is None or _PLAIN_MODEL.fullmatch(model):
        return model
    return json.dumps(model[:_MODEL_CHARS])


def _javascript_number(text: str) -> float | int:
    number = float(text)
    return int(number) if number.is_integer() else number
