"""Identify a picture by its content, check its size and completeness, and copy it without metadata.

Pillow decodes; it is imported only when needed. The pixel count is checked before decoding, because a small file can
contain a picture that fills the memory.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flux2_tool.images.encode import encoded_again
from flux2_tool.images.metadata import only_the_picture
from flux2_tool.images.parts import CannotCutError

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

MAX_PIXELS: Final = 64_000_000
SUFFIXES: Final = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif"}
_ORIENTATION: Final = 0x0112  # an EXIF tag
# Pillow's transpose operation for each EXIF orientation.
_TRANSPOSES: Final[dict[Any, str]] = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


class PictureError(Exception):
    """The bytes are not a supported picture. The message completes the sentence "it …"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A complete picture and its bytes."""

    data: bytes
    kind: str
    width_px: int
    height_px: int

    @property
    def suffix(self) -> str:
        """The suffix of its file name, with the dot."""
        return SUFFIXES[self.kind]


def read_picture(data: bytes) -> Picture:
    """Return a picture with its type and size, by its content alone.

    Raises:
        PictureError: It is not a PNG, JPEG, WebP or GIF, is damaged or cut short, or has too many pixels.
    """
    with _opened(data) as (image, kind):
        return Picture(data=data, kind=kind, width_px=image.size[0], height_px=image.size[1])


def without_metadata(
    data: bytes, *, while_cutting: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Picture:
    """Return a picture without metadata such as the GPS position; one without metadata is returned unchanged.

    The rest is cut out of the file, so that the pixels, the frames of an animation and the colours stay the same. It
    is encoded again only to turn a photo upright, because its orientation tag is removed, or where parts break the
    format's rules or would take too long to follow; then only the first frame of an animation is kept.

    Args:
        data: The picture's file.
        while_cutting: Runs around the cutting, and may end it with CannotCutError.

    Raises:
        PictureError: As `read_picture`.
    """
    with _opened(data) as (image, kind):
        size_px, name = image.size, _transpose_of(image)
        if name is not None:
            return _encoded(data, image, kind, name)
    # Pixels are given up before the next step takes memory.
    del image
    try:
        with while_cutting():
            clean = only_the_picture(data, kind)
    except (CannotCutError, MemoryError) as exc:
        logger.debug("a %s picture is encoded again: %s", kind, exc)
    else:
        return Picture(data=clean, kind=kind, width_px=size_px[0], height_px=size_px[1])
    with _opened(data) as (image, kind):
        return _encoded(data, image, kind, None)


def _encoded(data: bytes, image: Image.Image, kind: str, transpose: str | None) -> Picture:
    clean, (width_px, height_px) = encoded_again(data, image, kind, transpose=transpose)
    return Picture(data=clean, kind=kind, width_px=width_px, height_px=height_px)


def _transpose_of(image: Image.Image) -> str | None:
    """Return how to turn a picture upright, by its EXIF orientation; None if it is, or that cannot be read."""
    try:
        return _TRANSPOSES.get(image.getexif().get(_ORIENTATION))
    except Exception:  # noqa: BLE001 - Pillow raises many types for invalid EXIF data, of which only one tag matters
        return None


@contextmanager
def _opened(data: bytes) -> Iterator[tuple[Image.Image, str]]:
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns of many pixels, which are refused below.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=tuple(SUFFIXES)) as image:
                width_px, height_px = image.size
                if width_px * height_px > MAX_PIXELS:
                    raise PictureError(
                        f"has {width_px} x {height_px} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are allowed"
                    )
                image.load()
                # A phone's photo with a second picture after the first is a JPEG to other programs.
                yield image, "JPEG" if image.format == "MPO" else str(image.format)
    except Image.DecompressionBombError as exc:
        raise PictureError(
            f"has far too many pixels; at most {MAX_PIXELS // 1_000_000} megapixels are allowed"
        ) from exc
    except PictureError:
        raise
    except Exception as exc:  # decoders raise many types for invalid data
        raise PictureError("is not a whole PNG, JPEG, WebP or GIF picture by its content") from exc
