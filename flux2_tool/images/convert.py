"""Convert a picture that the service does not take, such as a HEIC photo, to PNG or JPEG at high quality.

Pillow decodes; HEIC needs the extra `heic` (pillow-heif). What was coded with loss becomes a JPEG without subsampling,
anything else, and what is transparent, a PNG. Colour profiles are kept; a photo is turned upright.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from flux2_tool.images.encode import HIGH_QUALITY, Encoded, encoded, in_srgb
from flux2_tool.images.turning import transpose_of, turned

if TYPE_CHECKING:
    from PIL import Image

_LOSSY: Final = ("AVIF", "HEIF", "JPEG2000")
_OWN_MODES: Final = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_JPEG: Final[tuple[str, dict[str, Any]]] = ("JPEG", {"quality": HIGH_QUALITY, "subsampling": 0})
_PNG: Final[tuple[str, dict[str, Any]]] = ("PNG", {})
_MAX_JPEG_PX: Final = 65_500
# The description of a picture, which comes before its data.
_HEADER_BYTES: Final = 64 * 1024


class CannotConvertError(Exception):
    """The picture's values cannot be shown as they are. The message completes the sentence "it …"."""


def can_decode(decoder: str) -> bool:
    """Return whether this installation decodes one of Pillow's formats; afterwards it is ready to.

    A decoder with threads is told to use one, because the memory of many counts against the limit.
    """
    from PIL import Image

    if decoder == "HEIF":
        try:
            import pillow_heif
        except ImportError:
            return False
        pillow_heif.options.DECODE_THREADS = 1
        pillow_heif.register_heif_opener()
        return True
    Image.init()
    if decoder == "AVIF":
        with contextlib.suppress(ImportError):
            from PIL import AvifImagePlugin, features

            AvifImagePlugin.DEFAULT_MAX_THREADS = 1
            return decoder in Image.OPEN and bool(features.check("avif"))
    return decoder in Image.OPEN


def converted(data: bytes, image: Image.Image) -> Encoded:
    """Return a PNG or JPEG of a picture's first frame.

    Args:
        data: The picture's file.
        image: The same, loaded; not to be used afterwards.

    Raises:
        CannotConvertError: It has values such as floating-point numbers.
        TooLargeError: Even coarsely encoded it is too large.
    """
    info: dict[Any, Any] = dict(image.info)
    is_lossy = image.format in _LOSSY
    transpose = transpose_of(image)
    upright = image if transpose is None else turned(image, transpose)
    upright, info = _usual_mode(upright, info)
    is_opaque = upright.mode in ("1", "L", "RGB") and "transparency" not in info
    # A JPEG has no way to say them but a profile.
    points = None if info.get("icc_profile") else _code_points(data)
    fits_jpeg = is_lossy and is_opaque and points is None and max(upright.size) <= _MAX_JPEG_PX
    return encoded(upright, info, [_JPEG if fits_jpeg else _PNG], code_points=points)


def _code_points(data: bytes) -> tuple[int, int] | None:
    """Return primaries and transfer function of an AVIF or HEIC, None for sRGB's. Source: ISO/IEC 23008-12, "colr"."""
    at = data.find(b"colrnclx", 0, _HEADER_BYTES)
    if at < 0:
        return None
    primaries, transfer = (int.from_bytes(data[at + 8 + n : at + 10 + n], "big") for n in (0, 2))
    is_usual = primaries in (1, 2) and transfer in (1, 2, 6, 13)
    return None if is_usual or not (1 <= primaries <= 22 and 1 <= transfer <= 18) else (primaries, transfer)


def _usual_mode(image: Image.Image, info: dict[Any, Any]) -> tuple[Image.Image, dict[Any, Any]]:
    """Return a picture in a mode of PNG, and what is then true of its colours."""
    if image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert(image.mode[:-1])
    if image.mode in _OWN_MODES:
        return image, info
    if image.mode in ("CMYK", "YCbCr", "LAB"):
        profile = info.get("icc_profile") or b""
        in_rgb = in_srgb(image, profile, info) if profile else image
        info = {key: value for key, value in info.items() if key != "icc_profile"}
        return (in_rgb if in_rgb.mode == "RGB" else _in(image, "RGB")), info
    if image.mode.startswith("I;16"):
        return _in(image, "I;16"), info
    if image.mode in ("PA", "RGBa", "La", "RGBX"):
        return _in(image, "RGB" if image.mode == "RGBX" else "RGBA"), info
    raise CannotConvertError(f'has pixels of a kind (Pillow\'s mode "{image.mode}") that no usual picture has')


def _in(image: Image.Image, mode: str) -> Image.Image:
    try:
        return image.convert(mode)
    except ValueError as exc:
        raise CannotConvertError(
            f'has pixels of a kind (Pillow\'s mode "{image.mode}") that cannot be converted'
        ) from exc
