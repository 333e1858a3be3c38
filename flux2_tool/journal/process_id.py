"""Identify the process that owns a record, so that its end on this machine is detected at once.

Process ids are reused, but not together with the start time. The name also contains the host, its boot id and the PID
namespace, because other machines or containers can share the folder, and a random part, because one process may have
several tools, each closed separately.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Protocol


class Owner(Protocol):
    """A process that can own records."""

    @property
    def name(self) -> str:
        """Unique among all processes that may share the journal."""
        ...

    def is_dead(self, name: str) -> bool:
        """Return whether another owner's process has certainly ended; False when unknown."""
        ...


class ThisProcess:
    """The current process as an owner; one instance per tool in it."""

    def __init__(self) -> None:
        self._part = secrets.token_hex(4)

    @property
    def name(self) -> str:
        """Machine, process id, start time and the tool's random part, separated by colons."""
        return f"{_machine()}:{os.getpid()}:{_start_time(os.getpid()) or '?'}:{self._part}"

    def is_dead(self, name: str) -> bool:
        """Return whether a process of this machine has ended; always False for a process of another machine."""
        parts = name.split(":")
        if len(parts) < 3 or parts[0] != _machine() or not parts[1].isdigit():
            return False
        started, found = parts[2], _start_time(int(parts[1]))
        return found is None or (started != "?" and found != started)


@lru_cache(maxsize=1)
def _machine() -> str:
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:  # pragma: no cover - no /proc, as on macOS
        parts.append("-")
    return "/".join(parts).replace(":", "_")


def _start_time(pid: int) -> str | None:
    """Return when a process started, in the system's own format, or None when there is no such process.

    A zombie counts as dead. Source: proc_pid_stat(5), fields 3 and 22; elsewhere `ps -o lstart=`.
    """
    if Path("/proc/self/stat").exists():  # pragma: no branch - false on macOS
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in ("Z", "X") else fields[19]
    # A minimal environment: ps needs no key, and its format must not depend on locale or time zone.
    environ = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}  # pragma: no cover - macOS
    found = subprocess.run(  # noqa: S603 # pragma: no cover - macOS
        ["ps", "-o", "lstart=", "-p", str(pid)],  # noqa: S607
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip().replace(":", ".") or None  # pragma: no cover - macOS
