"""One decoding process, as the process sees it that started it: asked from a thread, killed from anywhere.

It runs `decoder_process.py`, which says what is sent. It is in a session of its own, so that killing its group kills
what it decodes as well, and it ends by itself when the channel closes, for instance because this process was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

END_S: Final = 1.0
"""How long to wait for the end of a process that was killed, in seconds."""

_MAX_REPLY_BYTES: Final = 64 * 1024
# Isolated mode (-I) ignores the environment and the working folder, and -S starts faster; the path comes along instead.
_PROGRAM: Final = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from flux2_tool.images.decoder_process import main
main()
"""


class DecoderGoneError(Exception):
    """The decoding process does not start, or has ended without a reply."""


class DecodingProcess:
    """One decoding process. `ask` blocks a thread; `kill` never blocks and may come from another at any time.

    Args:
        interpreter: The Python that runs it.
        idle_s: How long it lives on without work, in seconds.
    """

    def __init__(self, interpreter: str, *, idle_s: float) -> None:
        self._interpreter = interpreter
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._is_killed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def ask(self, line: bytes, descriptors: Sequence[int]) -> dict[str, Any]:
        """Send a request and return its reply; start the process first if it is new.

        Raises:
            DecoderGoneError: It does not start, has ended, or was killed; nothing of it is left.
        """
        try:
            channel = self._started()
            if descriptors:
                socket.send_fds(channel, [line], list(descriptors))
            else:
                channel.sendall(line)
            reply = b""
            while not reply.endswith(b"\n"):
                if not (more := channel.recv(_MAX_REPLY_BYTES)) or len(reply) > _MAX_REPLY_BYTES:
                    raise DecoderGoneError("the process that decodes it has ended")
                reply += more
            decoded = json.loads(reply)
        except DecoderGoneError:
            self.kill()
            self.reap()
            raise
        except (OSError, ValueError, subprocess.SubprocessError) as exc:
            self.kill()
            self.reap()
            what = exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
            raise DecoderGoneError(f"the process that decodes it does not start or answer ({what})") from exc
        return dict(decoded)

    def has_ended(self) -> bool:
        """Whether it was started and has ended; the system then forgets it too."""
        if self._process is None or self._process.poll() is None:
            return False
        self._close()
        return True

    def kill(self) -> None:
        """Kill it with whatever it decodes."""
        with self._lock:
            self._is_killed = True
            process = self._process
        # Until its status is collected, nothing else can have its number.
        if process is not None and process.returncode is None:
            with contextlib.suppress(OSError):  # it is dead already
                os.killpg(process.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Collect the exit status of a process that was killed, and close the channel."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
        self._close()

    def abandon(self) -> None:
        """Forget a process of another process, whose copy this one is after a fork."""
        if self._process is not None:
            self._process.returncode = 0  # it is not ours to wait for
        self._close()

    def _close(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def _started(self) -> socket.socket:
        if self._is_killed:
            raise DecoderGoneError("the call was stopped")
        if self._channel is None:
            self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            with theirs:
                process = subprocess.Popen(  # noqa: S603 - our own program, without a shell
                    [self._interpreter, "-I", "-S", "-c", _PROGRAM, json.dumps(_module_path()), str(self._idle_s)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env=_environ(),
                    start_new_session=True,
                )
            with self._lock:
                self._process, is_killed = process, self._is_killed
            if is_killed:
                raise DecoderGoneError("the call was stopped")
        return self._channel


def _module_path() -> list[str]:
    """Return where this process finds its modules, without places relative to a working folder."""
    package = str(Path(__file__).resolve().parents[2])
    entries = [entry for entry in sys.path if Path(entry).is_absolute()]
    return entries if package in entries else [*entries, package]


def _environ() -> dict[str, str]:
    """Return the environment of a decoding process: nothing that it does not need, and so no key."""
    names = ("LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: os.environ[name] for name in names if name in os.environ}
