"""The examples for agent developers, run against a scripted model: what is printed must work."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace as Record
from typing import Any

import pytest

from flux2_tool.sandbox import SandboxOptions, running_sandbox
from tests.hosts.python import anthropic_example, openai_example
from tests.hosts.python.conftest import Service
from tests.support.keys import KEY

FOX = {"prompt": "a red fox in the snow", "aspect_ratio": "16:9"}
NIGHT = {"prompt": "make it night", "source_image_urls": ["task:last"]}


class ScriptedModel:
    """A model that calls the tools in turn and then answers; it keeps what it was offered and told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = [("text_to_image", FOX), ("remix_image", NIGHT)]
        self.offered: list[Any] = []

    def next_call(self, tools: list[Any]) -> tuple[str, dict[str, Any]] | None:
        """Return the next tool call, or None when it is time to answer."""
        self.offered = tools
        return self.calls.pop(0) if self.calls else None


def openai_client(model: ScriptedModel) -> Any:
    """Return what the example uses of `openai.AsyncOpenAI`, answering in its shapes."""

    async def create(*, model: str, messages: list[Any], tools: list[Any]) -> Any:
        call = scripted.next_call(tools)
        if call is None:
            return Record(choices=[Record(message=Record(content="Here it is.", tool_calls=None))])
        function = Record(name=call[0], arguments=json.dumps(call[1]))
        wanted = [Record(id="call_1", function=function)]
        return Record(choices=[Record(message=Record(content=None, tool_calls=wanted))])

    scripted = model
    return Record(chat=Record(completions=Record(create=create)))


def anthropic_client(model: ScriptedModel) -> Any:
    """Return what the example uses of `anthropic.AsyncAnthropic`, answering in its shapes."""

    async def create(*, model: str, max_tokens: int, messages: list[Any], tools: list[Any]) -> Any:
        call = scripted.next_call(tools)
        if call is None:
            return Record(stop_reason="end_turn", content=[Record(type="text", text="Here it is.")])
        block = Record(type="tool_use", id="toolu_1", name=call[0], input=call[1])
        return Record(stop_reason="tool_use", content=[block])

    scripted = model
    return Record(messages=Record(create=create))


def test_the_openai_example_makes_and_edits_a_picture(service: Service) -> None:
    """Developers start from it."""
    model = ScriptedModel()
    messages: list[Any] = [{"role": "user", "content": "A red fox in the snow, then at night, please."}]

    async def main() -> str:
        async with service.tool() as flux:
            return await openai_example.chat(openai_client(model), flux, messages, conversation="one")

    assert asyncio.run(main()) == "Here it is."
    results = [json.loads(m["content"]) for m in messages if isinstance(m, dict) and m["role"] == "tool"]
    assert [result["task"]["tool"] for result in results] == ["text_to_image", "remix_image"]
    assert model.offered == exported("openai")
    assert service.images_paid == 2


def test_the_anthropic_example_makes_and_edits_a_picture(service: Service) -> None:
    """Developers start from it."""
    model = ScriptedModel()
    messages: list[Any] = [{"role": "user", "content": "A red fox in the snow, then at night, please."}]

    async def main() -> str:
        async with service.tool() as flux:
            return await anthropic_example.chat(anthropic_client(model), flux, messages, conversation="one")

    assert asyncio.run(main()) == "Here it is."
    answers = [answer for m in messages if m["role"] == "user" for answer in m["content"] if isinstance(answer, dict)]
    assert [json.loads(answer["content"])["task"]["tool"] for answer in answers] == ["text_to_image", "remix_image"]
    assert not any(answer["is_error"] for answer in answers)
    assert model.offered == exported("anthropic")
    assert service.images_paid == 2


@pytest.mark.parametrize(
    ("name", "example"), [("openai", openai_example), ("anthropic", anthropic_example)], ids=["openai", "anthropic"]
)
def test_an_example_fits_on_a_page_and_stands_in_the_readme(name: str, example: Any) -> None:
    """It goes into the guide as it is, so that what developers copy is what runs here."""
    text = Path(example.__file__).read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 35
    assert of_readme(name) == text


def test_the_readmes_python_runs_as_it_stands(tmp_path: Path) -> None:
    """It is the first thing that a developer copies."""
    with running_sandbox(SandboxOptions(duration_s=0.1, drawn_images=False)) as (base_url, _sandbox):
        environ = {"HOME": str(tmp_path), "RUNAPI_API_KEY": KEY, "RUNAPI_BASE_URL": base_url}
        command = [sys.executable, "-c", of_readme("python")]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)

    assert done.stdout.startswith(base_url)
    assert done.stdout.endswith(" 0.05\n")


def of_readme(name: str) -> str:
    """Return the README's Python under a marker."""
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    [code] = re.findall(rf"<!-- example: {name} -->\n```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    return str(code)


def exported(shape: str) -> Any:
    """Return what the command prints for developers in other languages."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("FLUX2_TOOL_")}
    command = [sys.executable, "-m", "flux2_tool", "manifest", "export", "--format", shape]
    return json.loads(subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout)
