"""Identify the process that owns a record, and tell whether it still lives: the one place that knows processes.

A process counts as dead only on proof, because a living one may have a paid request in flight. Proof needs the same
boot and the same PID namespace, and then one of: kill(2) finds no such process; it is a zombie; a process with this id
started at another time. Where that cannot be told (another host or container, no /proc, a /proc of another namespace,
one that hides other users' processes; a tool of this process that was closed or dropped, perhaps cut off while it was)
the answer is "unknown", and the lease decides (`lease_table.py`).
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol
from weakref import WeakValueDictionary

from flux2_tool._platform import BOOT_CLOCK, PROC, ProcessFacts, darwin_boot_id, look_up_without_proc

# alive    it runs on this machine, in this PID namespace
# dead     it has certainly ended
# unknown  nothing on this machine can tell
Liveness = Literal["alive", "dead", "unknown"]


class Moment(NamedTuple):
    """A reading of a monotonic clock; only readings of the same clock can be compared."""

    clock: str
    s: float


class Owner(Protocol):
    """A process that can own records."""

    @property
    def name(self) -> str:
        """Unique among all processes that may share the journal."""
        ...

    def liveness(self, name: str) -> Liveness:
        """Return whether another owner's process runs."""
        ...

    def moment(self) -> Moment:
        """Return the time on a clock that no change of the wall clock moves; processes of one boot share it."""
        ...

    def close(self) -> None:
        """Note that what it owns is being given up: what it does not release then is held by its lease alone."""
        ...


class ThisProcess:
    """The current process as an owner; one instance per tool in it.

    Args:
        proc: The procfs; there is none on macOS.
    """

    def __init__(self, *, proc: Path = PROC) -> None:
        self._proc = proc
        # One process may have several tools, each closed separately.
        self._part = secrets.token_hex(4)
        _OPEN[self._part] = self
        self._known = ProcessFacts()
        self._known_of: int | None = None

    @property
    def name(self) -> str:
        """Machine, process id, start time and the tool's random part, separated by colons."""
        machine = _machine(self._proc, os.getpid())
        return f"{machine.name}:{os.getpid()}:{self._own().started or '?'}:{self._part}"

    def liveness(self, name: str) -> Liveness:
        machine = _machine(self._proc, os.getpid())
        parts = name.split(":")
        if len(parts) < 3 or parts[0] != machine.name or not machine.is_known or not parts[1].isdigit():
            return "unknown"
        pid, started = int(parts[1]), parts[2]
        if pid != os.getpid() and not _exists(pid):
            return "dead"
        found = self._own() if pid == os.getpid() else _look_up(self._proc, pid)
        if found.is_zombie:
            return "dead"
        if found.started is None or started == "?":
            return "unknown"
        if found.started == started:
            is_open = pid != os.getpid() or (len(parts) > 3 and parts[3] in _OPEN)
            return "alive" if is_open else "unknown"
        return "dead" if found.is_start_exact else "unknown"

    def close(self) -> None:
        _OPEN.pop(self._part, None)

    def moment(self) -> Moment:
        machine = _machine(self._proc, os.getpid())
        # Without a boot id nothing says that another process's readings are of the same clock.
        clock = machine.clock or f"process {os.getpid()} {self._part}"
        # Time in which the machine was suspended counts: a service may forget a request meanwhile.
        return Moment(clock, time.clock_gettime(BOOT_CLOCK))

    def _own(self) -> ProcessFacts:
        """Return what is known of this process, which stays as it is: it is read once, and again after a fork."""
        if self._known_of != os.getpid():
            self._known = self._read_own()
            self._known_of = os.getpid() if self._known.started is not None else None
        return self._known

    def _read_own(self) -> ProcessFacts:
        if _has_procfs(self._proc) and _own_ids(self._proc)[-1:] == [os.getpid()]:
            return _read_stat(self._proc / "self/stat")  # right also in a procfs of another namespace
        return _look_up(self._proc, os.getpid())


# The tools of this process that are not closed, by their random parts.
_OPEN: Final[WeakValueDictionary[str, ThisProcess]] = WeakValueDictionary()


class _Machine(NamedTuple):
    """Where process ids mean the same.

    Attributes:
        name: Host, boot, PID namespace and, because start times count in it, time namespace.
        is_known: Whether boot and namespace are known, so that equal names mean the same machine.
        clock: The name of its monotonic clock, None when the boot is not known.
    """

    name: str
    is_known: bool
    clock: str | None


@lru_cache(maxsize=4)
def _machine(proc: Path, _pid: int) -> _Machine:
    """Return where this process runs. Read again after a fork: the child may be in another namespace."""
    host = socket.gethostname()
    if sys.platform == "darwin":  # pragma: no cover - macOS has no namespaces, and one id per boot
        boot = darwin_boot_id()
        return _named(host, boot, "-", "-")
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        pid_namespace = str((proc / "self/ns/pid").readlink())
    except (OSError, ValueError):
        return _named(host, None, "-", "-")
    try:
        time_namespace = str((proc / "self/ns/time").readlink())
    except OSError:  # a kernel without them
        time_namespace = "-"
    return _named(host, boot, pid_namespace, time_namespace)


def _named(host: str, boot: str | None, pid_namespace: str, time_namespace: str) -> _Machine:
    name = "/".join((host, boot or "-", pid_namespace, time_namespace)).replace(":", "_")
    clock = None if not boot else f"{boot} {time_namespace}"
    return _Machine(name=name, is_known=bool(boot), clock=clock)


def _exists(pid: int) -> bool:
    """Return whether this PID namespace has a process with this id. Source: kill(2).

    Not by /proc: it may be mounted for another namespace, or hide other users' processes (hidepid).
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user, or no process id at all
        return True
    return True


def _has_procfs(proc: Path) -> bool:
    return (proc / "self").is_dir()


def _look_up(proc: Path, pid: int) -> ProcessFacts:
    """Return what /proc says of a process, if it is of this PID namespace; where none exists what psutil says."""
    if sys.platform != "linux":  # pragma: no cover - the tests run on Linux, and call it themselves
        return look_up_without_proc(pid)
    if not _has_procfs(proc) or _own_ids(proc) != [os.getpid()]:
        return ProcessFacts()  # of another namespace: this id is another process there
    return _read_stat(proc / str(pid) / "stat")


def _own_ids(proc: Path) -> list[int]:
    """Return this process's ids from the namespace of a procfs down to its own: one, if the procfs is its own.

    Source: proc_pid_status(5), NSpid; before Linux 4.1 only the id in /proc/self/stat tells.
    """
    try:
        for line in (proc / "self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return [int(part) for part in line.split()[1:]]
        return [int((proc / "self/stat").read_text(encoding="ascii", errors="replace").split()[0])]
    except (OSError, ValueError, IndexError):
        return []


def _read_stat(path: Path) -> ProcessFacts:
    """Return start time and state. Source: proc_pid_stat(5), fields 3, 20 and 22.

    The start time is in clock ticks since the boot. psutil adds the time of the boot by the wall clock to it, so that
    setting the clock would make a living process another one.
    """
    try:
        fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        # A leader that has ended while its other threads run is called a zombie too.
        is_zombie = fields[0] in ("Z", "X") and int(fields[17]) <= 1
        return ProcessFacts(fields[19], is_zombie)
    except (OSError, ValueError, IndexError):
        return ProcessFacts()
