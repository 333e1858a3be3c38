"""What differs between Linux and macOS, each with a portable way beside it, and the refusal of native Windows.

Imported before anything that Windows does not have. Sources: openat(2), setrlimit(2), proc(5), clock_gettime(2),
pidfd_open(2).
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")

OPEN_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
"""Flags to open a folder only to pass through it, which needs no permission to list it where the system has O_PATH."""

# CLOCK_MONOTONIC stands still in a suspended Linux, and goes on in a suspended macOS.
BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 0))
"""The clock that counts from the boot on, also while the machine is suspended."""


IS_MEMORY_LIMIT_ENFORCED: Final = sys.platform == "linux" and (PROC / "self/statm").is_file()
"""Whether a process can limit its own memory. macOS takes the limit and ignores it: there the parent watches."""


class ProcessFacts(NamedTuple):
    """What can be told about a process that exists.

    Attributes:
        started: Its start time, None when it cannot be read.
        is_start_exact: Whether two different start times are certainly of two processes.
    """

    started: str | None = None
    is_zombie: bool = False
    is_start_exact: bool = True


def unsupported_system(platform: str = sys.platform) -> str | None:
    """Return why this package does not run on a system, in one sentence, or None."""
    if platform != "win32":
        return None
    return "flux2-tool does not run on Windows itself: install it in WSL (wsl --install), the Linux in Windows"


def darwin_boot_id() -> str | None:  # pragma: no cover - macOS only
    """Return the id of this boot. Source: `sysctl kern.bootsessionuuid`."""
    import ctypes.util  # with it comes more than a Windows that is to be refused politely can import

    library = ctypes.CDLL(ctypes.util.find_library("c"))
    value, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    failed = library.sysctlbyname(b"kern.bootsessionuuid", value, ctypes.byref(size), None, ctypes.c_size_t(0))
    return None if failed else value.value.decode("ascii", errors="replace") or None


def look_up_without_proc(pid: int) -> ProcessFacts:
    """Return what psutil says of a process that exists; its start time is by the wall clock, which may be set."""
    import psutil  # not needed on Linux, and slow to import

    try:
        process = psutil.Process(pid)
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return ProcessFacts(f"{process.create_time():.2f}", is_zombie, is_start_exact=False)
    except psutil.Error:
        return ProcessFacts()


def wait_for_exit(pid: int) -> Callable[[float], bool] | None:
    """Return what waits until a process has ended, for at most so many seconds, and tells whether it has.

    None where the system has no event for it: another one than Linux, an old one, or one that forbids to ask.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
    ending = select.poll()
    ending.register(descriptor, select.POLLIN)
    return lambda within_s: bool(ending.poll(within_s * 1000.0))


def is_readable(descriptor: int) -> bool:
    """Return whether a read would not wait: there is something to read, or a connection has ended or failed."""
    waiting = select.poll()  # four times as fast as a selector, and not limited to low numbers as select is
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(0))


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has in use; 0 when it cannot be told, for instance because it has ended."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def limit_own_memory(granted_bytes: int, *, proc: Path = PROC) -> None:
    """Limit this process to its memory now and so many bytes more, where IS_MEMORY_LIMIT_ENFORCED."""
    import resource  # not on Windows

    pages = int((proc / "self/statm").read_text(encoding="ascii").split()[0])
    most_bytes = pages * resource.getpagesize() + granted_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))


def files_allowed(wanted: int) -> int:
    """Raise this process's limit of open files to so many, as far as it may do that, and return the limit."""
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # macOS has one more limit, which is named nowhere
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return wanted if soft == resource.RLIM_INFINITY else soft


def go_first_without_memory(*, proc: Path = PROC) -> None:
    """Have the kernel end this process before others when the machine has no memory left, where it can be told so."""
    with contextlib.suppress(OSError):
        (proc / "self/oom_score_adj").write_text("1000", encoding="ascii")
