"""A mock service as somebody would write it from the vendor's guide alone: thirty lines, strict about the POST,
and with its own idea of where a task's status is and what its fields are called."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool.credentials import resolve_credentials
from tests.support.harness import Answer, MockService, Seen, run_call, settings_at
from tests.support.hosted import hosted

GUIDE_BODY = {
    "model": "flux-2-pro-text-to-image",
    "prompt": "A cyberpunk city at night, neon lights",
    "aspect_ratio": "16:9",
    "output_resolution": "1k",
}
PICTURE = "https://cdn.example/city.png"


class GuideMock:
    """Accepts exactly the guide's request, once; any other POST is a 500."""

    def __init__(self, status_path: str, status_field: str, finished: dict[str, Any], polls: int = 2) -> None:
        self.status_path, self.status_field, self.finished, self.polls = status_path, status_field, finished, polls
        self.creates = 0

    def __call__(self, request: Seen) -> Answer:
        if request.method == "POST":
            expected = request.path == "/v1/text_to_image" and json.loads(request.body) == GUIDE_BODY
            if not expected or self.creates:
                return 500, {"error": "unexpected request"}
            self.creates += 1
            return 200, {"task_id": "tsk_abc123", "status": "pending", "model": GUIDE_BODY["model"]}
        if httpx.URL(request.url).path != self.status_path:
            return 404, {"detail": "Not Found"}
        self.polls -= 1
        if self.polls >= 0:
            return 200, {self.status_field: "processing"}
        return 200, self.finished


@pytest.mark.parametrize(
    "status_path",
    [
        "/v1/text_to_image/tsk_abc123",
        "/v1/tasks/tsk_abc123",
        "/api/v1/flux_2/text_to_image/tsk_abc123",
        "/api/v1/tasks/tsk_abc123",
        "/api/v1/flux_2/tsk_abc123",
    ],
)
@pytest.mark.parametrize(
    ("status_field", "finished"),
    [
        ("status", {"status": "completed", "images": [{"url": PICTURE}]}),
        ("status", {"task_id": "tsk_abc123", "status": "completed", "image_url": PICTURE}),
        ("status", {"status": "succeeded", "output": [PICTURE]}),
        ("status", {"status": "SUCCESS", "result": {"image_url": PICTURE}}),
        ("status", {"status": "success", "data": {"url": PICTURE}}),
        ("status", {"status": "finished", "outputs": [{"url": PICTURE}]}),
        ("state", {"state": "complete", "result": {"images": [PICTURE]}}),
        ("state", {"state": "completed", "url": PICTURE}),
        ("status", {"status": "completed", "image_urls": [PICTURE]}),
        ("status", {"data": {"status": "completed", "output": PICTURE}}),
        ("status", {"code": 0, "message": "ok", "data": {"state": "completed", "images": [{"url": PICTURE}]}}),
    ],
)
def test_a_mock_written_from_the_guide_alone_is_served(
    home: Path, status_path: str, status_field: str, finished: dict[str, Any]
) -> None:
    """The guide is the order: whoever builds to it must be understood, whatever it leaves open."""
    mock = GuideMock(status_path, status_field, finished)
    transport = MockService(mock)
    result = run_call(home, transport, arguments=GUIDE_BODY)

    assert result["task"]["id"] == "tsk_abc123"
    assert result["task"]["state"] == "completed"
    assert [image["url"] for image in result["images"]] == [PICTURE]
    assert result["cost"] == {"usd": 0.05, "basis": "list price"}
    assert mock.creates == len(transport.posts) == 1


def test_the_mocks_failure_is_told(home: Path) -> None:
    """The guide's sad path."""
    mock = GuideMock("/v1/tasks/tsk_abc123", "status", {"status": "failed", "error": "content moderation"})
    error = run_call(home, MockService(mock), arguments=GUIDE_BODY)["error"]

    assert (error["code"], error["charged"], error["task_ref"]) == ("content_refused", "no", None)


class SocketMock(BaseHTTPRequestHandler):
    """The same over a real socket, on the standard library's plain HTTP/1.0 server."""

    creates = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/v1/text_to_image" or body != GUIDE_BODY or SocketMock.creates:
            self._say(500, {"error": "unexpected request"})
            return
        SocketMock.creates += 1
        self._say(200, {"task_id": "tsk_abc123", "status": "pending", "model": body["model"]})

    def do_GET(self) -> None:
        if self.path == "/v1/tasks/tsk_abc123":
            self._say(200, {"status": "completed", "image_url": PICTURE})
        else:
            self._say(404, {"error": "not found"})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Stay silent."""

    def _say(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_a_mock_server_is_reached_with_any_spelling_of_its_address(home: Path, suffix: str) -> None:
    """HTTP/1.0, no lengths, a connection for each request: the simplest server there is."""
    SocketMock.creates = 0

    async def main(base_url: str) -> dict[str, Any]:
        account = resolve_credentials(environ={}, explicit_key="any-key", explicit_base_url=base_url)
        tool = hosted(settings_at(home), account)
        try:
            return await tool.call("text_to_image", GUIDE_BODY, wait_s=60)
        finally:
            await tool.aclose()

    with ThreadingHTTPServer(("127.0.0.1", 0), SocketMock) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # What the next one finds at once, the first one has to look for.
        (home / "routes.json").parent.mkdir(parents=True)
        base_url = f"http://127.0.0.1:{server.server_port}"
        (home / "routes.json").write_text(json.dumps({base_url: {"poll": "/v1/tasks/{id}"}}))
        result = asyncio.run(main(base_url + suffix))
        server.shutdown()

    assert result["task"]["id"] == "tsk_abc123"
    assert result["images"][0]["url"] == PICTURE
    assert SocketMock.creates == 1
