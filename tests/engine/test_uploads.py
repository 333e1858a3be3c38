"""Bringing source pictures to RunAPI within a call's wait: bounded, stoppable, told, and never to a private address."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool.context import CallContext
from flux2_tool.engine.wait import CancelToken, Progress
from flux2_tool.images.download import DownloadError, download_image
from flux2_tool.runapi.http_client import open_http
from flux2_tool.runapi.uploads import ATTEMPTS, PUT_TIMEOUT_S
from tests.support.harness import (
    CREATED,
    DONE,
    Answer,
    MockService,
    SandboxTransport,
    Seen,
    again,
    credentials,
    opened_tool,
)
from tests.support.pictures import picture
from tests.support.virtual_time import run_virtual

REMIX = {"prompt": "make it blue", "source_image_urls": ["cat.png"]}


@pytest.fixture
def caller(tmp_path: Path) -> CallContext:
    """Somebody with one picture in the workspace."""
    (tmp_path / "cat.png").write_bytes(picture())
    return CallContext(session="s", workspace_dir=tmp_path)


def now_s() -> float:
    """Return the seconds since the play began."""
    return asyncio.get_running_loop().time()


# ---- the call's wait -------------------------------------------------------------------------------------------------


@pytest.mark.transport_only("over sockets the read timeout of 30 s ends the attempt first")
def test_a_slow_upload_outlives_the_wait_and_serves_the_next_call(
    home: Path, runapi: SandboxTransport, caller: CallContext
) -> None:
    """A host that gives up first never learns whether something was paid; here nothing was, and nothing is lost."""
    runapi.fault("latency", on="storage", delay_s=40.0)
    told: list[Progress] = []

    async def main() -> tuple[dict[str, Any], float, int, dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            late = await tool.call("remix_image", REMIX, caller=caller, wait_s=20, on_progress=told.append)
            took_s, creates = now_s(), len(runapi.sandbox.ledger.creates)
            await asyncio.sleep(30)
            return late, took_s, creates, await tool.call("remix_image", REMIX, caller=caller, wait_s=20)

    late, took_s, creates, again = run_virtual(main())

    assert (late["error"]["code"], late["error"]["charged"]) == ("service_unavailable", "no")
    assert "source_image_urls[0] was not uploaded" in late["error"]["message"]
    assert took_s == pytest.approx(20.0, abs=0.1)
    assert creates == 0
    assert [progress.message for progress in told] == ["uploading the picture"] * len(told)
    assert len(told) >= 3
    assert again["task"]["state"] == "completed"
    assert len(runapi.sandbox.ledger.uploads) == 1


def test_an_abort_during_an_upload_is_answered_at_once(
    home: Path, runapi: SandboxTransport, caller: CallContext
) -> None:
    """Somebody pressed stop; nothing was asked for yet."""
    runapi.fault("latency", on="storage", delay_s=300.0)

    async def main() -> tuple[dict[str, Any], float]:
        cancel = CancelToken()
        async with opened_tool(home, runapi) as tool:
            call = asyncio.ensure_future(tool.call("remix_image", REMIX, caller=caller, cancel=cancel))
            await asyncio.sleep(5.0)
            cancel.set()
            return await call, now_s()

    result, took_s = run_virtual(main())

    assert (result["error"]["code"], result["error"]["charged"]) == ("cancelled", "no")
    assert took_s == pytest.approx(5.0, abs=0.1)
    assert runapi.sandbox.ledger.creates == []


@pytest.mark.parametrize("delay_s", [0.0, 5.0])
def test_a_call_that_does_not_wait_still_uploads_and_asks(
    home: Path, runapi: SandboxTransport, caller: CallContext, delay_s: float
) -> None:
    """A wait of nothing means "come back later", not "do not begin"."""
    runapi.fault("latency", on="storage", delay_s=delay_s)
    runapi.fault("latency", on="create", delay_s=5.0)

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            return await tool.call("remix_image", REMIX, caller=caller, wait_s=0)

    assert run_virtual(main())["task"]["state"] == "processing"


def test_closing_the_tool_stops_the_uploads_on_their_way(
    home: Path, runapi: SandboxTransport, caller: CallContext
) -> None:
    """A worker that ends must not hang on a storage that does."""
    runapi.fault("latency", on="storage", delay_s=300.0)

    async def main() -> tuple[float, list[str]]:
        async with opened_tool(home, runapi) as tool:
            await tool.call("remix_image", REMIX, caller=caller, wait_s=10)
        left = [repr(task) for task in asyncio.all_tasks() if "Uploads._upload" in repr(task)]
        return now_s(), left

    took_s, left = run_virtual(main())

    assert took_s == pytest.approx(10.0, abs=0.5)
    assert left == []


def test_eight_earlier_tasks_are_looked_up_at_once(home: Path) -> None:
    """One after the other, a service that is down would hold the answer back for minutes."""

    def answer(request: Seen) -> Answer:
        return (200, CREATED) if request.method == "POST" else httpx.ConnectError("refused")

    transport = MockService(answer)
    sources = [f"task:tsk_{number}" for number in range(8)]

    async def main() -> tuple[dict[str, Any], float]:
        async with opened_tool(home, transport) as tool:
            arguments = {"prompt": "all", "source_image_urls": sources}
            return await tool.call("remix_image", arguments, wait_s=600), now_s()

    result, took_s = run_virtual(main())

    assert (result["error"]["code"], result["error"]["charged"]) == ("service_unavailable", "no")
    assert "tsk_0" in result["error"]["message"]
    assert took_s < 30
    assert transport.posts == []


def test_who_may_not_spend_is_told_so_before_anything_is_uploaded(
    home: Path, runapi: SandboxTransport, caller: CallContext
) -> None:
    """Other people's photos should not leave for nothing."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi, spenders="owner") as tool:
            return await tool.call("remix_image", REMIX, caller=caller)

    assert run_virtual(main())["error"]["code"] == "budget_exceeded"
    assert runapi.sandbox.ledger.uploads == []


# ---- a service that asks to wait -------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["files", "storage"])
@pytest.mark.parametrize("status", [429, 503])
def test_an_upload_is_tried_again_when_the_service_asks_for_it(
    home: Path, runapi: SandboxTransport, caller: CallContext, on: str, status: int
) -> None:
    """Coming back sooner makes it worse, and three tries in three seconds are spent for nothing."""
    runapi.fault("status", on=on, status=status, retry_after=20)

    async def main() -> tuple[dict[str, Any], float]:
        async with opened_tool(home, runapi) as tool:
            return await tool.call("remix_image", REMIX, caller=caller, wait_s=200), now_s()

    result, took_s = run_virtual(main())

    assert result["task"]["state"] == "completed"
    assert 20.0 < took_s < 40.0


def test_a_pause_of_a_minute_is_waited_for(home: Path, runapi: SandboxTransport, caller: CallContext) -> None:
    """Services count by the minute, and so long a pause is still worth it."""
    runapi.fault("status", on="files", status=429, retry_after=60)

    async def main() -> tuple[dict[str, Any], float]:
        async with opened_tool(home, runapi) as tool:
            return await tool.call("remix_image", REMIX, caller=caller, wait_s=200), now_s()

    result, took_s = run_virtual(main())

    assert result["task"]["state"] == "completed"
    assert 60.0 < took_s < 80.0


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param((503, {}), id="an error of the storage"),
        pytest.param(httpx.ReadError("reset"), id="a closed connection"),
        pytest.param(httpx.RemoteProtocolError("cut"), id="a cut response"),
        pytest.param(httpx.ConnectError("refused"), id="no connection"),
    ],
)
def test_an_upload_is_tried_three_times_with_longer_pauses(home: Path, caller: CallContext, trouble: Answer) -> None:
    """Bytes get lost on any way, and sending them again costs nothing; a storage that is down is not besieged."""
    service = UploadService(put=trouble)

    error = remixed(home, service, caller)["error"]
    puts = [request.at_s for request in service.transport.seen if request.method == "PUT"]

    assert (error["code"], error["charged"], error["retryable"]) == ("service_unavailable", "no", True)
    assert "source_image_urls[0]" in error["message"]
    assert [later - earlier for earlier, later in pairwise(puts)] == pytest.approx([1.0, 2.0], abs=0.1)
    assert [request.path for request in service.transport.seen if "remix" in request.path] == []


def test_a_service_that_asks_to_wait_for_long_is_not_waited_for(
    home: Path, runapi: SandboxTransport, caller: CallContext
) -> None:
    """The agent can tell the user; a call that hangs cannot."""
    runapi.fault("status", on="files", status=429, retry_after=3600)

    async def main() -> tuple[dict[str, Any], float]:
        async with opened_tool(home, runapi) as tool:
            return await tool.call("remix_image", REMIX, caller=caller, wait_s=200), now_s()

    result, took_s = run_virtual(main())

    assert (result["error"]["code"], result["error"]["charged"]) == ("rate_limited", "no")
    assert result["error"]["hint"] == "Wait 3600 s, then call again."
    assert took_s < 1.0


@pytest.mark.transport_only("over sockets the read timeout of 30 s ends the attempt first")
def test_a_storage_that_never_answers_is_given_up_and_nothing_was_charged(
    home: Path, runapi: SandboxTransport, caller: CallContext
) -> None:
    """Each attempt has a bound of its own: a call with a long wait must not spend all of it on one connection."""
    runapi.fault("latency", on="storage", delay_s=PUT_TIMEOUT_S + 10, times=ATTEMPTS)

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            return await tool.call("remix_image", REMIX, caller=caller, wait_s=3000)

    error = run_virtual(main())["error"]

    assert (error["code"], error["charged"]) == ("service_unavailable", "no")
    assert "was not uploaded within 120 s" in error["message"]
    assert runapi.sandbox.ledger.creates == []


# ---- what the service says of an upload ------------------------------------------------------------------------------


class UploadService:
    """RunAPI and its storage by hand; each step's response can be changed."""

    def __init__(self, **changed: Any) -> None:
        self.steps: dict[str, Any] = {
            "prepare": (200, {"signed_id": "sgn_1", "upload_url": "https://storage.example/up", "headers": {}}),
            "put": (200, {}),
            "confirm": (200, {"url": "https://files.example/cat.png", "expires_at": None}),
            **changed,
        }
        self.transport = MockService(self._answer)

    def _answer(self, request: Seen) -> Answer:
        if request.method == "PUT":
            return again(self.steps["put"])
        for step in ("prepare", "confirm"):
            if request.path.endswith(f"/{step}"):
                return again(self.steps[step])
        return (200, CREATED if request.method == "POST" else DONE)

    def count(self, step: str) -> int:
        """Return how often a step was asked for."""
        return sum(request.path.endswith(f"/{step}") for request in self.transport.seen)


def remixed(home: Path, service: UploadService, caller: CallContext) -> dict[str, Any]:
    """Make one call with a picture of the caller's own."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, service.transport) as tool:
            return await tool.call("remix_image", REMIX, caller=caller)

    return run_virtual(main())


def prepared(**changed: Any) -> tuple[int, dict[str, Any]]:
    """Return the response to an upload's preparation."""
    return 200, {"signed_id": "sgn_1", "upload_url": "https://storage.example/up", "headers": {}, **changed}


@pytest.mark.parametrize(
    ("step", "response", "said"),
    [
        pytest.param("prepare", prepared(upload_url="http://storage.example/up"), "refused", id="an open connection"),
        pytest.param("prepare", prepared(upload_url="https://10.0.0.1/up"), "private address", id="a private address"),
        pytest.param(
            "prepare", prepared(headers={"Authorization": "x"}), "without usable headers", id="a header of ours"
        ),
        pytest.param(
            "prepare", prepared(headers={"aUTHORIZATION": "x"}), "without usable headers", id="a header in any case"
        ),
        pytest.param("prepare", prepared(headers={"cookie": "x"}), "without usable headers", id="a cookie"),
        pytest.param("prepare", prepared(headers={"Host": "runapi.test"}), "without usable headers", id="another host"),
        pytest.param(
            "prepare", prepared(headers={"Transfer-Encoding": "x"}), "without usable headers", id="an encoding"
        ),
        pytest.param("prepare", prepared(headers={"x-a": "b\r\nHost: c"}), "without usable headers", id="a line break"),
        pytest.param(
            "prepare", prepared(headers={"x-a\n": "b"}), "without usable headers", id="a line break in a name"
        ),
        pytest.param("prepare", prepared(headers={"x-a": "ü"}), "without usable headers", id="other letters"),
        pytest.param("prepare", prepared(headers={"x-ä": "b"}), "without usable headers", id="other letters in a name"),
        pytest.param("prepare", prepared(headers={"x-a": 7}), "without usable headers", id="a number in a header"),
        pytest.param("prepare", prepared(headers=["x"]), "without usable headers", id="headers that are a list"),
        pytest.param("prepare", prepared(signed_id=7), "without a usable signed_id", id="no id"),
        pytest.param("prepare", prepared(upload_url=["x"]), "without a usable upload_url", id="no address"),
        pytest.param("prepare", (200, []), "without a usable signed_id", id="a list"),
        pytest.param(
            "prepare",
            httpx.Response(307, headers={"location": "https://elsewhere.example/"}),
            "redirects the upload elsewhere",
            id="a redirect",
        ),
        pytest.param("put", (403, {}), "refused the upload", id="a refusal of the storage"),
        pytest.param("put", (300, {}), "refused the upload", id="a choice of the storage's"),
        pytest.param(
            "put",
            httpx.Response(307, headers={"location": "https://elsewhere.example/up"}),
            "refused the upload",
            id="a redirect of the storage",
        ),
        pytest.param("confirm", (200, {"url": "nowhere"}), "without a public URL", id="no URL"),
    ],
)
def test_an_upload_that_is_not_as_documented_stops_the_call_unpaid(
    home: Path, caller: CallContext, step: str, response: Answer, said: str
) -> None:
    """A picture of somebody's own must go nowhere else, and an image without it is not what was asked for."""
    service = UploadService(**{step: response})

    error = remixed(home, service, caller)["error"]

    assert (error["code"], error["charged"]) == ("unexpected_answer", "no")
    assert said in error["message"]
    assert [request.path for request in service.transport.seen if "remix" in request.path] == []
    hosts = {httpx.URL(request.url).host for request in service.transport.seen}
    assert hosts <= {"runapi.test", "storage.example"}


def test_a_preparation_without_headers_is_complete(home: Path, caller: CallContext) -> None:
    """A storage may need none."""
    result = remixed(home, UploadService(prepare=prepared(headers=None)), caller)

    assert result["task"]["state"] == "completed"


@pytest.mark.parametrize(
    ("expires_at", "uploads"),
    [
        pytest.param("soon", 1, id="unreadable"),
        pytest.param("9999-12-31T23:59:59Z", 1, id="far away"),
        pytest.param("2026-11-23T00:05:00Z", 2, id="in five minutes"),
    ],
)
def test_an_uploads_url_is_used_again_while_it_lives(
    home: Path, caller: CallContext, expires_at: str, uploads: int
) -> None:
    """A link that expires while RunAPI still waits to fetch it costs an image; of one unknown, an hour is assumed."""
    service = UploadService(confirm=(200, {"url": "https://files.example/cat.png", "expires_at": expires_at}))

    async def main() -> None:
        async with opened_tool(home, service.transport) as tool:
            for prompt in ("blue", "green"):
                await tool.call("remix_image", {**REMIX, "prompt": prompt}, caller=caller)

    run_virtual(main())

    assert service.count("prepare") == uploads


def test_an_uploads_expiry_without_a_zone_is_in_utc(
    home: Path, caller: CallContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the expiry of a finished picture is; in this machine's zone the link would be dead for hours."""
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    confirmed = {"url": "https://files.example/cat.png", "expires_at": "2026-11-23T00:05:00"}
    service = UploadService(confirm=(200, confirmed))

    async def main() -> None:
        async with opened_tool(home, service.transport) as tool:
            for prompt in ("blue", "green"):
                await tool.call("remix_image", {**REMIX, "prompt": prompt}, caller=caller)

    try:
        run_virtual(main())
    finally:
        monkeypatch.undo()
        time.tzset()

    assert service.count("prepare") == 2


@pytest.mark.parametrize("expires_at", [None, "soon", "9999-12-31T23:59:59Z"])
def test_an_uploads_url_is_used_for_an_hour_at_most(home: Path, caller: CallContext, expires_at: str | None) -> None:
    """Whatever a response says: the files of the service are not kept for longer."""
    service = UploadService(confirm=(200, {"url": "https://files.example/cat.png", "expires_at": expires_at}))

    async def main() -> list[int]:
        counts = []
        async with opened_tool(home, service.transport) as tool:
            for number in range(3):
                await tool.call("remix_image", {**REMIX, "prompt": f"colour {number}"}, caller=caller)
                counts.append(service.count("prepare"))
                await asyncio.sleep(40 * 60.0 if number == 0 else 3600.0)
        return counts

    assert run_virtual(main()) == [1, 1, 2]


@pytest.mark.parametrize("step", ["prepare", "confirm"])
@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_refused_upload_is_the_sources_fault(home: Path, caller: CallContext, step: str, status: int) -> None:
    """The agent must choose another picture; "unexpected answer" would have it call again."""
    service = UploadService(**{step: (status, {"error": "no such format"})})

    error = remixed(home, service, caller)["error"]

    assert (error["code"], error["charged"], error["retryable"]) == ("source_refused", "no", False)
    assert "no such format" in error["message"]
    assert service.count(step) == 1


@pytest.mark.parametrize(
    "other", [credentials("sk-another-account-1"), credentials(base_url="https://other.test")], ids=["key", "base URL"]
)
def test_accounts_share_no_upload(home: Path, runapi: SandboxTransport, caller: CallContext, other: Any) -> None:
    """The link of an upload is a capability: it belongs to the account that made it."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            return [
                await tool.call("remix_image", {**REMIX, "prompt": prompt}, caller=caller, credentials=account)
                for prompt, account in (("one", None), ("two", None), ("three", other))
            ]

    results = run_virtual(main())

    assert [result["task"]["state"] for result in results] == ["completed"] * 3
    assert len(runapi.sandbox.ledger.uploads) == 2


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/up.png",
        "https://metadata/up.png",
        "http://127.0.0.1/up.png",
        "x",
        "ftp://files.example/up.png",
        "https://user:word@files.example/up.png",
        "https://files.example/up\n.png",
        None,
        7,
    ],
)
def test_an_upload_that_is_confirmed_at_a_private_address_is_no_source(
    home: Path, caller: CallContext, url: Any
) -> None:
    """It would be sent as the source of a paid image, which could not be fetched."""
    prepared = {"signed_id": "sgn_1", "upload_url": "https://storage.example/up", "headers": {}}

    def answer(request: Seen) -> Answer:
        if request.path.endswith("/prepare"):
            return 200, prepared
        return 200, {"url": url} if request.path.endswith("/confirm") else CREATED

    service = MockService(answer)

    async def main() -> dict[str, Any]:
        async with opened_tool(home, service) as tool:
            return await tool.call("remix_image", REMIX, caller=caller)

    error = run_virtual(main())["error"]

    assert (error["code"], error["charged"]) == ("unexpected_answer", "no")
    assert not [request for request in service.posts if "remix" in request.path]


# ---- where a connection leads ----------------------------------------------------------------------------------------


class Listener:
    """A machine of the private network: takes connections and remembers what they said."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.heard: list[bytes] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(5.0)
                said = connection.recv(1000)
            if said == b"the end":
                return
            self.heard.append(said)

    def close(self) -> None:
        # Connections are accepted in their order: all that was connected before has been heard.
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            last.sendall(b"the end")
        self._thread.join()
        self._socket.close()


@contextmanager
def a_name_that_leads_home(monkeypatch: pytest.MonkeyPatch, *, first: str | None = None) -> Iterator[Listener]:
    """Have `cdn.example` lead to this machine, as a hostile name server would.

    Args:
        first: What it leads to when it is asked for the first time.
    """
    look_up = socket.getaddrinfo
    answers = [] if first is None else [first]

    def hostile(host: Any, *rest: Any, **options: Any) -> Any:
        if host in ("cdn.example", b"cdn.example"):
            host = answers.pop() if answers else "127.0.0.1"
        return look_up(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hostile)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    listener = Listener()
    try:
        yield listener
    finally:
        listener.close()


@pytest.mark.parametrize("first", [None, "203.0.113.9", "8.8.8.8"], ids=["private", "documentation", "rebound"])
@pytest.mark.parametrize("proxy", [None, "http://proxy.example:3128"], ids=["no proxy", "a proxy for other hosts"])
def test_no_byte_goes_to_a_public_name_with_a_private_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str | None, first: str | None
) -> None:
    """The name in the link is anybody's, and so is what it leads to, which may change after it was looked up."""
    with a_name_that_leads_home(monkeypatch, first=first) as listener:
        if proxy is not None:
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            monkeypatch.setenv("NO_PROXY", "cdn.example")

        async def main() -> None:
            async with open_http("https://runapi.test") as http:
                url = f"https://cdn.example:{listener.port}/fox.png"
                await download_image(http, url, tmp_path / "out", "fox", loopback_allowed=False)

        with pytest.raises(DownloadError, match="private address"):
            asyncio.run(main())

    # Only a name that was public a moment ago is connected to at all.
    assert listener.heard == ([b""] if first == "8.8.8.8" else [])


@pytest.mark.transport_only("the bridge answers for every name, so that none leads to an address of its own")
def test_no_picture_is_uploaded_to_a_name_with_a_private_address(
    home: Path, caller: CallContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PUT does more harm inside a network than a GET."""
    with a_name_that_leads_home(monkeypatch) as listener:
        upload = {"signed_id": "sgn_1", "upload_url": f"https://cdn.example:{listener.port}/up", "headers": {}}
        service = MockService(lambda request: (200, upload if request.path.endswith("/prepare") else CREATED))

        class Mixed(httpx.AsyncBaseTransport):
            """RunAPI by hand, everything else over real sockets."""

            def __init__(self) -> None:
                self.network = httpx.AsyncHTTPTransport()

            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                way = service if request.url.host == "runapi.test" else self.network
                return await way.handle_async_request(request)

            async def aclose(self) -> None:
                await self.network.aclose()

        async def main() -> dict[str, Any]:
            async with opened_tool(home, Mixed()) as tool:
                return await tool.call("remix_image", REMIX, caller=caller)

        error = asyncio.run(main())["error"]

    assert (error["code"], error["charged"]) == ("unexpected_answer", "no")
    assert "private address" in error["message"]
    assert listener.heard == []
