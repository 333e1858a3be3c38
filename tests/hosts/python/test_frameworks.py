"""The tools in LangChain, the OpenAI Agents SDK and pydantic-ai: each framework's own loop against the sandbox."""

from __future__ import annotations

import asyncio
import copy
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from flux2_tool import SyncFlux2Tool
from flux2_tool.sandbox import SandboxOptions, running_sandbox
from tests.hosts.python.conftest import Service
from tests.hosts.python.framework_agents import MODELS, RUNNERS, Script, langchain_model, pydantic_ai_model, require
from tests.support.keys import KEY
from tests.support.readme import to_run

FOX = ("text_to_image", {"prompt": "a red fox in the snow", "aspect_ratio": "16:9"})
NIGHT = ("remix_image", {"prompt": "make it night", "source_image_urls": ["task:last"]})
LOOK_BACK = ("get_image_task", {})
TOOLS = ["text_to_image", "remix_image", "get_image_task"]
FRAMEWORKS = tuple(RUNNERS)

# The frameworks' own warnings of what they will change are none of ours.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_guides_example_makes_and_edits_a_picture(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Developers start from it; the framework's loop calls the tools as it would with a model of a provider."""
    script = Script([FOX, NIGHT])
    model = MODELS[name](script)
    [example] = [block.code for block in to_run("example") if block.name == name]
    namespace: dict[str, Any] = {}
    exec(compile(example, "docs/python.md", "exec"), namespace)  # noqa: S102
    monkeypatch.setenv("FLUX2_TOOL_HOME", str(tmp_path))
    monkeypatch.setenv("RUNAPI_API_KEY", KEY)

    with running_sandbox(SandboxOptions(duration_s=0.1, drawn_images=False)) as (base_url, sandbox):
        monkeypatch.setenv("RUNAPI_BASE_URL", base_url)
        answer = asyncio.run(namespace["ask"](model, "A red fox in the snow, then at night.", "chat-1"))
        paid = len(sandbox.ledger.billed_tasks)

    assert answer == "Here it is."
    assert script.offered == TOOLS
    assert [result["task"]["tool"] for result in script.results()] == TOOLS[:2]
    assert paid == 2


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_failure_is_read_by_the_model_and_ends_no_run(service: Service, name: str) -> None:
    """Wrong arguments, and what RunAPI refuses: the model corrects the one, and tells the user of the other."""
    wrong = ("text_to_image", {"prompt": "a fox", "aspect_ratio": "2:1", "seed": 5})
    script = Script([wrong, ("text_to_image", {"prompt": "[fail] a fox"}), FOX])

    async def main() -> None:
        async with service.tool() as flux:
            await RUNNERS[name](flux, script, "chat")

    asyncio.run(main())

    refused, failed, made = script.results()
    assert refused["error"]["code"] == "invalid_arguments"
    assert "(nearest: 16:9)" in refused["error"]["message"]
    assert failed["error"]["code"] == "generation_failed"
    assert made["task"]["state"] == "completed"
    assert service.images_paid == 1


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_agent_that_is_made_once_keeps_conversations_apart(service: Service, name: str) -> None:
    """One server has one agent and many users: nobody's last pictures are another's."""
    fox, door = Script([FOX, LOOK_BACK]), Script([("text_to_image", {"prompt": "a blue door"}), LOOK_BACK])

    async def main() -> None:
        async with service.tool() as flux:
            await RUNNERS[name](flux, fox, "alice")
            await RUNNERS[name](flux, door, "bob")

    asyncio.run(main())

    listed = [[image["title"] for image in script.results()[1]["recent"]] for script in (fox, door)]
    assert listed == [["a red fox in the snow"], ["a blue door"]]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_cancelled_run_is_not_paid_twice(service: Service, name: str) -> None:
    """Who closes the page stops the wait; asked again, the agent gets the picture that was begun."""
    MODELS[name](Script([]))  # outside the run, whose failure must be a cancel and no missing framework
    again = Script([FOX])

    async def main() -> None:
        async with service.tool() as flux:
            run = asyncio.ensure_future(RUNNERS[name](flux, Script([FOX]), "chat"))
            while not (service.sandbox.ledger.tasks or run.done()):  # noqa: ASYNC110 - another task's work
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.wait([run])
            assert run.cancelled()
            await RUNNERS[name](flux, again, "chat")

    asyncio.run(main())

    [result] = again.results()
    assert result["task"]["joined"] is True
    assert service.images_paid == 1


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_long_wait_ends_in_time_and_goes_on(service: Service, name: str) -> None:
    """A framework's own time limit must not be the end of a paid picture."""
    script = Script([("text_to_image", {"prompt": "[slow] a fox"}), ("get_image_task", {"task_id": "recent"})])

    async def main() -> None:
        async with service.tool(wait_s=0.0) as flux:
            await RUNNERS[name](flux, script, "chat")

    asyncio.run(main())

    begun, listed = script.results()
    assert begun["task"]["state"] == "processing"
    assert [image["ref"] for image in listed["recent"]] == [begun["task"]["ref"]]


def test_langchains_agents_without_an_event_loop_use_the_synchronous_tool(service: Service) -> None:
    """`agent.invoke` in a script or a notebook; the artifact is the whole result for the program."""
    script = Script([FOX, ("text_to_image", {"prompt": ""})])
    model = langchain_model(script)
    from langchain.agents import create_agent

    with SyncFlux2Tool(service.tool()) as flux:
        agent = create_agent(model, flux.langchain_tools(session="chat"))
        messages = agent.invoke({"messages": "A fox, please."})["messages"]

    made, refused = [message for message in messages if message.type == "tool"]
    assert made.status == "success"
    assert made.artifact["images"][0]["url"].startswith("https://")
    assert refused.status == "error"
    assert script.results()[1]["error"]["code"] == "invalid_arguments"


def test_agents_that_bring_a_loop_of_their_own_take_the_synchronous_tool(service: Service) -> None:
    """`run_sync` in a script, twice, and a call of the script's own between them: one journal for all."""
    scripts = [Script([FOX]), Script([LOOK_BACK])]
    models = [pydantic_ai_model(script) for script in scripts]
    from pydantic_ai import Agent

    with SyncFlux2Tool(service.tool(session="chat")) as flux:
        Agent(models[0], tools=flux.pydantic_ai_tools()).run_sync("A fox, please.")
        flux.call("text_to_image", {"prompt": "a blue door"})
        Agent(models[1], tools=flux.pydantic_ai_tools()).run_sync("What did you make?")

    [listed] = scripts[1].results()
    assert [image["title"] for image in listed["recent"]] == ["a blue door", "a red fox in the snow"]


def test_text_that_is_no_json_is_told_to_the_model(service: Service) -> None:
    """The Agents SDK passes on a model's arguments as they are."""
    script = Script([("text_to_image", '{"prompt": "a fox"'), ("get_image_task", "")])

    async def main() -> None:
        async with service.tool() as flux:
            await RUNNERS["openai-agents"](flux, script, "chat")

    asyncio.run(main())

    broken, listed = script.results()
    assert "the arguments are not JSON" in broken["error"]["message"]
    assert listed["recent"] == []


def test_the_sdks_take_the_exported_definitions(service: Service) -> None:
    """OpenAI's own check of strict schemas changes nothing, and each SDK's types have every word of them."""
    require("agents", "google.genai", "openai")
    from agents.strict_schema import ensure_strict_json_schema
    from google.genai import types
    from openai.types.chat import ChatCompletionFunctionToolParam
    from openai.types.responses import FunctionToolParam
    from pydantic import TypeAdapter

    flux = service.tool(
        variables={"FLUX2_TOOL_TIERS": "pro,flex,max", "FLUX2_TOOL_CALLBACK_HOSTS": "hooks.example.com"}
    )

    for one in flux.definitions("openai-responses", strict=True):
        assert ensure_strict_json_schema(copy.deepcopy(one["parameters"])) == one["parameters"]
        assert TypeAdapter(FunctionToolParam).validate_python(one) == one
    for strict in (False, True):
        for one in flux.definitions("openai", strict=strict):
            assert TypeAdapter(ChatCompletionFunctionToolParam).validate_python(one) == one
    for one in flux.definitions("gemini"):
        read = types.FunctionDeclaration.model_validate(one, extra="forbid")
        assert read.parameters is not None
        assert set(read.parameters.properties or ()) == set(one["parameters"]["properties"])


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ("langchain_tools", "langchain-core"),
        ("openai_agents_tools", "openai-agents"),
        ("pydantic_ai_tools", "pydantic-ai"),
    ],
)
def test_a_missing_framework_is_named(
    service: Service, monkeypatch: pytest.MonkeyPatch, method: str, package: str
) -> None:
    """None of them is a dependency of this package."""

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    for name in [name for name in sys.modules if name.split(".")[0] in ("langchain_core", "agents", "pydantic_ai")]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(ImportError, match=f"need the package {package}, which is not installed"):
        getattr(service.tool(), method)()
