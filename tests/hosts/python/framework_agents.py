"""Agents of each framework whose model follows a script; the framework's own loop calls the tools.

The frameworks are not installed with this package: `.ci/run` has them in an environment of their own, see
`.ci/frameworks`. They are imported when an agent runs.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

Call = tuple[str, Any]


@dataclass(slots=True)
class Script:
    """What a model does: it calls these tools one after another, then says something.

    Attributes:
        calls: Names and arguments.
        offered: The names of the tools, as the framework offered them.
        read: What the model read of each call.
    """

    calls: Sequence[Call]
    offered: list[str] = field(default_factory=list)
    read: list[Any] = field(default_factory=list)

    def results(self) -> list[Any]:
        """Return what was read, as objects."""
        return [json.loads(text) if isinstance(text, str) else text for text in self.read]


def require(*modules: str) -> None:
    """Skip the test without a framework, unless `.ci/run` says that all are there."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            if os.environ.get("FLUX2_TEST_REQUIRE_FRAMEWORKS") == "1":
                raise
            pytest.skip(f"{module} is not installed; .ci/frameworks names the packages")


# ---- models that follow a script -------------------------------------------------------------------------------------


def langchain_model(script: Script) -> Any:
    """Return a chat model of LangChain."""
    require("langchain", "langchain_core")
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    class Model(BaseChatModel):  # type: ignore[misc, unused-ignore]
        @property
        def _llm_type(self) -> str:
            return "scripted"

        def bind_tools(self, tools: Any, **_options: Any) -> Any:
            script.offered = [tool.name for tool in tools]
            return self

        def _generate(self, messages: list[Any], *_args: Any, **_options: Any) -> Any:
            script.read = [message.content for message in messages if message.type == "tool"]
            step = len(script.read)
            if step < len(script.calls):
                name, arguments = script.calls[step]
                call = {"name": name, "args": arguments, "id": f"call_{step}"}
                message = AIMessage(content="", tool_calls=[call])
            else:
                message = AIMessage(content="Here it is.")
            return ChatResult(generations=[ChatGeneration(message=message)])

    return Model()


def openai_agents_model(script: Script) -> Any:
    """Return a model of the OpenAI Agents SDK."""
    require("agents")
    import agents
    from agents.items import ModelResponse
    from agents.models.interface import Model
    from agents.usage import Usage
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    agents.set_tracing_disabled(True)

    class Scripted(Model):  # type: ignore[misc, unused-ignore]
        async def get_response(self, **given: Any) -> Any:
            script.offered = [tool.name for tool in given["tools"]]
            items = [] if isinstance(given["input"], str) else given["input"]
            script.read = [item["output"] for item in items if item.get("type") == "function_call_output"]
            step = len(script.read)
            if step < len(script.calls):
                name, arguments = script.calls[step]
                text = arguments if isinstance(arguments, str) else json.dumps(arguments)
                output: Any = ResponseFunctionToolCall(
                    type="function_call", call_id=f"call_{step}", name=name, arguments=text
                )
            else:
                said = ResponseOutputText(type="output_text", text="Here it is.", annotations=[])
                output = ResponseOutputMessage(
                    id="msg", type="message", role="assistant", status="completed", content=[said]
                )
            return ModelResponse(output=[output], usage=Usage(), response_id=None)

        def stream_response(self, *_args: Any, **_options: Any) -> Any:
            raise NotImplementedError

    return Scripted()


def pydantic_ai_model(script: Script) -> Any:
    """Return a model of pydantic-ai."""
    require("pydantic_ai")
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    def answer(messages: list[Any], info: Any) -> Any:
        script.offered = [tool.name for tool in info.function_tools]
        script.read = [part.content for one in messages for part in one.parts if part.part_kind == "tool-return"]
        step = len(script.read)
        if step < len(script.calls):
            return ModelResponse(parts=[ToolCallPart(*script.calls[step])])
        return ModelResponse(parts=[TextPart("Here it is.")])

    return FunctionModel(answer)


MODELS: Final = {
    "langchain": langchain_model,
    "openai-agents": openai_agents_model,
    "pydantic-ai": pydantic_ai_model,
}


# ---- agents that are made once, for many conversations ---------------------------------------------------------------


async def run_langchain(flux: Any, script: Script, conversation: str) -> None:
    """Run an agent whose conversation is LangGraph's thread."""
    model = langchain_model(script)
    from langchain.agents import create_agent

    agent = create_agent(model, flux.langchain_tools())
    await agent.ainvoke({"messages": "A fox, please."}, {"configurable": {"thread_id": conversation}})


async def run_openai_agents(flux: Any, script: Script, conversation: str) -> None:
    """Run an agent whose conversation is in the run's context."""
    model = openai_agents_model(script)
    from agents import Agent, Runner

    tools = flux.openai_agents_tools(session=lambda call: call.context)
    await Runner.run(Agent(name="Painter", model=model, tools=tools), "A fox, please.", context=conversation)


async def run_pydantic_ai(flux: Any, script: Script, conversation: str) -> None:
    """Run an agent whose conversation is its dependency."""
    model = pydantic_ai_model(script)
    from pydantic_ai import Agent

    tools = flux.pydantic_ai_tools(session=lambda run: run.deps)
    await Agent(model, deps_type=str, tools=tools).run("A fox, please.", deps=conversation)


RUNNERS: Final = {"langchain": run_langchain, "openai-agents": run_openai_agents, "pydantic-ai": run_pydantic_ai}
