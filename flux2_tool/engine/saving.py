"""Save a finished image task's pictures and report their paths and sizes.

A picture that cannot be saved is a warning, never a failed result: it exists and its link works.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

import httpx

from flux2_tool.engine.wait import CancelToken, unless_cancelled
from flux2_tool.images.decoder import Decoder
from flux2_tool.images.download import DOWNLOAD_TIMEOUT_S, DownloadError, download_image, file_stem
from flux2_tool.journal import SavedCopy
from flux2_tool.runapi.image_links import ImageLink
from flux2_tool.schema.results import ImageInfo
from flux2_tool.tasks.task import ImageTask

logger = logging.getLogger(__name__)


async def image_infos(
    image_task: ImageTask,
    *,
    http: httpx.AsyncClient,
    folder: Path | None,
    loopback_allowed: bool,
    within_s: float,
    cancel: CancelToken,
    decoder: Decoder,
) -> tuple[list[ImageInfo], list[str]]:
    """Return the pictures' entries, saved first if a folder is given, and warnings.

    Args:
        image_task: Any; one that is not completed has the pictures of its last response, if any.
        http: A client without a key.
        folder: Where to save; None only reports copies saved earlier.
        loopback_allowed: Whether plain http to this machine is fine, as it is for a sandbox.
        within_s: The time left for all downloads, in seconds; a picture that takes longer is not saved.
        cancel: Stops the download.
        decoder: Decodes the pictures.
    """
    copies = dict(enumerate(image_task.saved))
    warnings: list[str] = []
    clock = asyncio.get_running_loop().time
    until_s = clock() + within_s
    if folder is not None and image_task.state == "completed" and image_task.finished_at is not None:
        stem = file_stem(at=image_task.finished_at, slug=image_task.label or "image", task_id=image_task.task_id)
        for index, link in enumerate(_links(image_task)):
            if index in copies and Path(copies[index].path).parent == folder:
                continue
            try:
                saving = download_image(
                    http,
                    link.url,
                    folder,
                    stem,
                    loopback_allowed=loopback_allowed,
                    timeout_s=max(0.0, min(DOWNLOAD_TIMEOUT_S, until_s - clock())),
                    decoder=decoder,
                )
                saved = await unless_cancelled(saving, cancel)
                if saved is None:
                    raise DownloadError("the call was stopped during the download")
            except DownloadError as exc:
                warnings.append(f"not_saved: the picture was made but could not be saved: {exc}")
            except Exception as exc:  # whatever it is, the picture is paid and its link works
                logger.exception("a picture could not be saved because of a defect")
                warnings.append(f"not_saved: the picture was made but could not be saved: {type(exc).__name__}")
            else:
                copies[index] = SavedCopy(path=str(saved.path), width_px=saved.width_px, height_px=saved.height_px)
        if image_task.record_handle is not None and copies:
            image_task.record_handle.saved(list(copies.values()))
    return _infos(image_task, copies), warnings


def _infos(image_task: ImageTask, copies: Mapping[int, SavedCopy]) -> list[ImageInfo]:
    return [
        ImageInfo(
            url=link.url,
            expires_at=image_task.expires_at(link),
            path=copies[index].path if index in copies else None,
            width_px=copies[index].width_px if index in copies else None,
            height_px=copies[index].height_px if index in copies else None,
        )
        for index, link in enumerate(_links(image_task))
    ]


def _links(image_task: ImageTask) -> tuple[ImageLink, ...]:
    response = image_task.final if image_task.state == "completed" else image_task.log.last_response
    return () if response is None else response.images
