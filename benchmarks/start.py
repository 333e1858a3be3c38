"""What one picture costs whoever starts a program for it: the command line, next to a script with the vendor's SDK.

Each picture has a fresh process, the two in turn. Counted is the time that passes beside the picture: from the start of
the process until the sandbox has created the task, and from the answer that told the sandbox's picture until the
process has ended; and its CPU time.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, say
from benchmarks.line_process import CHECKOUT
from benchmarks.our_client import OurClient
from benchmarks.vendor_client import VendorClient

_SCRIPT = """
import os, sys
from runapi.flux_2 import Flux2Client
result = Flux2Client(base_url=os.environ["RUNAPI_BASE_URL"]).text_to_image.run(
    prompt=sys.argv[1], model="flux-2-pro-text-to-image", output_resolution="1k"
)
print(result.images[0].url)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One picture by a process of its own.

    Attributes:
        before_s: From the start of the process until the task was created.
        after_s: From the answer that told the picture until the process had ended.
        cpu_s: Of the process.
    """

    client: str
    before_s: float
    after_s: float
    cpu_s: float


async def measure(bench: Bench) -> list[dict[str, Any]]:
    """Return one entry for each process."""
    say("start: a process a picture")
    home = bench.new_home()
    home.mkdir(parents=True)
    (home / "script.py").write_text(_SCRIPT)
    command = [str(Path(sys.executable).with_name("flux2-tool")), "generate", "--output-resolution", "1k"]
    found = []
    for number in range(bench.scale.starts + 1):
        for name, words in (
            (OurClient.name, command),
            (VendorClient.name, [sys.executable, str(home / "script.py")]),
        ):
            one = await _one(bench, name, [*words, f"picture {number} of {name}"], home)
            if number:  # the first of each fills the disk's cache
                found.append(asdict(one))
    return found


async def _one(bench: Bench, name: str, command: list[str], home: Path) -> Start:
    known = set((await bench.sandbox.ledger()).tasks)
    environ = {
        **{key: text for key, text in os.environ.items() if key in ("PATH", "LANG", "LC_ALL", "TZ")},
        "RUNAPI_API_KEY": f"sk-benchmark-start-{name}",
        "RUNAPI_BASE_URL": bench.sandbox.base_url,
        "FLUX2_TOOL_HOME": str(home / "data"),
        "FLUX2_TOOL_DAILY_CAP_USD": "1000000",
        "HOME": str(home),
    }
    used_s = _cpu_s()
    begun_at = time.time()
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, cwd=CHECKOUT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    ended_at = time.time()
    cpu_s = _cpu_s() - used_s
    if process.returncode != 0 or b"http" not in output:
        raise RuntimeError(f"{name} made no picture: {errors.decode()[-300:]}")
    ledger = await bench.sandbox.ledger()
    [task_id] = set(ledger.tasks) - known
    task = ledger.tasks[task_id]
    seen_at = task.created_at + task.duration_s + (task.lateness_s or 0.0)
    return Start(client=name, before_s=task.created_at - begun_at, after_s=ended_at - seen_at, cpu_s=cpu_s)


def _cpu_s() -> float:
    """Return the CPU time of the processes that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
