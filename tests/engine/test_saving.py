"""Saving a finished picture: bounded, whole or not at all, from nowhere private, and without the key."""

from __future__ import annotations

import asyncio
import io
import os
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from flux2_tool.engine.wait import CancelToken
from flux2_tool.images.download import MAX_IMAGE_BYTES, DownloadError, SavedImage, check_link, download_image, file_stem
from flux2_tool.runapi.http_client import open_http
from flux2_tool.sandbox import SandboxOptions, running_sandbox
from tests.support.harness import (
    DONE,
    FOX,
    KEY,
    PICTURE_URL,
    Answer,
    MockService,
    SandboxTransport,
    Seen,
    credentials,
    opened_tool,
    run_call,
    scripted,
    settings_at,
)
from tests.support.hosted import hosted
from tests.support.virtual_time import run_virtual


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 48)) -> bytes:
    """Return a small picture with some structure, so that it does not compress to nothing."""
    output = io.BytesIO()
    noise = random.Random(1).randbytes(size[0] * size[1] * 3)  # noqa: S311 - pixels
    Image.frombytes("RGB", size, noise).save(output, kind)
    return output.getvalue()


def answer_of(body: bytes, content_type: str = "image/png") -> httpx.Response:
    """Return an answer with a picture."""
    return httpx.Response(200, content=body, headers={"content-type": content_type})


def save(
    folder: Path,
    transport: MockService,
    url: str = PICTURE_URL,
    *,
    stem: str = "fox",
    loopback_allowed: bool = False,
    times: int = 1,
    **options: Any,
) -> SavedImage:
    """Download over a mock service."""

    async def main() -> SavedImage:
        async with open_http("https://runapi.test", transport=transport) as http:
            for _ in range(times):
                saved = await download_image(http, url, folder, stem, loopback_allowed=loopback_allowed, **options)
            return saved

    return asyncio.run(main())


# ---- what is saved ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "suffix", "content_type", "url"),
    [
        ("PNG", ".png", "image/png", PICTURE_URL),
        ("JPEG", ".jpg", "image/jpeg", PICTURE_URL),
        ("WEBP", ".webp", "application/octet-stream", PICTURE_URL),
        ("GIF", ".gif", "text/html", "https://cdn.example/x.exe"),
        ("PNG", ".png", "image/jpeg", "https://cdn.example/fox.jpg?a=.webp"),
        ("BMP", ".bmp", "image/png", PICTURE_URL),
        ("TIFF", ".tif", "image/png", PICTURE_URL),
    ],
)
def test_a_picture_is_named_after_its_content(
    tmp_path: Path, kind: str, suffix: str, content_type: str, url: str
) -> None:
    """Neither header nor link decides what a file is called on somebody's disk."""
    saved = save(tmp_path / "out", MockService(lambda _: answer_of(picture(kind), content_type)), url)

    assert saved.path == tmp_path / "out" / f"fox{suffix}"
    assert saved.path.read_bytes() == picture(kind)
    assert (saved.width_px, saved.height_px) == (64, 48)
    assert saved.path.stat().st_mode & 0o777 == 0o600


def test_the_same_name_twice_keeps_both_pictures(tmp_path: Path) -> None:
    """A file that somebody has is never overwritten."""
    pictures = [picture(size=(8, 8)), picture(size=(9, 9)), picture(size=(10, 10))]
    transport = MockService(lambda _: answer_of(pictures[len(transport.seen) - 1]))
    save(tmp_path, transport, times=3)

    assert [(tmp_path / name).read_bytes() for name in ("fox.png", "fox-2.png", "fox-3.png")] == pictures
    assert len(list(tmp_path.iterdir())) == 3


def test_the_same_picture_twice_is_one_file(tmp_path: Path) -> None:
    """Fetching an earlier result anew should not fill the folder."""
    transport = MockService(lambda _: answer_of(picture()))
    save(tmp_path, transport, times=3)

    assert [path.name for path in tmp_path.iterdir()] == ["fox.png"]


def test_a_disk_without_second_names_keeps_pictures_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory card or a network share is where many people's pictures are; nothing there is overwritten either."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    pictures = [picture(size=(8, 8)), picture(size=(9, 9)), picture(size=(8, 8))]
    transport = MockService(lambda _: answer_of(pictures[len(transport.seen) - 1]))
    save(tmp_path, transport, times=3)

    assert [path.read_bytes() for path in sorted(tmp_path.iterdir(), reverse=True)] == pictures[:2]


def test_a_disk_that_fails_while_renaming_keeps_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name was reserved by an empty file, which a viewer would take for the picture."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(Path, "replace", fail)

    with pytest.raises(DownloadError, match=r"could not be written to .*: Input/output error"):
        save(tmp_path, MockService(lambda _: answer_of(picture())))

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_is_an_error() -> None:
    """It exists, so that only the writing shows it."""
    with pytest.raises(DownloadError, match="could not be written to /proc/self/task"):
        save(Path("/proc/self/task"), MockService(lambda _: answer_of(picture())))


def test_a_name_that_is_used_a_thousand_times_is_an_error(tmp_path: Path) -> None:
    """Nothing is overwritten, and the search for a name ends."""
    names = ["fox.png", *(f"fox-{number}.png" for number in range(2, 1000))]
    for name in names:
        (tmp_path / name).write_bytes(b"another picture")

    with pytest.raises(DownloadError, match="could not be written"):
        save(tmp_path, MockService(lambda _: answer_of(picture())))

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_name_sorts_by_time_and_cannot_leave_its_folder() -> None:
    """The task id is the service's and the prompt is anybody's."""
    stem = file_stem(at=1_795_392_000.0, slug="a-red-fox", task_id="../../etc/passwd\x00")

    assert stem.startswith("20261123-000000-a-red-fox-")
    assert "/" not in stem
    assert "." not in stem
    assert "\x00" not in stem
    assert file_stem(at=0, slug="x", task_id=None)
    assert len(file_stem(at=0, slug="x", task_id="y" * 256)) < 64


# ---- what is refused -------------------------------------------------------------------------------------------------


def _png_of(width_px: int, height_px: int) -> bytes:
    """Return a small file that claims a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\x00" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"", "empty file", id="nothing"),
        pytest.param(b"<html><body>Sign in</body></html>", "an HTML page", id="a page"),
        pytest.param(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML document", id="XML"),
        pytest.param(
            b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing", id="a script in a picture's clothes"
        ),
        pytest.param(picture()[:-40], "cut short", id="cut PNG"),
        pytest.param(picture("JPEG")[:-400], "cut short", id="cut JPEG"),
        pytest.param(picture("WEBP")[:-40], "cut short", id="cut WebP"),
        pytest.param(picture("GIF")[:-400], "cut short", id="cut GIF"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, "cut short", id="a header alone"),
        pytest.param(picture("TIFF")[:-400], "damaged or cut short", id="cut TIFF"),
        pytest.param(_png_of(30_000, 30_000), "damaged or cut short", id="900 megapixels in a kilobyte"),
        pytest.param(_png_of(9_000, 9_000), "damaged or cut short", id="81 megapixels in a kilobyte"),
        pytest.param(_png_of(2**31 - 1, 2**31 - 1), "damaged or cut short", id="more pixels than memory has bytes"),
    ],
)
def test_what_is_no_whole_picture_is_not_saved(tmp_path: Path, body: bytes, said: str) -> None:
    """A file that is called .png and is none, or that eats the memory when it is opened, is worse than none."""
    with pytest.raises(DownloadError, match=said):
        save(tmp_path, MockService(lambda _: answer_of(body)))

    assert list(tmp_path.iterdir()) == []


def test_no_damage_to_a_picture_gets_further_than_an_error(tmp_path: Path) -> None:
    """Decoders raise all kinds of exceptions; each must become the one that is a warning to the caller."""
    dice = random.Random(2)  # noqa: S311 - damage
    bodies: list[bytes] = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        for _ in range(150):
            body = bytearray(picture(kind, (16, 16)))
            for _ in range(dice.randint(1, 12)):
                body[dice.randrange(len(body))] = dice.randrange(256)
            bodies.append(bytes(body))
    outcomes = {"saved": 0, "refused": 0}
    transport = MockService(lambda _: answer_of(bodies[len(transport.seen) - 1]))

    async def main() -> None:
        async with open_http("https://runapi.test", transport=transport) as http:
            for _ in bodies:
                try:
                    await download_image(http, PICTURE_URL, tmp_path, "fox", loopback_allowed=False)
                except DownloadError:
                    outcomes["refused"] += 1
                else:
                    outcomes["saved"] += 1

    asyncio.run(main())

    assert outcomes["refused"] > 50
    assert sum(outcomes.values()) == len(bodies)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(httpx.Response(403, content=b"<Error/>"), "HTTP 403", id="expired"),
        pytest.param(httpx.Response(404), "HTTP 404", id="gone"),
        pytest.param(httpx.Response(500), "HTTP 500", id="broken"),
        pytest.param(httpx.ReadError("reset"), "did not arrive", id="reset"),
        pytest.param(httpx.ConnectError("refused"), "did not arrive", id="refused"),
        pytest.param(httpx.RemoteProtocolError("cut"), "did not arrive", id="truncated"),
        pytest.param(httpx.DecodingError("gzip"), "did not arrive", id="broken compression"),
    ],
)
def test_a_link_that_does_not_deliver_says_why(tmp_path: Path, answer: Any, said: str) -> None:
    """The warning is all the reader gets."""
    with pytest.raises(DownloadError, match=said):
        save(tmp_path / "new", MockService(lambda _: answer))

    assert list((tmp_path / "new").iterdir()) == []


class _Flood(httpx.AsyncByteStream):
    """Endless bytes; remembers how many were taken."""

    def __init__(self) -> None:
        self.taken = 0

    async def __aiter__(self) -> Any:
        while True:
            self.taken += 1024 * 1024
            yield b"\x00" * 1024 * 1024


def test_an_endless_answer_is_cut_at_the_bound(tmp_path: Path) -> None:
    """Neither memory nor disk may be filled by a link."""
    flood = _Flood()
    with pytest.raises(DownloadError, match="larger than 64 MiB"):
        save(tmp_path, MockService(lambda _: httpx.Response(200, stream=flood)))

    assert flood.taken <= MAX_IMAGE_BYTES + 2 * 1024 * 1024
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_bounded_in_time(tmp_path: Path) -> None:
    """A link that trickles must not hold the answer back for ever."""

    class Trickle(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            while True:
                await asyncio.sleep(0.01)
                yield b"\x00"

    with pytest.raises(DownloadError, match="within"):
        save(tmp_path, MockService(lambda _: httpx.Response(200, stream=Trickle())), timeout_s=0.1)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://cdn.example/fox.png",
        "http://127.0.0.1:8000/fox.png",
        "https://127.0.0.1/fox.png",
        "https://127.8.8.8/fox.png",
        "https://localhost/fox.png",
        "https://localhost./fox.png",
        "https://admin.localhost/fox.png",
        "https://[::1]/fox.png",
        "https://[::]/fox.png",
        "https://0.0.0.0/fox.png",
        "https://10.0.0.1/fox.png",
        "https://172.16.0.1/fox.png",
        "https://192.168.1.1/fox.png",
        "https://100.64.0.1/fox.png",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fe80::1]/fox.png",
        "https://[fd00::1]/fox.png",
        "https://[::ffff:10.0.0.1]/fox.png",
        "https://[::ffff:127.0.0.1]/fox.png",
        "https://2130706433/fox.png",
        "https://0x7f000001/fox.png",
        "https://0177.0.0.1/fox.png",
        "https://127.1/fox.png",
        "https://127。0。0。1/fox.png",
        "https://①②⑦.0.0.1/fox.png",
        "https://%31%32%37.0.0.1/fox.png",
        "https://127.0.0.1\u00ad/fox.png",
        "https://loca\u200blhost/fox.png",
        "https://[::127.0.0.1]/fox.png",
        "https://[::ffff:0:127.0.0.1]/fox.png",
        "https://[64:ff9b::a9fe:a9fe]/fox.png",
        "https://[2002:7f00:1::]/fox.png",
        "https://[fec0::1]/fox.png",
        "https://user:pass@cdn.example/fox.png",
        "file:///etc/passwd",
        "ftp://cdn.example/fox.png",
        "javascript:alert(1)",
        "",
    ],
)
@pytest.mark.parametrize("after_redirect", [False, True])
def test_a_link_into_a_private_network_is_never_followed(tmp_path: Path, url: str, after_redirect: bool) -> None:
    """A hostile answer must not make this machine fetch what only this machine can reach, not by a redirect either."""

    def answer(request: Seen) -> Answer:
        if after_redirect and request.url == PICTURE_URL:
            return httpx.Response(302, headers=[(b"location", url.encode())])
        return answer_of(picture())

    transport = MockService(answer)
    with pytest.raises(DownloadError):
        save(tmp_path, transport, PICTURE_URL if after_redirect else url)

    assert {request.url for request in transport.seen} <= {PICTURE_URL}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://8.8.8.8/fox.png",
        "https://[2606:4700::1111]/fox.png",
        "https://[64:ff9b::808:808]/fox.png",
        "https://[::ffff:8.8.8.8]/fox.png",
        "https://bücher.example/fox.png",
        "https://localhost.example/fox.png",
    ],
)
def test_a_public_host_is_not_taken_for_a_private_one(url: str) -> None:
    """A paid picture must not be kept from its owner; behind NAT64 every IPv4 host looks like the third."""
    check_link(url, loopback_allowed=False)


@pytest.mark.parametrize("location", ["https://[::1", "http://[bad", "https://cdn.example:99999/", "\x7f"])
def test_a_redirect_to_an_unreadable_address_is_an_error_like_any_other(tmp_path: Path, location: str) -> None:
    """A failed download is a warning; a crash would hide a paid picture."""
    transport = MockService(lambda _: httpx.Response(302, headers={"location": location}))

    with pytest.raises(DownloadError, match="redirects to") as caught:
        save(tmp_path, transport)
    assert caught.value.again == "no"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://cdn.example/fox.png", "is not https"),
        ("ftp://cdn.example/fox.png", "is not a plain http(s) URL"),
        ("https://10.0.0.1/fox.png", "leads to a private address"),
        ("https://cdn.example/gone.png", "answered HTTP 404"),
    ],
)
def test_what_is_wrong_behind_a_redirect_is_not_said_of_the_link(tmp_path: Path, target: str, said: str) -> None:
    """Whoever looks at the link finds nothing wrong with it."""
    redirect = httpx.Response(302, headers={"location": target})
    transport = MockService(lambda request: redirect if request.url == PICTURE_URL else httpx.Response(404))

    with pytest.raises(DownloadError, match="redirects to") as caught:
        save(tmp_path, transport)
    assert str(caught.value) == f"the link that its own redirects to {said}"


def test_public_redirects_are_followed_up_to_a_bound(tmp_path: Path) -> None:
    """Storage often redirects once or twice; a circle must end."""
    hops = iter(["https://a.example/1", "/2", "//b.example/3"])
    good = MockService(
        lambda request: (
            answer_of(picture()) if request.path == "/3" else httpx.Response(302, headers={"location": next(hops)})
        )
    )
    circle = MockService(lambda _: httpx.Response(302, headers={"location": PICTURE_URL}))

    assert save(tmp_path, good).width_px == 64
    with pytest.raises(DownloadError, match="redirects"):
        save(tmp_path, circle)
    assert len(circle.seen) <= 7


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/x.png", "http://localhost:1/x.png", "http://[::1]:8/x.png"])
def test_loopback_is_fine_while_the_service_itself_is_on_loopback(url: str) -> None:
    """The sandbox serves its pictures so; nothing else may."""
    check_link(url, loopback_allowed=True)

    with pytest.raises(DownloadError):
        check_link(url, loopback_allowed=False)


def test_a_loopback_service_cannot_open_the_rest_of_the_private_network() -> None:
    """Only loopback is excepted."""
    for url in ("http://10.0.0.1/x.png", "https://192.168.1.1/x.png", "http://cdn.example/x.png"):
        with pytest.raises(DownloadError):
            check_link(url, loopback_allowed=True)


# ---- through the tool ------------------------------------------------------------------------------------------------


def test_the_key_never_goes_to_the_picture(home: Path, tmp_path: Path) -> None:
    """Image hosts are other people's machines."""

    def answer(request: Seen) -> Answer:
        if request.url.startswith("https://cdn.example/"):
            return answer_of(picture())
        return (200, {"task_id": "tsk_abc123"}) if request.method == "POST" else (200, DONE)

    transport = MockService(answer)
    result = run_call(home, transport, output_dir=tmp_path / "out")
    fetched = [request for request in transport.seen if "cdn.example" in request.url]

    assert len(fetched) == 1
    assert "authorization" not in fetched[0].headers
    assert KEY not in repr(fetched[0])
    assert result["images"][0]["width_px"] == 64
    assert Path(result["images"][0]["path"]).read_bytes() == picture()


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(403),
        httpx.ReadError("reset"),
        httpx.Response(302, headers={"location": "http://[bad"}),
        httpx.Response(200, content=b"not a picture"),
    ],
)
def test_a_picture_that_cannot_be_saved_is_a_warning_and_no_failure(home: Path, tmp_path: Path, answer: Any) -> None:
    """It was made and paid for; its link still works."""
    transport = MockService(
        lambda request: (
            answer
            if "cdn.example" in request.url
            else ((200, {"task_id": "tsk_abc123"}) if request.method == "POST" else (200, DONE))
        )
    )
    result = run_call(home, transport, output_dir=tmp_path / "out")

    assert result["task"]["state"] == "completed"
    assert result["images"][0]["url"] == PICTURE_URL
    assert result["images"][0]["path"] is None
    assert result["warnings"][0].startswith("not_saved: ")


@pytest.mark.parametrize("tool", ["text_to_image", "get_image_task"])
def test_a_folder_that_cannot_be_written_costs_nothing(home: Path, tmp_path: Path, tool: str) -> None:
    """A typing error must not cost a picture that then lies nowhere."""
    (tmp_path / "file").write_text("here")
    transport = scripted()
    arguments = FOX if tool == "text_to_image" else {"task_id": "tsk_abc123"}

    error = run_call(home, transport, tool, arguments, output_dir=tmp_path / "file" / "out")["error"]

    assert (error["code"], error["charged"]) == ("invalid_arguments", "no")
    assert str(tmp_path / "file" / "out") in error["message"]
    assert transport.seen == []


def test_a_save_dir_that_cannot_be_written_is_a_warning_and_no_failure(home: Path, tmp_path: Path) -> None:
    """An agent must not stop working because the operator's disk is full."""
    (tmp_path / "file").write_text("here")
    result = run_call(home, scripted(), save_dir=str(tmp_path / "file" / "out"))

    assert result["images"][0]["url"] == PICTURE_URL
    assert result["warnings"][0].startswith("not_saved: ")


def test_the_sandboxs_picture_is_saved_with_its_real_size(home: Path, tmp_path: Path) -> None:
    """The size in the result is the file's, not the request's; over real sockets and in real time."""
    arguments = {"prompt": "A red fox: 雪の中", "aspect_ratio": "16:9"}

    async def main(base_url: str) -> dict[str, Any]:
        tool = hosted(settings_at(home), credentials(base_url=base_url))
        try:
            return await tool.call("text_to_image", arguments, output_dir=tmp_path / "out")
        finally:
            await tool.aclose()

    with running_sandbox(SandboxOptions(duration_s=0.1, seed=1, drawn_images=False)) as (base_url, sandbox):
        result = asyncio.run(main(base_url))
    image = result["images"][0]

    assert result["warnings"] == []
    with Image.open(image["path"]) as opened:
        assert opened.size == (image["width_px"], image["height_px"])
        assert opened.size[0] > opened.size[1]
    assert "a-red-fox-雪の中" in Path(image["path"]).name
    assert sandbox.ledger.authorization_leaks == []


def _slow_picture(delay_s: float) -> SandboxTransport:
    """A service whose pictures take their time to arrive."""
    runapi = SandboxTransport()
    runapi.fault("latency", on="storage", delay_s=delay_s)
    return runapi


@pytest.mark.parametrize(
    ("wait_s", "took_s"),
    [
        (10, 11),
        (0, 7),
        pytest.param(
            200, 201, marks=pytest.mark.transport_only("over sockets the read timeout of 30 s ends each attempt first")
        ),
    ],
)
def test_a_picture_that_does_not_arrive_within_the_wait_is_a_warning(
    home: Path, tmp_path: Path, wait_s: float, took_s: float
) -> None:
    """A host that gives up first loses the result of a paid image; its link is enough."""
    runapi = _slow_picture(300.0)

    async def main() -> tuple[dict[str, Any], float]:
        async with opened_tool(home, runapi, save_dir=str(tmp_path / "album")) as tool:
            result = await tool.call("text_to_image", FOX, wait_s=wait_s)
            if result["task"]["state"] == "processing":
                await asyncio.sleep(6.0 - asyncio.get_running_loop().time())
                result = await tool.call("get_image_task", {"task_id": result["task"]["id"]}, wait_s=wait_s)
            return result, asyncio.get_running_loop().time()

    result, ended_s = run_virtual(main())

    assert result["task"]["state"] == "completed"
    assert result["images"][0]["path"] is None
    assert result["warnings"][0].startswith("not_saved: ")
    assert ended_s == pytest.approx(took_s, abs=0.6)


def test_a_cancel_during_the_download_returns_the_link_at_once(home: Path, tmp_path: Path) -> None:
    """It is made and paid: the link is the answer, not a cancellation."""
    runapi = _slow_picture(300.0)

    async def main() -> tuple[dict[str, Any], float]:
        cancel = CancelToken()
        async with opened_tool(home, runapi, save_dir=str(tmp_path / "album")) as tool:
            call = asyncio.ensure_future(tool.call("text_to_image", FOX, cancel=cancel))
            await asyncio.sleep(9.0)
            cancel.set()
            return await call, asyncio.get_running_loop().time()

    result, ended_s = run_virtual(main())

    assert result["task"]["state"] == "completed"
    assert result["images"][0]["url"]
    assert "stopped" in result["warnings"][0]
    assert ended_s == pytest.approx(9.0, abs=0.1)
    assert list((tmp_path / "album").iterdir()) == []


def test_a_locale_without_the_prompts_letters_gets_an_ascii_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is paid must not depend on LC_ALL."""
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("ascii", "surrogateescape"))

    assert file_stem(at=0.0, slug="雪の中", task_id="tsk_1") == "19700101-000000-image-tsk_1"
    assert file_stem(at=0.0, slug="fox-雪", task_id="tsk_1") == "19700101-000000-fox-tsk_1"


def test_a_name_that_cannot_be_is_refused_before_it_is_paid(
    home: Path, runapi: SandboxTransport, tmp_path: Path
) -> None:
    found = run_call(home, runapi, output_dir=tmp_path / "half \ud83d a name")

    assert (found["error"]["code"], found["error"]["charged"]) == ("invalid_arguments", "no")
    assert "no file can have such a name" in found["error"]["message"]
    assert runapi.billed == 0
