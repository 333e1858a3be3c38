"""What decoding one picture, and all pictures of a process together, may cost. For both sides of the decoding process.

The memory of the whole (the worker with its decoding processes) stays within 400 MB: the worker has about 70, a
decoding process about 10 before it decodes, and what is decoded at once `memory_bytes` together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024
MAX_SOURCE_BYTES: Final = 30 * MIB
MAX_PIXELS: Final = 64_000_000
# A source with a smaller side is a placeholder or a tracking pixel, and an edit of it is paid like any other.
MIN_SIDE_PX: Final = 16
# Pillow keeps a pixel in 4 bytes whatever it shows; only grey and palette pictures need less.
BYTES_PER_PIXEL: Final = 4
# libwebp holds two canvases and its own copy, and Pillow two more; measured with Pillow 13 at 12 and 24 megapixels.
WEBP_BYTES_PER_PIXEL: Final = 17
# Measured with Pillow 13 and pillow-heif 1.8 at 12 megapixels, with one thread, encoding as JPEG included.
CONVERTED_BYTES_PER_PIXEL: Final = {"AVIF": 10.0, "HEIF": 9.0, "JPEG2000": 19.0, "TIFF": 8.0, "BMP": 6.0, "ICO": 8.0}
# A coefficient of a progressive JPEG, which needs all of them before the first pixel. Source: libjpeg's JCOEF.
JPEG_COEFFICIENT_BYTES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """The limits; those of production are the defaults.

    Attributes:
        cpu_s: CPU time for one picture, whole seconds, because setrlimit(2) knows no others.
        memory_bytes: For all pictures that are decoded at once, their files included.
        overhead_bytes: Part of it that each picture takes beside its pixels and its file.
        first_bytes: What a picture gets before its size is known: enough to read it and for four megapixels.
        at_once: How many pictures are decoded at once.
        output_bytes: The largest file that decoding may write, such as the pixels of a picture that is turned.
        idle_s: How long a decoding process without work lives on for the next picture, in seconds.
    """

    cpu_s: int = 10
    memory_bytes: int = 292 * MIB
    overhead_bytes: int = 16 * MIB
    first_bytes: int = 32 * MIB
    at_once: int = 2
    output_bytes: int = 256 * MIB
    idle_s: float = 10.0


PRODUCTION: Final = DecodeLimits()
