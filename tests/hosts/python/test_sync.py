"""The synchronous front: the same tool, waited for."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flux2_tool import Flux2Tool, Progress, SyncFlux2Tool
from flux2_tool.exceptions import CancelledCallError, ConfigurationError, InvalidArgumentsError
from flux2_tool.sandbox import SandboxOptions, running_sandbox
from tests.hosts.python.conftest import Service
from tests.support.environ import base_environ
from tests.support.keys import KEY


def test_the_whole_way_without_an_event_loop(service: Service) -> None:
    """Scripts and notebooks want a result, not a coroutine."""
    service.sandbox.change({"duration_s": 120})
    with SyncFlux2Tool(service.tool(wait_s=0)) as flux:
        begun = flux.text_to_image("a red fox")
        done = flux.get_image_task(begun, wait_s=600)
        edited = flux.remix_image("make it night", done, wait_s=600)
        answer = flux.call("get_image_task", {"task_id": done.task.id})

    assert (begun.task.state, done.task.state, edited.task.state) == ("processing", "completed", "completed")
    assert answer["task"]["id"] == done.task.id
    assert service.images_paid == 2


def test_the_definitions_for_a_model_are_those_of_the_async_tool(service: Service) -> None:
    """A script that drives a model needs them before it waits for anything."""
    with SyncFlux2Tool(service.tool()) as flux:
        assert flux.definitions("anthropic") == service.tool().definitions("anthropic")


def test_errors_are_raised_where_the_call_was_made(service: Service) -> None:
    """Not in the thread that does the work."""
    with SyncFlux2Tool(service.tool()) as flux, pytest.raises(InvalidArgumentsError):
        flux.text_to_image("")


def test_a_misspelt_cap_in_the_environment_makes_no_image(service: Service) -> None:
    """It counts only where the settings come from the environment."""
    variables = {"FLUX2_TOOL_DAYLY_CAP_USD": "0.01"}
    with (
        SyncFlux2Tool(service.tool(variables=variables)) as flux,
        pytest.raises(ConfigurationError, match="FLUX2_TOOL_DAILY_CAP_USD"),
    ):
        flux.text_to_image("a red fox")
    assert service.images_paid == 0

    with SyncFlux2Tool(service.tool(variables=variables, settings=service.tool().settings)) as flux:
        flux.text_to_image("a red fox")
    assert service.images_paid == 1


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


def test_closing_ends_the_calls_of_other_threads(service: Service) -> None:
    """A program that shuts down would hang for ever on a thread that waits for a picture."""
    service.sandbox.change({"duration_s": 100_000})
    flux = SyncFlux2Tool(service.tool())
    begun = threading.Event()

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(
            flux.text_to_image,
            "a snail",
            wait_s=100_000,
            on_progress=lambda told: begun.set() if told.task_id else None,
        )
        assert begun.wait(timeout=30)
        flux.close()
        error = call.exception(timeout=30)

    assert isinstance(error, CancelledCallError)
    assert error.task_id in service.sandbox.ledger.tasks


SCRIPT = """
from flux2_tool import Flux2Tool, SyncFlux2Tool
print(SyncFlux2Tool(Flux2Tool(session="one")).text_to_image("a red fox").task.id)
"""
ASYNC_SCRIPT = """
import asyncio
from flux2_tool import Flux2Tool
async def main():
    print((await Flux2Tool(session="one").text_to_image("a red fox")).task.id)
asyncio.run(main())
"""


HELD_SCRIPT = """
from flux2_tool import Flux2Tool, SyncFlux2Tool
flux = SyncFlux2Tool(Flux2Tool(session="one"))
print(flux.text_to_image("a red fox").task.id)
"""
HELD_ASYNC_SCRIPT = """
import asyncio
from flux2_tool import Flux2Tool
flux = Flux2Tool(session="one")
async def main():
    print((await flux.text_to_image("a red fox")).task.id)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "script",
    [SCRIPT, ASYNC_SCRIPT, HELD_SCRIPT, HELD_ASYNC_SCRIPT],
    ids=["sync", "async", "sync, held to the end", "async, held to the end"],
)
def test_a_script_that_never_closes_it_gets_a_new_picture_at_its_next_run(tmp_path: Path, script: str) -> None:
    """Its first picture was handed over; the end of the script must not make it one that was never shown."""
    with running_sandbox(SandboxOptions(duration_s=0.1, drawn_images=False)) as (base_url, _sandbox):
        environ = {**base_environ(), "HOME": str(tmp_path), "RUNAPI_API_KEY": KEY, "RUNAPI_BASE_URL": base_url}
        runs = [
            subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
            for _ in range(2)
        ]

    first, second = (run.stdout.strip() for run in runs)
    assert first != second
    assert [run.stderr for run in runs] == ["", ""]


def test_one_that_nobody_holds_any_more_ends_its_thread(service: Service) -> None:
    """A program that makes one for each request must not gather threads."""
    flux = SyncFlux2Tool(service.tool())
    flux.text_to_image("a red fox")

    del flux
    gc.collect()

    assert "flux2-tool" not in [thread.name for thread in threading.enumerate()]


def test_a_callback_that_calls_the_tool_is_told_instead_of_hanging(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs on the thread that does the work, which would wait for itself."""
    with SyncFlux2Tool(service.tool()) as flux:

        def calls_back(progress: Progress) -> None:
            flux.get_image_task(progress.task_id or "none")

        assert flux.text_to_image("a red fox", on_progress=calls_back).task.state == "completed"

    assert "on_progress must not call the tool" in caplog.text


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt()])
def test_a_callback_that_ends_the_program_ends_the_wait(service: Service, raised: BaseException) -> None:
    """As Ctrl-C does in a wait: the thread goes on, and an equal call gets the picture that is being paid for."""

    def stops(progress: Progress) -> None:
        if progress.task_id is not None:
            raise raised

    with SyncFlux2Tool(service.tool(session="one")) as flux:
        with pytest.raises(type(raised)):
            flux.text_to_image("a red fox", on_progress=stops)
        again = flux.text_to_image("a red fox")

    assert (again.task.state, again.task.joined) == ("completed", True)
    assert service.images_paid == 1


def test_an_async_callback_is_refused_however_it_is_made(service: Service) -> None:
    """It would never run: also an object that is called with await."""

    class Display:
        async def __call__(self, progress: Progress) -> None:
            raise AssertionError

    display: Any = Display()
    with SyncFlux2Tool(service.tool()) as flux, pytest.raises(InvalidArgumentsError, match="not async"):
        flux.text_to_image("a red fox", on_progress=display)

    assert service.images_paid == 0


def test_a_callback_that_raises_a_cancel_does_not_stop_the_call(service: Service) -> None:
    """It is the callback's own, such as of a future that it looked at."""

    def cancelled(_: Progress) -> None:
        raise asyncio.CancelledError

    with SyncFlux2Tool(service.tool()) as flux:
        assert flux.text_to_image("a red fox", on_progress=cancelled).task.state == "completed"


def test_both_fronts_have_the_same_methods() -> None:
    """There is one implementation; a method that is missing here would be found too late."""
    public = {name for name, _ in inspect.getmembers(Flux2Tool, inspect.isfunction) if not name.startswith("_")}
    waiting = {name for name, _ in inspect.getmembers(SyncFlux2Tool, inspect.isfunction) if not name.startswith("_")}

    assert public - {"aclose"} == waiting - {"close"}
    assert inspect.signature(SyncFlux2Tool.remix_image) == inspect.signature(Flux2Tool.remix_image)
