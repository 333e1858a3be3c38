"""Real processes at the price of a fork: `python -m tests.chaos.fork_server`.

Reads one order a line from stdin, forks, and has the child make one tool call with the package's real code: the
real journal, the real owner (process id and start time), real sockets. What happens is told on stdout, one JSON
object a line: `{"id", "pid"}` when a child begins, `{"id", "result", "took_s"}` from the child when its call is
answered, `{"id", "ended"}` when it is gone, however it went. An order may name a file, "go", until whose appearance
the child waits; an agent host's child stays for a moment after its answer, as a worker does.

Time runs faster by a factor, the same for every child and for the service; one attempt's time-out is in real seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import selectors
import signal
from pathlib import Path
from typing import Any, Final

from flux2_tool._redaction import SecretStr
from flux2_tool.credentials import Credentials
from flux2_tool.journal import Moment, ThisProcess
from flux2_tool.runapi.http_client import HttpTimeouts
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.validation import validate_arguments
from flux2_tool.settings import load_settings
from tests.support.fast_clock import FastClock
from tests.support.hosted import hosted
from tests.support.preloading import IN_A_CALL, preload
from tests.support.stores import Opener

ATTEMPT_S: Final = 1.5
STAYS_S: Final = 0.5


async def _call(order: dict[str, Any]) -> None:
    clock = FastClock(order["epoch_s"], order["speed"])
    tool = hosted(
        load_settings({}, overrides={"home": Path(order["home"]), "keep_days": 0}),
        Credentials(api_key=SecretStr(order["key"]), base_url=order["base_url"], source="explicit"),
        host=order["host"],
        timeouts=HttpTimeouts(connect_s=ATTEMPT_S, read_s=ATTEMPT_S, attempt_s=ATTEMPT_S),
        clock=clock,
        owner=_FastProcess(clock),
        opener=Opener(clock.now),
    )
    while order["go"] is not None and not Path(order["go"]).exists():  # noqa: ASYNC110, ASYNC240 - it stands at the start
        await asyncio.sleep(0.001)
    begun_s = clock.monotonic()
    result = await tool.call(
        "text_to_image", {"prompt": order["prompt"]}, wait_s=order["wait_s"], session=order["session"]
    )
    _tell({"id": order["id"], "result": result, "took_s": clock.monotonic() - begun_s})
    if order["host"] == "native":
        await asyncio.sleep(STAYS_S)
    await tool.aclose()


class _FastProcess(ThisProcess):
    """This process, on a machine whose uptime is the fast clock's."""

    def __init__(self, clock: FastClock) -> None:
        super().__init__()
        self._clock = clock

    def moment(self) -> Moment:
        return Moment("a fast boot", self._clock.now())


def _tell(news: dict[str, Any]) -> None:
    # One write of less than a pipe's buffer: lines of several processes do not mix.
    os.write(1, json.dumps(news, separators=(",", ":")).encode() + b"\n")


def _child(order: dict[str, Any]) -> None:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asyncio.run(_call(order))
        code = 0
    finally:
        os._exit(code)


def main() -> None:
    """Fork on order until stdin ends; then end every child that is left."""
    logging.disable(logging.CRITICAL)
    _warm_up()
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    children: dict[int, int] = {}
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            selector.select()
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
                _bury(children)
            os.set_blocking(0, False)
            try:
                data = os.read(0, 65536)
            except BlockingIOError:
                continue
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    _child(order)
                children[pid] = order["id"]
                _tell({"id": order["id"], "pid": pid})
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _bury(children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _tell({"id": children.pop(pid), "ended": os.waitstatus_to_exitcode(status)})


def _warm_up() -> None:
    """Do once what every child would do at its first call."""
    validate_arguments(
        load_manifest(),
        "text_to_image",
        {"prompt": "a red fox"},
        tiers=("pro", "flex"),
        agent_host=True,
        callback_hosts=(),
        safety_checker=None,
    )
    load_settings({}, overrides={"home": Path.cwd()})
    preload(IN_A_CALL)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    main()
