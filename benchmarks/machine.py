"""What the figures were measured on and with: the processor, its load, and the versions of both clients."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "flux2-tool",
    "httpx",
    "httpcore",
    "runapi-flux-2",
    "runapi-core",
    "psycopg",
    "uvicorn",
    "httptools",
    "h11",
)


def describe() -> dict[str, Any]:
    """Return it as JSON can carry it."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def disk_of(folder: Path) -> str:
    """Return the device and the file system of a folder, such as "/dev/vda (ext4)"."""
    found = "?"
    longest = -1
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, mount, kind = line.split()[:3]
        if folder.resolve().is_relative_to(mount) and len(mount) > longest:
            found, longest = f"{device} ({kind})", len(mount)
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None
