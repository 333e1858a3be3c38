"""Pictures are decoded in processes of their own: what a picture may cost, and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import pytest
from PIL import Image

from flux2_tool.context import CallContext
from flux2_tool.images.decode_budget import DecodeBudget
from flux2_tool.images.decode_limits import MIB, PRODUCTION, DecodeLimits
from flux2_tool.images.decode_memory import memory_for
from flux2_tool.images.decoder import Decoder, PictureFacts, shared_decoder
from flux2_tool.images.decoder_handle import DecodingProcess
from flux2_tool.images.decoder_process import answer, cpu_bound, outcome
from flux2_tool.images.download import DownloadError, download_image
from flux2_tool.images.errors import PictureError
from flux2_tool.images.metadata import only_the_picture
from flux2_tool.images.open_files import nameless_file, opened
from flux2_tool.images.parts import CannotCutError
from flux2_tool.images.png import MAX_CHUNKS
from flux2_tool.images.turning import turned
from flux2_tool.runapi.http_client import open_http
from tests.support.environ import base_environ
from tests.support.harness import PICTURE_URL, MockService, SandboxTransport, credentials, scripted, settings_at
from tests.support.hosted import hosted
from tests.support.network import network_of
from tests.support.pictures import picture
from tests.support.processes import decoding, is_running, scan_bomb
from tests.support.virtual_time import VirtualClock, run_virtual
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture(autouse=True)
def _nobody_elses_processes() -> None:
    """Those of tests before end by themselves only after a while."""
    shared_decoder().close()


def png_of(chunks: int) -> bytes:
    """A PNG of so many chunks, most of which say nothing."""
    whole = picture("PNG")
    empty = b"\0\0\0\0prVt" + zlib.crc32(b"prVt").to_bytes(4, "big")
    return whole[:33] + empty * (chunks - 3) + whole[33:]  # beside header, pixels and end


@contextmanager
def file_of(data: bytes) -> Iterator[BinaryIO]:
    """A file with these bytes."""
    with nameless_file() as file:
        file.write(data)
        yield file


@contextmanager
def decoder_with(
    limits: DecodeLimits = PRODUCTION, interpreter: str | None = None, **options: bool
) -> Iterator[Decoder]:
    """A decoder of this test's own, of which nothing is left afterwards."""
    decoder = Decoder(limits, interpreter=interpreter, **options)
    try:
        yield decoder
    finally:
        decoder.close()


def checked(decoder: Decoder, *pictures: bytes) -> list[PictureFacts | str]:
    """Check pictures all at once; a refusal is its text."""

    async def one(data: bytes) -> PictureFacts | str:
        with file_of(data) as file:
            try:
                return await decoder.check(file)
            except PictureError as exc:
                return str(exc)

    async def main() -> list[PictureFacts | str]:
        return list(await asyncio.gather(*(one(data) for data in pictures)))

    return asyncio.run(main())


def webp(width_px: int, height_px: int) -> bytes:
    """Return a WebP of one colour."""
    output = io.BytesIO()
    Image.new("RGB", (width_px, height_px)).save(output, "WEBP", lossless=True)
    return output.getvalue()


def fork_of(decoder_pid: int | None = None) -> Callable[[], bool]:
    """Return whether a decoding process of a process has forked, so that a picture is being decoded."""
    return lambda: len(decoding(decoder_pid)) >= 2


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_a_picture_that_takes_too_much_time_is_killed_and_named() -> None:
    """A few MB of repeated scans would hold a processor for minutes."""
    with decoder_with(DecodeLimits(cpu_s=1)) as decoder:
        [refused, whole] = checked(decoder, scan_bomb(), picture())

        assert refused == "needs more than 1 s of CPU time to decode, and no more are allowed"
        assert isinstance(whole, PictureFacts)


HUNGRY = f"""#!{sys.executable}
import json, socket
channel = socket.socket(fileno=0)
for number in (1, 2, 3):
    request, *_ = socket.recv_fds(channel, 4096, 2)
    asked = json.loads(request)
    reply = {{"needs_bytes": asked["granted_bytes"] + 1, "used_cpu_s": 3.8}}
    channel.sendall(json.dumps(reply if number < 3 else {{"refused": asked["cpu_s"]}}).encode() + b"\\n")
"""


def test_all_attempts_at_a_picture_share_its_time(tmp_path: Path) -> None:
    """Its size is read first, and that alone can take seconds where a file has millions of parts."""
    interpreter = tmp_path / "hungry"
    interpreter.write_text(HUNGRY)
    interpreter.chmod(0o700)

    with decoder_with(DecodeLimits(cpu_s=10), str(interpreter)) as decoder:
        [refused] = checked(decoder, picture())

    assert refused == "2"


def test_cutting_ends_while_there_is_time_left_to_encode_again() -> None:
    """A slow machine must not refuse a picture that it can still write in another way."""

    def cut_for_ever() -> None:
        while True:
            pass

    with pytest.raises(CannotCutError, match="too long"), cpu_bound(time.process_time() + 0.02):
        cut_for_ever()

    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "data_bytes"),
    [
        pytest.param({"progressive": True}, 3_100_000, id="progressive"),
        pytest.param({}, 15_100_000, id="baseline"),
    ],
)
def test_a_long_jpeg_is_not_followed_but_encoded_again(options: dict[str, bool], data_bytes: int) -> None:
    """Its scans are measured before the first of them is followed, which would take longer than a picture may."""
    data = picture("JPEG", (800, 600), **options)
    long = data[:-2] + bytes(data_bytes) + data[-2:]
    assert only_the_picture(data, "JPEG") == data

    with pytest.raises(CannotCutError, match="too long to be followed"):
        only_the_picture(long, "JPEG")
    with decoder_with() as decoder, file_of(long) as file:
        clean = asyncio.run(decoder.copy(file, keep_metadata=False))

        assert (clean.facts.width_px, clean.facts.height_px) == (800, 600)
        assert clean.facts.size_bytes < 2 * len(data)


def test_a_photo_of_a_phone_is_turned_within_the_memory_limit() -> None:
    """48 megapixels are 192 MB when they are decoded: twice would not fit."""
    exif = Image.Exif()
    exif[0x0112] = 6
    output = io.BytesIO()
    Image.new("RGB", (8000, 6000), "teal").save(output, "JPEG", exif=exif)
    with decoder_with() as decoder, file_of(output.getvalue()) as file:
        clean = asyncio.run(decoder.copy(file, keep_metadata=False))

    assert (clean.facts.width_px, clean.facts.height_px) == (6000, 8000)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param("JPEG", {}, id="JPEG"),
        pytest.param("JPEG", {"progressive": True}, id="progressive JPEG"),
        pytest.param("PNG", {"compress_level": 1}, id="PNG"),
        pytest.param("WEBP", {"quality": 60, "method": 0}, id="WebP"),
    ],
)
def test_a_photo_that_is_turned_in_memory_gets_the_memory_for_it(kind: str, options: dict[str, Any]) -> None:
    """Below the size that is turned band by band, two pictures are held: more than the file's header tells."""
    exif = Image.Exif()
    exif[0x0112] = 6
    output = io.BytesIO()
    Image.radial_gradient("L").resize((3900, 2500)).convert("RGB").save(output, kind, exif=exif, **options)
    with decoder_with() as decoder, file_of(output.getvalue()) as file:
        clean = asyncio.run(decoder.copy(file, keep_metadata=False))

    assert (clean.facts.kind, clean.facts.width_px, clean.facts.height_px) == (kind, 2500, 3900)


@pytest.mark.parametrize(
    ("made", "mib"),
    [
        pytest.param(lambda: webp(16383, 3906), "1053", id="WebP"),
        pytest.param(lambda: scan_bomb(8000, 1), "382", id="progressive JPEG"),
    ],
)
def test_a_picture_that_takes_too_much_memory_is_refused_before_it_is_decoded(
    made: Callable[[], bytes], mib: str
) -> None:
    """A model can type a data: URL of three kilobytes that fills a gigabyte."""
    with decoder_with(DecodeLimits(memory_bytes=150 * MIB)) as decoder:
        [refused] = checked(decoder, made())

    assert str(refused).endswith(f"{mib} MiB of memory to decode; at most 150 MiB are allowed")


@pytest.mark.parametrize("watch_memory", [False, True], ids=["of the system", "that its parent watches"])
def test_a_header_that_claims_less_than_there_is_meets_the_limit_of_the_process(watch_memory: bool) -> None:
    """The budget believes the header; the system does not, and on macOS the parent does not."""
    small = webp(64, 64)
    large = bytearray(webp(6000, 6000))
    extended = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + bytes((63, 0, 0, 63, 0, 0))
    liar = b"RIFF" + (len(large) - 8 + len(extended)).to_bytes(4, "little") + b"WEBP" + extended + bytes(large[12:])

    with decoder_with(watch_memory=watch_memory) as decoder:
        [refused, whole] = checked(decoder, liar, small)

    assert isinstance(refused, str)
    assert isinstance(whole, PictureFacts)


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        pytest.param(b"", signal.SIGXCPU, {"over": "cpu"}, id="at the CPU limit"),
        pytest.param(b"", signal.SIGKILL, {"over": "memory"}, id="by the system, which has no memory left"),
        pytest.param(b"", signal.SIGSEGV, {"crashed": "SIGSEGV"}, id="by a fault of the decoder"),
        pytest.param(b"", 0, {"over": "memory"}, id="without a word"),
        pytest.param(b"[]", 0, {"crashed": "an unreadable reply"}, id="with nonsense"),
        pytest.param(b'{"refused": "x"}', 0, {"refused": "x"}, id="normally"),
    ],
)
def test_however_decoding_ends_the_reason_is_named(text: bytes, status: int, said: dict[str, str]) -> None:
    """The refusal is all that the reader gets."""
    assert outcome(text, status) == said


@pytest.mark.parametrize(
    ("data", "pixels", "bytes_per_pixel"),
    [
        pytest.param(picture("PNG", (300, 200)), 60_000, 4, id="PNG"),
        pytest.param(picture("GIF", (300, 200)), 60_000, 4, id="GIF"),
        pytest.param(picture("JPEG", (300, 200)), 60_000, 4, id="JPEG"),
        pytest.param(picture("JPEG", (300, 200), progressive=True), 60_000, 7, id="progressive JPEG"),
        pytest.param(picture("JPEG", (300, 200), progressive=True, subsampling=0), 60_000, 10, id="4:4:4"),
        pytest.param(picture("WEBP", (300, 200)), 60_000, 17, id="WebP"),
        pytest.param(picture("WEBP", (300, 200), lossless=True), 60_000, 17, id="lossless WebP"),
        pytest.param(picture("WEBP", (300, 200), exif=b"Exif\0\0"), 60_000, 17, id="extended WebP"),
        pytest.param(b"no picture", 0, 0, id="no picture"),
    ],
)
def test_the_header_says_what_decoding_takes(data: bytes, pixels: int, bytes_per_pixel: int) -> None:
    """The budget is counted by it, before a pixel exists."""
    needs_bytes = memory_for(data, is_encoded_again=False, most_bytes=PRODUCTION.memory_bytes)

    assert needs_bytes == pixels * bytes_per_pixel + len(data) + PRODUCTION.overhead_bytes


@pytest.mark.parametrize("task", ["check", "copy", "clean"])
@pytest.mark.parametrize(
    ("make", "granted_bytes", "said"),
    [
        pytest.param(picture, PRODUCTION.memory_bytes, "picture", id="a picture"),
        pytest.param(lambda: b"no picture", PRODUCTION.memory_bytes, "refused", id="no picture"),
        pytest.param(lambda: webp(9000, 9000), PRODUCTION.memory_bytes, "refused", id="81 megapixels"),
        pytest.param(picture, 1, "needs_bytes", id="more than was granted"),
        pytest.param(lambda: png_of(MAX_CHUNKS), PRODUCTION.memory_bytes, "picture", id="a PNG of many parts"),
        pytest.param(lambda: png_of(MAX_CHUNKS + 1), PRODUCTION.memory_bytes, "refused", id="a PNG of too many parts"),
    ],
)
def test_a_request_about_one_picture_has_one_kind_of_reply(
    task: str, make: Callable[[], bytes], granted_bytes: int, said: str
) -> None:
    """What is written is exactly what is told."""
    request = {"task": task, "granted_bytes": granted_bytes, "most_bytes": PRODUCTION.memory_bytes}
    with file_of(make()) as source, nameless_file() as output:
        reply = answer(request, source.fileno(), output.fileno())

        assert next(iter(reply)) == said
        written = os.fstat(output.fileno()).st_size
        assert written == (0 if task == "check" or said != "picture" else reply["picture"]["size_bytes"])


# ---- nothing stays behind --------------------------------------------------------------------------------------------


def test_a_call_that_stops_waiting_ends_its_picture_at_once() -> None:
    """A cancelled call must not go on using a processor."""

    async def main(decoder: Decoder) -> None:
        with file_of(scan_bomb()) as file:
            work = asyncio.ensure_future(decoder.check(file))
            await asyncio.to_thread(wait_until, fork_of())
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    with decoder_with() as decoder:
        asyncio.run(main(decoder))

        wait_until(lambda: not decoding())
        assert all(isinstance(one, PictureFacts) for one in checked(decoder, picture(), picture("JPEG")))


_HOST = """
import asyncio, sys
from flux2_tool.images.decoder import shared_decoder
from flux2_tool.images.decoder_handle import DecodingProcess
asyncio.run(shared_decoder().check(open(sys.argv[1], "rb", buffering=0)))
"""


def test_when_the_process_is_killed_its_decoding_processes_end_too(tmp_path: Path) -> None:
    """A gateway kills its worker without a word; a picture must not outlive it."""
    (tmp_path / "bomb.jpg").write_bytes(scan_bomb())
    host = subprocess.Popen([sys.executable, "-c", _HOST, tmp_path / "bomb.jpg"], env=base_environ())
    try:
        wait_until(fork_of(host.pid))
        children = decoding(host.pid)
    finally:
        host.kill()
        host.wait(PATIENCE_S)

    wait_until(lambda: not any(is_running(pid) for pid in children))


def test_a_decoding_process_without_work_ends_by_itself_and_the_next_picture_starts_another() -> None:
    """A gateway runs for weeks and decodes a picture now and then."""
    with decoder_with(DecodeLimits(idle_s=0.05)) as decoder:
        first = checked(decoder, picture())
        wait_until(lambda: not decoding())

        assert checked(decoder, picture()) == first


def test_a_decoding_process_is_ready_for_a_picture_in_the_making() -> None:
    """Starting one takes longer than anything else between a finished picture and the chat."""
    with decoder_with() as decoder, file_of(picture()) as file:

        async def wait_for_a_picture() -> tuple[set[int], set[int]]:
            with decoder.kept_ready(after_s=0), decoder.kept_ready(after_s=0):
                while not decoder.is_ready:  # noqa: ASYNC110 - a process begins, and tells nobody here
                    await asyncio.sleep(0)
                ready = set(decoding())
            await decoder.check(file)
            return ready, set(decoding())

        ready, used = asyncio.run(wait_for_a_picture())

    assert len(ready) == 1
    assert used == ready


def test_a_picture_that_is_there_at_once_starts_no_process() -> None:
    """Most calls that save nothing new are over by then."""

    async def take_it() -> bool:
        with decoder.kept_ready():
            await asyncio.sleep(0)
        return decoder.is_ready

    with decoder_with() as decoder:
        assert not asyncio.run(take_it())
        assert not decoding()


def test_a_process_that_is_asked_to_stay_does_nothing_else() -> None:
    """It ends by itself when nobody has asked anything for a while."""
    process = DecodingProcess(sys.executable, idle_s=10)
    try:
        assert process.ask(b'{"task": "stay"}\n', ()) == {}
        assert process.ask(b'{"task": "stay"}\n', ()) == {}
        assert not process.has_ended()
    finally:
        process.kill()
        process.reap()


def test_a_decoding_process_that_somebody_kills_is_replaced() -> None:
    """Whoever runs out of memory kills what is largest."""
    with decoder_with() as decoder:
        first = checked(decoder, picture())
        for pid in decoding():
            os.kill(pid, signal.SIGKILL)

        assert checked(decoder, picture()) == first


_FORKED = """
import asyncio, os, sys, tempfile
from flux2_tool.images.decoder import shared_decoder
from flux2_tool.images.decoder_handle import DecodingProcess
file = open(sys.argv[1], "rb", buffering=0)
def size(): return asyncio.run(shared_decoder().check(file)).width_px
assert size() == 32
child = os.fork()
if not child:
    os._exit(0 if size() == 32 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert size() == 32
"""


def test_after_a_fork_both_processes_decode_on_their_own(tmp_path: Path) -> None:
    """Two processes that share one decoding process would read each other's replies."""
    (tmp_path / "fox.png").write_bytes(picture())

    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKED, tmp_path / "fox.png"],
        env=base_environ(),
        timeout=PATIENCE_S,
        check=False,
    )

    assert ended.returncode == 0


def test_a_process_that_ignores_its_children_s_ends_decodes_too(tmp_path: Path) -> None:
    """Some supervisors start programs so; what a program ignores, those that it starts ignore as well."""
    (tmp_path / "fox.png").write_bytes(picture())

    ended = subprocess.run(
        [sys.executable, "-c", _HOST, tmp_path / "fox.png"],
        env=base_environ(),
        timeout=PATIENCE_S,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )

    assert ended.returncode == 0


def test_a_decoding_process_gets_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weakness of the decoder must not find the key beside it."""
    monkeypatch.setenv("RUNAPI_API_KEY", "sk-runapi-made-up")
    with decoder_with() as decoder:
        checked(decoder, picture())
        [pid] = decoding()

        environ = Path(f"/proc/{pid}/environ").read_bytes()
        # It closes the picture just after its reply, and whatever it has imported.
        wait_until(lambda: all(name.startswith(("socket:", "/dev/null", "anon_inode:")) for name in open_files_of(pid)))

    assert b"RUNAPI" not in environ
    assert b"HOME=" not in environ


def open_files_of(pid: int) -> set[str]:
    """Return what a process has open; a file that it closes meanwhile is left out."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(link.readlink()))
    return found


def test_a_file_that_nobody_waits_for_any_more_is_closed() -> None:
    """A disk may be slow, and the call over."""
    opening, begun = threading.Event(), threading.Event()
    files: list[BinaryIO] = []

    def slowly() -> BinaryIO:
        begun.set()
        opening.wait(PATIENCE_S)
        files.append(nameless_file())
        return files[0]

    async def main() -> None:
        work = asyncio.ensure_future(opened(slowly))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        opening.set()

    asyncio.run(main())

    assert files[0].closed


# ---- no decoding process ---------------------------------------------------------------------------------------------

NO_PYTHON = "/nonexistent/python"


@pytest.mark.parametrize("interpreter", [NO_PYTHON, "/bin/false", ""])
def test_without_a_decoding_process_a_source_is_refused_with_the_reason(
    home: Path, runapi: SandboxTransport, tmp_path: Path, interpreter: str
) -> None:
    """No picture is sent that was not checked."""
    (tmp_path / "cat.png").write_bytes(picture())

    async def main(decoder: Decoder) -> dict[str, object]:
        account = credentials()
        tool = hosted(settings_at(home), account, transport=network_of(runapi), clock=VirtualClock(), decoder=decoder)
        try:
            arguments = {"prompt": "x", "source_image_urls": [str(tmp_path / "cat.png")]}
            result: dict[str, object] = (
                await tool.call("remix_image", arguments, caller=CallContext(any_folder=True, is_owner=True))
            )["error"]
            return result
        finally:
            await tool.aclose()

    with decoder_with(interpreter=interpreter) as decoder:
        error = run_virtual(main(decoder))

    assert error["code"] == "source_refused"
    assert "could not be checked: the process that decodes it" in str(error["message"])
    assert error["charged"] == "no"


def test_without_a_decoding_process_a_picture_keeps_its_link(home: Path, tmp_path: Path) -> None:
    """It was paid for: an honest warning, and nothing is lost."""

    async def main(decoder: Decoder) -> dict[str, object]:
        service = MockService(
            lambda request: (
                httpx.Response(200, content=picture()) if "cdn" in request.url else scripted().handler(request)
            )
        )
        tool = hosted(settings_at(home), credentials(), transport=service, clock=VirtualClock(), decoder=decoder)
        try:
            return await tool.call("text_to_image", {"prompt": "a fox"}, output_dir=tmp_path / "out")
        finally:
            await tool.aclose()

    with decoder_with(interpreter=NO_PYTHON) as decoder:
        result = run_virtual(main(decoder))

    assert result["images"][0]["url"] == PICTURE_URL  # type: ignore[index]
    assert "not_saved" in str(result["warnings"])
    assert "does not start" in str(result["warnings"])
    assert list((tmp_path / "out").iterdir()) == []


# ---- downloads -------------------------------------------------------------------------------------------------------


def download(folder: Path, response: httpx.Response, **options: float) -> Path:
    """Save what a link answers."""

    async def main() -> Path:
        async with open_http("https://runapi.test", transport=MockService(lambda _: response)) as http:
            saved = await download_image(http, PICTURE_URL, folder, "fox", loopback_allowed=False, **options)
            return saved.path

    return asyncio.run(main())


def test_a_picture_that_decodes_for_longer_than_the_call_waits_is_not_saved(tmp_path: Path) -> None:
    """The wait is the call's whole time: checking counts as much as the download."""
    with pytest.raises(DownloadError, match="could not be checked and written within"):
        download(tmp_path, httpx.Response(200, content=scan_bomb()), timeout_s=0.5)

    assert list(tmp_path.iterdir()) == []
    wait_until(lambda: len(decoding()) <= 1)


class _Sent(httpx.AsyncByteStream):
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self):  # type: ignore[no-untyped-def]
        yield self._data


def _encoded(data: bytes, coding: str) -> httpx.Response:
    return httpx.Response(200, stream=_Sent(data), headers={"content-encoding": coding})


def test_a_picture_that_was_compressed_unasked_is_saved(tmp_path: Path) -> None:
    """Some storage compresses whatever it sends."""
    squeezed = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)

    saved = download(tmp_path, _encoded(squeezed.compress(picture()) + squeezed.flush(), "gzip"))

    assert saved.read_bytes() == picture()


def test_what_comes_behind_a_compressed_picture_is_not_read_to_its_end(tmp_path: Path) -> None:
    """It counts for nothing, so that it could go on for ever."""
    parts_read = []

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield zlib.compress(picture())
            for number in range(100):
                parts_read.append(number)
                yield bytes(MIB)

    answer = httpx.Response(200, stream=Endless(), headers={"content-encoding": "deflate"})

    assert download(tmp_path, answer).read_bytes() == picture()
    assert parts_read == [0]


@pytest.mark.parametrize(
    ("make", "coding", "said"),
    [
        pytest.param(
            lambda: zlib.compress(bytes(80 * MIB)), "deflate", "larger than 64 MiB", id="eighty MiB of nothing"
        ),
        pytest.param(lambda: b"no zlib", "gzip", "compression is broken", id="broken"),
        pytest.param(lambda: zlib.compress(picture())[:-9], "deflate", "compression ends too early", id="not whole"),
        pytest.param(picture, "zstd", "not asked for", id="another encoding"),
    ],
)
def test_what_a_compressed_answer_may_hold_is_bounded(
    tmp_path: Path, make: Callable[[], bytes], coding: str, said: str
) -> None:
    """Eighty kilobytes may be eighty megabytes."""
    with pytest.raises(DownloadError, match=said):
        download(tmp_path, _encoded(make(), coding))

    assert list(tmp_path.iterdir()) == []


# ---- the budget ------------------------------------------------------------------------------------------------------


def in_line(*needs: int, cancelled: int | None = None) -> list[list[int]]:
    """Let pictures of these needs wait for a budget of 10, and return who was admitted together, in order."""

    async def main() -> list[list[int]]:
        budget, steps = DecodeBudget(10, at_once=2), []
        now: dict[asyncio.Event, int] = {}

        async def one(need: int) -> None:
            async with budget.reserved(need):
                over = asyncio.Event()
                now[over] = need
                try:
                    await over.wait()
                finally:
                    del now[over]

        tasks = [asyncio.ensure_future(one(need)) for need in needs]
        await asyncio.sleep(0.01)
        if cancelled is not None:
            tasks[cancelled].cancel()
            await asyncio.sleep(0.01)
        while now:
            steps.append(sorted(now.values()))
            for over in list(now):
                over.set()
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks, return_exceptions=True)
        return steps

    return run_virtual(main())


@pytest.mark.parametrize(
    ("needs", "steps"),
    [
        pytest.param((4, 6), [[4, 6]], id="together within the budget"),
        pytest.param((4, 7), [[4], [7]], id="one after the other beyond it"),
        pytest.param((1, 1, 1), [[1, 1], [1]], id="two at once at most"),
        pytest.param((9, 8, 3, 2), [[9], [2, 3], [8]], id="the smallest first"),
        pytest.param((99,), [[99]], id="more than all of it is all of it"),
    ],
)
def test_the_pictures_of_a_process_share_one_budget(needs: tuple[int, ...], steps: list[list[int]]) -> None:
    """Eight calls at once must not take eight times the memory."""
    assert in_line(*needs) == steps


@pytest.mark.parametrize(
    ("cancelled", "steps"),
    [pytest.param(0, [[7], [8]], id="while it decodes"), pytest.param(1, [[9], [7]], id="while it waits")],
)
def test_a_call_that_stops_gives_its_part_of_the_budget_back(cancelled: int, steps: list[list[int]]) -> None:
    """Else the line would stand still for ever."""
    assert in_line(9, 8, 7, cancelled=cancelled) == steps


def test_the_budget_holds_across_event_loops() -> None:
    """A program may run several loops, each on a thread of its own; memory is one."""
    budget, most, now, lock = DecodeBudget(10, at_once=8), [0], [0], threading.Lock()

    async def one() -> None:
        async with budget.reserved(4):
            with lock:
                now[0] += 4
                most[0] = max(most[0], now[0])
            await asyncio.sleep(0.001)
            with lock:
                now[0] -= 4

    async def main() -> None:
        await asyncio.gather(*(one() for _ in range(10)))

    def run(work: Callable[[], Awaitable[None]]) -> None:
        asyncio.run(work())  # type: ignore[arg-type]

    threads = [threading.Thread(target=run, args=(main,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert (most[0], now[0]) == (8, 0)


# ---- turning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [one.name for one in Image.Transpose])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P"])
def test_a_large_picture_is_turned_as_a_small_one(operation: str, mode: str) -> None:
    """Band by band, because it does not fit into the memory twice."""
    noise = Image.frombytes("L", (37, 23), os.urandom(37 * 23))
    image = noise.convert("RGB").convert(mode) if mode != "P" else noise.convert("P")
    wanted = image.transpose(Image.Transpose[operation])

    found = turned(image.copy(), operation, large_px=1, band_px=100)

    assert (found.size, found.mode, found.tobytes()) == (wanted.size, wanted.mode, wanted.tobytes())
