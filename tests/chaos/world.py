"""A small world on virtual time: one data folder, the service, processes that come and go, and what people wish for.

`World` plays; `verdict` judges by the service's own ledger and the journal on disk.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from flux2_tool.engine.saving import SAVE_GRACE_S
from flux2_tool.engine.wait import SUBMIT_GRACE_S, CancelToken
from flux2_tool.journal import Liveness, Record
from flux2_tool.journal.sqlite import FILE_NAME
from flux2_tool.sandbox import Ledger, SandboxOptions
from flux2_tool.sandbox.ledger import CreateRecord
from flux2_tool.settings import Settings
from tests.chaos.simulated_process import ProcessDiedError, SimulatedProcess, adopt_tasks
from tests.support.harness import SandboxTransport
from tests.support.stores import break_connections, contents, is_postgres, records_of, server
from tests.support.virtual_time import VirtualClock, VirtualLoop

KEY: Final = "sk-chaos-0123456789abcdef"
KILLED_SERVER: Final = "killed_server"
BASE_URL: Final = "http://127.0.0.1:9"
# The machine's own time while virtual time stands still; nothing here waits for it.
SLACK_S: Final = 0.01
RESEND_WINDOW_S: Final = Settings(home=Path()).resend_window_s


@dataclass(slots=True, kw_only=True)
class ImageWanted:
    """One logical request: somebody wants an image of this, or several, and asks until they are there.

    Attributes:
        session: None for command line calls without one.
        count: How many images.
        images: The URLs that reached whoever asked.
        ended: The error code that says there is nothing more to hope for.
    """

    prompt: str
    session: str | None
    host: str
    count: int = 1
    images: list[str] = field(default_factory=list)
    ended: str | None = None
    last: dict[str, Any] | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What the tool is called with, the same every time; every cat is klein's, which has a service of its own."""
        given: dict[str, Any] = {"prompt": self.prompt}
        if "cat" in self.prompt:
            given["model"] = "flux-2-klein"
        return given | ({"count": self.count} if self.count > 1 else {})


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What the ledger says at the end.

    Attributes:
        broken: One sentence per invariant that does not hold.
    """

    billed: int = 0
    billed_twice: int = 0
    lost: int = 0
    foreign: int = 0
    broken: list[str] = field(default_factory=list)


class World:
    """The stage of one schedule.

    Args:
        home: The data folder, shared by all processes.
        options: The service's.
        seed: Of the processes' jitter.
        settings: Overrides of every process's settings.
    """

    def __init__(self, home: Path, *, options: SandboxOptions, seed: int = 0, **settings: Any) -> None:
        self.home = home
        self.network = SandboxTransport(options)
        self.sandbox = self.network.sandbox
        self.processes: list[SimulatedProcess] = []
        self.wanted: list[ImageWanted] = []
        self.deaths: Counter[str] = Counter()
        self.troubles: Counter[str] = Counter()
        self._offsets_s: dict[str, float] = {}
        self.overdue: list[str] = []
        self._seed = seed
        self._settings = settings
        loop = cast("VirtualLoop", asyncio.get_running_loop())
        adopt_tasks(loop)
        loop.at_close(self._close_files)

    def open(self, host: str, *, machine: str = "here", cut_at: int | None = None) -> SimulatedProcess:
        """Start a process."""
        number = len(self.processes) + 1
        process = SimulatedProcess(
            f"p{number}",
            machine=machine,
            host=host,
            home=self.home,
            network=self.network,
            account=(KEY, BASE_URL),
            liveness=lambda name: self._liveness(name, machine),
            cut_at=cut_at,
            seed=self._seed * 1000 + number,
            **self._settings,
        )
        process.clock_offset_s = self._offsets_s.get(machine.partition(":")[0], 0.0)
        self.processes.append(process)
        return process

    def step_clock(self, machine: str, step_s: float) -> None:
        """Set the wall clock of a host, with all its containers, forward or back."""
        host = machine.partition(":")[0]
        self._offsets_s[host] = self._offsets_s.get(host, 0.0) + step_s
        self.troubles["clock_step"] += 1
        for process in self.processes:
            if process.machine.partition(":")[0] == host:
                process.clock_offset_s = self._offsets_s[host]

    def lose_files(self, *suffixes: str) -> None:
        """Delete some of the journal's files while processes have them open; a server's connections break instead."""
        if is_postgres():
            self._break_database()
            return
        self.troubles["lost_" + "".join(suffix.strip("-") or "journal" for suffix in suffixes)] += 1
        for suffix in suffixes:
            (self.home / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)

    def _break_database(self) -> None:
        """Break every connection, and every third time the server itself."""
        owned = server()
        number = self.troubles["broken_connections"] + self.troubles[KILLED_SERVER]
        if owned is None or (self._seed + number) % 3:
            self.troubles["broken_connections"] += 1
            break_connections()
        else:
            self.troubles[KILLED_SERVER] += 1
            owned.crash()

    def wish(self, prompt: str, *, session: str | None, host: str, count: int = 1) -> ImageWanted:
        """Somebody wants an image, or several by one call."""
        wish = ImageWanted(prompt=prompt, session=session, host=host, count=count)
        self.wanted.append(wish)
        return wish

    async def ask(
        self,
        process: SimulatedProcess,
        wish: ImageWanted,
        *,
        wait_s: float,
        abort_after_s: float | None = None,
        task_id: str | None = None,
        peer_dies: bool = False,
    ) -> dict[str, Any] | None:
        """Call the tool once for a wish, or ask for its task; None when nobody got an answer.

        Args:
            peer_dies: Whether who asked dies before it reads the answer, while the process lives; ignored when others
                wait for an answer of the same process.
        """
        cancel = CancelToken()
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        timer = None if abort_after_s is None else loop.call_later(abort_after_s, cancel.set)
        tool, arguments = ("text_to_image", wish.arguments)
        if task_id is not None:
            tool, arguments = ("get_image_task", {"task_id": task_id})

        async def answered() -> tuple[dict[str, Any], bool]:
            result = await process.tool.call(tool, arguments, wait_s=wait_s, session=wish.session, cancel=cancel)
            return result, cancel.is_set

        call = process.start(answered())
        process.calls += 1
        try:
            await asyncio.wait([call])
        finally:
            process.calls -= 1
            if timer is not None:
                timer.cancel()
        took_s = loop.time() - begun_s
        budget_s = wait_s + SUBMIT_GRACE_S + (SAVE_GRACE_S if "save_dir" in self._settings else 0.0) + SLACK_S
        if took_s > (budget_s if abort_after_s is None else min(budget_s, abort_after_s + SLACK_S)):
            self.overdue.append(f"a call took {took_s:.2f} s; it had {wait_s:g} s (cancel: {abort_after_s})")
        if call.cancelled() or isinstance(call.exception(), ProcessDiedError):
            return None
        if peer_dies and process.calls == 0:
            self.deaths["of who had asked"] += 1
            await process.lose_its_peer()
            return None
        result, is_aborted = call.result()
        wish.last = result
        # Whoever had stopped the call does not look at its answer any more.
        if not is_aborted:
            self._note(wish, result)
        return result

    def kill(self, process: SimulatedProcess, place: str = "at a moment") -> None:
        """End a process without a last word."""
        process.die(place)

    def finish(self) -> None:
        """Count the deaths, and close what dead processes held open."""
        for process in self.processes:
            if process.died_at is not None:
                self.deaths[process.died_at] += 1
        self._close_files()

    def records_exist(self) -> bool:
        """Whether anybody has made the journal yet."""
        return is_postgres() or (self.home / FILE_NAME).exists()

    def records(self) -> list[Record]:
        """What the journal on disk says now."""
        return records_of(self.home)

    def _close_files(self) -> None:
        for process in self.processes:
            process.forget()

    def _note(self, wish: ImageWanted, result: Mapping[str, Any]) -> None:
        if "error" in result:
            # What may have been paid is asked for again.
            is_over = result["error"]["code"] in ("repeated_request", "invalid_arguments", "authentication")
            if is_over and result["error"]["charged"] == "no":
                wish.ended = result["error"]["code"]
        elif result["task"]["state"] == "completed" or wish.count > 1:
            # What is ready of several is shown at once.
            wish.images += [image["url"] for image in result["images"]]

    def _liveness(self, name: str, seen_from: str) -> Liveness:
        machine, _, process = name.partition("/")
        if machine != seen_from:
            return "unknown"
        return "dead" if any(one.name == process and one.is_dead for one in self.processes) else "alive"


def keys_on_disk(home: Path, key: str) -> list[str]:
    """Name everything of a data folder and its journal that holds the API key."""
    return [f"the key is in {name}" for name, kept in contents(home) if key.encode() in kept]


def check_invariants(
    ledger: Ledger, records: list[Record], wanted: list[ImageWanted], *, now: float, is_over: bool = True
) -> Verdict:
    """Hold the service's ledger against the journal and against what reached those who asked.

    Args:
        now: The world's wall clock.
        is_over: Whether everything has ended; before that a request may still be on its way.
    """
    verdict = Verdict(billed=len(ledger.billed_tasks))
    by_key = {record.idempotency_key: record for record in records}
    shown = {url for wish in wanted for url in wish.images}
    for task in ledger.billed_tasks:
        record = by_key.get(task.idempotency_key or "")
        is_on_its_way = not is_over and record is not None and record.state == "sending"
        if not any(task.image_id in url for url in shown) and not is_on_its_way and not _is_listed(record, task.id):
            verdict.lost += 1
            state = "no record" if record is None else f"the record {record.state}, task {record.task_id}"
            verdict.broken.append(f"lost: task {task.id} was billed, reached nobody, and the journal has {state}")
    for wish in wanted:
        made_for = {task.image_id: task.arguments["prompt"] for task in ledger.tasks.values()}
        foreign = [
            url for url in wish.images for image_id in made_for if image_id in url and made_for[image_id] != wish.prompt
        ]
        verdict.foreign += len(foreign)
        verdict.broken += [f'foreign: "{wish.prompt}" was answered with {url}' for url in foreign]
    for prompt in {wish.prompt for wish in wanted}:
        verdict.billed_twice += _too_many(
            ledger, by_key, [wish for wish in wanted if wish.prompt == prompt], verdict.broken
        )
    sent: dict[str, tuple[bytes, str | None]] = {}
    for create in ledger.creates:
        if create.idempotency_key not in by_key:
            verdict.broken.append(f"not in the journal: a POST with idempotency key {create.idempotency_key}")
        first = sent.setdefault(create.idempotency_key or "", (create.body, create.key_fingerprint))
        if first != (create.body, create.key_fingerprint):
            verdict.broken.append(f"not byte-identical: POSTs with idempotency key {create.idempotency_key}")
    verdict.broken += [f"the key leaked: {leak.where} of {leak.path}" for leak in ledger.authorization_leaks]
    if not is_over:
        return verdict
    verdict.broken += [
        f"still {record.state} at {now - record.created_at:.0f} s: record {record.record_id}"
        for record in records
        if record.state == "sending"
    ]
    latest = {(record.session, json.loads(record.body)["prompt"]): record for record in records}
    for wish in wanted:
        record = latest.get((wish.session, wish.prompt))
        of_set = [one for one in records if record is not None and record.set_id and one.set_id == record.set_id]
        have_reason = all(_has_reason(one, now) for one in of_set or [record])
        if not wish.images and wish.ended is None and not have_reason:
            verdict.broken.append(f'no image and no reason: "{wish.prompt}", {record and record.state}, {wish.last}')
    return verdict


def _too_many(ledger: Ledger, by_key: Mapping[str, Record], wanted: list[ImageWanted], broken: list[str]) -> int:
    """Count the images of one prompt that were paid beyond what was wished for, in each session and in all."""
    records = [
        by_key.get(task.idempotency_key or "")
        for task in ledger.billed_tasks
        if task.arguments["prompt"] == wanted[0].prompt
    ]
    excess = 0
    for wish in wanted:
        count = sum(1 for record in records if record is not None and record.session == wish.session)
        if count > wish.count:
            excess += count - wish.count
            broken.append(f'billed {count} times: "{wish.prompt}" of session {wish.session}')
    wished = sum(wish.count for wish in wanted)
    if len(records) > wished:
        broken.append(f'billed {len(records)} times: "{wanted[0].prompt}", wished for {wished} times')
    return max(excess, len(records) - wished, 0)


def late_resends(ledger: Ledger) -> list[str]:
    """Name every POST that was repeated when the service may have forgotten its key; that is for a person to order."""
    first: dict[str, CreateRecord] = {}
    for create in ledger.creates:
        if create.outcome == "created":
            first.setdefault(create.idempotency_key or "", create)
    return [
        f"sent again after {create.at - made.at:.0f} s: idempotency key {create.idempotency_key}"
        for create in ledger.creates
        if (made := first.get(create.idempotency_key or "")) is not None and create.at > made.at + RESEND_WINDOW_S
    ]


def _has_reason(record: Record | None, now: float) -> bool:
    """Whether a wish may end without an image: its task failed, or nobody may send it again."""
    if record is None or record.state in ("failed", "not_created"):
        return True
    # Where the wall clock was set meanwhile, the record alone tells.
    is_late = now - record.created_at > RESEND_WINDOW_S or (
        record.error is not None and "too much time has passed" in record.error[1]
    )
    # A 404 while an earlier attempt is unresolved settles nothing, and the other route must not be tried then.
    is_stuck = record.error is not None and "after an attempt whose response was lost" in record.error[1]
    return record.state == "unknown" and (record.conflict or is_late or is_stuck or record.task_id is not None)


def _is_listed(record: Record | None, task_id: str) -> bool:
    """Whether the journal leads to a billed image: by its links, by its task, or as a request of unknown outcome."""
    if record is None:
        return False
    if record.state == "completed":
        return bool(record.images)
    return record.state == "unknown" or (record.state == "processing" and record.task_id == task_id)


def now() -> float:
    """The world's wall clock."""
    return VirtualClock().now()
