"""The server as a process: what it writes, when it ends, and who pays for its packages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.sandbox import Sandbox
from flux2_tool.schema.install_text import install_extra_text
from flux2_tool.schema.installation import this_installation
from tests.hosts.mcp.host import ARGUMENTS, FOX
from tests.support.command import Command, SandboxClock
from tests.support.terminal import run_at_terminal
from tests.support.waiting import PATIENCE_S, wait_until

LIGHT_START = """
import importlib, pkgutil, sys
import flux2_tool
for found in pkgutil.walk_packages(flux2_tool.__path__, "flux2_tool."):
    if found.name not in ("flux2_tool.hosts.mcp_server", "flux2_tool.hosts.mcp_http.server", "flux2_tool.__main__"):
        importlib.import_module(found.name)
print([name for name in sys.modules if name.split(".")[0] in ("mcp", "mcp_types")])
"""

# Starts the server as a host does, tells its process id, and never closes its pipes by itself.
HOST = """
import os, subprocess, sys
server = subprocess.Popen([sys.executable, *sys.argv[2:]], stdin=int(sys.argv[1]))
print(server.pid, flush=True)
server.wait()
"""


def started(environ: Mapping[str, str], **options: Any) -> subprocess.Popen[str]:
    """Start the server on pipes of the test's own."""
    return subprocess.Popen(
        [sys.executable, *ARGUMENTS],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **options,
    )


def handshake(version: str = "2025-11-25") -> list[dict[str, Any]]:
    """Return the messages that open a connection."""
    hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "by hand", "version": "1"}}
    return [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
    ]


def call(number: int, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message of a tool call."""
    params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": f"p{number}"}}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def send(server: subprocess.Popen[str], *messages: Mapping[str, Any]) -> None:
    """Write messages, one a line."""
    assert server.stdin is not None
    server.stdin.write("".join(json.dumps(message) + "\n" for message in messages))
    server.stdin.flush()


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_stdout_carries_the_protocol_and_nothing_else(environ: dict[str, str], sandbox: Sandbox) -> None:
    """One stray line, and the host drops the connection. Also for whoever speaks it without an SDK."""
    with started(environ) as server:
        assert server.stdout is not None
        send(server, *handshake(), {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, call(3, "text_to_image", FOX))
        answers: dict[Any, Any] = {}
        progress = []
        while 3 not in answers:
            message = json.loads(server.stdout.readline())
            assert message["jsonrpc"] == "2.0"
            if "id" in message:
                answers[message["id"]] = message["result"]
            else:
                progress.append(message["params"])
        assert server.stdin is not None
        server.stdin.close()
        assert server.stdout.read() == ""
        assert server.wait(timeout=30) == 0

    assert answers[1]["serverInfo"]["name"] == "flux2-tool"
    assert len(answers[2]["tools"]) == 3
    assert answers[3]["structuredContent"]["task"]["state"] == "completed"
    assert {told["progressToken"] for told in progress} == {"p3"}
    assert len(sandbox.ledger.billed_tasks) == 1


@pytest.mark.parametrize("ending", ["stdin closed", "SIGTERM", "SIGINT", "SIGHUP"])
def test_it_ends_with_its_client_also_in_mid_wait(
    environ: dict[str, str], sandbox: Sandbox, clock: SandboxClock, ending: str
) -> None:
    """Hosts come and go all day. What was paid for stays in the journal, for the next connection."""
    with started(environ) as server:
        assert server.stdin is not None
        send(server, *handshake(), call(2, "text_to_image", {"prompt": "[slow] a glacier"}))
        wait_until(lambda: sandbox.ledger.tasks)
        if ending == "stdin closed":
            server.stdin.close()
        else:
            server.send_signal(signal.Signals[ending])
        assert server.wait(timeout=PATIENCE_S) == 0

    clock.offset_s += 200
    [task_id] = sandbox.ledger.tasks
    with started(environ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        send(server, *handshake(), call(2, "get_image_task", {"task_id": task_id}))
        answer = next(message for line in server.stdout if (message := json.loads(line)).get("id") == 2)
        server.stdin.close()

    assert answer["result"]["structuredContent"]["task"]["state"] == "completed"


@pytest.mark.parametrize("stdin_stays_open", [False, True])
def test_a_killed_client_leaves_no_process(environ: dict[str, str], stdin_stays_open: bool) -> None:
    """Also when something else, such as a shell's other child, still holds the server's input open."""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", HOST, str(reading), *ARGUMENTS],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[reading],
    ) as host:
        os.close(reading)
        assert host.stdout is not None
        pid = int(host.stdout.readline())
        os.write(writing, "".join(json.dumps(message) + "\n" for message in handshake()).encode())
        assert json.loads(host.stdout.readline())["id"] == 1
        host.kill()
    if not stdin_stays_open:
        os.close(writing)

    wait_until(lambda: is_gone(pid))

    if stdin_stays_open:
        os.close(writing)


@pytest.mark.parametrize(
    "setting", [{"FLUX2_TOOL_SPENDERS": "owner"}, {"FLUX2_TOOL_SENDER_DAILY_CAP_USD": "1"}], ids=["spenders", "a cap"]
)
def test_settings_about_persons_are_refused_in_its_log(environ: dict[str, str], setting: dict[str, str]) -> None:
    """A host does not tell who asks; an operator who relies on them must learn that they bind nobody."""
    with started({**environ, **setting}, stderr=subprocess.PIPE) as server:
        _stdout, stderr = server.communicate(timeout=60)

    assert "spenders and sender_daily_cap_usd have no effect over MCP" in stderr


def test_it_starts_in_a_folder_that_was_deleted(environ: dict[str, str], tmp_path: Path) -> None:
    """An editor may start it in a project that is gone; pictures can be made all the same."""
    gone = tmp_path / "gone"
    gone.mkdir()
    in_gone = f"rmdir {gone} && exec {sys.executable} {' '.join(ARGUMENTS)}"
    command = ["/bin/sh", "-c", in_gone]
    lines = "".join(json.dumps(message) + "\n" for message in [*handshake(), call(2, "text_to_image", FOX)])

    with subprocess.Popen(
        command,
        cwd=gone,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(lines)
        server.stdin.flush()
        answer = next(message for line in server.stdout if (message := json.loads(line)).get("id") == 2)
        server.stdin.close()

    assert answer["result"]["structuredContent"]["task"]["state"] == "completed"


def test_nothing_else_imports_the_sdk() -> None:
    """It costs most of a second; an agent's plugin and every command would pay it."""
    done = subprocess.run([sys.executable, "-c", LIGHT_START], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_without_the_extra_the_command_says_what_to_install(environ: dict[str, str]) -> None:
    """Most installations never need it, so it is not there by default."""
    hidden = "import sys; sys.modules['mcp'] = None; from flux2_tool.cli import main; sys.exit(main(['mcp']))"

    done = subprocess.run([sys.executable, "-c", hidden], env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert install_extra_text("mcp", this_installation(), command=["mcp"]) in done.stderr
    assert done.stdout == ""


def test_at_a_terminal_it_says_what_it_waits_for(environ: dict[str, str], tmp_path: Path) -> None:
    """A person who starts it by hand would take the silence for a hang."""
    shown = run_at_terminal(Command(folder=tmp_path, environ=environ), "mcp", keys=b"\x04")

    assert (shown.returncode, shown.stdout) == (0, "")
    assert "This waits for an MCP host" in shown.screen
    assert "flux2-tool mcp config --host HOST" in shown.screen
