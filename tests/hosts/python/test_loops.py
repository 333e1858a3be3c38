"""One tool on several event loops, in forked children, closed, and at the end of the program: it works or refuses."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flux2_tool import Flux2Tool, SyncFlux2Tool, ToolResult
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.hosts.python.conftest import Service
from tests.support.environ import base_environ
from tests.support.keys import KEY
from tests.support.waiting import PATIENCE_S


def test_one_tool_serves_one_event_loop_after_another(service: Service) -> None:
    """A script calls asyncio.run for each picture; every one is paid, so every one must arrive."""
    flux = service.tool()

    results = [asyncio.run(flux.text_to_image(f"fox number {number}")) for number in range(3)]
    asyncio.run(flux.aclose())

    assert [result.task.state for result in results] == ["completed"] * 3
    assert service.images_paid == 3


def test_a_model_s_calls_work_on_each_loop_too(service: Service) -> None:
    """They run on an engine of their own."""
    flux = service.tool()

    results = [asyncio.run(flux.call("text_to_image", {"prompt": f"fox {number}"})) for number in range(2)]

    assert [result["task"]["state"] for result in results] == ["completed"] * 2


def test_a_task_of_an_ended_loop_is_joined_on_the_next(service: Service) -> None:
    """What followed it ended with its loop, and an equal call must not pay again."""
    service.sandbox.change({"duration_s": 600})
    flux = service.tool(session="one")

    begun = asyncio.run(flux.text_to_image("a red fox", wait_s=200))
    done = asyncio.run(flux.text_to_image("a red fox", wait_s=6000))

    assert (begun.task.state, done.task.state) == ("processing", "completed")
    assert (done.task.id, done.task.joined) == (begun.task.id, True)
    assert service.images_paid == 1


def test_loops_in_several_threads_share_one_tool(service: Service) -> None:
    """A web server's threads may each run a loop."""
    flux = service.tool()

    def made(number: int) -> ToolResult:
        return asyncio.run(flux.text_to_image(f"fox number {number}"))

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(made, range(4)))

    assert len({result.task.id for result in results}) == 4
    assert service.images_paid == 4


def test_closing_on_one_loop_closes_it_for_all(service: Service) -> None:
    """Else a call on another loop would find half a tool."""
    flux = service.tool()

    async def use_and_close() -> None:
        await flux.text_to_image("a red fox")
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.to_thread(lambda: asyncio.run(flux.aclose()))

    asyncio.run(use_and_close())

    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(flux.text_to_image("a red fox"))
    assert service.images_paid == 1


def test_without_a_journal_a_second_loop_is_refused_before_anything_is_sent(service: Service) -> None:
    """Its tasks are known to the first loop alone, so an equal call could pay twice, and caps would start anew."""
    flux = service.tool(variables={"FLUX2_TOOL_JOURNAL": "off"})
    asyncio.run(flux.text_to_image("a red fox"))

    with pytest.raises(ConfigurationError, match="Nothing was sent"):
        asyncio.run(flux.text_to_image("a red fox"))
    answer = asyncio.run(flux.call("text_to_image", {"prompt": "a red fox"}))

    assert answer["error"]["code"] == "configuration_error"
    assert service.images_paid == 1


def test_without_asyncio_a_call_is_refused_and_names_the_way(service: Service) -> None:
    """trio runs coroutines too, but none that wait for asyncio."""
    tool = service.tool()
    called, closed = tool.text_to_image("a red fox"), tool.aclose()

    with pytest.raises(ConfigurationError, match="no event loop of asyncio") as caught:
        called.send(None)
    with pytest.raises(StopIteration):
        closed.send(None)

    assert "SyncFlux2Tool" in caught.value.hint
    assert service.images_paid == 0


def test_a_tool_that_was_closed_stays_closed_for_every_front(service: Service) -> None:
    """A call into nothing would wait for ever."""
    flux: Flux2Tool = service.tool()
    sync = SyncFlux2Tool(flux)
    sync.close()

    with pytest.raises(RuntimeError, match="closed"):
        sync.text_to_image("a red fox")
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(flux.text_to_image("a red fox"))
    assert service.images_paid == 0


# ---- in processes of their own ---------------------------------------------------------------------------------------


@pytest.fixture
def runapi_server() -> Iterator[tuple[str, Sandbox]]:
    """The sandbox over real sockets."""
    with running_sandbox(SandboxOptions(duration_s=0.1, drawn_images=False)) as running:
        yield running


def run(script: str, tmp_path: Path, base_url: str) -> subprocess.CompletedProcess[str]:
    """Run a script with a key and the sandbox's address; one that hangs fails the test."""
    environ = {**base_environ(), "HOME": str(tmp_path), "RUNAPI_API_KEY": KEY, "RUNAPI_BASE_URL": base_url}
    # Python 3.12 and later warn of any fork of a process with threads, which is what is tested here.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


FORKED = """
import os, sys
from flux2_tool import SyncFlux2Tool
flux = SyncFlux2Tool()
{before}
pid = os.fork()
if pid == 0:
    print("child", flux.text_to_image("of the child").task.state, flush=True)
    {end}
print("ended with", os.waitpid(pid, 0)[1], flush=True)
print("parent", flux.text_to_image("of the parent").task.state, flush=True)
"""


@pytest.mark.parametrize("before", ["", 'flux.text_to_image("before the fork")'], ids=["made", "used"])
@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)", "flux.close(); sys.exit(0)"])
def test_a_forked_child_and_its_parent_both_go_on(
    tmp_path: Path, runapi_server: tuple[str, Sandbox], before: str, end: str
) -> None:
    """Servers load the program and fork; the child's end must not take the parent's connections with it."""
    done = run(FORKED.format(before=before, end=end), tmp_path, runapi_server[0])

    assert done.stdout.splitlines() == ["child completed", "ended with 0", "parent completed"], done.stderr
    assert len(runapi_server[1].ledger.billed_tasks) == (3 if before else 2)


ASYNC_FORKED = """
import asyncio, os
from flux2_tool import Flux2Tool
flux = Flux2Tool()
print("before", asyncio.run(flux.text_to_image("before the fork")).task.state, flush=True)
pid = os.fork()
if pid == 0:
    print("child", asyncio.run(flux.text_to_image("of the child")).task.state, flush=True)
    os._exit(0)
print("ended with", os.waitpid(pid, 0)[1], flush=True)
print("parent", asyncio.run(flux.text_to_image("of the parent")).task.state, flush=True)
"""


def test_an_async_tool_may_be_forked_between_its_loops(tmp_path: Path, runapi_server: tuple[str, Sandbox]) -> None:
    """The child has a loop of its own, and connections and a journal of its own with it."""
    done = run(ASYNC_FORKED, tmp_path, runapi_server[0])

    assert done.stdout.splitlines() == ["before completed", "child completed", "ended with 0", "parent completed"]


FORKED_IN_A_CALL = """
import os, threading
from flux2_tool import SyncFlux2Tool
flux = SyncFlux2Tool()
begun = threading.Event()
def call():
    print("parent", flux.text_to_image("[slow] a glacier", wait_s=1, on_progress=lambda _: begun.set()).task.state)
thread = threading.Thread(target=call)
thread.start()
begun.wait()
pid = os.fork()
if pid == 0:
    print("child", flux.text_to_image("of the child").task.state, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
thread.join()
"""


def test_a_fork_in_mid_call_leaves_the_call_to_the_parent(tmp_path: Path, runapi_server: tuple[str, Sandbox]) -> None:
    """The child must neither wait for the parent's call nor send it again."""
    done = run(FORKED_IN_A_CALL, tmp_path, runapi_server[0])

    assert sorted(done.stdout.splitlines()) == ["child completed", "parent processing"], done.stderr
    assert len(runapi_server[1].ledger.tasks) == 2


FORKED_IN_A_CALLBACK = """
import os
from flux2_tool import SyncFlux2Tool
flux = SyncFlux2Tool()
children = []
def fork(_):
    if children:
        return
    children.append(os.fork())
    if children == [0]:
        print("child", flux.text_to_image("of the child").task.state, flush=True)
        os._exit(0)
print("parent", flux.text_to_image("of the parent", on_progress=fork).task.state, flush=True)
os.waitpid(children[0], 0)
"""


def test_a_child_forked_in_a_callback_may_use_the_tool(tmp_path: Path, runapi_server: tuple[str, Sandbox]) -> None:
    """It is no longer the thread that does the work."""
    done = run(FORKED_IN_A_CALLBACK, tmp_path, runapi_server[0])

    assert sorted(done.stdout.splitlines()) == ["child completed", "parent completed"], done.stderr


SIGNALLED_IN_A_POST = """
import asyncio, signal, sys
import httpx
from flux2_tool import Flux2Tool
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Signalled(httpx.AsyncHTTPTransport):
    is_over = False
    async def handle_async_request(self, request):
        response = await super().handle_async_request(request)
        if request.method == "POST" and not Signalled.is_over:
            Signalled.is_over = True
            signal.raise_signal(signal.SIGTERM)
        return response
async def main():
    async with Flux2Tool(session="one", transport=Signalled()) as flux:
        return (await flux.text_to_image("a red fox")).task
try:
    asyncio.run(main())
except SystemExit:
    print("ended")
task = asyncio.run(main())
print(task.state, task.joined)
"""


def test_a_signal_in_a_post_leaves_a_request_that_may_be_paid(
    tmp_path: Path, runapi_server: tuple[str, Sandbox]
) -> None:
    """A handler that ends the program raises wherever the loop stands, and is no error of the request."""
    done = run(SIGNALLED_IN_A_POST, tmp_path, runapi_server[0])

    assert done.stdout.splitlines() == ["ended", "completed True"], done.stderr
    assert len(runapi_server[1].ledger.tasks) == 1


def test_it_runs_on_uvloop(tmp_path: Path, runapi_server: tuple[str, Sandbox]) -> None:
    """The loop of most web servers in Python."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed; it is in the extra dev")

    environ = {"HOME": str(tmp_path), "FLUX2_TOOL_HOME": str(tmp_path / "data")}

    async def main(base_url: str) -> str:
        async with Flux2Tool(api_key=KEY, base_url=base_url, environ=environ) as flux:
            return (await flux.text_to_image("a red fox", new=True)).task.state

    for host in ("127.0.0.1", "localhost"):
        assert uvloop.run(main(runapi_server[0].replace("127.0.0.1", host))) == "completed"
    assert len(runapi_server[1].ledger.tasks) == 2


FORKED_IN_AN_IMPORT = """
import os, sys, threading
from importlib.abc import MetaPathFinder
from flux2_tool import SyncFlux2Tool
flux = SyncFlux2Tool()
importing, forking = threading.Event(), threading.Event()
class Slow(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if threading.current_thread().name == "flux2-tool":
            importing.set()
            forking.wait()
sys.meta_path.insert(0, Slow())
os.register_at_fork(before=forking.set)  # the last one registered is the first one called
thread = threading.Thread(target=lambda: print("parent", flux.text_to_image("of the parent").task.state))
thread.start()
importing.wait()
pid = os.fork()
if pid == 0:
    print("child", flux.text_to_image("of the child").task.state, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
thread.join()
"""


def test_a_fork_waits_for_an_import_of_the_tool_s_thread(tmp_path: Path, runapi_server: tuple[str, Sandbox]) -> None:
    """The child would wait for ever for a module that no thread of its own imports."""
    done = run(FORKED_IN_AN_IMPORT, tmp_path, runapi_server[0])

    assert sorted(done.stdout.splitlines()) == ["child completed", "parent completed"], done.stderr


AT_EXIT = """
import atexit
from flux2_tool import SyncFlux2Tool
flux = {made}
@atexit.register
def late():
    try:
        (flux or SyncFlux2Tool()).text_to_image("too late")
    except RuntimeError as exc:
        print("refused:", exc)
"""


@pytest.mark.parametrize("made", ["SyncFlux2Tool()", "None"], ids=["made before", "made at the end"])
def test_a_call_at_the_end_of_the_program_is_refused(
    tmp_path: Path, runapi_server: tuple[str, Sandbox], made: str
) -> None:
    """No thread can be started any more to wait for what would be paid."""
    done = run(AT_EXIT.format(made=made), tmp_path, runapi_server[0])

    assert done.stdout.startswith("refused:"), done.stderr
    assert len(runapi_server[1].ledger.tasks) == 0
