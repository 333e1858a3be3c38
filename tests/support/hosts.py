"""Machines of their own, as far as their processes can tell: a host name, a PID namespace and a data folder each.

The `flux2-tool` that runs on one is a fork of a process that has imported everything. Linux only, as root.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.support import forked_commands
from tests.support.environ import base_environ
from tests.support.forked_commands import ForkedCommand

_UNSHARE: Final = ("unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")


@functools.cache
def why_not() -> str | None:
    """Return why there can be no such machines here, None where there can."""
    try:
        done = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, check=False)
    except OSError as exc:
        return f"needs unshare of util-linux: {exc}"
    return None if done.returncode == 0 else f"needs namespaces, which take root on Linux: {done.stderr.strip()}"


class Host:
    """One machine.

    Args:
        name: Its host name.
        folder: Becomes its home folder.
        environ: What its commands have in their environment.
    """

    def __init__(self, name: str, folder: Path, **environ: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._environ = {**base_environ(), "HOME": str(folder), "FLUX2_TOOL_HOME": str(folder / "data"), **environ}
        named = (*_UNSHARE, "sh", "-c", f'hostname {name} && exec "$@"', "sh")
        self._server = forked_commands.Server(named)

    def start(self, *arguments: str, **environ: str) -> ForkedCommand:
        """Start `flux2-tool` with arguments."""
        return forked_commands.start(
            arguments, folder=self.folder, environ={**self._environ, **environ}, server=self._server
        )

    def run(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        """Run `flux2-tool` to its end; return its exit code and what it printed to stdout and stderr."""
        return self.start(*arguments, **environ).ended()

    def kill(self) -> None:
        """End every process of it at once, with SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._server.process.pid, signal.SIGKILL)
        self._server.end()


@contextlib.contextmanager
def running_hosts(names: Sequence[str], folder: Path, **environ: str) -> Iterator[list[Host]]:
    """Run machines with names while the block runs."""
    hosts: list[Host] = []
    try:
        for name in names:
            hosts.append(Host(name, folder / name, **environ))
        yield hosts
    finally:
        for host in hosts:
            host.kill()
