"""Look at a picture: what it is by its content, how large, whole or not, and a copy without its metadata.

Decoding is Pillow's, imported only when a picture is at hand. The pixel count is checked before anything is decoded,
because a small file can hold a picture that fills the memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 64_000_000
SUFFIXES: Final = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif"}
_SAVE_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "PNG": {},
    "JPEG": {"quality": 95},
    "WEBP": {"quality": 95},
    "GIF": {"save_all": True, "comment": b""},
}
# Where Pillow keeps what says where, when, with what or by whom a picture was made.
_METADATA: Final = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif", "photoshop", "comment")


class PictureError(Exception):
    """The bytes are not a picture this package handles. The message completes the sentence "it …"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A whole picture and its bytes."""

    data: bytes
    kind: str
    width_px: int
    height_px: int

    @property
    def suffix(self) -> str:
        """The ending of a file name for it."""
        return SUFFIXES[self.kind]


def read_picture(data: bytes) -> Picture:
    """Return what a picture is, by its content alone.

    Raises:
        PictureError: It is not a PNG, JPEG, WebP or GIF, is damaged or cut short, or has too many pixels.
    """
    with _opened(data) as (image, kind):
        return Picture(data=data, kind=kind, width_px=image.size[0], height_px=image.size[1])


def without_metadata(data: bytes) -> Picture:
    """Return a picture without metadata such as the GPS position; one that has none keeps its very bytes.

    A turned photo is turned upright, because the note that says how it was held goes with the metadata.

    Raises:
        PictureError: As `read_picture`.
    """
    from PIL import ImageOps

    with _opened(data) as (image, kind):
        if not _has_metadata(image):
            return Picture(data=data, kind=kind, width_px=image.size[0], height_px=image.size[1])
        options = dict(_SAVE_OPTIONS[kind])
        clean = image
        if kind != "GIF":
            clean = ImageOps.exif_transpose(image).copy()
            # What Pillow would write along of its own accord; colours and transparency are kept by name.
            clean.info = {}
            options |= {name: image.info[name] for name in ("icc_profile", "transparency") if name in image.info}
        output = io.BytesIO()
        clean.save(output, format=kind, **options)
        return Picture(data=output.getvalue(), kind=kind, width_px=clean.size[0], height_px=clean.size[1])


@contextmanager
def _opened(data: bytes) -> Iterator[tuple[Image.Image, str]]:
    import warnings

    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns of many pixels where we refuse them ourselves.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=tuple(SUFFIXES)) as image:
                width_px, height_px = image.size
                if width_px * height_px > MAX_PIXELS:
                    raise PictureError(
                        f"has {width_px} x {height_px} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are allowed"
                    )
                image.load()
                # A phone's photo with a second picture behind the first is a JPEG to everybody else.
                yield image, "JPEG" if image.format == "MPO" else str(image.format)
    except Image.DecompressionBombError as exc:
        raise PictureError(
            f"has far too many pixels; at most {MAX_PIXELS // 1_000_000} megapixels are allowed"
        ) from exc
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, IndexError) as exc:
        raise PictureError("is not a whole PNG, JPEG, WebP or GIF picture by its content") from exc


def _has_metadata(image: Image.Image) -> bool:
    if any(image.info.get(name) for name in _METADATA) or len(image.getexif()) > 0:
        return True
    if image.format == "MPO" or getattr(image, "text", None):
        return True
    # Older Pillow leaves XMP of a JPEG among the raw application segments.
    return any(name == "APP1" for name, _ in getattr(image, "applist", ()))
