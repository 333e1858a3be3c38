"""Arguments that hosts change on their way."""

from __future__ import annotations

from typing import Any

import pytest

from flux2_tool.schema.given_arguments import as_meant
from flux2_tool.schema.manifest import load_manifest

MANIFEST = load_manifest()


@pytest.mark.parametrize(
    ("tool", "given", "meant", "ignored"),
    [
        pytest.param(
            "text_to_image",
            {"prompt": "fox", "toolCallId": "call_1", "sessionId": "s", "chatInput": "hi", "action": "sendMessage"},
            {"prompt": "fox"},
            ["toolCallId", "sessionId", "chatInput", "action"],
            id="n8n's own",
        ),
        pytest.param("text_to_image", {"prompt": "fox", "seed": "1"}, None, [], id="a model's mistake is told to it"),
        pytest.param("text_to_image", {"action": "list"}, None, [], id="a value that may be meant"),
        pytest.param("text_to_image", {"toolCallId": 1}, None, [], id="no text"),
        pytest.param(
            "remix_image",
            {"source_image_urls": ' ["task:1", "a"]'},
            {"source_image_urls": ["task:1", "a"]},
            [],
            id="list",
        ),
        pytest.param("remix_image", {"source_image_urls": "[task:1]"}, None, [], id="no JSON"),
        pytest.param("remix_image", {"source_image_urls": "[" * 100_000}, None, [], id="nested too deep"),
        pytest.param("remix_image", {"source_image_urls": "task:1"}, None, [], id="one name"),
        pytest.param("remix_image", {"prompt": "[1]", "x": "[1]"}, None, [], id="no list is wanted"),
        pytest.param("no_tool", {"toolCallId": "1"}, None, [], id="no such tool"),
        pytest.param(["no name"], {"toolCallId": "1"}, None, [], id="no tool's name"),
        pytest.param("remix_image", ["toolCallId"], None, [], id="no object"),
    ],
)
def test_only_what_is_certainly_not_the_models_is_changed(
    tool: Any, given: Any, meant: Any, ignored: list[str]
) -> None:
    """A call that n8n or Claude Code changed on its way works; any other mistake is left for the model to correct."""
    found, warnings = as_meant(MANIFEST, tool, given)

    assert found == (given if meant is None else meant)
    assert [warning.split('"')[1] for warning in warnings] == ignored
