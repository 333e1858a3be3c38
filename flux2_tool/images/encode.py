"""Encode a picture again without metadata, where its file cannot just be cut: it must be turned, or breaks rules.

It keeps its own quality, subsampling, losslessness and colours; a profile that cannot be checked is applied.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from flux2_tool.images.icc import colours_of
from flux2_tool.images.parts import CannotCutError
from flux2_tool.images.png import with_colours_of
from flux2_tool.images.turning import turned
from flux2_tool.images.webp import is_lossless

if TYPE_CHECKING:
    from PIL import Image

_WEBP_QUALITY: Final = 95
_JPEG_QUALITY: Final = 95
# Writing a progressive JPEG takes memory for all its coefficients; a larger one becomes a baseline JPEG of the same.
_MAX_PROGRESSIVE_PX: Final = 12_000_000


def encoded_again(
    data: bytes, image: Image.Image, kind: str, *, transpose: str | None
) -> tuple[bytes, tuple[int, int]]:
    """Return a file of a picture's first frame and nothing else, and its width and height in pixels.

    Args:
        data: The picture's file.
        image: The same, decoded; not to be used afterwards, so that no second copy of its pixels is needed.
        kind: PNG, JPEG, WEBP or GIF.
        transpose: Pillow's name of how to turn it upright; None if it is.
    """
    options = _options(data, image, kind)
    kept = {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
    profile: bytes = image.info.get("icc_profile") or b""
    clean = image if transpose is None else turned(image, transpose)
    is_converted = False
    try:
        kept_profile = colours_of(profile)
    except CannotCutError:
        clean, kept_profile, is_converted, kept = _in_srgb(clean, profile), None, True, {}
    # Pillow would save what is in here.
    clean.info = {}
    if kept_profile is not None:
        kept["icc_profile"] = kept_profile
    output = io.BytesIO()
    clean.save(output, format=kind, **options, **kept)
    written = output.getvalue()
    if kind == "PNG" and not is_converted:
        written = with_colours_of(data, written)
    return written, clean.size


def _options(data: bytes, image: Image.Image, kind: str) -> dict[str, Any]:
    if kind == "WEBP":
        return {"lossless": True, "exact": True} if is_lossless(data) else {"quality": _WEBP_QUALITY}
    if kind != "JPEG":
        return {}
    from PIL import JpegImagePlugin

    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not image.quantization:
        return {"quality": _JPEG_QUALITY}
    is_progressive = bool(image.info.get("progressive")) and image.size[0] * image.size[1] <= _MAX_PROGRESSIVE_PX
    options: dict[str, Any] = {"qtables": image.quantization, "progressive": is_progressive}
    sampling = JpegImagePlugin.get_sampling(image)
    return options if sampling == -1 else {**options, "subsampling": sampling}


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Return a picture in sRGB, which is what viewers assume where there is no profile."""
    from PIL import ImageCms

    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode=mode,
            inPlace=image.mode == mode,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return image if converted is None else converted
