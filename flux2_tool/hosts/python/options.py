"""What one call of the Python API may be given beside the tools' own arguments."""

from __future__ import annotations

import os
from typing import TypedDict

from flux2_tool.engine.wait import OnProgress
from flux2_tool.schema.results import ImageInfo, ToolResult

Source = str | os.PathLike[str] | ToolResult | ImageInfo


class WaitOptions(TypedDict, total=False):
    """How one call waits.

    Attributes:
        wait_s: The longest wait, in seconds; the result's state is "processing" when the image takes longer.
        session: The call's session, instead of the tool's own.
        output_dir: A folder to save the pictures in, "~" for the home folder; checked before anything is sent. A failed
            download is a warning.
        on_progress: Called at every change and every few seconds of the wait, on the event loop's thread.
    """

    wait_s: float | None
    session: str | None
    output_dir: str | os.PathLike[str] | None
    on_progress: OnProgress | None


class ImageOptions(WaitOptions, total=False):
    """How one call makes its images.

    Attributes:
        count: How many pictures, 1 to 4, each a task of its own and charged; by default 1.
        new: Always make, and pay for, a new image, even if an equal call of the session still waits.
        enable_safety_checker: RunAPI's safety checker; pro and flex only.
        callback_url: A public webhook address; its host must be one of the setting `callback_hosts`.
    """

    count: int | None
    new: bool
    enable_safety_checker: bool | None
    callback_url: str | None
