"""OpenAI function calling: a chat that can make images. `client` is `openai.AsyncOpenAI()`."""

import json
from typing import Any

from flux2_tool import Flux2Tool


async def chat(client: Any, flux: Flux2Tool, messages: list[Any], *, conversation: str) -> str:
    """Let the model answer, and run the tools it asks for until it does."""
    while True:
        reply = await client.chat.completions.create(
            model="gpt-5.2",
            messages=messages,
            tools=flux.definitions("openai"),  # the same as: flux2-tool manifest export --format openai
        )
        message = reply.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            return str(message.content)
        for call in message.tool_calls:
            # Pass the JSON text as it is: where it is malformed, the result says what is wrong.
            result = await flux.call(call.function.name, call.function.arguments, session=conversation)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)})
