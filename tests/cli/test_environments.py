"""The demo and one `generate` in six environments that people's machines are, each for real."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

import flux2_tool
from flux2_tool.openclaw.wheel import package_wheel
from flux2_tool.sandbox import Sandbox
from flux2_tool.schema.manifest import load_manifest
from tests.support.certificates import Certificates, make_certificates
from tests.support.command import Command
from tests.support.environ import base_environ
from tests.support.proxies import Front, http_proxy, serving
from tests.support.wheels import folder_of_wheels

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]

# As Python sees a user whom /etc/passwd does not know, and whose HOME the host has cleared.
NOBODY = """\
import pwd, sys

def unknown(_uid):
    raise KeyError("uid not found")

pwd.getpwuid = unknown
from flux2_tool.cli import main
sys.exit(main())
"""
# A service whose limit of open files is reached but for so many, right before its first image.
FULL = """\
import asyncio, os, resource, sys
from flux2_tool import Flux2Error, Flux2Tool

async def main():
    async with Flux2Tool() as flux:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, most))
        opened = []
        try:
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            for _ in range(int(sys.argv[1])):
                os.close(opened.pop())
        try:
            print((await flux.text_to_image("a red fox")).task.state)
        except Flux2Error as error:
            print(error.code, error.charged, error, error.hint)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

asyncio.run(main())
"""
# A machine that has no memory left for SQLite.
NO_MEMORY = """\
import sqlite3, sys
from flux2_tool.cli import main

sqlite3.connect(":memory:").execute("PRAGMA hard_heap_limit = 200000").fetchall()
sys.exit(main())
"""
# asyncio waits for the threads of a loop in one more, at its end.
NO_LAST_THREAD = """\
import sys, threading
from flux2_tool.cli import main

start = threading.Thread.start

def started(thread):
    if "_do_shutdown" in str(thread._target):
        raise RuntimeError("can't start new thread")
    start(thread)

threading.Thread.start = started
sys.exit(main())
"""
USER = "ada:s3cret"
UID = 12345


def make_both(run: Run, folder: Path) -> None:
    """Run the demo and one `generate` in a folder, and see that both pictures are there."""
    demo = run("demo")
    made = run("generate", "a red fox", "--output", "fox.png")

    assert (demo.returncode, made.returncode) == (0, 0), demo.stderr + made.stderr
    [drawn] = (folder / "flux2-images").iterdir()
    for path in (drawn, folder / "fox.png"):
        with Image.open(path) as image:
            assert image.size[0] > 100
    assert "Traceback" not in demo.stderr + made.stderr


def without(environ: dict[str, str], *names: str) -> dict[str, str]:
    """Return an environment without some variables."""
    return {name: text for name, text in environ.items() if name not in names}


def program(command: Command, words: list[str], environ: dict[str, str]) -> Run:
    """Return what runs a program with arguments in the command's folder."""

    def run(*arguments: str) -> Done:
        return subprocess.run(
            [*words, *arguments],
            cwd=command.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=240,
            check=False,
        )

    return run


def test_without_a_home_and_a_passwd_entry(command: Command) -> None:
    """`docker run -u 12345`, OpenShift, systemd's DynamicUser. Only what keeps data needs a folder, and asks for it."""
    environ = without(command.environ, "HOME", "FLUX2_TOOL_HOME")
    words = [sys.executable, "-c", NOBODY]

    refused = program(command, words, environ)("generate", "a red fox")

    assert refused.returncode == 3
    assert "set FLUX2_TOOL_HOME" in refused.stderr
    assert command.ledger()["creates"] == []
    make_both(program(command, words, {**environ, "FLUX2_TOOL_HOME": str(command.folder / "data")}), command.folder)


def test_in_the_locale_c(command: Command) -> None:
    """What cron and many containers have."""
    environ = {**without(command.environ, "LANG"), "LC_ALL": "C"}

    make_both(program(command, [sys.executable, "-m", "flux2_tool"], environ), command.folder)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where nobody can write")
def test_with_a_read_only_home_and_a_data_folder(command: Command) -> None:
    """A container whose file system is read-only, but for a volume."""
    environ = {**command.environ, "HOME": "/proc"}
    words = [sys.executable, "-m", "flux2_tool"]

    refused = program(command, words, without(environ, "FLUX2_TOOL_HOME"))("generate", "a red fox")

    assert refused.returncode == 3
    assert "FLUX2_TOOL_HOME" in refused.stderr
    make_both(program(command, words, environ), command.folder)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        pytest.param("0", "too many files open", id="none"),
        pytest.param("2", "too many files open", id="fewer than a journal has"),
        pytest.param("3", "could not be reached", id="none for the connection"),
        pytest.param("4", "", id="none for the response"),
        pytest.param("6", "completed", id="enough"),
    ],
)
def test_with_hardly_any_files_left_to_open(command: Command, left: str, said: str) -> None:
    """What is sent comes back to a process that needs no file to read it: the journal knows each task that is paid."""
    words = [sys.executable, "-c", FULL]

    done = program(command, words, dict(command.environ))(left)

    assert said in done.stdout, done.stderr
    made = [task["id"] for task in command.ledger()["tasks"]]
    assert [task["task_id"] for task in command.tasks() if task["state"] != "not_created"] == made
    if not made:
        assert " no " in done.stdout


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 31), reason="this SQLite cannot be held to less memory")
def test_without_memory_for_the_journal_nothing_is_sent(command: Command) -> None:
    """It is refused like any other journal that cannot be used, and not as a defect that may have been charged."""
    done = program(command, [sys.executable, "-c", NO_MEMORY], dict(command.environ))("generate", "a red fox")

    assert done.returncode == 3, done.stderr
    assert "has no memory left for it" in done.stderr
    assert "the journal itself is fine" in done.stderr
    assert command.ledger()["creates"] == []


def test_without_a_thread_for_the_end_of_the_event_loop(command: Command) -> None:
    """A container's limit of processes may be reached at any moment; what was made and shown is no defect then."""
    run = program(command, [sys.executable, "-c", NO_LAST_THREAD], dict(command.environ))

    done = run("generate", "a red fox", "--output", "fox.png")

    assert done.returncode == 0, done.stderr
    assert "the event loop could not be closed" in done.stderr
    assert (command.folder / "fox.png").is_file()


# ---- behind a proxy --------------------------------------------------------------------------------------------------


class Inspection(Front):
    """What an inspecting proxy leads to: the service itself, under a certificate of the company's own authority."""

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        service = Front(tls=self.tls, port=self.service_port)
        await service.join(reader, writer)

    service_port: int


@contextlib.asynccontextmanager
async def inspecting(certificates: Certificates, service_port: int) -> AsyncIterator[tuple[Front, int]]:
    """Start the server and an HTTP proxy that wants a password; return the proxy's port."""
    one = Inspection(tls=certificates.server)
    one.service_port = service_port
    async with serving(one.respond, certificates.server) as one.port, serving(http_proxy(one, user=USER)) as port:
        yield one, port


@pytest.fixture
def company(tmp_path: Path, service: tuple[str, Sandbox]) -> Iterator[tuple[Certificates, Front, int]]:
    """The company's authority, its server, and the port of its proxy, which run in a thread of their own."""
    certificates = make_certificates(tmp_path / "company", "runapi.ai")
    started, ended = threading.Event(), asyncio.Event()
    found: list[tuple[asyncio.AbstractEventLoop, Front, int]] = []

    async def serve() -> None:
        async with inspecting(certificates, int(service[0].rpartition(":")[2])) as (front, port):
            found.append((asyncio.get_running_loop(), front, port))
            started.set()
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(30)
        yield certificates, *found[0][1:]
    finally:
        found[0][0].call_soon_threadsafe(ended.set)
        thread.join()


def test_behind_a_proxy_with_a_password_and_an_authority_of_its_own(
    command: Command, sandbox: Sandbox, company: tuple[Certificates, Front, int]
) -> None:
    """A company's network: the request, its polls and the picture itself all pass the proxy."""
    certificates, front, port = company
    sandbox.change({"image_url_base": "https://runapi.ai"})
    environ = {
        **command.environ,
        "RUNAPI_BASE_URL": "https://runapi.ai",
        "HTTPS_PROXY": f"http://{USER}@127.0.0.1:{port}",
        "SSL_CERT_FILE": str(certificates.ca),
    }

    make_both(program(command, [sys.executable, "-m", "flux2_tool"], environ), command.folder)

    assert set(front.asked) == {"CONNECT runapi.ai:443 HTTP/1.1"}
    assert sandbox.ledger.as_json(0.0)["summary"]["billed_tasks"] == 1


# ---- in a bare root --------------------------------------------------------------------------------------------------

# $1 is the new root, $2 the folder that becomes /srv; the rest are folders that are there under their own names.
BARE = f"""\
set -e
root=$1 work=$2; shift 2
mount -t tmpfs tmpfs "$root"
while [ "$1" != -- ]; do
  if [ -L "$1" ]; then ln -s "$(readlink "$1")" "$root$1"
  elif [ -d "$1" ]; then mkdir -p "$root$1"; mount --bind "$1" "$root$1"; fi
  shift
done
shift
mkdir -p "$root/dev" "$root/tmp" "$root/srv"
chmod 1777 "$root/tmp"
touch "$root/dev/null"; mount --bind /dev/null "$root/dev/null"
chown {UID}:{UID} "$work"; mount --bind "$work" "$root/srv"
cd "$root/srv"
exec chroot --userspec={UID}:{UID} "$root" sh -c 'cd /srv; exec "$@"' sh "$@"
"""


def why_no_bare_root() -> str | None:
    """Return why this test cannot make one here, None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    words = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as exc:
        return f"needs unshare: {exc}"
    return None if done.returncode == 0 else f"needs the right to mount: {done.stderr.strip()}"


def test_as_an_unknown_user_in_a_bare_root(command: Command, tmp_path: Path) -> None:
    """A minimal container: no /proc, no /etc and so no passwd, no locale, no home; one writable folder."""
    reason = why_no_bare_root()
    if reason is not None:
        pytest.skip(reason)
    root, work = tmp_path / "root", tmp_path / "work"
    for folder in (root, work):
        folder.mkdir()
    ours = Path(flux2_tool.__file__).resolve().parent.parent
    shared = dict.fromkeys(["/usr", "/bin", "/lib", "/lib64", sys.base_prefix, sys.prefix, str(ours)])
    environ = {
        "PATH": "/usr/bin:/bin",
        "FLUX2_TOOL_HOME": "/srv/data",
        **{name: command.environ[name] for name in ("RUNAPI_API_KEY", "RUNAPI_BASE_URL")},
    }
    assigned = [f"{name}={text}" for name, text in environ.items()]
    words = ["unshare", "--mount", "sh", "-c", BARE, "sh", str(root), str(work), *shared, "--"]

    make_both(
        program(command, [*words, "/usr/bin/env", "-i", *assigned, sys.executable, "-m", "flux2_tool"], base_environ()),
        work,
    )

    assert {path.stat().st_uid for path in work.iterdir()} == {UID}


# ---- under uvx -------------------------------------------------------------------------------------------------------


def test_under_uvx(command: Command, tmp_path: Path) -> None:
    """The environment is in a cache and vanishes; hints and `mcp config` name what is there tomorrow."""
    uvx = shutil.which("uvx")
    if uvx is None:
        pytest.skip("needs uvx: pip install uv")
    wheels = folder_of_wheels(tmp_path / "wheels", "sandbox")
    made = package_wheel(load_manifest().version)
    wheel = wheels / made.name
    wheel.write_bytes(made.data)
    cache = tmp_path / "cache"
    environ = {**command.environ, "UV_CACHE_DIR": str(cache), "UV_PYTHON_DOWNLOADS": "never"}
    offline = [uvx, "--quiet", "--offline", "--no-index", "--find-links", str(wheels), "--python", sys.executable]

    make_both(program(command, [*offline, "--from", f"{wheel}[sandbox]", "flux2-tool"], environ), command.folder)

    said = program(command, [*offline, "--from", str(wheel), "flux2-tool"], environ)
    refused, config = said("demo"), said("mcp", "config", "--host", "codex")
    assert refused.returncode == 3
    assert "uvx --from" in refused.stderr
    assert shlex.quote(f"flux2-tool[sandbox] @ {wheel.as_uri()}") in refused.stderr
    assert str(cache) not in refused.stderr + config.stdout
    assert f'command = "{uvx}"' in config.stdout
