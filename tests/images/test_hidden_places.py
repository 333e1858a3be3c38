"""A secret in any place of a picture's file does not leave, and the picture stays the same."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from flux2_tool.images.inspect import PictureError, read_picture, without_metadata
from flux2_tool.images.metadata import only_the_picture
from flux2_tool.images.parts import CannotCutError
from tests.support.hiding import SRGB, places_of

SECRET = b"NOBODY-READS-THIS"
SIZE = (40, 24)


def scene(mode: str = "RGB") -> Image.Image:
    """Return a picture with edges and gradients, so that no coded data are trivial."""
    grey = Image.radial_gradient("L").resize(SIZE)
    image = Image.merge(
        "RGB", (grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT), Image.linear_gradient("L").resize(SIZE))
    )
    if mode == "RGBA":
        image.putalpha(grey)
    return image if mode in ("RGB", "RGBA") else image.convert(mode)


def file_of(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """Return a picture's file."""
    output = io.BytesIO()
    scene(mode).save(output, kind, **options)
    return output.getvalue()


def moving(kind: str, mode: str = "RGB") -> bytes:
    """Return a file of three frames."""
    frames = [scene(mode).rotate(angle) for angle in (90, 180)]
    return file_of(kind, mode, save_all=True, append_images=frames, duration=40, loop=0)


FILES = {
    "PNG": ("PNG", file_of("PNG", dpi=(72, 72))),
    "PNG with a palette": ("PNG", file_of("PNG", "P", transparency=0)),
    "grey PNG": ("PNG", file_of("PNG", "L", transparency=3)),
    "moving PNG": ("PNG", moving("PNG")),
    "JPEG": ("JPEG", file_of("JPEG")),
    "progressive JPEG": ("JPEG", file_of("JPEG", progressive=True)),
    "JPEG with restarts": ("JPEG", file_of("JPEG", restart_marker_blocks=1)),
    "CMYK JPEG": ("JPEG", file_of("JPEG", "CMYK")),
    "WebP": ("WEBP", file_of("WEBP")),
    "lossless WebP": ("WEBP", file_of("WEBP", lossless=True)),
    "WebP with transparency": ("WEBP", file_of("WEBP", "RGBA")),
    "WebP with colours": ("WEBP", file_of("WEBP", icc_profile=SRGB)),
    "moving WebP": ("WEBP", moving("WEBP", "RGBA")),
    "GIF": ("GIF", file_of("GIF", "P")),
    "moving GIF": ("GIF", moving("GIF")),
}


def frames_of(data: bytes) -> list[bytes]:
    """Return the pixels of every frame."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of parts that it cannot read
        return [frame.convert("RGBA").tobytes() for frame in ImageSequence.Iterator(Image.open(io.BytesIO(data)))]


def opened(data: bytes) -> Image.Image:
    """Return a file's first frame."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data))
        image.load()
        return image


def unpacked(data: bytes) -> bytes:
    """Return a file, and everything in it that zlib can decompress, wherever that begins."""
    found = [data]
    for start in re.finditer(rb"[\x18-\x78][\x01\x5e\x9c\xda]", data):
        try:
            found.append(zlib.decompressobj().decompress(data[start.start() :]))
        except zlib.error:
            continue
    return b"".join(found)


def check_place(kind: str, name: str, hidden: bytes, secret: bytes) -> bool:
    """Check what is left of a file with a secret in it; return whether it is a picture at all."""
    try:
        read_picture(hidden)
    except PictureError:
        with pytest.raises(PictureError):
            without_metadata(hidden)
        return False
    clean = without_metadata(hidden).data

    seen = unpacked(clean)
    for part in (secret, secret[:4], secret.decode().encode("utf-16-be")):
        assert part not in seen, name
    assert without_metadata(clean).data == clean, name
    try:
        only_the_picture(hidden, kind)
    except CannotCutError:
        # Encoded again: JPEG and WebP are the same to the eye only.
        read_picture(clean)
    else:
        try:
            wanted = frames_of(hidden)
        except (OSError, SyntaxError, ValueError):  # Pillow itself gets no further than the first frame
            wanted = [opened(hidden).convert("RGBA").tobytes()]
        assert frames_of(clean)[: len(wanted)] == wanted, name
    return True


@pytest.mark.parametrize("file", FILES)
def test_no_place_of_a_file_lets_a_secret_out(file: str) -> None:
    """A photo is sent to a stranger's service: nobody reviews what else is in it."""
    kind, data = FILES[file]

    outcomes = [check_place(kind, name, hidden, SECRET) for name, hidden in places_of(kind, data, SECRET)]

    assert sum(outcomes) > len(outcomes) * 2 // 3


@given(draw=st.data())
@settings(max_examples=60, deadline=None)
def test_no_secret_gets_out_of_two_places_at_once(draw: st.DataObject) -> None:
    """One odd part must not hide another."""
    kind, data = FILES[draw.draw(st.sampled_from(sorted(FILES)))]
    secret = draw.draw(st.text("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", min_size=8, max_size=60)).encode()
    first, second = draw.draw(st.sampled_from(list(places_of(kind, data, secret)))), b""
    try:
        second_name, second = draw.draw(st.sampled_from(list(places_of(kind, first[1], secret))))
    except (ValueError, IndexError, zlib.error):  # the first made it a file that the test cannot parse
        second_name, second = first

    check_place(kind, f"{first[0]}, then {second_name}", second, secret)


@pytest.mark.parametrize("file", FILES)
def test_a_file_without_secrets_keeps_its_bytes(file: str) -> None:
    """The base of the other tests: what they cut is the secret alone."""
    kind, data = FILES[file]

    assert only_the_picture(data, kind) == data
