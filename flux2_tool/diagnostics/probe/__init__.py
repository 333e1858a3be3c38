"""Make one picture and record RunAPI's responses, without any secret: a test of the table in `runapi/contract.py`.

The table is untested against the live service; anyone with a key can run this. It costs one image; the rest is free.
In: a key. Out: each row of the table with its verdict, and a transcript.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx

from flux2_tool._clock import Clock, SystemClock, iso_utc
from flux2_tool.credentials import Credentials
from flux2_tool.diagnostics.probe.contract_check import ACTION, MODEL, PRICED_MODELS, Row, poll_templates, rows
from flux2_tool.diagnostics.probe.recorder import RecordingTransport, described, network, without
from flux2_tool.engine.engine import Engine
from flux2_tool.engine.host_profile import LOCAL
from flux2_tool.engine.runtime import Runtime
from flux2_tool.engine.wait import CancelToken, OnProgress
from flux2_tool.exceptions import Flux2Error
from flux2_tool.hosts.outcome import outcome_of
from flux2_tool.runapi import contract
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.http_client import open_http
from flux2_tool.runapi.send_errors import CrossOriginRedirectError, MaybeSentError, NotSentError
from flux2_tool.runapi.services import service_of
from flux2_tool.schema.manifest import Manifest
from flux2_tool.schema.money import cost_text
from flux2_tool.schema.recent import CallResult, one_task
from flux2_tool.schema.results import ToolResult
from flux2_tool.settings import Settings

__all__ = ["MODEL", "RESOLUTION", "ProbeResult", "probe"]

RESOLUTION: Final = "1k"
PROMPT: Final = "a red fox in the snow"
WAIT_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """The call's outcome, the table with its verdicts, and the transcript's text."""

    outcome: ToolResult | Flux2Error
    table: Sequence[Row]
    transcript: str


async def probe(
    settings: Settings,
    credentials: Credentials,
    manifest: Manifest,
    *,
    now: float,
    on_progress: OnProgress | None = None,
    cancel: CancelToken | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
) -> ProbeResult:
    """Make one pro image at 1k through the engine, and every free request of the table.

    Args:
        settings: As for any call; the image is in the journal like every other.
        credentials: The key of the account that pays.
        manifest: This package's.
        now: The wall clock, for the transcript's head.
        on_progress: Called with the wait's progress.
        cancel: Stops the wait.
        transport: Replaces the network, for tests.
        clock: Replaces the machine's clock, for tests.
    """
    recorder = RecordingTransport(transport or network(credentials.base_url))
    engine = Engine(
        settings=settings,
        credentials=lambda: credentials,
        host=LOCAL,
        runtime=Runtime(transport=recorder, clock=clock or SystemClock()),
    )
    key = credentials.api_key.get_secret_value()
    async with open_http(credentials.base_url, transport=recorder) as http:
        client = RunapiClient(
            http,
            base_url=credentials.base_url,
            api_key=credentials.api_key,
            user_agent=f"flux2-tool/{manifest.version}",
        )
        try:
            await _ask_for_prices(client.without_key())
            call = engine.call(
                ACTION,
                {"prompt": PROMPT, "model": MODEL, "output_resolution": RESOLUTION},
                wait_s=WAIT_S,
                new=True,
                on_progress=on_progress,
                cancel=cancel,
            )
            outcome = await outcome_of(_task_of(call))
            task_id = outcome.task_id if isinstance(outcome, Flux2Error) else outcome.task.id
            await _try_every_path(client, task_id)
        finally:
            await engine.aclose()
    table = rows(recorder.exchanges, task_id=task_id)
    lines = _report(outcome, table, version=manifest.version, now=now)
    lines += ["", "## Exchanges", "", "```"]
    lines += [line for one in recorder.exchanges for line in described(one, task_id=task_id, key=key)]
    lines += ["```"]
    transcript = "\n".join(without(line, task_id=task_id, key=key) for line in lines) + "\n"
    return ProbeResult(outcome=outcome, table=table, transcript=transcript)


async def _task_of(call: Awaitable[CallResult]) -> ToolResult:
    return one_task(await call)


def _report(outcome: ToolResult | Flux2Error, table: Sequence[Row], *, version: str, now: float) -> list[str]:
    return [
        f"# Probe of RunAPI by flux2-tool {version}, {iso_utc(now)}",
        "",
        f"{MODEL} at {RESOLUTION}. Names and types only: no key, no signature, no task id. Safe to attach to a report.",
        "",
        _outcome_line(outcome),
        "",
        "## The table of paths, statuses and fields",
        "",
        "| what | the table says | seen | |",
        "| --- | --- | --- | --- |",
        *(f"| {row.what} | {row.expected} | {row.seen.replace('|', '/')} | {row.verdict} |" for row in table),
    ]


async def _ask_for_prices(client: RunapiClient) -> None:
    for model in PRICED_MODELS:
        for service in service_of(model).priced_as:
            asked = {"service": service, "action": ACTION, "model": model}
            await _try(client, "GET", f"{contract.PRICE_SCHEDULES_PATH}?{urlencode(asked)}")
            params = {"prompt": PROMPT, "model": model}
            if model == MODEL:
                params["output_resolution"] = RESOLUTION
            await _try(client, "POST", contract.PRICE_QUOTES_PATH, json.dumps({**asked, "params": params}).encode())


async def _try_every_path(client: RunapiClient, task_id: str | None) -> None:
    """Request the task's status at each of the table's paths, and the balance. All of it is free."""
    if task_id is not None:
        for template in poll_templates():
            await _try(client, "GET", template.format(id=quote(task_id, safe="")))
    await _try(client, "GET", contract.BALANCE_PATH)


async def _try(client: RunapiClient, method: Any, path: str, body: bytes | None = None) -> None:
    try:
        await client.send(method, path, body=body)
    except (NotSentError, MaybeSentError, CrossOriginRedirectError):
        return  # the recorder has it


def _outcome_line(outcome: ToolResult | Flux2Error) -> str:
    if isinstance(outcome, Flux2Error):
        # Not its message, which quotes the service.
        return f"The call failed: {outcome.code}. Charged: {outcome.charged}."
    price = cost_text(outcome.cost.usd, outcome.cost.basis)
    return f"The call ended {outcome.task.state}, {len(outcome.images)} image(s), {price}."
