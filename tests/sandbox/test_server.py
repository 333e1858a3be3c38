"""The sandbox over real sockets, its control addresses, and its independence from the client."""

from __future__ import annotations

import ast
import gc
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import flux2_tool.sandbox
from flux2_tool.sandbox import Fault, SandboxOptions, running_sandbox, serve

KEY = "sk-very-secret"
BODY = {"model": "flux-2-pro-text-to-image", "prompt": "一只红狐狸"}


def test_a_running_sandbox_responds_and_stops_cleanly() -> None:
    """Nothing may stay behind: no thread, no port."""
    with running_sandbox(SandboxOptions(speed=50)) as (base_url, sandbox):
        answer = httpx.get(f"{base_url}/api/v1/me", headers={"Authorization": f"Bearer {KEY}"})

        assert answer.status_code == 200
        assert sandbox.options.speed == 50

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{base_url}/api/v1/me")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.com", "::"])  # noqa: S104 (must be refused)
def test_only_loopback_is_served(host: str) -> None:
    """It takes any key and gives away its ledger: nobody else may reach it."""
    with pytest.raises(ValueError, match="not a loopback address"):
        serve(host=host)


def test_a_taken_port_is_an_error() -> None:
    """Not a sandbox on some other port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            serve(port=taken.getsockname()[1])


def test_serve_reports_its_address_and_can_be_interrupted() -> None:
    """The command in the foreground."""
    program = (
        "import _thread\n"
        "from flux2_tool.sandbox import serve\n"
        "def ready(url):\n"
        "    print(url, flush=True)\n"
        "    _thread.interrupt_main()\n"
        "serve(on_ready=ready)\n"
        "print('ended')\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    lines = done.stdout.split()
    assert done.returncode == 0, done.stderr
    assert lines[0].startswith("http://127.0.0.1:")
    assert lines[1] == "ended"


def test_the_ledger_is_served_without_the_key() -> None:
    """A test in another process reads them."""
    with running_sandbox(SandboxOptions(duration_s=0)) as (base_url, _), httpx.Client(base_url=base_url) as client:
        headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "k", "X-Extra": "kept"}
        task_id = client.post("/v1/text_to_image", json=BODY, headers=headers).json()["task_id"]
        done = client.get(f"/v1/text_to_image/{task_id}", headers=headers).json()
        client.get(done["images"][0]["url"])
        answer = client.get("/_sandbox/ledger")

    ledger = answer.json()
    assert KEY not in answer.text
    assert ledger["summary"] == {
        "creates": 1,
        "tasks": 1,
        "billed_tasks": 1,
        "billed_cents": 5,
        "polls": 1,
        "polls_not_found": 0,
        "downloads": 1,
        "uploads": 0,
        "authorization_leaks": 0,
        "callbacks": 0,
    }
    [record], [task] = ledger["creates"], ledger["tasks"]
    assert (record["idempotency_key"], record["outcome"], record["task_id"]) == ("k", "created", task_id)
    assert "一只红狐狸" in record["body"] or "\\u4e00" in record["body"]
    assert ["x-extra", "kept"] in record["headers"]
    assert (task["id"], task["state"], task["billed_cents"], task["polls"]) == (task_id, "completed", 5, 1)


def test_faults_are_queued_and_cleared_over_http(call: Any) -> None:
    """A test in another process scripts them."""
    ordered = call.request(
        "POST",
        "/_sandbox/faults",
        json={
            "queue": [{"kind": "status", "on": "create", "status": 500}, {"kind": "broken_json"}],
            "rates": [{"rate": 1.0, "kind": "status", "status": 502}],
            "seed": 5,
        },
    )
    statuses = [call.create().status_code for _ in range(3)]
    cleared = call.request("DELETE", "/_sandbox/faults")

    assert [fault["kind"] for fault in ordered.json()["queue"]] == ["status", "broken_json"]
    assert statuses == [500, 200, 502]
    assert cleared.json()["queue"] == []
    assert call.create().status_code == 200


@pytest.mark.parametrize(
    "body",
    [{"queue": [{"kind": "nonsense"}]}, {"queue": [{"kind": "status", "x": 1}]}, {"rates": [{"kind": "status"}]}],
)
def test_a_misspelt_fault_over_http_is_refused(call: Any, body: dict[str, Any]) -> None:
    """A fault that silently does nothing would make a test pass for nothing."""
    answer = call.request("POST", "/_sandbox/faults", json=body)

    assert answer.status_code == 422
    assert call.create().status_code == 200


def test_options_change_while_it_runs(call: Any) -> None:
    """A route goes down, the account runs dry."""
    before = call.create().status_code
    shown = call.request("PATCH", "/_sandbox/options", json={"guide_route": False, "balance_cents": 3}).json()

    after = [call.create().status_code, call.create("/api/v1/flux_2/text_to_image").status_code]

    assert before == 200
    assert (shown["guide_route"], shown["balance_cents"]) == (False, 3)
    assert after == [404, 402]


def test_shown_options_hide_keys_and_secret(call_with: Any) -> None:
    """Not even the sandbox's own."""
    call = call_with(api_keys=frozenset({"sk-only"}))

    assert "sk-only" not in call.request("GET", "/_sandbox/options").text
    assert "sk-only" not in repr(call.sandbox.options)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sped": 2}, "unknown option sped"),
        ({"speed": 0}, "above 0"),
        ({"speed": "fast"}, "must be a number"),
        ({"guide_route": "no"}, "must be a bool"),
        ({"poll_paths": ["nowhere"]}, "allowed"),
        ({"error_shape": "xml"}, "allowed"),
        ({"route_off_status": 200}, "allowed"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_allowed(call: Any, change: dict[str, Any], complaint: str) -> None:
    """And nothing changes."""
    before = call.sandbox.options

    answer = call.request("PATCH", "/_sandbox/options", json=change)

    assert answer.status_code == 422
    assert complaint in answer.json()["error"]
    assert call.sandbox.options == before


@pytest.mark.parametrize("name", ["speed", "duration_s", "slow_s", "idempotency_life_s", "callback_delay_s"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_option_is_a_finite_number(name: str, value: float) -> None:
    """A task that is never over, or has no time at all, is no answer to a slip of the fingers."""
    with pytest.raises(ValueError, match=f"{name} is .* finite"):
        SandboxOptions(**{name: value})


def test_responses_are_not_delayed_by_socket_buffering() -> None:
    """Nagle's algorithm would add 40 ms to each answer and spoil every measurement of lateness."""
    with running_sandbox(SandboxOptions()) as (base_url, _):
        host, port = base_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"GET /api/v1/price_schedules HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100)
            ours = client.getsockname()
            [served] = [
                one
                for one in gc.get_objects()
                if isinstance(one, socket.socket) and one.fileno() >= 0 and one is not client and _peer(one) == ours
            ]
            delayed = not served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    assert not delayed


def _peer(one: socket.socket) -> object:
    try:
        return one.getpeername()
    except OSError:
        return None


def test_a_client_that_leaves_early_does_no_harm() -> None:
    """Chaos kills clients in the middle of a request."""
    with running_sandbox(SandboxOptions(duration_s=0)) as (base_url, sandbox):
        host, port = base_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(b"POST /v1/text_to_image HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        sandbox.faults.queue(Fault(kind="latency", on="account", delay_s=0.2))
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{base_url}/api/v1/me", timeout=0.05)

        answer = httpx.get(f"{base_url}/api/v1/me", headers={"Authorization": f"Bearer {KEY}"})

    assert answer.status_code == 200


def test_the_sandbox_imports_nothing_from_the_rest_of_the_package() -> None:
    """If it shared the client's models, a misspelt field would pass every test."""
    folder = Path(flux2_tool.sandbox.__file__).parent
    imported = set()
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
                assert node.level == 0
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}

    ours = {name for name in imported if name.split(".")[0] == "flux2_tool"}
    assert ours
    assert all(name.startswith("flux2_tool.sandbox") for name in ours)
