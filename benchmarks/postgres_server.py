"""A PostgreSQL server of its own for a run of a benchmark, which writes to the disk as in production.

The programs are those of Debian's packages, else those on PATH. Started as root, the server runs as `nobody`, because
PostgreSQL refuses root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

# Everything else is PostgreSQL's own default, so fsync and synchronous_commit are on.
OPTIONS = {"listen_addresses": "127.0.0.1", "max_connections": "500", "shared_buffers": "512MB", "max_wal_size": "4GB"}
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server."""

    port: int
    pid: int

    def url(self, *, port: int | None = None) -> str:
        """Return its address, or that of a port which leads to it."""
        return f"postgresql://flux2@127.0.0.1:{port or self.port}/postgres"

    def ask(self, sql: str) -> float:
        """Return the number that a query has."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            row = connection.execute(sql.encode()).fetchone()
        return float(row[0]) if row else 0.0

    def version(self) -> str:
        """Return its version."""
        with psycopg.connect(self.url()) as connection:
            return connection.info.parameter_status("server_version") or "?"

    def wal_bytes(self) -> float:
        """Return how much it has logged since it was made."""
        return self.ask("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")

    def cpu_s(self) -> float:
        """Return the CPU time of its processes, ended ones included. Source: proc_pid_stat(5), fields 14 to 17."""
        ticks = 0
        for pid in (self.pid, *_children(self.pid)):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(int(field) for field in fields[11 : 15 if pid == self.pid else 13])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running_postgres(folder: Path) -> Iterator[PostgresServer]:
    """Run a new, empty server whose data is in a folder."""
    programs = _programs()
    data = folder / "postgres" / "data"
    data.parent.mkdir()
    user: dict[str, str] = {}
    if os.getuid() == 0:
        user = {"user": "nobody"}
        for path in (folder, data.parent):
            path.chmod(0o755)
        os.chown(data.parent, pwd.getpwnam("nobody").pw_uid, -1)
    subprocess.run(  # noqa: S603 - a program of the server
        [programs / "initdb", "-D", data, "-U", "flux2", "-A", "trust", "-E", "UTF8", "--locale=C"],
        stdout=subprocess.DEVNULL,
        check=True,
        cwd="/",
        **user,  # type: ignore[call-overload]
    )
    port = _free_port()
    options = [text for name, value in OPTIONS.items() for text in ("-c", f"{name}={value}")]
    server = subprocess.Popen(  # noqa: S603
        [programs / "postgres", "-D", data, "-p", str(port), "-k", data, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        **user,  # type: ignore[call-overload]
    )
    try:
        found = PostgresServer(port=port, pid=server.pid)
        _wait_for(found)
        yield found
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(PATIENCE_S)


def _wait_for(server: PostgresServer) -> None:
    for _ in range(round(PATIENCE_S * 10)):
        with contextlib.suppress(psycopg.OperationalError):
            server.ask("SELECT 1")
            return
        time.sleep(0.1)
    raise RuntimeError("the PostgreSQL server does not start")


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path is None:
        raise SystemExit("There is no PostgreSQL server here. Install one, for instance: apt-get install postgresql")
    return Path(on_path).resolve().parent


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
