"""The examples for agent developers, run against a scripted model: what is printed must work."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace as Record
from typing import Any

import pytest

from flux2_tool.runapi.contract import WEBHOOK_HEADERS
from flux2_tool.sandbox import SandboxOptions, running_sandbox
from tests.hosts.python import anthropic_example, openai_example
from tests.hosts.python.conftest import Service
from tests.support.environ import base_environ
from tests.support.keys import KEY
from tests.support.readme import to_run

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
def test_an_example_fits_on_a_page_and_stands_in_the_guide(name: str, example: Any) -> None:
    """It goes into docs/python.md as it is, so that what developers copy is what runs here."""
    text = Path(example.__file__).read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 35
    assert shown(name) == text


@pytest.mark.parametrize(("name", "last"), [("python", " 0.05\n"), ("sync", "\n")])
def test_the_guides_python_runs_as_it_stands(name: str, last: str, tmp_path: Path) -> None:
    """It is the first thing that a developer copies."""
    with running_sandbox(SandboxOptions(duration_s=0.1, drawn_images=False)) as (base_url, _sandbox):
        environ = {**base_environ(), "HOME": str(tmp_path), "RUNAPI_API_KEY": KEY, "RUNAPI_BASE_URL": base_url}
        command = [sys.executable, "-c", shown(name)]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)

    assert done.stdout.startswith(base_url)
    assert done.stdout.endswith(last)


def test_the_guides_list_of_the_last_pictures_runs_as_it_stands(tmp_path: Path) -> None:
    """With what the script above it has made."""
    with running_sandbox(SandboxOptions(duration_s=0.1, drawn_images=False)) as (base_url, _sandbox):
        environ = {**base_environ(), "HOME": str(tmp_path), "RUNAPI_API_KEY": KEY, "RUNAPI_BASE_URL": base_url}
        made, listed = (
            subprocess.run(
                [sys.executable, "-c", shown(name)],
                cwd=tmp_path,
                env=environ,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for name in ("python", "recent")
        )

    picture, left = listed.splitlines()
    assert "completed" in picture
    assert picture.endswith(f"a red fox in the snow {made.split()[0]}")
    assert left == "4.95 ['pro 1k', 'pro 2k', 'flex 1k', 'flex 2k']"


def test_the_guides_webhook_verifier_tells_real_from_forged() -> None:
    """A service of one's own starts from it."""
    secret, body = base64.b64encode(b"the account's webhook secret").decode(), b'{"id": "tsk_1", "status": "completed"}'
    signed = b".".join([b"evt_1", str(int(time.time())).encode(), body])
    signature = base64.b64encode(hmac.digest(base64.b64decode(secret), signed, "sha256")).decode()
    headers = dict(zip(WEBHOOK_HEADERS, ["evt_1", signed.split(b".")[1].decode(), signature], strict=True))
    namespace: dict[str, Any] = {}
    exec(compile(shown("webhook"), "docs/python.md", "exec"), namespace)  # noqa: S102

    assert namespace["finished_task"](headers, body, secret) == "tsk_1"
    assert namespace["finished_task"](headers, body + b" ", secret) is None


def shown(name: str) -> str:
    """Return the Python of README and pages under a marker."""
    [block] = [block for block in to_run("example") if block.name == name]
    return block.code


def exported(shape: str) -> Any:
    """Return what the command prints for developers in other languages."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("FLUX2_TOOL_")}
    command = [sys.executable, "-m", "flux2_tool", "manifest", "export", "--format", shape]
    return json.loads(subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout)
