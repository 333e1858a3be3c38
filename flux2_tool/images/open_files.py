"""Files opened on a thread for a call that may stop waiting meanwhile: none stays open by accident."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from typing import BinaryIO, cast


def nameless_file() -> BinaryIO:
    """Return a new temporary file that has no name, for its owner alone, and is gone when it is closed."""
    return cast("BinaryIO", tempfile.TemporaryFile(buffering=0))


async def opened(opening: Callable[[], BinaryIO]) -> BinaryIO:
    """Open a file on a thread, since disks may be slow; when nobody waits for it any more it is closed again."""
    work = asyncio.get_running_loop().run_in_executor(None, opening)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(_close)
        raise


def _close(work: asyncio.Future[BinaryIO]) -> None:
    if not work.cancelled() and work.exception() is None:
        work.result().close()
