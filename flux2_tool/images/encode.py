"""Encode a picture without metadata, where its file cannot just be cut: it is turned, breaks rules, or is converted.

A picture that stays in its format keeps its own quality, subsampling, losslessness, depth and colours; a profile that
cannot be checked is applied. Only where the file would be larger than a source may be is it encoded more coarsely.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flux2_tool.images.decode_limits import MAX_SOURCE_BYTES
from flux2_tool.images.deep_png import deep_turned, is_deep
from flux2_tool.images.icc import colours_of
from flux2_tool.images.jpeg_bands import turned_jpeg
from flux2_tool.images.parts import CannotCutError
from flux2_tool.images.png import with_code_points, with_colours_of
from flux2_tool.images.turning import swaps_sides, turned
from flux2_tool.images.webp import lossy_quality

if TYPE_CHECKING:
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

HIGH_QUALITY: Final = 95
# Tried one after the other where a file is too large.
_COARSER: Final = (90, 80, 60)
# Writing a progressive JPEG takes memory for all its coefficients; a larger one becomes a baseline JPEG of the same.
_MAX_PROGRESSIVE_PX: Final = 12_000_000
_JPEG_MODES: Final = ("1", "L", "RGB", "CMYK", "YCbCr")


class TooLargeError(Exception):
    """Even coarsely encoded, the picture would have more bytes than a source may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A file of one picture and nothing else."""

    data: bytes
    kind: str
    width_px: int
    height_px: int


def encoded_again(data: bytes, image: Image.Image, kind: str, *, transpose: str | None) -> Encoded:
    """Return a file of a picture's first frame and nothing else, in its own format.

    Args:
        data: The picture's file.
        image: The same, decoded; not to be used afterwards, so that no second copy of its pixels is needed.
        kind: PNG, JPEG, WEBP or GIF.
        transpose: Pillow's name of how to turn it upright; None if it is.

    Raises:
        TooLargeError: See there.
    """
    profile: bytes = image.info.get("icc_profile") or b""
    if transpose is not None and kind == "PNG" and is_deep(data) and _is_checked(profile):
        deep, size_px = deep_turned(data, partial(turned, operation=transpose))
        if len(deep) <= MAX_SOURCE_BYTES:
            return Encoded(data=deep, kind="PNG", width_px=size_px[0], height_px=size_px[1])
    own = _own_options(data, image, kind, transpose)
    if transpose is not None and kind == "JPEG" and not own.get("progressive") and _is_checked(profile):
        return _turned_jpeg(image, transpose, [own, *({"quality": quality} for quality in _COARSER)])
    upright = image if transpose is None else turned(image, transpose)
    return encoded(upright, dict(image.info), [(kind, own)], colours_from=data if kind == "PNG" else None)


def encoded(
    image: Image.Image,
    info: Mapping[Any, Any],
    wanted: list[tuple[str, dict[str, Any]]],
    *,
    colours_from: bytes | None = None,
    code_points: tuple[int, int] | None = None,
    max_bytes: int = MAX_SOURCE_BYTES,
) -> Encoded:
    """Return a file of a picture, encoded as the first of the wanted ways that is not too large, else more coarsely.

    Args:
        image: Decoded; not to be used afterwards.
        info: Pillow's, of which the transparent colour and the profile are kept.
        wanted: Pillow's formats and their options.
        colours_from: A PNG whose colour chunks are kept.
        code_points: Primaries and transfer function of the samples, which a PNG says.
        max_bytes: The size of a file that is too large is above this.

    Raises:
        TooLargeError: See there.
    """
    kept = {"transparency": info["transparency"]} if "transparency" in info else {}
    profile: bytes = info.get("icc_profile") or b""
    is_converted = False
    try:
        kept_profile = colours_of(profile)
    except CannotCutError:
        # The palette that the transparent colour was a part of is gone then.
        image, kept_profile, is_converted, kept = in_srgb(image, profile, info), None, True, {}
    # Pillow would save what is in here.
    image.info = {}
    if kept_profile is not None:
        kept["icc_profile"] = kept_profile
    for kind, options in (*wanted, *_coarser(image, has_transparency="transparency" in kept)):
        written = _saved(image, kind, {**options, **kept})
        if kind == "PNG" and colours_from is not None and not is_converted:
            written = with_colours_of(colours_from, written)
        if kind == "PNG" and code_points is not None and not profile:
            written = with_code_points(written, code_points)
        if len(written) <= max_bytes:
            return Encoded(data=written, kind=kind, width_px=image.size[0], height_px=image.size[1])
    raise TooLargeError


def _saved(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    """Return a file of a picture; a progressive JPEG becomes a baseline one of the same where memory does not suffice.

    Raises:
        MemoryError: It does not suffice in any way.
    """
    output = io.BytesIO()
    try:
        image.save(output, format=kind, **options)
    except (MemoryError, OSError) as exc:
        # libjpeg's lack of memory is a fault of the data to Pillow, which is not for the reader of this error.
        if isinstance(exc, OSError) and not str(exc).endswith("when writing image file"):
            raise
        if not options.get("progressive"):
            raise MemoryError from exc
    else:
        return output.getvalue()
    return _saved(image, kind, {**options, "progressive": False})


def _coarser(image: Image.Image, *, has_transparency: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield smaller and smaller ways to encode a picture."""
    if image.mode in _JPEG_MODES and not has_transparency:
        yield from (("JPEG", {"quality": quality}) for quality in _COARSER)
    elif max(image.size) <= 16383:  # WebP's bound
        yield from (("WEBP", {"quality": quality}) for quality in _COARSER)


def _turned_jpeg(image: Image.Image, transpose: str, wanted: list[dict[str, Any]]) -> Encoded:
    """Return a picture turned upright in the first of the wanted ways that is not too large."""
    profile = colours_of(image.info.get("icc_profile") or b"")
    for options in wanted:
        written, (width_px, height_px) = turned_jpeg(image, transpose, {**options, "icc_profile": profile})
        if len(written) <= MAX_SOURCE_BYTES:
            return Encoded(data=written, kind="JPEG", width_px=width_px, height_px=height_px)
    raise TooLargeError


def _is_checked(profile: bytes) -> bool:
    try:
        colours_of(profile)
    except CannotCutError:
        return False
    return True


def _own_options(data: bytes, image: Image.Image, kind: str, transpose: str | None) -> dict[str, Any]:
    if kind == "WEBP":
        quality = lossy_quality(data)
        return {"lossless": True, "exact": True} if quality is None else {"quality": quality}
    if kind != "JPEG":
        return {}
    from PIL import JpegImagePlugin

    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not image.quantization:
        return {"quality": HIGH_QUALITY}
    is_progressive = bool(image.info.get("progressive")) and image.size[0] * image.size[1] <= _MAX_PROGRESSIVE_PX
    options: dict[str, Any] = {"qtables": image.quantization, "progressive": is_progressive}
    return {**options, **_own_sampling(image, transpose)}


def _own_sampling(image: JpegImageFile, transpose: str | None) -> dict[str, Any]:
    """Return how the colours of a JPEG are coded, as Pillow's options: as finely as they were, in both directions.

    Pillow does not write every sampling, and a quarter turn makes one of another: then the next finer one is taken.
    Source: ITU-T T.81; which JPEG holds red, green and blue is libjpeg's rule.
    """
    if len(image.layer) != 3:
        return {}
    ids = tuple(layer[0] for layer in image.layer)
    is_rgb = image.info.get("adobe_transform") == 0 if "adobe" in image.info else ids == (82, 71, 66)
    if is_rgb and "jfif" not in image.info:
        return {"keep_rgb": True}
    across, down = (image.layer[0][at] // max(layer[at] for layer in image.layer[1:]) for at in (1, 2))
    if swaps_sides(transpose):
        across, down = down, across
    return {"subsampling": 0 if across < 2 else 1 if down < 2 else 2}


def in_srgb(image: Image.Image, profile: bytes, info: Mapping[Any, Any]) -> Image.Image:
    """Return a picture in sRGB, which is what viewers assume where there is no profile."""
    from PIL import ImageCms

    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in info or image.mode == "PA" else "RGB")
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
