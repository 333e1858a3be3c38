"""A chat model that does what a test tells it, over the OpenAI streaming wire that OpenClaw speaks.

OpenClaw posts to `/v1/chat/completions` with `stream: true` and mixes user messages of its own into the
conversation, so a script is found by a marker in the test's message (`[script NAME]`) and its step by the
number of tool results after that message. A turn that a system event began, without a person, follows the script
`SYSTEM_EVENT`, and one that the answer of a subagent began, the script that `answered` names. Every request is kept
for the test to look at. Standard library only.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL_ID = "scripted"
_MARKER = re.compile(r"\[script ([\w-]+)\]")
SYSTEM_EVENT = "system-event"
_EVENT = '"System: ['
_ANSWER = "A background task completed. Use this result"
_INTERNAL = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"


def answered(name: str) -> str:
    """Return the name of the script that follows when the subagent of a script has answered."""
    return f"{name}-answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One step of a script: call this tool with these arguments."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """One step of a script: answer with this text, or with what `text` makes of the tool results so far."""

    text: str | Callable[[Sequence[str]], str]


Step = ToolCall | Say | Callable[[Sequence[str]], ToolCall]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRequest:
    """One request of OpenClaw, as far as tests care."""

    script: str | None
    tools: Mapping[str, Mapping[str, Any]]
    """The offered functions (name, description, parameters) by name."""
    tool_results: tuple[str, ...]
    """The texts of the tool results after the test's message."""
    said: str
    """The newest message of a person, with what OpenClaw says around it."""
    authorization: str
    at: float = field(default_factory=time.time)
    """Seconds since 1970."""


@dataclass(slots=True)
class ScriptedModel:
    """The model's scripts and everything it was asked."""

    base_url: str = ""
    requests: list[SeenRequest] = field(default_factory=list)
    _scripts: dict[str, Sequence[Step]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def unused(self, kind: str) -> str:
        """Return the name of a script that no test has had, whichever modules share this model."""
        return f"{kind}-{next(self._numbers)}"

    def script(self, name: str, steps: Sequence[Step]) -> str:
        """Teach the model what to do when a message carries `[script NAME]`, and return that marker."""
        with self._lock:
            self._scripts[name] = steps
        return f"[script {name}]"

    def seen(self, name: str) -> list[SeenRequest]:
        """Return the requests that belong to the script, oldest first."""
        with self._lock:
            return [request for request in self.requests if request.script == name]

    def tool_results(self, name: str) -> tuple[str, ...]:
        """Return the tool results the model had read by the end of the script."""
        return self.seen(name)[-1].tool_results

    def answer(self, body: Mapping[str, Any], *, authorization: str) -> Step:
        """Record the request and return what the model does next."""
        name, results = _position(body["messages"])
        said = [_text(message["content"]) for message in body["messages"] if message["role"] == "user"]
        tools = {tool["function"]["name"]: tool["function"] for tool in body.get("tools", [])}
        request = SeenRequest(
            script=name, tools=tools, tool_results=results, said="\n".join(said[-2:]), authorization=authorization
        )
        with self._lock:
            self.requests.append(request)
            steps = self._scripts.get(name or "", ())
        if len(results) >= len(steps):
            return Say(text="Nothing is scripted for this.")
        step = steps[len(results)]
        return step if isinstance(step, (ToolCall, Say)) else step(results)


@contextmanager
def running_model() -> Iterator[ScriptedModel]:
    """Serve a scripted model on a free loopback port until the block ends."""
    model = ScriptedModel()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(model))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    model.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _position(messages: Sequence[Mapping[str, Any]]) -> tuple[str | None, tuple[str, ...]]:
    """Return the script named by the newest marked user message, and the tool results after it."""
    is_event = False
    for index in range(len(messages) - 1, -1, -1):
        text = _text(messages[index]["content"])
        if messages[index]["role"] != "user":
            continue
        if text.startswith(_INTERNAL):
            is_event = is_event or _EVENT in text
            continue  # in a group, OpenClaw repeats there what others have said before
        marker = _MARKER.search(text)
        if is_event or marker:
            results = tuple(_text(m["content"]) for m in messages[index:] if m["role"] == "tool")
            if marker is not None and _ANSWER in text:
                return answered(marker.group(1)), results
            return SYSTEM_EVENT if is_event or marker is None else marker.group(1), results
    return None, ()


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def _handler(model: ScriptedModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            step = model.answer(body, authorization=self.headers.get("Authorization", ""))
            payload = "".join(f"data: {chunk}\n\n" for chunk in _chunks(step, body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Keep the test output quiet."""

    return Handler


def _chunks(step: Step, body: Mapping[str, Any]) -> Iterator[str]:
    call_number = sum(1 for message in body["messages"] if message["role"] == "tool")
    if isinstance(step, ToolCall):
        function = {"name": step.tool, "arguments": json.dumps(step.arguments)}
        call = {"index": 0, "id": f"call_{call_number}", "type": "function", "function": function}
        delta: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [call]}
        reason = "tool_calls"
    else:
        assert isinstance(step, Say)
        results = _position(body["messages"])[1]
        text = step.text if isinstance(step.text, str) else step.text(results)
        delta = {"role": "assistant", "content": text}
        reason = "stop"
    head = {"id": f"chatcmpl-{call_number}", "object": "chat.completion.chunk", "created": 0, "model": MODEL_ID}
    yield json.dumps({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    yield json.dumps({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage})
    yield "[DONE]"
