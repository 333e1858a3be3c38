"""A real PostgreSQL server in a scratch folder, as an ordinary user: started for the tests that need one, and ended.

The programs are those on PATH, else the newest of Debian's. Started as root, the server runs as `nobody`, because
PostgreSQL refuses root.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

INSTALL: Final = "install PostgreSQL 14 or newer, for instance: apt-get install postgresql"
# The role with a password; every other one is let in without.
GUARDED: Final = "guarded"
_DEBIAN: Final = Path("/usr/lib/postgresql")
# Tests crash the server on purpose; what they keep is checked, and a scratch folder need not survive a power failure.
_OPTIONS: Final = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "fsync": "off",
    "log_min_messages": "error",
}


def programs() -> Path | None:
    """Return the folder of the server's programs, None where there is no server."""
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).resolve().parent


def why_not() -> str | None:
    """Return why no server can be used here, and what to do; None where one can."""
    if programs() is None:
        return f"there is no PostgreSQL server; {INSTALL}"
    if importlib.util.find_spec("psycopg") is None or importlib.util.find_spec("psycopg_pool") is None:
        return "psycopg is missing; install flux2-tool with the extra postgres"
    return None


@dataclass(slots=True)
class PostgresServer:
    """A server that runs, or can be started again.

    Attributes:
        folder: Its data folder.
        port: On loopback.
    """

    folder: Path
    port: int
    _programs: Path
    _process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", *, user: str = "flux2") -> str:
        """Return the address of a database, as `journal_url` takes it; `user` may have a password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        options = [text for name, value in _OPTIONS.items() for text in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder, "-p", str(self.port), "-k", self.folder, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                **_as_ordinary_user(),
            )
        self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-t", "60", retry=True)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT breaks the connections and ends in order, SIGKILL is a crash."""
        assert self._process is not None
        if how == signal.SIGKILL:
            for pid in (self._process.pid, *_children(self._process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
        else:
            self._process.send_signal(how)
        self._process.wait(60)

    def crash(self, down_s: float = 0.0) -> None:
        """Kill every process of it, and start it again."""
        self.stop(signal.SIGKILL)
        time.sleep(down_s)
        self.start()

    def query(self, sql: str, database: str = "postgres") -> str:
        """Return what psql prints for a statement."""
        return self._run("psql", self.url(database), "-AtX", "-v", "ON_ERROR_STOP=1", "-c", sql).strip()

    def _run(self, program: str, *arguments: str, retry: bool = False) -> str:
        while True:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            done = subprocess.run([self._programs / program, *arguments], capture_output=True, text=True, check=False)
            if done.returncode == 0 or not retry:
                break
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Run a new, empty server."""
    found = programs()
    assert found is not None, INSTALL
    scratch = Path(tempfile.mkdtemp(prefix="flux2-postgres-"))
    folder = scratch / "data"
    try:
        if os.getuid() == 0:
            os.chown(scratch, pwd.getpwnam("nobody").pw_uid, -1)
        subprocess.run(
            [found / "initdb", "-D", folder, "-U", "flux2", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            stdout=subprocess.DEVNULL,
            check=True,
            **_as_ordinary_user(),
        )
        rules = folder / "pg_hba.conf"
        rules.write_text(f"host all {GUARDED} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        server = PostgresServer(folder=folder, port=_free_port(), _programs=found)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _as_ordinary_user() -> dict[str, str]:
    return {"user": "nobody", "cwd": "/"} if os.getuid() == 0 else {}


def _children(pid: int) -> Sequence[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in text.split()]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
