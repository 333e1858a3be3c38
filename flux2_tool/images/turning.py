"""Turn a large picture without holding it twice: a phone's photo of 48 megapixels is nearly 200 MB when it is decoded.

The turned bands wait in a temporary file while the picture as it was is given up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from PIL import Image

# Below this, a picture and the turned one are held side by side.
LARGE_PX: Final = 12_000_000
_BAND_PX: Final = 2_000_000
_MODES: Final = ("L", "RGB", "RGBA", "CMYK")
_SWAPPING: Final = ("TRANSPOSE", "TRANSVERSE", "ROTATE_90", "ROTATE_270")
# A band of rows of the turned picture comes from the other end of the original.
_FROM_THE_END: Final = ("FLIP_TOP_BOTTOM", "ROTATE_180", "ROTATE_90", "TRANSVERSE")


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


def transpose_of(image: Image.Image) -> str | None:
    """Return how to turn a picture upright, by its EXIF orientation; None if it is, or that cannot be read.

    Pillow's own reading also believes XMP and a PNG's text, which viewers do not, and which editors leave in files
    whose pixels they have turned.
    """
    try:
        return _TRANSPOSES.get(_orientation(image))
    except Exception:  # noqa: BLE001 - Pillow raises many types for invalid EXIF data, of which only one tag matters
        return None


def _orientation(image: Image.Image) -> Any:
    from PIL import Image

    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        return tags.get(_ORIENTATION)
    notes = image.info.get("exif")
    # A text of a PNG may have that name, but not that beginning, which Pillow puts before the chunk's content.
    if not isinstance(notes, bytes) or (image.format == "PNG" and not notes.startswith(b"Exif\0\0")):
        return None
    exif = Image.Exif()
    exif.load(notes)
    return exif.get(_ORIENTATION)


def swaps_sides(operation: str | None) -> bool:
    """Return whether one of Pillow's transpose operations makes rows of columns."""
    return operation in _SWAPPING


def turned(image: Image.Image, operation: str, *, large_px: int = LARGE_PX, band_px: int = _BAND_PX) -> Image.Image:
    """Return a picture turned by one of Pillow's transpose operations; a large one's pixels are given up for it.

    Args:
        image: Loaded; not to be used afterwards.
        operation: The name of a member of Pillow's `Transpose`.
        large_px: From how many pixels on it is turned band by band.
        band_px: About how many pixels a band has.
    """
    from PIL import Image

    if image.size[0] * image.size[1] < large_px or image.mode not in _MODES:
        return image.transpose(Image.Transpose[operation])
    mode = image.mode
    size, turned_bands = bands_of(image, operation, band_px=band_px)
    with tempfile.TemporaryFile() as bands:
        for band in turned_bands:
            bands.write(band.tobytes())
        image.close()
        bands.seek(0)
        result = Image.new(mode, size)
        for top, bottom in _rows(size, band_px):
            data = bands.read(size[0] * (bottom - top) * len(mode))
            result.paste(Image.frombytes(mode, (size[0], bottom - top), data), (0, top))
    return result


def bands_of(
    image: Image.Image, operation: str, *, band_px: int, multiple_of: int = 1
) -> tuple[tuple[int, int], Iterator[Image.Image]]:
    """Return the size of a picture turned by one of Pillow's transpose operations, and its bands from top to bottom.

    Args:
        image: Loaded.
        operation: The name of a member of Pillow's `Transpose`.
        band_px: About how many pixels a band has.
        multiple_of: Every band but the last has a multiple of so many rows.
    """
    width_px, height_px = image.size
    size = (height_px, width_px) if operation in _SWAPPING else image.size
    return size, _bands(image, operation, _rows(size, band_px, multiple_of))


def _bands(image: Image.Image, operation: str, rows: Iterable[tuple[int, int]]) -> Iterator[Image.Image]:
    from PIL import Image

    method, (width_px, height_px) = Image.Transpose[operation], image.size
    last_row = width_px if operation in _SWAPPING else height_px
    for top, bottom in rows:
        first, last = (last_row - bottom, last_row - top) if operation in _FROM_THE_END else (top, bottom)
        box = (first, 0, last, height_px) if operation in _SWAPPING else (0, first, width_px, last)
        yield image.crop(box).transpose(method)


def _rows(size: tuple[int, int], band_px: int, multiple_of: int = 1) -> list[tuple[int, int]]:
    """Return the first row of each band and the first after it."""
    step = max(1, band_px // size[0] // multiple_of) * multiple_of
    return [(top, min(size[1], top + step)) for top in range(0, size[1], step)]
