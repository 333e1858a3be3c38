"""The async API, as a developer uses it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from pydantic import ValidationError

from flux2_tool import Flux2Tool, Progress, ToolResult
from flux2_tool.exceptions import (
    CancelledCallError,
    CreditsExhaustedError,
    InvalidArgumentsError,
    MissingApiKeyError,
    TaskNotFoundError,
    error_from_code,
)
from flux2_tool.hosts.python.client import (
    AspectRatio,
    OutputResolution,
    RemixAspectRatio,
    RemixImageModel,
    TextToImageModel,
)
from flux2_tool.sandbox import Fault
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.results import error_object
from tests.hosts.python.conftest import Service
from tests.support.harness import DONE, numbered
from tests.support.keys import KEY
from tests.support.virtual_time import VirtualClock, run_virtual


def test_a_picture_from_text_is_a_typed_frozen_result(service: Service) -> None:
    """Attributes complete in an editor, and nobody changes a result that others hold."""

    async def main() -> ToolResult:
        async with service.tool() as flux:
            return await flux.text_to_image("a red fox", aspect_ratio="16:9", output_resolution="2k")

    result = asyncio.run(main())

    assert result.task.state == "completed"
    assert result.images[0].url.startswith("https://runapi.test/")
    assert (result.cost.usd, result.cost.basis) == (0.07, "billed")
    [create] = service.sandbox.ledger.creates
    assert json.loads(create.body) == {
        "prompt": "a red fox",
        "model": "flux-2-pro-text-to-image",
        "aspect_ratio": "16:9",
        "output_resolution": "2k",
    }
    with pytest.raises(ValidationError):
        result.next = "something else"


def test_several_pictures_are_one_result_and_one_of_them_is_a_source(service: Service) -> None:
    """The result as a whole is no picture, and says how one of it is named."""

    async def main() -> tuple[ToolResult, ToolResult, InvalidArgumentsError, ToolResult]:
        async with service.tool() as flux:
            foxes = await flux.text_to_image("three red foxes", count=3)
            night = await flux.remix_image("make it night", foxes.images[1])
            with pytest.raises(InvalidArgumentsError) as refused:
                await flux.remix_image("make it night", foxes)
            return foxes, night, refused.value, await flux.get_image_task(foxes)

    foxes, night, refused, again = asyncio.run(main())

    assert [image.task_ref for image in foxes.images] == [task.ref for task in foxes.tasks]
    assert foxes.cost.usd == pytest.approx(0.15)
    edits = [create for create in service.sandbox.ledger.creates if create.action == "remix_image"]
    assert len(edits) == 1
    assert foxes.images[1].url.split("?")[0] in edits[0].body.decode()
    assert len(night.images) == 1
    assert "this result has 3 pictures" in refused.message
    assert "result.images[0]" in refused.hint
    assert (again.task.ref, again.tasks) == (foxes.tasks[0].ref, foxes.tasks)


def test_another_picture_of_the_same_task_is_a_source_by_its_link() -> None:
    """A reference means a task's first picture; RunAPI's answers may name several."""
    links = [{"url": f"https://cdn.example/{name}.png"} for name in ("one", "two")]
    service = numbered({**DONE, "images": links})

    async def main() -> ToolResult:
        environ = {"FLUX2_TOOL_JOURNAL": "off"}
        async with Flux2Tool(api_key=KEY, environ=environ, transport=service, clock=VirtualClock()) as flux:
            foxes = await flux.text_to_image("two red foxes")
            await flux.remix_image("make it night", foxes.images[1])
            return foxes

    foxes = run_virtual(main())

    assert [image.task_ref for image in foxes.images] == [foxes.task.ref, None]
    assert json.loads(service.posts[-1].body)["source_image_urls"] == ["https://cdn.example/two.png"]


def test_recent_in_the_place_of_an_id_is_an_argument_error(service: Service) -> None:
    """It names no task; the error says which method is meant."""

    async def main() -> None:
        async with service.tool() as flux:
            await flux.get_image_task("recent")

    with pytest.raises(InvalidArgumentsError, match="names no task") as caught:
        asyncio.run(main())
    assert "recent()" in caught.value.hint


def test_an_edit_takes_results_files_and_references(service: Service, picture: Callable[[str], Path]) -> None:
    """In the order given, because a prompt speaks of the first and the second picture."""
    path = picture("stone.png")

    async def main() -> tuple[ToolResult, ToolResult]:
        async with service.tool(session="one") as flux:
            fox = await flux.text_to_image("a red fox")
            return fox, await flux.remix_image("put both together", [path, fox, "task:last"], aspect_ratio="auto")

    fox, edited = asyncio.run(main())

    create = json.loads(service.sandbox.ledger.creates[-1].body)
    first, second, third = create["source_image_urls"]
    assert "/storage/" in first
    assert second == third == fox.images[0].url
    assert edited.task.tool == "remix_image"


@pytest.mark.parametrize("source", ["task", "result"])
def test_one_source_needs_no_list(service: Service, source: str) -> None:
    """A lone string must not be taken for a list of letters."""

    async def main() -> ToolResult:
        async with service.tool() as flux:
            fox = await flux.text_to_image("a red fox")
            return await flux.remix_image("make it night", fox if source == "result" else str(fox.task.ref))

    assert asyncio.run(main()).task.state == "completed"


def test_wrong_arguments_raise_every_violation_and_send_nothing(service: Service) -> None:
    """The exception is what a developer reads in a traceback."""

    async def main() -> None:
        async with service.tool() as flux:
            await flux.text_to_image(" ", aspect_ratio="2:1")  # type: ignore[arg-type]

    with pytest.raises(InvalidArgumentsError) as caught:
        asyncio.run(main())

    assert len(caught.value.violations) == 2
    assert caught.value.charged == "no"
    assert "Hint: " in caught.value.__notes__[0]
    assert not service.sandbox.ledger.creates


def test_an_empty_account_is_an_exception_of_its_own(service: Service) -> None:
    """One class per decision: a program tops up or gives up, and never parses a message."""
    service.sandbox.faults.queue(Fault(kind="status", on="create", status=402))

    async def main() -> None:
        async with service.tool() as flux:
            await flux.text_to_image("a golden palace")

    with pytest.raises(CreditsExhaustedError) as caught:
        asyncio.run(main())

    assert not caught.value.retryable
    assert caught.value.request_id


def test_every_error_code_of_the_manifest_is_an_exception() -> None:
    """A code without a class would reach a program as a defect of ours."""
    codes = load_manifest().tools["text_to_image"].output_schema["properties"]["error"]["properties"]["code"]["enum"]

    raised = [error_from_code(code, "it failed", task_id="tsk_1") for code in codes]
    for error in raised:
        error.charged, error.retryable = "unknown", True
    found = [error_object(error)["error"] for error in raised]

    assert [error["code"] for error in found] == codes
    assert {(e["charged"], e["retryable"]) for e in found} == {("unknown", True)}
    assert [e["code"] for e in found if e["task_ref"] != "task:tsk_1"] == ["content_refused"]


def test_without_a_key_it_says_so_at_once(service: Service) -> None:
    """Not at the first picture, in the middle of somebody's night."""
    with pytest.raises(MissingApiKeyError):
        service.tool(api_key=None)


def test_an_image_that_takes_longer_than_the_wait_is_fetched_later(service: Service) -> None:
    """It is no error: the image is being paid for."""

    service.sandbox.change({"duration_s": 120})

    async def main() -> tuple[ToolResult, ToolResult]:
        async with service.tool(wait_s=30) as flux:
            begun = await flux.text_to_image("a cathedral")
            return begun, await flux.get_image_task(begun, wait_s=600)

    begun, done = asyncio.run(main())

    assert (begun.task.state, begun.images) == ("processing", ())
    assert (done.task.state, done.task.id) == ("completed", begun.task.id)
    assert service.images_paid == 1


def test_an_unknown_task_is_told(service: Service) -> None:
    """A typing error must not wait out the deadline in silence."""

    async def main() -> None:
        async with service.tool() as flux:
            await flux.get_image_task("tsk_nobody_knows")

    with pytest.raises(TaskNotFoundError):
        asyncio.run(main())


def test_progress_is_told_while_it_waits(service: Service) -> None:
    """For a progress bar, or a line in a log."""
    told: list[Progress] = []

    async def main() -> None:
        async with service.tool() as flux:
            await flux.text_to_image("a red fox", on_progress=told.append)

    asyncio.run(main())

    assert told[0].message == "sending the request"
    assert told[-1].task_id is not None


def test_a_broken_progress_bar_loses_no_picture(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """The image is paid for, whatever the caller's code does meanwhile."""

    def broken(_progress: Progress) -> None:
        raise ZeroDivisionError

    async def main() -> ToolResult:
        async with service.tool() as flux:
            return await flux.text_to_image("a red fox", on_progress=broken)

    assert asyncio.run(main()).task.state == "completed"
    assert "ZeroDivisionError" in caplog.text


def test_a_cancelled_call_keeps_its_task(service: Service) -> None:
    """RunAPI has no cancel, so an equal call of the session gets the same picture."""

    async def main() -> ToolResult:
        async with service.tool(session="one") as flux:
            begun = asyncio.Event()
            call = asyncio.create_task(
                flux.text_to_image("a snail", on_progress=lambda told: begun.set() if told.task_id else None)
            )
            async with asyncio.timeout(30):
                await begun.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return await flux.text_to_image("a snail")

    assert asyncio.run(main()).task.joined
    assert service.images_paid == 1


def test_closing_ends_the_calls_that_wait_and_lets_no_other_begin(service: Service) -> None:
    """Nobody follows a task any more, so a wait would be for nothing; and a late call would pay unseen."""
    service.sandbox.change({"duration_s": 100_000})

    async def main() -> None:
        flux = service.tool()
        own_begun, models_begun = asyncio.Event(), asyncio.Event()
        own = asyncio.create_task(
            flux.text_to_image("a snail", wait_s=100_000, on_progress=lambda told: told.task_id and own_begun.set())
        )
        models = asyncio.create_task(
            flux.call(
                "text_to_image",
                {"prompt": "a slug"},
                wait_s=100_000,
                on_progress=lambda told: told.task_id and models_begun.set(),
            )
        )
        async with asyncio.timeout(30):
            await own_begun.wait()
            await models_begun.wait()
            await flux.aclose()
            with pytest.raises(CancelledCallError):
                await own
            assert (await models)["error"]["code"] == "cancelled"
        with pytest.raises(RuntimeError, match="closed"):
            await flux.text_to_image("a late snail")
        with pytest.raises(RuntimeError, match="closed"):
            await flux.call("text_to_image", {"prompt": "a late slug"})
        await flux.aclose()

    asyncio.run(main())

    assert len(service.sandbox.ledger.creates) == 2


def test_equal_calls_at_once_share_a_task_unless_told_otherwise(service: Service) -> None:
    """Within a session; `new` is for who wants two pictures of one prompt."""

    async def main() -> list[ToolResult]:
        async with service.tool(session="one") as flux:
            first = asyncio.create_task(flux.text_to_image("a red fox"))
            second = asyncio.create_task(flux.text_to_image("a red fox"))
            third = asyncio.create_task(flux.text_to_image("a red fox", new=True))
            fourth = asyncio.create_task(flux.text_to_image("a red fox", session="two"))
            return [await task for task in (first, second, third, fourth)]

    first, second, third, fourth = asyncio.run(main())

    assert first.task.id == second.task.id
    assert len({first.task.id, third.task.id, fourth.task.id}) == 3
    assert service.images_paid == 3


def test_pictures_are_saved_where_asked(service: Service, tmp_path: Path) -> None:
    """With their size, which only the bytes tell."""

    async def main() -> ToolResult:
        async with service.tool() as flux:
            return await flux.text_to_image("a red fox", aspect_ratio="1:1", output_dir=tmp_path / "out")

    [image] = asyncio.run(main()).images

    assert image.path is not None
    assert Path(image.path).parent == tmp_path / "out"
    assert image.width_px == image.height_px


class HeldCreates(httpx.AsyncBaseTransport):
    """Delivers create requests only once they are released, and counts them."""

    def __init__(self, service: Service) -> None:
        self._inner = httpx.ASGITransport(service.app)
        self.arrived, self.released = asyncio.Event(), asyncio.Event()
        self.posts = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if "idempotency-key" in request.headers:
            self.posts += 1
            self.arrived.set()
            await self.released.wait()
        return await self._inner.handle_async_request(request)


def test_a_models_call_joins_an_equal_call_of_the_program(service: Service) -> None:
    """Their limits differ, the session is one: the request that is on its way already is not sent again."""

    async def main() -> tuple[ToolResult, dict[str, Any], int]:
        network, has_joined = HeldCreates(service), asyncio.Event()
        async with service.tool(session="one", transport=network) as flux, asyncio.timeout(30):
            own = asyncio.create_task(flux.text_to_image("a red fox"))
            await network.arrived.wait()
            models = asyncio.create_task(
                flux.call("text_to_image", {"prompt": "a red fox"}, wait_s=600, on_progress=lambda _: has_joined.set())
            )
            await has_joined.wait()
            network.released.set()
            return await own, await models, network.posts

    own, models, posts = asyncio.run(main())

    assert own.task.id == models["task"]["id"]
    assert (own.task.state, models["task"]["state"]) == ("completed", "completed")
    assert models["task"]["joined"]
    assert (posts, len(service.sandbox.ledger.creates)) == (1, 1)


def test_a_models_call_returns_an_object_and_raises_nothing(service: Service) -> None:
    """It goes back to the model as it is, the failure too."""

    async def main() -> list[dict[str, object]]:
        async with service.tool() as flux:
            return [
                await flux.call("text_to_image", {"prompt": "a red fox"}),
                await flux.call("text_to_image", {"prompt": "a red fox", "size": "big"}),
                await flux.call("make_me_rich", None),
            ]

    good, wrong, unknown = asyncio.run(main())

    assert {"task", "images", "cost", "next"} <= set(good)
    assert "error" in wrong
    assert "error" in unknown


def test_a_models_arguments_may_be_json_text_and_hold_nulls(service: Service) -> None:
    """So do chat completions bring them, and strict function calling fills in what the model leaves out."""

    async def main() -> list[dict[str, Any]]:
        async with service.tool() as flux:
            return [
                await flux.call("text_to_image", '\ufeff{"prompt": "a red fox", "model": null, "aspect_ratio": null}'),
                await flux.call("text_to_image", {"prompt": "a blue fox", "output_resolution": None}),
                await flux.call("text_to_image", '{"prompt": "a half'),
                await flux.call("text_to_image", '{"prompt": null}'),
            ]

    text, members, broken, empty = asyncio.run(main())

    assert [text["task"]["state"], members["task"]["state"]] == ["completed", "completed"]
    assert "not JSON" in broken["error"]["message"]
    assert "prompt is missing" in empty["error"]["message"]
    creates = [json.loads(create.body) for create in service.sandbox.ledger.creates]
    assert [set(body) for body in creates] == [{"prompt", "model"}] * 2


def test_a_models_call_has_the_limits_of_an_agents_host(service: Service, picture: Callable[[str], Path]) -> None:
    """The developer's own code may read any file and repeat itself; a model that was talked into it may not."""
    path = picture("secret.png")

    async def main() -> list[dict[str, dict[str, object]]]:
        async with service.tool(variables={"FLUX2_TOOL_REPEAT_MAX": "1"}) as flux:
            fox = {"prompt": "a red fox"}
            await flux.remix_image("make it blue", path)
            return [
                await flux.call("text_to_image", fox),
                await flux.call("text_to_image", fox),
                await flux.call("remix_image", {"prompt": "make it blue", "source_image_urls": [str(path)]}),
                await flux.call("text_to_image", {"prompt": "an owl", "enable_safety_checker": False}),
            ]

    _first, again, file, unsafe = asyncio.run(main())

    assert again["error"]["code"] == "repeated_request"
    assert file["error"]["code"] == "source_refused"
    assert unsafe["error"]["code"] == "invalid_arguments"


def test_a_model_may_upload_no_file_when_run_in_the_home_folder(
    service: Service, picture: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is no project: any picture of the machine would be within reach of whoever steers the model."""
    picture("secret.png")
    monkeypatch.chdir(service.home)

    async def main() -> dict[str, dict[str, object]]:
        async with service.tool() as flux:
            return await flux.call("remix_image", {"prompt": "make it blue", "source_image_urls": ["secret.png"]})

    assert asyncio.run(main())["error"]["code"] == "source_refused"
    assert not service.sandbox.ledger.creates


def test_the_types_are_the_manifests() -> None:
    """Written for type checkers, and held to the one source of truth."""

    def enum(tool: str, name: str) -> list[str]:
        found: list[str] = load_manifest().tools[tool].input_schema["properties"][name]["enum"]
        return found

    assert list(get_args(TextToImageModel)) == enum("text_to_image", "model")
    assert list(get_args(RemixImageModel)) == enum("remix_image", "model")
    assert list(get_args(AspectRatio)) == enum("text_to_image", "aspect_ratio")
    assert list(get_args(RemixAspectRatio)) == enum("remix_image", "aspect_ratio")
    assert list(get_args(OutputResolution)) == enum("text_to_image", "output_resolution")


def test_it_needs_no_event_loop_to_be_made(service: Service) -> None:
    """A program makes it where it reads its settings."""
    flux = service.tool()

    assert isinstance(flux, Flux2Tool)
    asyncio.run(flux.aclose())


def test_a_result_without_a_task_id_is_no_source(service: Service) -> None:
    """RunAPI may answer with the image alone; then only its link or its file can be given."""

    async def main() -> None:
        async with service.tool() as flux:
            made = await flux.text_to_image("a red fox")
            nameless = made.model_copy(update={"task": made.task.model_copy(update={"id": None, "ref": None})})
            await flux.remix_image("make it night", nameless)

    with pytest.raises(InvalidArgumentsError, match="no task id"):
        asyncio.run(main())

    assert service.images_paid == 1


def test_code_is_asked_nothing_also_for_a_models_calls(service: Service) -> None:
    """Whoever wrote it decides what to ask and whom; `ask_above_usd` is for hosts that can ask a person."""

    async def main() -> tuple[ToolResult, dict[str, Any]]:
        async with service.tool(variables={"FLUX2_TOOL_ASK_ABOVE_USD": "0.01"}) as flux:
            return await flux.text_to_image("a red fox"), await flux.call("text_to_image", {"prompt": "a blue fox"})

    by_code, by_model = asyncio.run(main())

    assert by_code.task.state == by_model["task"]["state"] == "completed"
