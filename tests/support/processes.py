"""The processes that a process has started, as Linux lists them, and pictures that keep them busy."""

from __future__ import annotations

import functools
import io
import os
from pathlib import Path

from PIL import Image


def descendants(pid: int) -> set[int]:
    """Return the processes below one, at any depth; zombies do not count."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                parents[int(folder.name)] = int(parent)
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def command_line(pid: int) -> str:
    """Return a process's command line, empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def decoding(pid: int | None = None) -> set[int]:
    """Return the decoding processes of a process, by default of this one: the servers and their forks."""
    return {child for child in descendants(pid or os.getpid()) if "decoder_process" in command_line(child)}


@functools.cache
def scan_bomb(side_px: int = 3000, scans: int = 20_000) -> bytes:
    """Return a progressive JPEG that repeats one scan: a few MB that keep a decoder busy for minutes."""
    output = io.BytesIO()
    Image.new("L", (side_px, side_px)).save(output, "JPEG", progressive=True, quality=30)
    data = output.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * scans + data[-2:]
