"""Make a small copy of a picture for a page: WebP where Pillow has it, else JPEG. For the decoding process."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from flux2_tool.images.convert import can_decode
from flux2_tool.images.encode import in_srgb
from flux2_tool.images.errors import PictureError
from flux2_tool.images.file_kinds import kind_of
from flux2_tool.images.inspect import SUFFIXES, Picture, opened_picture
from flux2_tool.images.turning import transpose_of, turned

if TYPE_CHECKING:
    from PIL import Image

LONGEST_SIDE_PX: Final = 384
_QUALITY: Final = 62


def thumbnail_of(data: bytes) -> Picture:
    """Return the first frame of a picture at most `LONGEST_SIDE_PX` wide and high, upright, in sRGB, without metadata.

    Raises:
        PictureError: It is no picture, is damaged, has too many pixels, or this installation cannot decode it.
    """
    kind = kind_of(data)
    if not kind.decoder or not can_decode(kind.decoder):
        raise PictureError(f"is {kind.name}, which this installation cannot show")
    with opened_picture(data, kind) as (image, _, _):
        transpose, info = transpose_of(image), dict(image.info)
        small = _plain(image)
        small.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX), reducing_gap=3.0)
        profile = info.get("icc_profile") or b""
        if profile and small.mode in ("RGB", "RGBA"):
            small = in_srgb(small, profile, {})
        if transpose is not None:
            small = turned(small, transpose)
        return _encoded(small)


def _plain(image: Image.Image) -> Image.Image:
    """Return a picture in a mode that can be made smaller smoothly."""
    is_transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    return image.convert("RGBA" if is_transparent else "RGB")


def _encoded(image: Image.Image) -> Picture:
    from PIL import features

    image.info = {}
    kind = "WEBP" if features.check("webp") else "JPEG"
    if kind == "JPEG" and image.mode != "RGB":
        from PIL import Image

        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    output = io.BytesIO()
    image.save(output, format=kind, quality=_QUALITY)
    width_px, height_px = image.size
    return Picture(data=output.getvalue(), kind=kind, width_px=width_px, height_px=height_px, suffix=SUFFIXES[kind])
