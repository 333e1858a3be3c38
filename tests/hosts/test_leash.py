"""A process that serves a host ends with it, whichever way the system tells that the host has ended."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flux2_tool._platform import wait_for_exit
from tests.support.environ import unmeasured_environ

_SERVES = """
import os, sys, threading
if sys.argv[1] == "without an event":
    del os.pidfd_open
from flux2_tool.hosts.leash import Leash
ended = threading.Event()
leash = Leash(ended.set, also_look=lambda: None)
print("serves", flush=True)
leash.watch()
print("ended" if ended.wait(60) else "still there", flush=True)
os._exit(0)
"""
_HOST = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {_SERVES!r}, sys.argv[1]]).wait()"


@pytest.mark.parametrize("way", ["by an event", "without an event"])
def test_a_process_notices_that_its_host_was_killed(way: str) -> None:
    """Other systems than Linux have no event for it, and some of Linux forbid to ask."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOST, way], stdout=subprocess.PIPE, env=unmeasured_environ(), text=True
    ) as host:
        assert host.stdout
        assert host.stdout.readline() == "serves\n"
        host.kill()
        assert host.stdout.readline() == "ended\n"


def test_a_process_that_has_ended_is_waited_for_no_longer() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        wait = wait_for_exit(process.pid)
        if wait is None:
            pytest.skip("this system has no event for it")
        assert not wait(0.0)
        process.communicate(b"\n")
        assert wait(60.0)


def test_no_event_is_asked_for_where_there_is_no_such_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a parent in another namespace, which has the number 0 here."""
    assert wait_for_exit(0) is None
    monkeypatch.delattr("os.pidfd_open", raising=False)
    assert wait_for_exit(1) is None
