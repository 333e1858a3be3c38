"""Webhooks over real sockets: when they come, connections that break, and a clean end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from flux2_tool.sandbox import SandboxOptions, running_sandbox
from tests.sandbox.receivers import BODY, HEADERS, heard_it, receiver
from tests.support.waiting import PATIENCE_S, wait_until


def test_a_callback_tells_the_end_of_a_task_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks measure a client's lateness with it. A proxy of the environment is for other places."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    options = SandboxOptions(duration_s=0.1, drawn_images=False)

    with receiver(heard_it) as (url, heard), running_sandbox(options) as (base_url, sandbox):
        httpx.post(f"{base_url}/v1/text_to_image", json={**BODY, "callback_url": url}, headers=HEADERS, trust_env=False)
        delivery = heard.get(timeout=10)
        [task] = sandbox.ledger.tasks.values()

    assert delivery.is_signed_with(sandbox.callback_secret)
    assert (delivery.content["id"], delivery.content["status"]) == (task.id, "completed")
    assert delivery.at >= task.finish_at
    assert task.polls == 0


def test_a_closed_connection_is_delivered_to_again() -> None:
    """The receiver was restarted just then."""
    hang_ups = iter([True])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if not next(hang_ups, False):
            heard_it(handler)

    options = SandboxOptions(duration_s=0, speed=100.0, drawn_images=False)
    with receiver(answer) as (url, heard), running_sandbox(options) as (base_url, sandbox):
        httpx.post(f"{base_url}/v1/text_to_image", json={**BODY, "callback_url": url}, headers=HEADERS)
        first, second = heard.get(timeout=10), heard.get(timeout=10)
        [lost, found] = sandbox.ledger.callbacks

    assert (first.id, first.body) == (second.id, second.body)
    assert (lost.attempt, lost.status, found.attempt) == (1, None, 2)
    assert "RemoteProtocolError" in (lost.error or "")


def test_a_moved_clock_ends_a_task_at_the_next_request() -> None:
    """Tests with a clock of their own do not wait for the hours they skip."""
    skipped_s = 0.0
    options = SandboxOptions(duration_s=3600, drawn_images=False)
    sandboxed = running_sandbox(options, clock=lambda: time.time() + skipped_s)

    with receiver(heard_it) as (url, heard), sandboxed as (base_url, sandbox):
        httpx.post(f"{base_url}/v1/text_to_image", json={**BODY, "callback_url": url}, headers=HEADERS)
        # Whoever is answered after the create finds its callback asleep.
        httpx.get(f"{base_url}/_sandbox/options")
        assert heard.empty()
        skipped_s = 3600.0
        assert sandbox.ledger.billed_cents == 5
        delivery = heard.get(timeout=10)

    assert delivery.content["status"] == "completed"


def test_a_sandbox_stops_without_waiting_for_callbacks() -> None:
    """One waits for its task, one for an answer, one for its next try. Warnings are errors here."""
    sandbox_stopped = threading.Event()
    seen_stopped: list[bool] = []
    options = SandboxOptions(duration_s=0, drawn_images=False)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen_stopped.append(sandbox_stopped.wait(PATIENCE_S))

    with receiver(answer) as (url, heard):
        with (
            running_sandbox(options) as (base_url, sandbox),
            httpx.Client(base_url=base_url, headers=HEADERS) as client,
        ):
            client.post("/v1/text_to_image", json={**BODY, "callback_url": url})
            heard.get(timeout=10)
            client.post("/v1/text_to_image", json={**BODY, "callback_url": "http://127.0.0.1:9/nobody"})
            client.post("/v1/text_to_image", json={**BODY, "callback_url": url, "prompt": "a fox [slow]"})
        sandbox_stopped.set()
        wait_until(lambda: seen_stopped)

    assert seen_stopped == [True]
    assert "sandbox" not in {thread.name for thread in threading.enumerate()}
    assert sandbox.ledger.callbacks[0].status is None


def test_the_command_prints_the_signing_secret() -> None:
    """The line goes into the environment of the program under test; stdout stays the address alone."""
    command = [sys.executable, "-m", "flux2_tool", "sandbox", "--duration", "0", "--set", "drawn_images=false"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        base_url = process.stdout.readline().strip()
        lines = [process.stderr.readline() for _ in range(3)]
        try:
            with receiver(heard_it) as (url, heard):
                httpx.post(f"{base_url}/v1/text_to_image", json={**BODY, "callback_url": url}, headers=HEADERS)
                delivery = heard.get(timeout=10)
        finally:
            process.send_signal(signal.SIGTERM)
        rest = process.stdout.read(), process.stderr.read()

    [secret] = [line.split("FLUX2_TOOL_CALLBACK_SECRET=")[1].strip() for line in lines if "CALLBACK_SECRET" in line]
    assert delivery.is_signed_with(secret)
    assert (process.returncode, rest) == (0, ("", ""))
