"""demo and sandbox: what a newcomer and a developer run first."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from flux2_tool.cli.sandbox import EXAMPLE_KEY
from flux2_tool.schema.install_text import install_extra_text
from flux2_tool.schema.installation import this_installation
from tests.support.command import Command, read_until


def test_the_demo_saves_a_picture_without_a_key_and_says_what_it_is(bare: Command) -> None:
    """The first command of the README. Nobody must take the drawing for a Flux 2 image."""
    done = bare.run("demo", "a lighthouse at dusk", FLUX2_TOOL_ROUTE="nonsense", HTTP_PROXY="http://127.0.0.1:9")

    assert done.returncode == 0, done.stderr
    (path,) = done.stdout.splitlines()
    assert Path(path).parent == bare.folder / "flux2-images"
    assert Path(path).read_bytes().startswith(b"\x89PNG")
    assert "the sandbox drew this image" in done.stderr
    assert "nothing was charged" in done.stderr


@pytest.mark.parametrize(
    ("prompt", "options", "code", "said"),
    [
        pytest.param("a fox [fail]", (), 4, "error: ", id="the task fails"),
        pytest.param("a fox", ("--output", "file/here"), 2, "could not be saved to", id="the picture cannot be saved"),
    ],
)
def test_a_demo_without_a_picture_is_no_success(
    bare: Command, prompt: str, options: tuple[str, ...], code: int, said: str
) -> None:
    """It shows people what to expect of the command; also how it fails."""
    (bare.folder / "file").write_text("here")

    done = bare.run("demo", prompt, *options)

    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "for real images" not in done.stderr


def test_an_interrupted_demo_says_that_nothing_was_charged(bare: Command) -> None:
    """Whoever tries it out should not have to wonder."""
    with bare.start("demo", "a fox [slow]") as process:
        read_until(process, "(task ")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)

    assert (process.returncode, stdout) == (130, "")
    assert "interrupted; nothing was charged" in stderr


def test_the_demo_leaves_no_other_trace(bare: Command) -> None:
    """It is a try-out: the user's data folder stays as it was."""
    bare.run("demo", "--output", "here")

    assert [item.name for item in bare.folder.iterdir()] == ["here"]


def test_the_sandbox_serves_until_it_is_stopped(bare: Command) -> None:
    """Its first line is the address, so that scripts can read it."""
    with bare.start(
        "sandbox", "--duration", "0.1", "--only-route", "service", "--set", "drawn_images=false"
    ) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        environ = {"RUNAPI_BASE_URL": base_url, "RUNAPI_API_KEY": EXAMPLE_KEY}

        done = bare.run("generate", "a fox", **environ)
        with urllib.request.urlopen(f"{base_url}/_sandbox/ledger") as answer:  # noqa: S310 - our own loopback server
            ledger = json.load(answer)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)

    assert done.returncode == 0, done.stderr
    assert [create["outcome"] for create in ledger["creates"]] == ["route_off", "created"]
    assert process.returncode == 0


def test_the_sandbox_commits_the_faults_it_is_told(bare: Command) -> None:
    """A developer sees how an agent meets a failure."""
    fault = "status,on=create,status=402"
    with bare.start("sandbox", "--duration", "0", "--fault", fault, "--fault", "latency,rate=0.0,delay_s=1") as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        environ = {"RUNAPI_BASE_URL": base_url, "RUNAPI_API_KEY": EXAMPLE_KEY}

        first = bare.run("generate", "a fox", **environ)
        second = bare.run("generate", "a fox", **environ)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)

    assert (first.returncode, second.returncode) == (4, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fault", "explode"], "explode"),
        (["--fault", "latency,delay"], "NAME=VALUE"),
        (["--fault", "latency,rate=7"], "from 0 to 1"),
        (["--set", "colour"], "NAME=VALUE"),
        (["--set", "colour=blue"], "unknown option colour"),
        (["--set", "error_shape=loud"], "error_shape"),
        (["--speed", "0"], "--speed"),
    ],
)
def test_a_wrong_switch_is_named(bare: Command, arguments: list[str], said: str) -> None:
    """Before anything is served."""
    done = bare.run("sandbox", *arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["sandbox", "demo"])
def test_without_its_extra_the_hint_is_the_command_for_this_very_python(name: str) -> None:
    """A bare `pip` may belong to another Python, and then the hint would not help."""
    code = f"import sys\nsys.modules['starlette'] = None\nfrom flux2_tool.cli import main\nsys.exit(main([{name!r}]))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (3, "")
    assert "starlette, which is not installed" in done.stderr
    assert f"hint:  {install_extra_text('sandbox', this_installation(), command=['demo'])}" in done.stderr
    assert shlex.quote(sys.executable) in done.stderr


def test_a_taken_port_is_named(bare: Command) -> None:
    """With the port, not with a traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        done = bare.run("sandbox", "--port", str(port))

    assert done.returncode == 3
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr
