"""How much memory decoding a picture takes, by what its file's header claims, before a pixel of it exists."""

from __future__ import annotations

import io
from typing import Any

from flux2_tool.images.convert import can_decode
from flux2_tool.images.decode_limits import (
    BYTES_PER_PIXEL,
    CONVERTED_BYTES_PER_PIXEL,
    JPEG_COEFFICIENT_BYTES,
    MAX_PIXELS,
    PRODUCTION,
    WEBP_BYTES_PER_PIXEL,
)
from flux2_tool.images.errors import PictureError
from flux2_tool.images.file_kinds import kind_of
from flux2_tool.images.turning import LARGE_PX, transpose_of


def memory_for(data: bytes, *, is_encoded_again: bool, most_bytes: int) -> int:
    """Return how many bytes of memory decoding takes, by what the file's header claims.

    Args:
        data: The picture's file.
        is_encoded_again: Whether room is wanted for another file, which may be larger than this one.
        most_bytes: What may be granted. Only a picture that cannot be decoded with it needs more.

    Raises:
        PictureError: The header claims more pixels than are allowed.
    """
    size_px, bytes_per_pixel, turned_bytes_per_pixel = _claim(data)
    if size_px[0] * size_px[1] > MAX_PIXELS:
        raise PictureError(
            f"has {size_px[0]} x {size_px[1]} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are allowed",
            is_too_large=True,
        )
    pixels = size_px[0] * size_px[1]
    least_bytes = int(pixels * bytes_per_pixel) + len(data) + PRODUCTION.overhead_bytes
    again_bytes = int(pixels * turned_bytes_per_pixel) + 2 * len(data) + PRODUCTION.overhead_bytes
    wanted_bytes = least_bytes + (again_bytes if is_encoded_again else 0)
    return max(least_bytes, min(wanted_bytes, most_bytes))


def _claim(data: bytes) -> tuple[tuple[int, int], float, float]:
    """Return the size that a file claims, in pixels, the bytes of memory of each, and those to turn it upright."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size_px(data), WEBP_BYTES_PER_PIXEL, 0.0
    import warnings

    from PIL import Image

    kind = kind_of(data)
    if not kind.decoder or (kind.use == "converted" and not can_decode(kind.decoder)):
        return (0, 0), 0.0, 0.0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels
            with Image.open(io.BytesIO(data), formats=(kind.decoder,)) as image:
                bytes_per_pixel = CONVERTED_BYTES_PER_PIXEL.get(kind.decoder, BYTES_PER_PIXEL)
                coefficients, turned = _coefficients(image), 0.0
                # A baseline JPEG is turned band by band; so is any larger picture.
                is_turned_whole = kind.decoder != "JPEG" or coefficients > 0
                is_turned_whole &= image.size[0] * image.size[1] < LARGE_PX
                if is_turned_whole and transpose_of(image) is not None:
                    turned = BYTES_PER_PIXEL + coefficients
                return image.size, bytes_per_pixel + coefficients, turned
    except Exception:  # noqa: BLE001 - decoders raise many types for invalid data; `read_picture` names the fault
        return (0, 0), 0.0, 0.0


def _coefficients(image: Any) -> float:
    """Return the bytes a pixel of a progressive JPEG's coefficients, 0 for any other picture."""
    if "progressive" not in image.info and "progression" not in image.info:
        return 0.0
    layers = [(int(across), int(down)) for _id, across, down, *_table in getattr(image, "layer", ())] or [(1, 1)] * 4
    most = max(across for across, _down in layers) * max(down for _across, down in layers)
    return JPEG_COEFFICIENT_BYTES * sum(across * down for across, down in layers) / max(1, most)


def _webp_size_px(data: bytes) -> tuple[int, int]:
    """Return a WebP's size: to open one, Pillow already allocates its canvases. Source: the container specification."""
    kind, head = data[12:16], data[20:30]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
