"""Arguments as real hosts send them over MCP."""

from __future__ import annotations

import json
from typing import Any

from flux2_tool.sandbox import Sandbox
from tests.hosts.mcp.host import FOX, result_of, talk


def test_a_hosts_own_arguments_are_left_out_with_a_warning(environ: dict[str, str], sandbox: Sandbox) -> None:
    """n8n adds the id of the call; it must neither stop the call nor reach the service."""

    async def call(client: Any) -> list[dict[str, Any]]:
        added = {"toolCallId": "call_1", "sessionId": "s", "action": "sendMessage", "chatInput": "a fox", "_meta": {}}
        made = result_of(await client.call_tool("text_to_image", {**FOX, **added}))
        return [made, result_of(await client.call_tool("text_to_image", {**FOX, "stlye": "noir", "toolCallId": "2"}))]

    made, refused = talk(environ, call)

    [warning] = made["warnings"]
    assert warning.startswith("argument_ignored: the host added toolCallId, sessionId, action, chatInput, _meta,")
    [create] = sandbox.ledger.creates
    assert json.loads(create.body) == {**FOX, "model": "flux-2-pro-text-to-image"}
    assert [text.partition(":")[0] for text in refused["error"]["violations"]] == ['unknown argument "stlye"']


def test_a_list_as_json_text_is_the_list(environ: dict[str, str], sandbox: Sandbox) -> None:
    """Claude Code writes lists so, and repeats the call as it was when it is refused."""

    async def call(client: Any) -> dict[str, Any]:
        made = result_of(await client.call_tool("text_to_image", FOX))
        sources = json.dumps([made["task"]["ref"]])
        return result_of(await client.call_tool("remix_image", {"prompt": "night", "source_image_urls": sources}))

    assert talk(environ, call)["task"]["state"] == "completed"
    assert len(json.loads(sandbox.ledger.creates[-1].body)["source_image_urls"]) == 1
