"""A picture freed of what it carries beside its pixels, whatever its file looks like."""

from __future__ import annotations

import random
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageCms, ImageSequence

from flux2_tool.images.errors import PictureError
from flux2_tool.images.inspect import read_picture, without_metadata
from flux2_tool.images.metadata import only_the_picture
from flux2_tool.images.parts import CannotCutError
from tests.support.pictures import camera_notes, file_of, opened, scene

KINDS = ("PNG", "JPEG", "WEBP", "GIF")


def with_chunk(png: bytes, name: bytes, body: bytes) -> bytes:
    """Return a PNG with one more chunk before its last one."""
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return png[:-12] + chunk + png[-12:]


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """Return a JPEG with one more segment at its beginning."""
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", 2 + len(body)) + body + jpeg[2:]


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FRAMES = [Image.new("RGB", (48, 32), colour) for colour in ("red", "green", "blue")]


@pytest.mark.parametrize(
    "data",
    [
        *(pytest.param(file_of(kind), id=kind) for kind in KINDS),
        pytest.param(file_of("JPEG", progressive=True, quality=60), id="progressive JPEG"),
        pytest.param(file_of("JPEG", restart_marker_rows=1), id="JPEG with restarts"),
        pytest.param(file_of("JPEG", scene().convert("CMYK")), id="CMYK JPEG"),
        pytest.param(file_of("JPEG", icc_profile=SRGB), id="JPEG with colours"),
        pytest.param(file_of("PNG", icc_profile=SRGB, dpi=(72, 72)), id="PNG with colours"),
        pytest.param(file_of("PNG", scene().convert("P"), transparency=0), id="PNG with a palette"),
        pytest.param(file_of("WEBP", scene().convert("RGBA"), lossless=True), id="lossless WebP"),
        pytest.param(file_of("WEBP", icc_profile=SRGB), id="WebP with colours"),
        pytest.param(file_of("GIF", FRAMES[0], save_all=True, append_images=FRAMES[1:], loop=0), id="moving GIF"),
        pytest.param(file_of("WEBP", FRAMES[0], save_all=True, append_images=FRAMES[1:]), id="moving WebP"),
        pytest.param(file_of("PNG", FRAMES[0], save_all=True, append_images=FRAMES[1:]), id="moving PNG"),
    ],
)
def test_a_picture_that_carries_nothing_else_keeps_its_very_bytes(data: bytes) -> None:
    """Coding a picture anew costs quality; it is done only where something must go."""
    assert without_metadata(data).data == data


@pytest.mark.parametrize(
    "data",
    [
        *(pytest.param(file_of(kind, exif=camera_notes()), id=f"EXIF in {kind}") for kind in ("PNG", "JPEG", "WEBP")),
        *(pytest.param(file_of(kind) + b"SECRET", id=f"behind a {kind}") for kind in KINDS),
        pytest.param(with_chunk(file_of("PNG"), b"tEXt", b"Author\0SECRET"), id="text in PNG"),
        pytest.param(with_chunk(file_of("PNG"), b"tIME", b"\x07\xe4SECRE"), id="time in PNG"),
        pytest.param(with_chunk(file_of("PNG"), b"prVt", b"SECRET"), id="private part of PNG"),
        pytest.param(with_segment(file_of("JPEG"), 0xEB, b"SECRET"), id="APP11 of JPEG"),
        pytest.param(with_segment(file_of("JPEG"), 0xEC, b"SECRET"), id="APP12 of JPEG"),
        pytest.param(with_segment(file_of("JPEG"), 0xED, b"Photoshop 3.0\0SECRET"), id="APP13 of JPEG"),
        pytest.param(with_segment(file_of("JPEG"), 0xE0, b"JFXX\0SECRET"), id="a small picture in JPEG"),
        pytest.param(file_of("JPEG", comment=b"SECRET"), id="comment in JPEG"),
        pytest.param(file_of("WEBP", xmp=b"<x>SECRET</x>"), id="XMP in WebP"),
        pytest.param(file_of("GIF", comment=b"SECRET"), id="comment in GIF"),
        pytest.param(file_of("MPO", append_images=[scene()], save_all=True), id="a photo with a second picture"),
    ],
)
def test_whatever_else_a_picture_carries_is_left_out(data: bytes) -> None:
    """People do not know what their phones and programs write into a picture, and neither does a list of names."""
    clean = without_metadata(data)

    assert clean.data != data
    assert without_metadata(clean.data).data == clean.data
    for said in (b"SECRET", b"CameraMaker", b"MPF"):
        assert said not in clean.data
    far = ImageChops.difference(opened(clean.data).convert("RGB"), opened(data).convert("RGB")).getextrema()
    assert max(high for _, high in far) < 32


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_upright_as_every_viewer_shows_it(orientation: int) -> None:
    """The note that says how the phone was held goes with the rest."""
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    lying = scene() if orientation == 1 else scene().transpose(turned[orientation])

    clean = without_metadata(file_of("PNG", lying, exif=camera_notes(orientation)))

    assert (clean.width_px, clean.height_px) == (48, 32)
    assert opened(clean.data).tobytes() == scene().tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_photo_with_odd_camera_notes_is_still_a_photo(kind: str) -> None:
    """Cameras and editors write EXIF data that nobody can read back; the pixels are fine."""
    dice = random.Random(5)  # noqa: S311 - damage
    notes = camera_notes(6)
    for _ in range(300):
        odd = bytearray(notes)
        for _ in range(dice.randint(1, 6)):
            odd[dice.randrange(6, len(odd))] = dice.choice((0, 255, dice.randrange(256)))
        data = file_of(kind, exif=bytes(odd))

        clean = without_metadata(data)

        assert {clean.width_px, clean.height_px} == {48, 32}
        assert b"CameraMaker" not in clean.data


def test_no_damage_to_a_picture_gets_further_than_an_error() -> None:
    """Decoders raise all kinds of exceptions; each must become the one that names the source as the reason."""
    dice = random.Random(2)  # noqa: S311 - damage
    outcomes = {"read": 0, "refused": 0}
    for kind in KINDS:
        options = {} if kind == "GIF" else {"exif": camera_notes(6)}
        whole = file_of(kind, **options)
        for _ in range(200):
            data = bytearray(whole)
            for _ in range(dice.randint(1, 8)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            for read in (read_picture, without_metadata):
                try:
                    read(bytes(data))
                except PictureError:
                    outcomes["refused"] += 1
                else:
                    outcomes["read"] += 1

    assert min(outcomes.values()) > 50


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_a_moving_picture_with_metadata_keeps_its_frames(kind: str) -> None:
    """Notes are cut out of the file; the frames, which are the picture, are not."""
    options: dict[str, Any] = {"comment": b"SECRET"} if kind == "GIF" else {"exif": camera_notes()}
    data = file_of(kind, FRAMES[0], save_all=True, append_images=FRAMES[1:], **options)

    clean = without_metadata(data).data

    assert b"SECRET" not in clean
    assert b"CameraMaker" not in clean
    assert [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(opened(clean))] == [
        frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(opened(data))
    ]


def test_of_a_moving_picture_whose_frames_break_rules_the_first_is_kept() -> None:
    """A file that cannot be cut is encoded again, and only the first frame's pixels are counted."""
    data = bytearray(file_of("GIF", FRAMES[0], save_all=True, append_images=FRAMES[1:]))
    # A frame whose codes end before its pixels: its data are one empty block.
    data[-1:] = b"\x2c\0\0\0\0\x30\0\x20\0\0\x08\x02\0\x03\0;"

    clean = opened(without_metadata(bytes(data)).data)

    assert getattr(clean, "n_frames", 1) == 1
    assert clean.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_is_not_taken_for_a_picture_alone(kind: str) -> None:
    """What cannot be taken apart to its end may hide anything behind it, and is coded anew."""
    data = file_of(kind)

    def is_cut(part: bytes) -> bool:
        try:
            return only_the_picture(part, kind) == part
        except CannotCutError:
            return False

    assert is_cut(data)
    assert [length for length in range(14, len(data)) if is_cut(data[:length])] == []
