"""The process that decodes pictures: a server that forks once for each of them. Started by `decoder.py`.

Stdin is a socket. A request is a line of JSON with two descriptors, the picture's file and where its clean copy goes;
the reply is a line of JSON. One without descriptors asks the server to stay for the next picture. The forked process
has limits on CPU time, memory and output, and nothing of the picture outlives it. The server only waits, so it always
notices that the other side has gone: it then ends its whole process group at once, whatever is being decoded, and so
does whoever kills the group.

    request  {"task": "check" | "look" | "copy" | "clean" | "thumbnail", "granted_bytes", "most_bytes", "cpu_s",
              "output_bytes", "watched"}
    reply    {"picture": {…}}             done
             {"refused": "text", …}       no picture as it must be; the text completes "it …"
             {"needs_bytes": N, "used_cpu_s": S}
                                          nothing was decoded: it takes more memory than was granted
             {"over": "cpu" | "memory"}   it was stopped at a limit; of memory with "used_cpu_s" as well
             {"crashed": "SIGSEGV"}       the decoder died

Linux enforces the memory limit (RLIMIT_AS). macOS does not: there the server watches the fork's resident memory and
kills it. Sources: setrlimit(2), unix(7).
"""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import io
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

from flux2_tool._platform import go_first_without_memory, limit_own_memory, resident_bytes
from flux2_tool.images.convert import can_decode
from flux2_tool.images.decode_memory import memory_for
from flux2_tool.images.errors import PictureError
from flux2_tool.images.file_kinds import HEAD_BYTES, kind_of
from flux2_tool.images.inspect import SUFFIXES, Picture, read_picture, source_picture, undecoded_picture
from flux2_tool.images.parts import CannotCutError
from flux2_tool.images.png import MAX_CHUNKS, has_too_many_chunks
from flux2_tool.images.thumbnail import thumbnail_of

MAX_MESSAGE_BYTES: Final = 4096
# The part of the CPU time after which a picture is no longer cut: the rest is enough to encode it again.
CUTTING_SHARE: Final = 0.6
WATCH_EVERY_MS: Final = 10
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
_BLOCK_BYTES: Final = 1024 * 1024


# ---- the server ------------------------------------------------------------------------------------------------------


def serve(channel: socket.socket, *, idle_s: float) -> None:  # pragma: no cover - started without coverage, for speed
    """Answer one request after another until the other side closes the channel or asks nothing for a while.

    Args:
        channel: A Unix stream socket.
        idle_s: How long to wait for the next request, in seconds.
    """
    # Where it is ignored, as some supervisors leave it, no status of a fork can be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _preload()
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    while waiting.poll(idle_s * 1000):
        request, descriptors = _received(channel)
        if not request:
            return
        try:
            if descriptors:
                _load_decoder_for(descriptors)
                reply = _in_a_fork(channel, json.loads(request), descriptors)
            else:
                reply = {}
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        with contextlib.suppress(BrokenPipeError):
            channel.sendall(json.dumps(reply).encode("ascii") + b"\n")


def _preload() -> None:  # pragma: no cover - as `serve`
    """Load the decoders, which every fork then shares."""
    from PIL import Image

    for name in SUFFIXES:
        with contextlib.suppress(Exception):  # a missing decoder is told by the picture that needs it
            Image.open(io.BytesIO(b""), formats=(name,))
    gc.collect()
    gc.freeze()


def _load_decoder_for(descriptors: Sequence[int]) -> None:  # pragma: no cover - as `serve`
    """Load a rarely needed decoder before the fork, whose memory is limited."""
    with contextlib.suppress(OSError, ImportError):
        kind = kind_of(os.pread(descriptors[0], HEAD_BYTES, 0))
        if kind.use == "converted":
            can_decode(kind.decoder)


def _received(channel: socket.socket) -> tuple[bytes, list[int]]:  # pragma: no cover - as `serve`
    message, descriptors = b"", []
    while not message.endswith(b"\n"):
        more, new, _flags, _address = socket.recv_fds(channel, MAX_MESSAGE_BYTES, 2)
        descriptors += new
        if not more:
            return b"", descriptors
        message += more
    return message, descriptors


def _in_a_fork(  # pragma: no cover - as `serve`
    channel: socket.socket, request: Mapping[str, Any], descriptors: Sequence[int]
) -> dict[str, Any]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            os.dup2(os.open(os.devnull, os.O_RDWR), channel.fileno())
            _limit(request)
            reply = answer(request, *descriptors, while_cutting=partial(cpu_bound, CUTTING_SHARE * request["cpu_s"]))
            os.write(writing, json.dumps(reply).encode("ascii"))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = select.poll()
        told.register(pipe, select.POLLIN)
        told.register(channel, select.POLLIN)
        most_bytes = resident_bytes(pid) + int(request["granted_bytes"]) if request["watched"] else None
        # During a request the other side sends nothing: whatever there is to read is its end.
        if any(descriptor == channel.fileno() for descriptor, _event in _heard(told, pid, most_bytes)):
            os.killpg(0, signal.SIGKILL)
        text = pipe.read(MAX_MESSAGE_BYTES)
    _pid, status, usage = os.wait4(pid, 0)
    reply = outcome(text, status)
    return {**reply, "used_cpu_s": usage.ru_utime + usage.ru_stime} if reply.get("over") == "memory" else reply


def _heard(  # pragma: no cover - as `serve`
    told: select.poll, pid: int, most_bytes: int | None
) -> list[tuple[int, int]]:
    """Wait for an event; meanwhile kill the fork when it uses more memory than it may, if there is such a bound."""
    if most_bytes is None:
        return told.poll()
    while not (events := told.poll(WATCH_EVERY_MS)):
        if resident_bytes(pid) > most_bytes:
            os.kill(pid, signal.SIGKILL)
    return events


def outcome(text: bytes, status: int) -> dict[str, Any]:
    """Return the reply of a fork that has ended.

    Args:
        text: What it has written.
        status: As waitpid(2) gives it.
    """
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return {"over": "cpu"}
        # The kernel kills a process when the machine or its container has no memory left.
        return {"over": "memory"} if number == signal.SIGKILL else {"crashed": signal.Signals(number).name}
    try:
        reply = json.loads(text)
    except ValueError:
        return {"over": "memory"}  # not even the reply could be made
    return reply if isinstance(reply, dict) else {"crashed": "an unreadable reply"}


def _limit(request: Mapping[str, Any]) -> None:  # pragma: no cover - as `serve`
    cpu_s, granted_bytes = int(request["cpu_s"]), int(request["granted_bytes"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(request["output_bytes"]),) * 2)
    if not request["watched"]:
        limit_own_memory(granted_bytes)
    go_first_without_memory()


# ---- one picture -----------------------------------------------------------------------------------------------------


class _OutOfTimeError(BaseException):
    """Raised by the timer; no handler of errors on its way may take it for one."""


@contextlib.contextmanager
def cpu_bound(until_s: float) -> Iterator[None]:
    """End the block with CannotCutError when this process has used so much CPU time, in seconds; main thread only."""
    is_running = True

    def end(*_signal: object) -> None:
        if is_running:
            raise _OutOfTimeError

    signal.signal(signal.SIGPROF, end)
    try:
        signal.setitimer(signal.ITIMER_PROF, max(0.001, until_s - time.process_time()))
        yield
    except _OutOfTimeError as exc:
        raise CannotCutError("cutting it takes too long") from exc
    finally:
        is_running = False
        signal.setitimer(signal.ITIMER_PROF, 0)


def answer(
    request: Mapping[str, Any],
    source: int,
    output: int,
    *,
    while_cutting: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> dict[str, Any]:
    """Return the reply about one picture, whose clean copy is then in the output.

    Args:
        request: See above.
        source: The descriptor of its file, read from its beginning.
        output: The descriptor of an empty file.
        while_cutting: Bounds the time for cutting; what takes longer is encoded again.
    """
    try:
        data = _bytes_of(source)
        if request["task"] == "look":
            return {"picture": _facts(undecoded_picture(data), data)}
        if has_too_many_chunks(data):
            raise PictureError(
                f"is a PNG of more than {MAX_CHUNKS:,} parts, and no more are allowed", is_too_large=True
            )
        is_clean = request["task"] == "clean"
        needs_bytes = memory_for(data, is_encoded_again=is_clean, most_bytes=request["most_bytes"])
        if needs_bytes > request["granted_bytes"]:
            return {"needs_bytes": needs_bytes, "used_cpu_s": time.process_time()}
        if request["task"] == "check":
            picture = read_picture(data)
        elif request["task"] == "thumbnail":
            picture = thumbnail_of(data)
        else:
            picture = source_picture(data, keep_metadata=not is_clean, while_cutting=while_cutting)
        if request["task"] != "check":
            _write(output, picture.data)
    except PictureError as exc:
        return (
            {"over": "memory"}
            if _is_for_memory(exc)
            else {
                "refused": str(exc),
                "hint": exc.hint,
                "is_broken": exc.is_broken,
                "is_too_large": exc.is_too_large,
            }
        )
    except MemoryError:
        return {"over": "memory"}
    except OSError as exc:
        return {"refused": f"could not be copied to be checked: {exc.strerror or type(exc).__name__}"}
    return {"picture": _facts(picture, data)}


def _facts(picture: Picture, data: bytes) -> dict[str, Any]:
    source_sha256 = hashlib.sha256(data).hexdigest()
    return {
        "kind": picture.kind,
        "width_px": picture.width_px,
        "height_px": picture.height_px,
        "size_bytes": len(picture.data),
        "sha256": source_sha256 if picture.data is data else hashlib.sha256(picture.data).hexdigest(),
        "md5": base64.b64encode(hashlib.md5(picture.data, usedforsecurity=False).digest()).decode("ascii"),
        "source_sha256": source_sha256,
        "suffix": picture.suffix,
        "came_as": picture.came_as,
        "moves": picture.moves,
    }


def _is_for_memory(error: BaseException) -> bool:
    found: BaseException | None = error
    while found is not None:
        # libwebp's codes 1 and 2 say so in the text of a ValueError. Source: WebPEncodingError.
        if isinstance(found, MemoryError) or str(found).startswith(("encoding error 1", "encoding error 2")):
            return True
        found = found.__cause__ or found.__context__
    return False


def _bytes_of(descriptor: int) -> bytes:
    size_bytes = os.fstat(descriptor).st_size
    if size_bytes > MAX_FILE_BYTES:
        raise PictureError(f"has more than {MAX_FILE_BYTES // 1024 // 1024} MiB")
    data = os.pread(descriptor, size_bytes, 0)
    while len(data) < size_bytes and (more := os.pread(descriptor, size_bytes - len(data), len(data))):
        data += more
    return data


def _write(descriptor: int, data: bytes) -> None:
    at = 0
    while at < len(data):
        at += os.pwrite(descriptor, data[at : at + _BLOCK_BYTES], at)


def main() -> None:  # pragma: no cover - the server process, which kills itself with its group
    """Serve on stdin; the argument is the idle time in seconds."""
    serve(socket.socket(fileno=0), idle_s=float(sys.argv[1]))
    os._exit(0)
