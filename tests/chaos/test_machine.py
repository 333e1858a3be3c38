"""Journal, tool and sandbox as a state machine: whatever is called, killed and broken, in whatever order.

Hypothesis looks for the shortest sequence of steps after which somebody has paid twice or lost a picture.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flux2_tool.sandbox import SandboxOptions
from tests.chaos.schedules import draw_fault
from tests.chaos.simulated_process import SimulatedProcess
from tests.chaos.world import KEY, ImageWanted, World, check_invariants, keys_on_disk, now
from tests.support.stores import is_postgres
from tests.support.virtual_time import VirtualLoop

LANES = ("native here", "native there", "mcp here", "cli here")
# Prompt, session and count: two conversations want the same picture, one wants two, and three by one call, and a
# terminal has no session.
WISHES = (
    ("a red fox", "s", 1),
    ("a red fox", "t", 1),
    ("a grey cat", "s", 1),
    ("a blue bird", None, 1),
    ("three dogs", "s", 3),
)


class PaidOnce(RuleBasedStateMachine):
    """People who wish, processes that die, a service that fails."""

    def __init__(self) -> None:
        super().__init__()
        # In memory where there is such a place: what is tested is the order of writes, and not the disk.
        memory = Path("/dev/shm")  # noqa: S108
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.calls: list[asyncio.Task[Any]] = []
        self.lanes: dict[str, SimulatedProcess] = {}

    def run(self, work: Any) -> Any:
        """Run something until it is done; time jumps as far as it must."""
        return self.runner.run(work)

    @initialize(duration_s=st.sampled_from([0.5, 6.0, 40.0]), guide=st.booleans(), seed=st.integers(0, 10_000))
    def begin(self, duration_s: float, guide: bool, seed: int) -> None:
        """Open the world."""

        async def make() -> World:
            options = SandboxOptions(duration_s=duration_s, guide_route=guide, drawn_images=False, seed=seed)
            return World(self.folder / "home", options=options, seed=seed)

        self.world = self.run(make())
        for prompt, session, count in WISHES:
            self.world.wish(prompt, session=session, host="cli" if session is None else "native", count=count)

    # ---- steps -------------------------------------------------------------------------------------------------------

    @rule(
        wish=st.integers(0, len(WISHES) - 1),
        lane=st.sampled_from(LANES[:3]),
        wait_s=st.sampled_from([0.0, 5.0, 60.0]),
        abort_after_s=st.none() | st.sampled_from([0.1, 4.0]),
        cut_at=st.none() | st.integers(1, 40),
        racers=st.sampled_from([1, 1, 1, 2]),
    )
    def ask(
        self, wish: int, lane: str, wait_s: float, abort_after_s: float | None, cut_at: int | None, racers: int
    ) -> None:
        """Call the tool for a wish that is still open and that nobody is asking for right now."""
        wanted = self.world.wanted[wish]
        if wanted.images or wanted.ended or any(call.get_name() == str(wish) for call in self.calls):
            return

        async def start() -> None:
            lanes = ["cli here"] if wanted.session is None else list(dict.fromkeys([lane, *LANES[:3]]))
            for name in lanes[:racers]:
                process = self._process(name, cut_at)
                call = self.world.ask(process, wanted, wait_s=wait_s, abort_after_s=abort_after_s)
                self.calls.append(asyncio.get_running_loop().create_task(call, name=str(wish)))

        self.run(start())

    @rule(seconds=st.sampled_from([0.3, 2.0, 10.0, 35.0, 100.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""

        async def sleep() -> None:
            await asyncio.sleep(seconds)
            self.calls = [call for call in self.calls if not call.done()]

        self.run(sleep())

    @rule(seed=st.integers(0, 100_000))
    def fault(self, seed: int) -> None:
        """Order one fault."""
        self.world.sandbox.faults.queue(draw_fault(random.Random(seed)))  # noqa: S311

    @precondition(lambda self: self.lanes)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """End a process without a last word."""
        name = data.draw(st.sampled_from(sorted(self.lanes)))

        async def die() -> None:
            self.lanes.pop(name).die("at a step")

        self.run(die())

    @precondition(lambda self: self.lanes)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        """End a process in good order, when it has nothing to answer."""
        name = data.draw(st.sampled_from(sorted(self.lanes)))
        if not self.calls:
            self.run(self.lanes.pop(name).aclose())

    @rule()
    def resume(self) -> None:
        """`flux2-tool resume`, cut short by its own deadline."""

        async def command() -> None:
            process = self.world.open("cli")
            await self._finish_by(process, process.start(process.tool.resume()))

        self.run(command())

    @rule()
    def resend(self) -> None:
        """`flux2-tool resume --resend` of everything of unknown outcome."""

        async def command() -> None:
            for record in self.world.records():
                if record.state == "unknown" and record.task_id is None:
                    process = self.world.open("cli")
                    await self._finish_by(process, process.start(process.tool.resend(record.record_id)))

        self.run(command())

    # ---- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def nobody_has_paid_twice_and_nothing_is_lost(self) -> None:
        """At every moment."""
        if not hasattr(self, "world"):
            return
        if self.world.records_exist():
            verdict = self.run(self._judge(is_over=False))
            assert verdict.broken == []
            assert keys_on_disk(self.world.home, KEY) == []
        assert self.world.overdue == []

    def teardown(self) -> None:
        """At the end everybody asks once more in peace, and then has the picture or the journal has it."""
        try:
            if hasattr(self, "world"):
                self.run(self._calm())
                assert self.run(self._judge(is_over=True)).broken == []
                self.world.finish()
        finally:
            self.runner.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _calm(self) -> None:
        self.world.sandbox.faults.clear()
        for process in self.world.processes:
            process.die("at the end")
        await asyncio.sleep(60.0)
        for wish in self.world.wanted:
            if not wish.images and wish.ended is None and _was_begun(self.world, wish):
                process = self.world.open(wish.host)
                await self.world.ask(process, wish, wait_s=300.0)
                await asyncio.sleep(60.0)  # what it resumes beside the call ends too
                await process.aclose()
        for process in self.world.processes:
            await process.aclose()

    async def _judge(self, *, is_over: bool) -> Any:
        return check_invariants(
            self.world.sandbox.ledger, self.world.records(), self.world.wanted, now=now(), is_over=is_over
        )

    async def _finish_by(self, process: SimulatedProcess, call: asyncio.Task[Any]) -> None:
        """End a command after a while; what it printed by then, people have seen."""
        await asyncio.wait([call], timeout=20.0)
        if call.done():
            results = call.result()
            for result in results if isinstance(results, list) else [results]:
                self._show(result)
        await process.aclose()
        if not call.done():
            call.cancel()

    def _show(self, result: dict[str, Any]) -> None:
        if result.get("task", {}).get("state") != "completed":
            return
        record = next(one for one in self.world.records() if one.task_id == result["task"]["id"])
        for wish in self.world.wanted:
            # A conversation has not seen what was printed on a terminal.
            if wish.session is None and (record.session, json.loads(record.body)["prompt"]) == (None, wish.prompt):
                wish.images += [image["url"] for image in result["images"]]

    def _process(self, lane: str, cut_at: int | None) -> SimulatedProcess:
        process = self.lanes.get(lane)
        if process is None or process.is_dead:
            host, machine = lane.split()
            process = self.lanes[lane] = self.world.open(host, machine=machine, cut_at=cut_at)
        return process


def _was_begun(world: World, wish: ImageWanted) -> bool:
    return any(record.session == wish.session for record in world.records())


PaidOnce.TestCase.settings = settings(
    max_examples=40 if is_postgres() else 100,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


TestPaidOnce = pytest.mark.timeout(300)(PaidOnce.TestCase)
