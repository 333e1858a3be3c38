"""`sandbox`: a mock server of RunAPI on loopback, with the faults you ask for."""

from __future__ import annotations

import importlib
import json
import signal
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import click

from flux2_tool.cli.terminal import note, note_unwritten_output, write_line
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.install_text import install_extra_text
from flux2_tool.schema.installation import this_installation

# Long enough for `doctor`, which warns of a key that was cut.
EXAMPLE_KEY = "sk-sandbox-000000"


def sandbox_package() -> ModuleType:
    """Return the package `flux2_tool.sandbox`.

    Raises:
        ConfigurationError: The extra `sandbox` is not installed.
    """
    try:
        return importlib.import_module("flux2_tool.sandbox")
    except ModuleNotFoundError as exc:
        missing = (exc.name or "an extra").partition(".")[0]
        raise ConfigurationError(
            f"the sandbox needs {missing}, which is not installed",
            hint=install_extra_text("sandbox", this_installation(), command=["demo"]),
        ) from exc


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0, the default, takes a free one.")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Divides every duration. Default 1.")
@click.option("--duration", "duration_s", type=click.FloatRange(min=0), help="Seconds every image takes, exactly.")
@click.option("--seed", type=int, help="Makes every random choice repeatable.")
@click.option("--only-route", type=click.Choice(["guide", "service"]), help="Switch the other route off.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[,NAME=VALUE...]",
    help="A fault for the next request, such as drop_after,on=create or status,on=poll,status=429,retry_after=2. "
    "With rate=0.1 it hits one request in ten instead. May be given several times.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help='Any other option, such as error_shape=html, poll_paths=["v1_tasks"] or callback_forgery=unsigned. '
    "May be given several times.",
)
def sandbox(
    port: int,
    speed: float | None,
    duration_s: float | None,
    seed: int | None,
    only_route: str | None,
    faults: Sequence[str],
    changes: Sequence[str],
) -> int:
    """Serve a mock of RunAPI on 127.0.0.1 and print its address. Ctrl-C ends it.

    Any key that starts with "sk-" is good. Words in a prompt steer its task: [fail] fails, [moderated] is
    refused, [slow] takes two minutes.
    """
    package = sandbox_package()
    wanted: dict[str, Any] = {"speed": speed, "duration_s": duration_s, "seed": seed}
    if only_route is not None:
        wanted["service_route" if only_route == "guide" else "guide_route"] = False
    try:
        wanted.update(_pair(change) for change in changes)
        options = package.SandboxOptions().changed({name: value for name, value in wanted.items() if value is not None})
        scripted, rates = _faults(faults, package.Fault.from_json)
    except ValueError as exc:
        raise click.UsageError(str(exc), click.get_current_context()) from exc
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with package.running_sandbox(options, port=port) as (base_url, service):
            service.faults.queue(*scripted)
            service.faults.set_rates([package.FaultRate(rate=rate, fault=fault) for rate, fault in rates], seed=seed)
            write_line(base_url)
            note(f"in another terminal: export RUNAPI_BASE_URL={base_url} RUNAPI_API_KEY={EXAMPLE_KEY}")
            note(f"for webhooks: export FLUX2_TOOL_CALLBACK_SECRET={service.callback_secret}")
            note(f"ledger: {base_url}/_sandbox/ledger   end: Ctrl-C")
            note_unwritten_output()
            while not stop.wait(3600):
                pass  # pragma: no cover - once an hour
    except OSError as exc:
        raise ConfigurationError(f"the sandbox cannot listen on port {port}: {exc.strerror or exc}") from exc
    return 0


def _faults(texts: Sequence[str], from_json: Callable[[dict[str, Any]], Any]) -> tuple[list[Any], list[Any]]:
    scripted, rates = [], []
    for text in texts:
        kind, *pairs = text.split(",")
        fields = dict(_pair(pair) for pair in pairs)
        rate = fields.pop("rate", None)
        fault = from_json({"kind": kind.strip(), **fields})
        if rate is None:
            scripted.append(fault)
        elif isinstance(rate, int | float) and 0 <= rate <= 1:
            rates.append((float(rate), fault))
        else:
            raise ValueError(f"the rate of {kind} must be from 0 to 1")
    return scripted, rates


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f'"{text}" is not NAME=VALUE')
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value
