"""A secret in any place of a picture's file does not leave, and the picture stays the same."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageSequence

from flux2_tool.images.errors import PictureError
from flux2_tool.images.icc import colours_of
from flux2_tool.images.inspect import read_picture, without_metadata
from flux2_tool.images.metadata import only_the_picture
from flux2_tool.images.parts import CannotCutError
from flux2_tool.images.png import SIGNATURE
from flux2_tool.images.png_notes import without_notes
from tests.support.hiding import SRGB, jpeg_segment, places_of, png_chunk, profiles

SECRET = b"NOBODY-READS-THIS"
SIZE = (24, 16)


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
    """Return a file's first frame; of a PNG also where only a note cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data))
            image.load()
        except Exception:
            if not data.startswith(SIGNATURE):
                raise
            image = Image.open(io.BytesIO(without_notes(data)))
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
        except (OSError, SyntaxError, ValueError, struct.error):  # Pillow itself gets no further than the first frame
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


COLOURS = {
    b"gAMA": (100_000).to_bytes(4, "big"),
    b"cHRM": b"".join(value.to_bytes(4, "big") for value in (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
    b"sRGB": b"\0",
    b"cICP": bytes((9, 16, 0, 1)),
    b"pHYs": (11811).to_bytes(4, "big") * 2 + b"\1",
    b"sBIT": b"\5\6\5",
    b"bKGD": bytes((0, 1, 0, 2, 0, 3)),
}


@pytest.mark.parametrize("name", COLOURS)
def test_what_says_how_pixels_look_is_kept(name: bytes) -> None:
    """Without its gamma or colour space, the same pixels are another picture."""
    data = file_of("PNG")
    wanted = data[:33] + png_chunk(name, COLOURS[name]) + data[33:]
    with_text = wanted[:33] + png_chunk(b"tEXt", b"Author\0" + SECRET) + wanted[33:]

    assert only_the_picture(with_text, "PNG") == wanted


def test_a_described_profile_keeps_its_colours_only() -> None:
    """A calibrated screen's profile names its maker, model and day; its primaries and curves say how pixels look."""
    described = next(profile for name, profile in profiles(SECRET) if name == "in a profile's tag b'dmnd'")

    kept = colours_of(described)

    assert kept is not None
    assert SECRET not in kept
    looks = [
        ImageCms.profileToProfile(scene(), io.BytesIO(profile), ImageCms.createProfile("LAB"), outputMode="LAB")
        for profile in (described, kept)
    ]
    assert looks[0] is not None
    assert looks[1] is not None
    assert looks[0].tobytes() == looks[1].tobytes()


def test_a_profile_of_tables_is_applied() -> None:
    """Its tables cannot be told from hidden bytes, and without them the colours would be wrong."""
    described = next(profile for name, profile in profiles(SECRET) if name == "in a profile's tag b'A2B9'")

    with pytest.raises(CannotCutError):
        colours_of(described)
    assert "icc_profile" not in opened(without_metadata(file_of("PNG", icc_profile=described)).data).info


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        pytest.param("PNG", png_chunk(b"prVt", b""), id="empty chunks"),
        pytest.param("JPEG", jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\1"), id="colour transforms"),
        pytest.param("JPEG", jpeg_segment(0xE2, b"ICC_PROFILE\0\1\1"), id="empty profiles"),
        pytest.param("JPEG", jpeg_segment(0xDD, bytes(2)), id="restart intervals"),
        pytest.param("JPEG", b"\xff", id="fill bytes"),
    ],
)
def test_very_many_parts_leave_the_file_as_small(kind: str, part: bytes) -> None:
    """A file of a million tiny parts must cost no more than its bytes."""
    data = file_of(kind)
    at = 33 if kind == "PNG" else 2

    assert len(only_the_picture(data[:at] + part * 200_000 + data[at:], kind)) <= len(data) + 20
