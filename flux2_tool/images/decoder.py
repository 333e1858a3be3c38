"""Decode pictures in a process of their own, with limits, and killed at once when nobody waits any more.

Pillow reads what strangers send, so it never runs in this process: a picture that needs too much CPU time or memory,
or crashes its decoder, is refused by name, and nothing else is harmed. This side talks to `decoder_process.py` from a
thread; pictures and their clean copies pass as descriptors of files, so that this process never holds them.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Literal

from flux2_tool._platform import IS_MEMORY_LIMIT_ENFORCED
from flux2_tool.images.decode_budget import DecodeBudget
from flux2_tool.images.decode_limits import MIB, PRODUCTION, DecodeLimits
from flux2_tool.images.decoder_handle import END_S, DecoderGoneError, DecodingProcess
from flux2_tool.images.errors import PictureError
from flux2_tool.images.open_files import nameless_file, opened

logger = logging.getLogger(__name__)

Task = Literal["check", "look", "copy", "clean", "thumbnail"]

_BLOCK_BYTES: Final = 256 * 1024
# A picture that is there sooner was made long ago, or is a test's.
READY_AFTER_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """What a decoded picture is.

    Attributes:
        kind: PNG, JPEG, WEBP or GIF; or the name of another format, of a file that is kept as it is.
        width_px: 0 with `height_px` for a file that this installation cannot decode.
        size_bytes: Of its file, or of the copy that was made of it; so are the two hashes.
        sha256: In hexadecimal digits.
        md5: In base64.
        source_sha256: Of the file as it was given, in hexadecimal digits.
        suffix: Of its file name, with the dot.
        came_as: What it was converted from, in words; "" if it was not.
        moves: Whether the file as it was given has several frames or pages.
    """

    kind: str
    width_px: int
    height_px: int
    size_bytes: int
    sha256: str
    md5: str
    source_sha256: str
    suffix: str
    came_as: str = ""
    moves: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class PictureCopy:
    """A checked picture's own copy, in a file without a name that is closed with it."""

    facts: PictureFacts
    file: BinaryIO

    async def blocks(self) -> AsyncIterator[bytes]:
        """Return its bytes, block by block; may be called again."""
        at = 0
        while block := await asyncio.to_thread(os.pread, self.file.fileno(), _BLOCK_BYTES, at):
            yield block
            at += len(block)


class Decoder:
    """Decodes pictures in processes of their own; see `shared_decoder`.

    Args:
        limits: What decoding may cost.
        interpreter: The Python that runs the decoding processes, by default this process's.
        watch_memory: Whether a decoding process is watched and killed, because the system does not limit its memory.
    """

    def __init__(
        self,
        limits: DecodeLimits = PRODUCTION,
        *,
        interpreter: str | None = None,
        watch_memory: bool = not IS_MEMORY_LIMIT_ENFORCED,
    ) -> None:
        self._limits = limits
        self._watch_memory = watch_memory
        self._interpreter = sys.executable if interpreter is None else interpreter
        self._begin()

    async def check(self, file: BinaryIO) -> PictureFacts:
        """Decode a file to see that it is a whole picture.

        Raises:
            PictureError: It is none, or not within the limits; the message completes the sentence "it …".
        """
        return await self._decoded("check", file, file)

    async def look(self, file: BinaryIO) -> PictureFacts:
        """See without decoding, as far as that can be told, that a file is a whole picture: for one that is too large.

        Raises:
            PictureError: It is none.
        """
        return await self._decoded("look", file, file)

    async def copy(self, file: BinaryIO, *, keep_metadata: bool) -> PictureCopy:
        """Return the picture of a file as the service may have it, in a file of its own; see `source_picture`.

        Raises:
            PictureError: As `check`, or it cannot be copied.
        """
        return await self._copied("copy" if keep_metadata else "clean", file)

    async def thumbnail(self, file: BinaryIO) -> PictureCopy:
        """Return a small copy of a file's picture for a page, in a file of its own; see `thumbnail.py`.

        Raises:
            PictureError: As `check`, or this installation cannot decode it.
        """
        return await self._copied("thumbnail", file)

    @contextmanager
    def kept_ready(self, *, after_s: float = READY_AFTER_S) -> Iterator[None]:
        """Have a decoding process ready for the picture that the block waits for: starting one takes 0.2 s.

        Args:
            after_s: From when on; what is over sooner starts none.
        """
        is_over = asyncio.Event()
        work = asyncio.ensure_future(self._keep_ready(is_over, after_s))
        self._keeping.add(work)
        work.add_done_callback(self._keeping.discard)
        try:
            yield
        finally:
            # A process that is starting is not stopped: it is needed now.
            is_over.set()

    @property
    def is_ready(self) -> bool:
        """Whether a process waits for a picture."""
        with self._lock:
            return bool(self._idle)

    def close(self) -> None:
        """Kill every decoding process, for instance because this process ends."""
        for child in list(self._children):
            child.kill()
            child.reap()

    def forget(self) -> None:
        """Drop the processes of another process, whose copy this one is after a fork."""
        for child in self._children:
            child.abandon()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._children: set[DecodingProcess] = set()
        self._idle: list[DecodingProcess] = []
        self._keeping: set[asyncio.Future[None]] = set()
        self._ready_until_s = 0.0
        self._budget = DecodeBudget(self._limits.memory_bytes, at_once=self._limits.at_once)

    async def _keep_ready(self, is_over: asyncio.Event, after_s: float) -> None:
        pause_s = after_s
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), pause_s)
                return
            pause_s = self._limits.idle_s / 2
            with self._lock:
                # One process is enough for all that wait.
                is_ready, now_s = time.monotonic() < self._ready_until_s, time.monotonic()
                self._ready_until_s = self._ready_until_s if is_ready else now_s + 0.9 * pause_s
            if not is_ready:
                with contextlib.suppress(PictureError):  # whoever needs it is told
                    await self._asked({"task": "stay"}, ())

    async def _copied(self, task: Task, file: BinaryIO) -> PictureCopy:
        try:
            output = await opened(nameless_file)
        except OSError as exc:
            raise PictureError(f"could not be copied to be checked: {exc.strerror}") from exc
        try:
            facts = await self._decoded(task, file, output)
        except BaseException:
            output.close()
            raise
        copy = PictureCopy(facts=facts, file=output)
        weakref.finalize(copy, output.close)
        return copy

    async def _decoded(self, task: Task, file: BinaryIO, output: BinaryIO) -> PictureFacts:
        limits = self._limits
        # Reading the file takes its size; the pixels are counted then.
        granted_bytes = limits.first_bytes + os.fstat(file.fileno()).st_size
        used_cpu_s = 0.0
        while True:
            granted_bytes = min(granted_bytes, limits.memory_bytes)
            request = {
                "task": task,
                "granted_bytes": granted_bytes,
                "most_bytes": limits.memory_bytes,
                "cpu_s": max(1, limits.cpu_s - round(used_cpu_s)),
                "output_bytes": limits.output_bytes,
                "watched": self._watch_memory,
            }
            async with self._budget.reserved(granted_bytes):
                reply = await self._asked(request, (file.fileno(), output.fileno()))
            needs_bytes = reply.get("needs_bytes")
            if reply.get("over") == "memory" and granted_bytes < limits.memory_bytes:
                # It took more than its header claims, for instance to be turned: that is no reason to refuse it.
                needs_bytes = limits.memory_bytes
            if needs_bytes is None:
                return _facts_of(reply, limits)
            if needs_bytes > limits.memory_bytes or needs_bytes <= granted_bytes:
                raise _too_much_memory(limits, needs_bytes)
            granted_bytes = needs_bytes
            used_cpu_s += reply.get("used_cpu_s", 0.0)

    async def _asked(self, request: dict[str, Any], descriptors: Sequence[int]) -> dict[str, Any]:
        line = json.dumps(request).encode("ascii") + b"\n"
        while (child := self._taken()) is not None:
            # An idle process may have ended just now; a new one has no such excuse.
            with contextlib.suppress(DecoderGoneError):
                return await self._asked_of(child, line, descriptors)
        child = DecodingProcess(self._interpreter, idle_s=self._limits.idle_s)
        with self._lock:
            self._children.add(child)
        try:
            return await self._asked_of(child, line, descriptors)
        except DecoderGoneError as exc:
            logger.warning("a picture could not be decoded: %s", exc)
            raise PictureError(f"could not be checked: {exc}") from exc

    async def _asked_of(self, child: DecodingProcess, line: bytes, descriptors: Sequence[int]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        try:
            work = loop.run_in_executor(None, child.ask, line, descriptors)
        except RuntimeError as exc:  # no thread can be started
            child.kill()
            raise DecoderGoneError(str(exc)) from exc
        try:
            reply = await asyncio.shield(work)
        except asyncio.CancelledError:
            child.kill()
            # The thread may still hold the descriptors; it ends as soon as the process is dead.
            await asyncio.wait([work], timeout=END_S)
            if work.done() and not work.cancelled():
                work.exception()
            raise
        finally:
            # By then the process has ended if nobody has needed it; this collects its exit status.
            loop.call_later(self._limits.idle_s + END_S, self._collect)
        with self._lock:
            self._idle.append(child)
        return reply

    def _taken(self) -> DecodingProcess | None:
        self._collect()
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _collect(self) -> None:
        with self._lock:
            self._children = {child for child in self._children if not child.has_ended()}
            self._idle = [child for child in self._idle if child in self._children]


def _facts_of(reply: dict[str, Any], limits: DecodeLimits) -> PictureFacts:
    picture, refused, over = reply.get("picture"), reply.get("refused"), reply.get("over")
    if picture is not None:
        try:
            return PictureFacts(**picture)
        except TypeError as exc:
            raise PictureError("could not be checked: the process that decodes it gave an unreadable reply") from exc
    if refused is not None:
        marks = {name: bool(reply.get(name)) for name in ("is_broken", "is_too_large")}
        raise PictureError(str(refused), hint=str(reply.get("hint", "")), **marks)
    if over == "cpu":
        raise PictureError(
            f"needs more than {limits.cpu_s} s of CPU time to decode, and no more are allowed", is_too_large=True
        )
    if over == "memory":
        raise _too_much_memory(limits)
    raise PictureError(f"makes the decoder crash ({reply.get('crashed')})")


def _too_much_memory(limits: DecodeLimits, needs_bytes: int | None = None) -> PictureError:
    most = f"{limits.memory_bytes // MIB} MiB"
    if needs_bytes is None:
        text = f"needs more memory to decode than the {most} that are allowed"
    else:
        text = f"needs about {needs_bytes // MIB} MiB of memory to decode; at most {most} are allowed"
    return PictureError(text, is_too_large=True)


_SHARED: Final = Decoder()
os.register_at_fork(after_in_child=_SHARED.forget)
atexit.register(_SHARED.close)


def shared_decoder() -> Decoder:
    """Return the decoder of this process: its budget bounds every engine's pictures together."""
    return _SHARED
