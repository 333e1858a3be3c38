"""Stands for a process that `forked_commands` forks: has its pipes, passes on its signals, and ends as it ends.

`python -I -S relay.py SOCKET ARGUMENT…` takes a hundredth of a second, so it imports as little as it can.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any, NoReturn


def main(path: str, arguments: list[str]) -> NoReturn:
    """Have the process started, and wait for its end."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    socket.send_fds(connection, [b"\n"], [0, 1, 2])
    request = {"arguments": arguments, "folder": os.getcwd(), "environ": dict(os.environ)}  # noqa: PTH109 - it is quick
    connection.sendall(json.dumps(request).encode() + b"\n")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):  # else the host would not see that the process has closed its own
        os.dup2(nothing, number)
    with connection.makefile() as replies:
        pid = int(replies.readline())

        def pass_on(number: int, _frame: Any) -> None:
            os.kill(pid, number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, pass_on)
        code = int(replies.readline() or 1)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
