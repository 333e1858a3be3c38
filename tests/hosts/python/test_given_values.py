"""Values of Python's own types: what they mean, and that a wrong one is an error that costs nothing."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flux2_tool import Flux2Tool, SyncFlux2Tool, ToolResult
from flux2_tool.exceptions import Flux2Error, InvalidArgumentsError
from tests.hosts.python.conftest import Service
from tests.support.pictures import picture


def refusal(service: Service, call: Callable[[Flux2Tool], Any]) -> Flux2Error:
    """Return the error of a call, which has sent and paid for nothing."""

    async def main() -> Flux2Error:
        async with service.tool() as flux:
            with pytest.raises(Flux2Error) as caught:
                await call(flux)
            return caught.value

    error = asyncio.run(main())

    assert service.sandbox.ledger.creates == []
    assert error.charged == "no"
    assert any(error.hint in note for note in error.__notes__)
    return error


@pytest.mark.parametrize("kind", [str, Path])
def test_output_dir_may_begin_with_the_home_folder(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[str], Any]
) -> None:
    """As --output may; a folder that is named "~" is where nobody looks for a picture that was paid."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))

    async def main() -> tuple[ToolResult, dict[str, Any]]:
        async with service.tool() as flux:
            named = await flux.text_to_image("a red fox", output_dir=kind("~/pictures.png"))
            return named, await flux.call("text_to_image", {"prompt": "a stone"}, output_dir=kind("~/agents"))

    named, called = asyncio.run(main())

    assert Path(named.images[0].path or "").parent == tmp_path / "me" / "pictures.png"
    assert Path(called["images"][0]["path"]).parent == tmp_path / "me" / "agents"
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        pytest.param(b"pictures", "a folder's path (text or os.PathLike), not bytes", id="bytes"),
        pytest.param(123, "not int", id="a number"),
        pytest.param(io.BytesIO(), "not io.BytesIO", id="a file in memory"),
        pytest.param("", "names no folder", id="nothing"),
        pytest.param("a\0b", "names no folder", id="NUL"),
        pytest.param("~nobody-of-this-name/x", "unknown user", id="an unknown user"),
    ],
)
@pytest.mark.parametrize("method", ["text_to_image", "call"])
def test_an_output_dir_that_names_no_folder_is_an_error_first(
    service: Service, method: str, folder: Any, said: str
) -> None:
    """A picture that was paid and cannot be saved is lost."""

    async def call(flux: Flux2Tool) -> None:
        if method == "text_to_image":
            await flux.text_to_image("a red fox", output_dir=folder)
            return
        error = (await flux.call("text_to_image", {"prompt": "a red fox"}, output_dir=folder))["error"]
        found = InvalidArgumentsError(error["message"], hint=error["hint"])
        found.add_note(error["hint"])
        assert error["code"] == "invalid_arguments"
        raise found

    error = refusal(service, call)

    assert error.code == "invalid_arguments"
    assert said in error.message
    assert "Nothing was sent" in error.message


JPEG = picture("JPEG")


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        pytest.param(JPEG, "not bytes", id="a picture's bytes"),
        pytest.param(bytearray(JPEG), "not bytearray", id="bytes that change"),
        pytest.param([JPEG], "sources[0] is bytes", id="bytes in a list"),
        pytest.param(["task:a", io.BytesIO(JPEG)], "sources[1] is io.BytesIO", id="a file in memory"),
        pytest.param(io.BytesIO(JPEG), "not io.BytesIO", id="an open file, which has lines"),
        pytest.param([Image.new("RGB", (8, 8))], "sources[0] is PIL.Image.Image", id="a picture of Pillow's"),
        pytest.param([None], "sources[0] is None", id="None in a list"),
        pytest.param(None, "not None", id="None"),
        pytest.param(7, "not int", id="a number"),
        pytest.param({"url": "https://a.example/x.png"}, "not dict", id="an object"),
        pytest.param([["x.png"], "y.png", 5], "sources[0] is list, sources[2] is int", id="two of three"),
        pytest.param([None] * 50, "sources[7] is None and 42 more", id="many"),
    ],
)
def test_a_source_of_another_type_is_named_by_its_place_and_type(service: Service, sources: Any, said: str) -> None:
    """Its text, such as "<io.BytesIO object>", is no path that anybody meant, and bytes belong in no message."""
    error = refusal(service, lambda flux: flux.remix_image("make it night", sources))

    assert isinstance(error, InvalidArgumentsError)
    assert said in error.message
    assert "os.PathLike" in error.message
    assert "Save a picture that is in memory to a file" in error.hint
    assert len(error.message) < 600
    assert error.violations == (error.message,)


def test_the_synchronous_client_refuses_the_same(service: Service) -> None:
    """It is the same API."""
    untyped: Any = [JPEG]
    with SyncFlux2Tool(service.tool()) as flux, pytest.raises(InvalidArgumentsError, match=r"sources\[0\] is bytes"):
        flux.remix_image("make it night", untyped)


def test_any_iterable_of_paths_is_a_list_of_sources(service: Service, tmp_path: Path) -> None:
    """Such as what `Path.glob` returns."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(picture())

    sources: Any = iter(sorted(tmp_path.glob("?.png")))

    async def main() -> None:
        async with service.tool() as flux:
            await flux.remix_image("combine them", sources)

    asyncio.run(main())

    [create] = service.sandbox.ledger.creates
    assert create.body.count(b"https://") == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"output": "x"}, 'unknown argument "output"', id="a name of the command line's"),
        pytest.param({"wait_s": "soon"}, "wait_s must be a number of seconds, not str", id="a wait in words"),
        pytest.param({"wait_s": True}, "wait_s must be a number of seconds, not bool", id="a wait of yes"),
        pytest.param({"wait_s": -1}, "wait_s must be 0 or more seconds, not -1", id="a negative wait"),
        pytest.param({"wait_s": float("nan")}, "wait_s must be 0 or more seconds, not nan", id="a wait of NaN"),
        pytest.param({"wait_s": 10**400}, "wait_s must be 0 or more seconds", id="an endless wait"),
        pytest.param({"session": 7}, "session must be text, not int", id="a number for a session"),
        pytest.param({"on_progress": "print"}, "must be a function that is not async, not str", id="a function's name"),
        pytest.param({"on_progress": asyncio.sleep}, "not async, not an async one", id="an async function"),
        pytest.param({"new": "false"}, "new must be True or False, not str", id="a form's value"),
        pytest.param({"new": 0}, "new must be True or False, not int", id="a number for yes or no"),
    ],
)
def test_an_option_that_is_not_there_or_of_another_type_is_an_error(
    service: Service, options: dict[str, Any], said: str
) -> None:
    """One that is passed over, such as where to save a picture, shows only when the picture has been paid."""
    error = refusal(service, lambda flux: flux.text_to_image("a red fox", **options))

    assert isinstance(error, InvalidArgumentsError)
    assert said in error.message


@pytest.mark.parametrize("task", [None, 7, b"tsk_1"])
def test_what_names_no_task_is_an_error(service: Service, task: Any) -> None:
    """None does not mean the last pictures, which another method returns."""
    error = refusal(service, lambda flux: flux.get_image_task(task))

    assert "task must be a task's id or reference (text) or an earlier result" in error.message


def test_a_tools_own_wait_is_checked_like_a_calls(service: Service) -> None:
    """Every call of the tool would have it."""
    with pytest.raises(InvalidArgumentsError, match="wait_s must be 0 or more seconds"):
        service.tool(wait_s=-1.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"session": 7}, "session must be text, not int"),
        ({"api_key": b"sk-a"}, "api_key must be text, not bytes"),
        ({"base_url": 7}, "base_url must be text, not int"),
        ({"settings": {}}, "settings must be a Settings, not dict"),
        ({"environ": []}, "environ must be a mapping of names to text, not list"),
    ],
)
def test_what_a_tool_is_made_with_is_checked_by_its_type(options: dict[str, Any], said: str) -> None:
    """Each of its calls would fail by a defect, or be another conversation's."""
    with pytest.raises(InvalidArgumentsError, match=said):
        Flux2Tool(**options)


class Kind(str, Enum):  # noqa: UP042 - `str` of a StrEnum's member is its value
    FLEX = "flux-2-flex-text-to-image"
    RESOLUTION = "2k"


def test_a_member_of_an_enum_of_text_is_its_value(service: Service) -> None:
    """As web frameworks read a parameter: its price is that of what it names, and so is what is sent."""

    async def main() -> ToolResult:
        async with service.tool() as flux:
            return await flux.text_to_image(
                "a red fox",
                model=Kind.FLEX,  # type: ignore[arg-type]
                output_resolution=Kind.RESOLUTION,  # type: ignore[arg-type]
                aspect_ratio="1:1",
            )

    result = asyncio.run(main())

    [create] = service.sandbox.ledger.creates
    assert json.loads(create.body)["model"] == "flux-2-flex-text-to-image"
    assert (result.task.model, result.cost.usd) == ("flux-2-flex-text-to-image", 0.24)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        pytest.param("text_to_image", '{"prompt":"a","count":' + "1" * 5000 + "}", "too large", id="digits"),
        pytest.param(["text_to_image"], "{}", "a tool's name is text, not a list", id="a list for a name"),
    ],
)
def test_what_a_model_cannot_mean_is_refused(service: Service, tool: Any, arguments: str, said: str) -> None:
    """Nothing was sent, and the error says so."""

    async def main() -> dict[str, Any]:
        async with service.tool() as flux:
            error: dict[str, Any] = (await flux.call(tool, arguments))["error"]
            return error

    error = asyncio.run(main())

    assert (error["code"], error["charged"]) == ("invalid_arguments", "no")
    assert said in error["message"]
    assert service.sandbox.ledger.creates == []
