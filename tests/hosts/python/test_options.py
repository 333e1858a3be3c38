"""Keywords of the Python API: every one is used, or the call is refused before anything is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flux2_tool import SyncFlux2Tool
from flux2_tool.exceptions import InvalidArgumentsError
from tests.hosts.python.conftest import Service


def refused(service: Service, method: str, *given: Any, **options: Any) -> tuple[str, ...]:
    """Return the violations for which a method refuses a call."""

    async def main() -> None:
        async with service.tool() as flux:
            await getattr(flux, method)(*given, **options)

    with pytest.raises(InvalidArgumentsError) as caught:
        asyncio.run(main())

    assert caught.value.charged == "no"
    assert caught.value.__notes__
    assert not service.sandbox.ledger.creates
    return caught.value.violations


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        pytest.param({"aspect_ration": "16:9"}, "(nearest: aspect_ratio)", id="a tool's argument misspelt"),
        pytest.param({"num_images": 3}, "it is called count here", id="another API's name"),
        pytest.param({"n": 2}, "it is called count here", id="a short one"),
        pytest.param({"seed": 4}, "there is no seed", id="what is not there at all"),
        pytest.param({"seed": None}, "there is no seed", id="also without a value"),
        pytest.param({"image": "fox.png"}, "use remix_image with sources", id="what another method takes"),
        pytest.param({"outptu_dir": "x"}, "(nearest: output_dir)", id="where to save misspelt"),
        pytest.param({"timeout": 5}, "it is called wait_s here", id="how long to wait"),
        pytest.param({"sesion": "one"}, "(nearest: session)", id="whose it is"),
        pytest.param({"neww": True}, "(nearest: new)", id="whether it is new"),
    ],
)
@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
def test_an_unknown_keyword_is_refused_before_paying(
    service: Service, options: dict[str, Any], advice: str, is_sync: bool
) -> None:
    """A dropped one pays for a picture that nobody asked for."""
    [name] = options
    if is_sync:
        with SyncFlux2Tool(service.tool()) as flux, pytest.raises(InvalidArgumentsError) as caught:
            flux.text_to_image("a fox", **options)
        [text] = caught.value.violations
    else:
        [text] = refused(service, "text_to_image", "a fox", **options)

    assert text.startswith(f'unknown argument "{name}": ')
    assert advice in text
    assert not service.sandbox.ledger.creates


def test_it_is_refused_together_with_what_else_is_wrong(service: Service) -> None:
    """All at once, as everywhere."""
    found = refused(service, "text_to_image", " ", aspect_ratio="2:1", num_images=3, seed=4)

    assert [text.split()[0] for text in found] == ["unknown", "unknown", "prompt", "aspect_ratio"]


def test_an_edit_names_its_sources_as_python_does(service: Service) -> None:
    """The tool's argument has another name there, and two lists of sources would be one too many."""
    images, links = refused(service, "remix_image", "at night", "task:tsk_1", images=["x"], source_image_urls=["y"])

    assert "give the pictures as sources" in images
    assert links == 'unknown argument "source_image_urls": it is called sources here'


@pytest.mark.parametrize("options", [{"new": True}, {"count": 2}, {"timeoutSeconds": 5}, {"waits_s": 5}])
def test_fetching_takes_what_a_wait_takes_alone(service: Service, options: dict[str, Any]) -> None:
    """Whoever asks for a new picture there would wait for one that never comes."""
    [text] = refused(service, "get_image_task", "tsk_1", **options)

    assert "wait_s" in text
    assert ("source" in text, "task_id" in text) == (False, False)


def test_a_models_call_refuses_it_as_an_object(service: Service) -> None:
    """`call` raises nothing; the tool's arguments are an object, so that a keyword is never one of them."""

    async def main() -> list[dict[str, Any]]:
        async with service.tool() as flux:
            call: Any = flux.call
            return [
                await call("text_to_image", {"prompt": "a fox"}, count=2),
                await call("text_to_image", {"prompt": "a fox"}, sesion="one", timeout=5),
            ]

    count, wait = asyncio.run(main())

    assert count["error"]["code"] == wait["error"]["code"] == "invalid_arguments"
    assert [text.split()[2] for text in wait["error"]["violations"]] == ['"sesion"', '"timeout"']
    assert "nearest: session" in wait["error"]["message"]
    assert "it is called wait_s here" in wait["error"]["message"]
    assert not service.sandbox.ledger.creates
