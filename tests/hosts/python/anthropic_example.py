"""Anthropic tool use: a chat that can make images. `client` is `anthropic.AsyncAnthropic()`."""

import json
from typing import Any

from flux2_tool import Flux2Tool


async def chat(client: Any, flux: Flux2Tool, messages: list[Any], *, conversation: str) -> str:
    """Let the model answer, and run the tools it asks for until it does."""
    while True:
        reply = await client.messages.create(
            model="claude-sonnet-4-5",
            max_tokens=1024,
            messages=messages,
            tools=flux.definitions("anthropic"),  # the same as: flux2-tool manifest export --format anthropic
        )
        messages.append({"role": "assistant", "content": reply.content})
        if reply.stop_reason != "tool_use":
            return "".join(block.text for block in reply.content if block.type == "text")
        answers = []
        for block in reply.content:
            if block.type == "tool_use":
                result = await flux.call(block.name, block.input, session=conversation)
                answer = {"type": "tool_result", "tool_use_id": block.id, "content": json.dumps(result)}
                answers.append({**answer, "is_error": "error" in result})
        messages.append({"role": "user", "content": answers})
