"""Identify a picture by its content, check its size and completeness, and copy it without metadata.

Pillow decodes; it is imported only when needed. The pixel count is checked before decoding, because a small file can
contain a picture that fills the memory.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from flux2_tool.images.convert import CannotConvertError, can_decode, converted
from flux2_tool.images.decode_limits import MAX_PIXELS, MAX_SOURCE_BYTES, MIB, MIN_SIDE_PX
from flux2_tool.images.encode import Encoded, TooLargeError, encoded_again
from flux2_tool.images.errors import PictureError
from flux2_tool.images.file_kinds import (
    HEIC,
    PNG,
    UNKNOWN,
    FileKind,
    cut_short,
    has_no_end,
    kind_of,
    unreadable_because,
)
from flux2_tool.images.half_files import is_cut_short
from flux2_tool.images.jpeg_photo import cut_photo
from flux2_tool.images.metadata import only_the_picture
from flux2_tool.images.parts import CannotCutError
from flux2_tool.images.png import check_pixels
from flux2_tool.images.png_notes import large_profiles, moves, without_notes
from flux2_tool.images.turning import transpose_of

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

SUFFIXES: Final = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif"}
SEND_AS_JPEG: Final = 'Send it as JPEG (on an iPhone: Settings, Camera, Formats, "Most Compatible")'
# A smaller file is followed bit by bit: it takes no longer than decoding it twice.
_PHOTO_BYTES: Final = 64 * 1024
HEIC_HINT: Final = f"{SEND_AS_JPEG}; or the operator installs flux2-tool with the extra heic, which reads it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A complete picture and its bytes.

    Attributes:
        kind: PNG, JPEG, WEBP or GIF; or the name of another format, of a file that is kept as it is.
        width_px: 0 with `height_px` for a file that this installation cannot decode.
        suffix: Of its file name, with the dot.
        came_as: What it was converted from, in words; "" if it was not.
        moves: Whether the file as it was given has several frames or pages.
    """

    data: bytes
    kind: str
    width_px: int
    height_px: int
    suffix: str
    came_as: str = ""
    moves: bool = False


def read_picture(data: bytes) -> Picture:
    """Return a picture with its type and size, by its content alone.

    Any picture's format is accepted, and one that this installation cannot decode is taken for whole.

    Raises:
        PictureError: It is no picture, is damaged or cut short, or has too many pixels.
    """
    kind = kind_of(data)
    if not kind.suffix:
        raise _no_picture(kind)
    if not kind.decoder or not can_decode(kind.decoder):
        return Picture(data=data, kind=kind.suffix[1:].upper(), width_px=0, height_px=0, suffix=kind.suffix)
    with opened_picture(data, kind) as (image, name, _):
        return Picture(data=data, kind=name, width_px=image.size[0], height_px=image.size[1], suffix=kind.suffix)


def undecoded_picture(data: bytes) -> Picture:
    """Return a picture that is too large to be decoded, by what its file says of itself.

    Raises:
        PictureError: It is no picture, or is cut short.
    """
    kind = kind_of(data)
    if not kind.suffix:
        raise _no_picture(kind)
    if kind is PNG:
        try:
            check_pixels(data)
        except CannotCutError as exc:
            raise _broken(unreadable_because(data, kind)) from exc
    if (kind is not PNG and has_no_end(data, kind)) or is_cut_short(data, kind):
        raise _broken(cut_short(data, kind))
    return Picture(data=data, kind=kind.decoder or kind.suffix[1:].upper(), width_px=0, height_px=0, suffix=kind.suffix)


def source_picture(
    data: bytes, *, keep_metadata: bool = False, while_cutting: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Picture:
    """Return a picture as the service may have it: of a format that it takes, and without metadata.

    Args:
        data: The picture's file.
        keep_metadata: Whether a file of a usual format is used as it is.
        while_cutting: See `without_metadata`.

    Raises:
        PictureError: As `without_metadata`; or it is smaller than an edit makes sense for.
    """
    kind = kind_of(data)
    if kind.use == "sent":
        picture = read_picture(data) if keep_metadata else without_metadata(data, while_cutting=while_cutting)
        moves = _moves(data, kind.decoder)
    elif kind.use == "converted":
        picture, moves = _converted(data, kind), _moves(data, kind.decoder)
    else:
        raise _no_picture(kind)
    if min(picture.width_px, picture.height_px) < MIN_SIDE_PX:
        raise PictureError(
            f"has {picture.width_px} x {picture.height_px} pixels; each side must have at least {MIN_SIDE_PX}",
            hint="Use the picture itself and not its thumbnail or a placeholder.",
        )
    return replace(picture, moves=moves)


def without_metadata(
    data: bytes, *, while_cutting: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Picture:
    """Return a PNG, JPEG, WebP or GIF without metadata such as the GPS position; unchanged if it has none.

    The rest is cut out of the file, so that the pixels, the frames of an animation and the colours stay the same. It
    is encoded again only to turn a photo upright, because its orientation tag is removed, or where parts break the
    format's rules or would take too long to follow; then only the first frame of an animation is kept.

    Args:
        data: The picture's file.
        while_cutting: Runs around the cutting, and may end it with CannotCutError.

    Raises:
        PictureError: It is no such picture, is damaged or cut short, or has too many pixels.
    """
    kind = kind_of(data)
    if kind.use != "sent":
        raise _no_picture(kind)
    if kind.decoder == "JPEG" and len(data) >= _PHOTO_BYTES and (photo := _cut_photo(data)) is not None:
        return photo
    with opened_picture(data, kind) as (image, name, data):
        size_px, transpose = image.size, transpose_of(image)
        if transpose is not None:
            return _encoded(data, image, name, transpose)
    # Pixels are given up before the next step takes memory.
    del image
    try:
        with while_cutting():
            clean = only_the_picture(data, name)
    except (CannotCutError, MemoryError) as exc:
        logger.debug("a %s picture is encoded again: %s", name, exc)
    else:
        return Picture(data=clean, kind=name, width_px=size_px[0], height_px=size_px[1], suffix=SUFFIXES[name])
    with opened_picture(data, kind) as (image, name, data):
        return _encoded(data, image, name, None)


def _cut_photo(data: bytes) -> Picture | None:
    """Return a JPEG that is upright and can be cut quickly; None for any other, whatever is wrong with it."""
    from PIL import Image

    try:
        with _quiet(), Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            _check_size(image)
            (width_px, height_px), is_upright = image.size, transpose_of(image) is None
        if not is_upright:
            return None
        clean = cut_photo(data)
    except (CannotCutError, MemoryError) as exc:
        logger.debug("a JPEG is not cut quickly: %s", exc)
        return None
    except Exception:  # noqa: BLE001 - decoders raise many types for invalid data, which `opened_picture` then names
        return None
    return Picture(data=clean, kind="JPEG", width_px=width_px, height_px=height_px, suffix=SUFFIXES["JPEG"])


def _encoded(data: bytes, image: Image.Image, kind: str, transpose: str | None) -> Picture:
    try:
        picture = _picture_of(encoded_again(data, image, kind, transpose=transpose))
    except TooLargeError as exc:
        raise _too_large() from exc
    return picture if picture.kind == kind else replace(picture, came_as=kind_of(data).name)


def _converted(data: bytes, kind: FileKind) -> Picture:
    if not can_decode(kind.decoder):
        hint = HEIC_HINT if kind is HEIC else f"{kind.advice} Or the operator updates Pillow, which reads it."
        raise PictureError(f"is {kind.name}, which this installation cannot read", hint=hint)
    with opened_picture(data, kind) as (image, _, _):
        try:
            return replace(_picture_of(converted(data, image)), came_as=kind.name)
        except CannotConvertError as exc:
            raise PictureError(f"is {kind.name} that {exc}", hint=kind.advice) from exc
        except TooLargeError as exc:
            raise _too_large() from exc


def _picture_of(encoded: Encoded) -> Picture:
    return Picture(
        data=encoded.data,
        kind=encoded.kind,
        width_px=encoded.width_px,
        height_px=encoded.height_px,
        suffix=SUFFIXES[encoded.kind],
    )


def _too_large() -> PictureError:
    return PictureError(
        f"would have more than {MAX_SOURCE_BYTES // MIB} MiB once it is turned upright or converted",
        hint="Use a smaller picture.",
    )


def _no_picture(kind: FileKind) -> PictureError:
    if kind.use == "unreadable":
        return PictureError(f"is {kind.name}, which cannot be used as it is", hint=kind.advice)
    what = f"is {kind.name}" if kind is UNKNOWN else f"is {kind.name}, not a picture"
    return PictureError(what, hint=kind.advice, is_broken=True)


def _moves(data: bytes, decoder: str) -> bool:
    """Return whether a file has several frames or pages; an icon's sizes and a phone's second picture are none."""
    from PIL import Image

    if decoder in ("JPEG", "ICO"):
        return False
    if decoder == "PNG":
        return moves(data)
    try:
        with _quiet(), Image.open(io.BytesIO(data), formats=(decoder,)) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001 - decoders raise many types for invalid data, and this is for a warning only
        return False


@contextmanager
def _quiet() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        # Pillow warns of many pixels, which are refused, and of metadata that it cannot read.
        warnings.simplefilter("ignore")
        yield


@contextmanager
def opened_picture(data: bytes, kind: FileKind) -> Iterator[tuple[Image.Image, str, bytes]]:
    """Decode a picture, and yield it with its format's name and the file that was decoded.

    A PNG is read without notes and without chunks that need not be read where these are damaged, as viewers do.
    """
    from PIL import Image

    try:
        with _quiet(), _loaded(data, (kind.decoder,)) as (image, decoded):
            if is_cut_short(data, kind, image):
                raise _broken(cut_short(data, kind))
            # A phone's photo with a second picture after the first is a JPEG to other programs.
            yield image, "JPEG" if image.format == "MPO" else str(image.format), decoded
    except Image.DecompressionBombError as exc:
        raise PictureError(
            f"has far too many pixels; at most {MAX_PIXELS // 1_000_000} megapixels are allowed", is_too_large=True
        ) from exc
    except (PictureError, CannotConvertError, TooLargeError):
        raise
    except Exception as exc:  # decoders raise many types for invalid data
        raise _broken(unreadable_because(data, kind)) from exc


def _broken(why: str) -> PictureError:
    return PictureError(why, hint="Send or download the picture again, then use the new file.", is_broken=True)


@contextmanager
def _loaded(data: bytes, formats: tuple[str, ...]) -> Iterator[tuple[Image.Image, bytes]]:
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data), formats=formats)
        _check_size(image)
        # Pillow turns a TIFF when it loads it, and also believes its XMP; see `transpose_of`.
        image.info.pop("xmp", None)
        image.load()
    except (PictureError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception:  # see `opened_picture`
        if formats != ("PNG",):
            raise
        data = without_notes(data)
        with large_profiles():
            image = Image.open(io.BytesIO(data), formats=formats)
            _check_size(image)
            image.load()
    with image:
        yield image, data


def _check_size(image: Image.Image) -> None:
    width_px, height_px = image.size
    if width_px * height_px > MAX_PIXELS:
        raise PictureError(
            f"has {width_px} x {height_px} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are allowed",
            is_too_large=True,
        )
