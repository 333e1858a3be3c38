"""What a process of ours costs, read from outside: CPU time, memory, open files. Linux only.

CPU time is the process's own clock (clock_getcpuclockid), which counts what getrusage does, threads that have ended
included, to the nanosecond. Memory and files come from /proc; source: proc(5).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

_CPUCLOCK_SCHED = 2


@dataclass(frozen=True, slots=True)
class Meter:
    """Reads one process."""

    pid: int

    def cpu_s(self) -> float:
        """Return the CPU time it has used since it was started, in seconds."""
        return time.clock_gettime((~self.pid << 3) | _CPUCLOCK_SCHED)

    def rss_bytes(self) -> int:
        """Return the memory it holds now."""
        return self._status_bytes("VmRSS")

    def peak_bytes(self) -> int:
        """Return the most memory it has held."""
        return self._status_bytes("VmHWM")

    def threads(self) -> int:
        """Return how many threads it has."""
        return int(self._status("Threads"))

    def open_files(self) -> int:
        """Return how many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def _status_bytes(self, name: str) -> int:
        return int(self._status(name).split()[0]) * 1024

    def _status(self, name: str) -> str:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return line.partition(":")[2].strip()
        raise KeyError(name)
