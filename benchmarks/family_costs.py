"""What a process and its children take together, in memory and CPU time.

Memory is the sum of their proportional set sizes, sampled every 20 ms: shared pages count once. CPU time includes
children that have ended. Sources: proc(5), smaps_rollup.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

SAMPLE_S: Final = 0.02
_TICKS_S: Final = 1 / os.sysconf("SC_CLK_TCK")


class Costs:
    """What a process and everything below it takes, from now on.

    Args:
        pid: The process's number.

    Attributes:
        peak_bytes: The highest sum of their proportional set sizes that was sampled.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_s: dict[int, float] = {}
        self._before_s = 0.0
        self.peak_bytes = 0
        self._sample()
        self._before_s = sum(self._cpu_s.values())

    @property
    def cpu_s(self) -> float:
        """The CPU time since the beginning, in seconds, of children that have ended too."""
        return sum(self._cpu_s.values()) - self._before_s

    async def of_the_living(self, seconds: float) -> float:
        """Return the CPU time of the processes that live at the end of this time, in seconds, since its beginning."""
        before_s = {pid: _own_s(pid) for pid in self._below()}
        await asyncio.sleep(seconds)
        return sum(max(0.0, _own_s(pid) - before_s.get(pid, 0.0)) for pid in self._below())

    async def watch(self) -> None:
        """Sample until cancelled."""
        try:
            while True:
                await asyncio.to_thread(self._sample)
                await asyncio.sleep(SAMPLE_S)
        finally:
            self._sample()

    def _sample(self) -> None:
        below = self._below()
        for pid, parent in below.items():
            # A fork's time is its server's once it has ended.
            if self._pid in (pid, parent):
                self._cpu_s[pid] = max(self._cpu_s.get(pid, 0.0), _own_s(pid, with_children=pid != self._pid))
        self.peak_bytes = max(self.peak_bytes, sum(_pss_bytes(pid) for pid in below))

    def _below(self) -> dict[int, int]:
        """Return the process and everything below it, each with its parent."""
        parents = {
            int(folder.name): int(fields[1])
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and (fields := _stat(int(folder.name)))
        }
        below = {self._pid}
        for _ in range(3):  # the worker, the servers, their forks
            below |= {pid for pid, parent in parents.items() if parent in below}
        return {pid: parents.get(pid, 0) for pid in below}


def _own_s(pid: int, *, with_children: bool = False) -> float:
    """Return a process's CPU time, and that of its children that it has waited for; 0 for one that has ended."""
    return sum(int(field) for field in _stat(pid)[11 : 15 if with_children else 13]) * _TICKS_S


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _pss_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
