"""The synchronous front: the same tool, waited for."""

from __future__ import annotations

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flux2_tool import Flux2Tool, Progress, SyncFlux2Tool
from flux2_tool.errors import InvalidArgumentsError

from .conftest import Service


def test_the_whole_way_without_an_event_loop(service: Service) -> None:
    """Scripts and notebooks want a result, not a coroutine."""
    with SyncFlux2Tool(service.tool(wait_s=0)) as flux:
        begun = flux.text_to_image("a red fox")
        done = flux.get_image_task(begun, wait_s=60)
        edited = flux.remix_image("make it night", done, wait_s=60)
        answer = flux.call("get_image_task", {"task_id": done.task.id})

    assert (begun.task.state, done.task.state, edited.task.state) == ("processing", "completed", "completed")
    assert answer["task"]["id"] == done.task.id
    assert service.images_paid == 2


def test_errors_are_raised_where_the_call_was_made(service: Service) -> None:
    """Not in the thread that does the work."""
    with SyncFlux2Tool(service.tool()) as flux, pytest.raises(InvalidArgumentsError):
        flux.text_to_image("")


def test_several_threads_share_one_tool(service: Service) -> None:
    """A web server's threads do, and each gets its own picture."""
    prompts = [f"fox number {number}" for number in range(8)]

    with SyncFlux2Tool(service.tool()) as flux, ThreadPoolExecutor(len(prompts)) as pool:
        results = list(pool.map(flux.text_to_image, prompts))

    assert len({result.task.id for result in results}) == len(prompts)


def test_closing_ends_its_thread_and_a_later_call_says_so(service: Service) -> None:
    """A forgotten thread would keep connections, and a call into nothing would wait for ever."""
    flux = SyncFlux2Tool(service.tool())
    flux.text_to_image("a red fox")

    flux.close()
    flux.close()

    assert "flux2-tool" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(RuntimeError, match="closed"):
        flux.text_to_image("a red fox")


def test_a_callback_that_calls_the_tool_is_told_instead_of_hanging(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs on the thread that does the work, which would wait for itself."""
    with SyncFlux2Tool(service.tool()) as flux:

        def calls_back(progress: Progress) -> None:
            flux.get_image_task(progress.task_id or "none")

        assert flux.text_to_image("a red fox", on_progress=calls_back).task.state == "completed"

    assert "on_progress must not call the tool" in caplog.text


def test_both_fronts_have_the_same_methods() -> None:
    """There is one implementation; a method that is missing here would be found too late."""
    public = {name for name, _ in inspect.getmembers(Flux2Tool, inspect.isfunction) if not name.startswith("_")}
    waiting = {name for name, _ in inspect.getmembers(SyncFlux2Tool, inspect.isfunction) if not name.startswith("_")}

    assert public - {"aclose"} == waiting - {"close"}
    assert inspect.signature(SyncFlux2Tool.remix_image) == inspect.signature(Flux2Tool.remix_image)
