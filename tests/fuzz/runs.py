"""Plays one seed: whole calls against hostile answers, or hostile arguments, and judges everything that comes out."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import random as random_module
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator

from flux2_tool._redaction import SecretStr
from flux2_tool.context import CallContext
from flux2_tool.diagnostics.probe import probe
from flux2_tool.exceptions import Flux2Error
from flux2_tool.hosts.worker.json_rpc import INTERNAL_ERROR
from flux2_tool.hosts.worker.server import Worker
from flux2_tool.runapi.balance import read_balance
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.http_client import open_http
from flux2_tool.runapi.price_responses import MAX_PRICE_USD
from flux2_tool.runapi.prices import Prices
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.results import as_object
from tests.fuzz.arguments import RIGHT, HostileArguments
from tests.fuzz.hostile import PIXEL, HostileTransport
from tests.fuzz.leaks import KEY, leaks_below, leaks_in
from tests.fuzz.lines import HostileLines
from tests.support.harness import credentials, settings_at
from tests.support.hosted import HostedEngine, hosted
from tests.support.virtual_time import START_S, VirtualClock, run_virtual

MANIFEST: Final = load_manifest()
RESULT: Final = Draft202012Validator(MANIFEST.tools["text_to_image"].output_schema)
MAX_RESULT_CHARS: Final = 1_000_000
MAX_TEXT_CHARS: Final = 20_000
HTTPS_URL, LOOPBACK_URL = "https://runapi.test", "http://127.0.0.1:9"


@dataclass(slots=True)
class RunResult:
    """What one or more seeds came to."""

    answers: int = 0
    calls: int = 0
    images: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    crashes: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, other: RunResult) -> None:
        """Count another one's in."""
        self.answers += other.answers
        self.calls += other.calls
        self.images += other.images
        for code, count in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + count
        self.crashes += other.crashes
        self.leaks += other.leaks
        self.faults += other.faults

    @property
    def inputs(self) -> int:
        """How many hostile things were given: answers and calls."""
        return self.answers + self.calls

    @property
    def is_clean(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.crashes or self.leaks or self.faults)

    def line(self) -> str:
        """Return the figures."""
        return (
            f"{self.inputs} inputs ({self.answers} answers, {self.calls} calls), {self.images} images returned, "
            f"crashes {len(self.crashes)}, key leaks {len(self.leaks)}, other faults {len(self.faults)}"
        )


def play_answers(seed: int) -> RunResult:
    """Make a few right calls against a service that answers anything."""
    random = random_module.Random(seed)  # noqa: S311 - a fuzzer's
    transport = HostileTransport(random, bent=random.choice([0.15, 0.4, 0.8, 1.0]))
    base_url = random.choice([HTTPS_URL, HTTPS_URL, LOOPBACK_URL])

    async def calls(tool: HostedEngine, folder: Path, played: RunResult) -> None:
        last = "tsk_abc123"
        for _ in range(random.choice([1, 1, 2, 3])):
            name, arguments = _right_call(random, last)
            played.calls += 1
            result = await tool.call(
                name,
                arguments,
                wait_s=random.choice([0.0, 1.0, 20.0, 80.0, 300.0]),
                caller=CallContext(session=random.choice([None, "s1"]), is_owner=True, workspace_dir=folder),
                output_dir=folder / "pictures" if random.random() < 0.5 else None,
            )
            _judge(result, played, seed, base_url)
            last = ((result.get("task") or {}).get("id")) or last
        if random.random() < 0.3:
            await _ask_for_money(random, transport, base_url, folder)
        if random.random() < 0.2:
            raw = await tool.raw_response(last)
            _find_leaks(played, seed, "the raw answer", json.dumps(raw))
        if random.random() < 0.2:
            for result in await tool.resume():
                _judge(result, played, seed, base_url)

    return _play(seed, random, transport, base_url, calls)


def play_arguments(seed: int) -> RunResult:
    """Give a tool anything at all, against a service that is mostly right."""
    random = random_module.Random(seed)  # noqa: S311 - a fuzzer's
    transport = HostileTransport(random, bent=0.05)
    hostile = HostileArguments(random, MANIFEST)

    async def calls(tool: HostedEngine, folder: Path, played: RunResult) -> None:
        for _ in range(12):
            name, arguments = hostile.call()
            played.calls += 1
            caller = CallContext(
                session=random.choice([None, "s1", "\ud800"]),
                is_owner=random.random() < 0.5,
                workspace_dir=random.choice([None, folder, Path("/nowhere")]),
                state_dir=random.choice([None, folder]),
                sandboxed=random.random() < 0.2,
                any_folder=random.random() < 0.2,
            )
            result = await tool.call(name, arguments, wait_s=random.choice([0.0, 5.0]), caller=caller)
            _judge(result, played, seed, HTTPS_URL)

    return _play(seed, random, transport, HTTPS_URL, calls)


def play_lines(seed: int) -> RunResult:
    """Write lines to a worker that no right peer would write; it must answer each request and live on."""
    random = random_module.Random(seed)  # noqa: S311 - a fuzzer's
    hostile = HostileLines(random, MANIFEST)
    sent: list[bytes] = []

    async def write(home: Path, played: RunResult) -> None:
        worker = Worker(sent.append, environ={"HOME": str(home), "FLUX2_TOOL_HOME": str(home / "data")})
        for _ in range(25):
            played.calls += 1
            await worker.receive(hostile.line())
        await asyncio.sleep(1.0)
        await worker.receive(b'{"jsonrpc":"2.0","id":"last","method":"initialize","params":{"host":"native"}}')
        await worker.stop(delivered=True)

    played = RunResult()
    _watched(seed, played, write)
    answers = [json.loads(line) for line in sent]
    if not answers or answers[-1].get("id") != "last":
        played.crashes.append(f"seed {seed}: the worker answers no more")
    for answer in answers:
        code = (answer.get("error") or {}).get("code")
        result = answer.get("result") or {}
        if code == INTERNAL_ERROR or (result.get("error") or {}).get("code") == "internal_error":
            played.crashes.append(f"seed {seed}: {answer}")
    if any(len(line) > MAX_RESULT_CHARS or b"\n" in line[:-1] for line in sent):
        played.faults.append(f"seed {seed}: an answer that is no line of its own")
    return played


def play_probe(seed: int) -> RunResult:
    """Probe a service that answers anything: the transcript is for showing around, so nothing secret may be in it."""
    random = random_module.Random(seed)  # noqa: S311 - a fuzzer's
    transport = HostileTransport(random, bent=random.choice([0.1, 0.4, 1.0]))

    async def main(home: Path, played: RunResult) -> None:
        played.calls += 1
        found = await probe(
            settings_at(home / "data"),
            credentials(KEY, HTTPS_URL),
            MANIFEST,
            now=START_S,
            transport=transport,
            clock=VirtualClock(),
        )
        _judge(as_object(found.outcome), played, seed, HTTPS_URL)
        _find_leaks(played, seed, "the transcript", found.transcript)
        if any(unicodedata.category(letter)[0] == "C" for letter in found.transcript.replace("\n", "")):
            played.faults.append(f"seed {seed}: control characters in the transcript")
        if len(found.transcript) > MAX_RESULT_CHARS:
            played.faults.append(f"seed {seed}: a transcript of {len(found.transcript)} characters")

    played = RunResult()
    _watched(seed, played, main)
    played.answers += transport.answers
    return played


def _right_call(random: random_module.Random, last: str) -> tuple[str, dict[str, Any]]:
    name = random.choice(list(RIGHT))
    arguments = dict(RIGHT[name])
    if name == "remix_image":
        pixel = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
        arguments["source_image_urls"] = random.choice(
            [["https://cdn.example/fox.png"], [pixel], [f"task:{last}"], ["task:last"], [pixel, f"task:{last}"]]
        )
    elif name == "get_image_task":
        arguments = {"task_id": random.choice([last, f"task:{last}", "tsk_never_seen"])}
    return name, arguments


def _play(seed: int, random: random_module.Random, transport: HostileTransport, base_url: str, calls: Any) -> RunResult:
    played = RunResult()
    mode = random.choice(["required", "required", "best_effort", "off"])

    async def main(home: Path, played: RunResult) -> None:
        tool = hosted(
            settings_at(home / "data", journal=mode, tiers=["pro", "flex", "max"]),
            credentials(KEY, base_url),
            host=random.choice(["native", "mcp", "cli"]),
            transport=transport,
            clock=VirtualClock(),
            random=random,
        )
        try:
            await calls(tool, home, played)
            await asyncio.sleep(random.choice([0.0, 30.0, 1200.0]))
        finally:
            await tool.aclose()

    _watched(seed, played, main)
    foreign = transport.keys_sent_to - {base_url}
    played.leaks += [f"seed {seed}: sent to {origin}" for origin in sorted(foreign)]
    played.answers += transport.answers
    return played


def _watched(seed: int, played: RunResult, main: Callable[[Path, RunResult], Coroutine[Any, Any, None]]) -> None:
    """Run on virtual time in a home of its own; look for exceptions, errors in the log, and the key in all it wrote."""
    home = Path(tempfile.mkdtemp(prefix="flux2-fuzz-"))
    try:
        with _logged() as lines:
            try:
                run_virtual(main(home, played))
            except Exception as exc:  # noqa: BLE001 - that is what is looked for
                played.crashes.append(f"seed {seed}: {type(exc).__name__}: {exc}")
        for line in lines:
            _find_leaks(played, seed, "a log line", line)
        played.crashes += [f"seed {seed}: {line[:2000]}" for line in lines if line.startswith(("ERROR", "CRITICAL"))]
        played.leaks += [f"seed {seed}: {where}" for where in leaks_below(home)]
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _ask_for_money(random: random_module.Random, transport: HostileTransport, base_url: str, home: Path) -> None:
    """Ask for a price and for the balance; whatever is answered, a price comes out and no balance is made up."""
    async with open_http(base_url, transport=transport) as http:
        client = RunapiClient(http, base_url=base_url, api_key=SecretStr(KEY), user_agent="fuzz")
        prices = Prices(manifest=MANIFEST, folder=home / "data", clock=VirtualClock())
        try:
            price = await prices.price_of(client, model=random.choice(list(MANIFEST.models)), resolution="1k")
        finally:
            await prices.aclose()
        if price.usd is not None and not 0 < price.usd <= MAX_PRICE_USD:
            raise AssertionError(f"a price of {price.usd}")
        with contextlib.suppress(Flux2Error):
            await read_balance(client)


def _judge(result: Mapping[str, Any], played: RunResult, seed: int, base_url: str) -> None:
    """Judge one result object: its shape, its size, its texts, its links, and that no key stands in it."""
    try:
        text = json.dumps(result, allow_nan=False, ensure_ascii=False)
        # What every host does with it.
        text.encode("utf-8")
    except (ValueError, TypeError, UnicodeEncodeError) as exc:
        played.faults.append(f"seed {seed}: a result that is no JSON: {exc}")
        text = json.dumps(result, default=str)
    _find_leaks(played, seed, "a result", text)
    if len(text) > MAX_RESULT_CHARS:
        played.faults.append(f"seed {seed}: a result of {len(text)} characters")
    for problem in RESULT.iter_errors(result):
        played.faults.append(f"seed {seed}: {list(problem.absolute_path)}: {problem.message[:200]}")
    error = result.get("error")
    if error is not None:
        played.errors[error["code"]] = played.errors.get(error["code"], 0) + 1
        if error["code"] == "internal_error":
            played.crashes.append(f"seed {seed}: {error['message']}")
    for path, words in _texts(result, ""):
        if len(words) > MAX_TEXT_CHARS:
            played.faults.append(f"seed {seed}: {path} has {len(words)} characters")
        # A character that this Python's Unicode does not know yet (Cn) may be a new letter.
        if any(unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs") for character in words):
            played.faults.append(f"seed {seed}: {path} has control characters: {words[:200]!r}")
    for image in result.get("images", []):
        played.images += 1
        scheme = urlsplit(image["url"]).scheme
        if scheme != "https" and not (scheme == "http" and base_url == LOOPBACK_URL):
            played.faults.append(f"seed {seed}: an image at {image['url'][:100]!r} from {base_url}")


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]")


def _find_leaks(played: RunResult, seed: int, where: str, text: str) -> None:
    played.leaks += [f"seed {seed}: {where}: {form}" for form in leaks_in(text.encode("utf-8", "replace"))]


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Catch every log line there is, of every library, with its traceback."""
    lines: list[str] = []
    formatter = logging.Formatter("%(levelname)s %(name)s: %(message)s")

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(formatter.format(record))

    handler, root = Kept(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
