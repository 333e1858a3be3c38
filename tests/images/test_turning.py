"""A photo that must be turned upright is encoded again, with everything that makes its pixels what they are."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat, JpegImagePlugin

from flux2_tool.images.inspect import source_picture, without_metadata
from tests.support.hiding import SRGB
from tests.support.pictures import (
    camera_notes,
    deep_png,
    deep_rows,
    file_of,
    opened,
    png_chunk,
    scene,
    with_first_chunks,
)


def photo() -> Image.Image:
    """Return a picture with noise, whose file's size depends on how it is coded."""
    noise = Image.effect_noise((160, 96), 60)
    return Image.merge(
        "RGB", (noise, noise.transpose(Image.Transpose.ROTATE_180), Image.radial_gradient("L").resize((160, 96)))
    )


@pytest.mark.parametrize(
    ("subsampling", "orientation"),
    [("4:4:4", 6), ("4:2:0", 6), ("4:4:4", 3), ("4:2:2", 3), ("4:2:0", 3)],
)
@pytest.mark.parametrize("quality", [40, 75, 95])
def test_a_jpeg_keeps_its_subsampling_and_quality(subsampling: str, orientation: int, quality: int) -> None:
    """Thin red lines blur in 4:2:0, and a file twice as large may be refused."""
    data = file_of("JPEG", photo(), subsampling=subsampling, quality=quality, exif=camera_notes(orientation))

    clean = without_metadata(data)

    before, after = opened(data), opened(clean.data)
    assert isinstance(after, JpegImagePlugin.JpegImageFile)
    assert isinstance(before, JpegImagePlugin.JpegImageFile)
    assert after.size == ((96, 160) if orientation == 6 else (160, 96))
    assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before)
    assert after.quantization == before.quantization
    assert len(clean.data) < 1.1 * len(data)


def with_sampling(data: bytes, luma: int) -> bytes:
    """Return a JPEG whose brightness has another sampling factor, and so shows the same blocks in another order."""
    at = data.index(b"\xff\xc0") + 11
    return data[:at] + bytes((luma,)) + data[at + 1 :]


@pytest.mark.parametrize(
    ("luma", "orientation", "wanted"),
    [
        pytest.param(0x21, 6, 0, id="4:2:2, as many cameras write it, a quarter turned"),
        pytest.param(0x21, 8, 0, id="4:2:2, turned to the other side"),
        pytest.param(0x12, 6, 1, id="4:4:0, as a 4:2:2 becomes by a lossless turn, turned back"),
        pytest.param(0x12, 3, 0, id="4:4:0 upside down"),
    ],
)
def test_colours_stay_as_fine_as_they_were(luma: int, orientation: int, wanted: int) -> None:
    """Half of them were left across a photo; a quarter turn must not take half of them down it as well."""
    data = file_of("JPEG", photo(), subsampling="4:2:2", quality=95, exif=camera_notes(orientation))
    data = with_sampling(data, luma)

    after = opened(without_metadata(data).data)

    before = ImageOps.exif_transpose(opened(data))
    assert before is not None
    assert isinstance(after, JpegImagePlugin.JpegImageFile)
    assert JpegImagePlugin.get_sampling(after) == wanted
    assert max(ImageStat.Stat(ImageChops.difference(before, after.convert("RGB"))).mean) < 7


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_of_red_green_and_blue_stays_one(orientation: int) -> None:
    """Converted to brightness and colour once more, its colours lose a little at every turn."""
    data = file_of("JPEG", photo(), keep_rgb=True, quality=90, exif=camera_notes(orientation))

    after = opened(without_metadata(data).data)

    assert isinstance(after, JpegImagePlugin.JpegImageFile)
    assert [layer[0] for layer in after.layer] == list(b"RGB")
    assert after.size == ((96, 160) if orientation == 6 else (160, 96))


def test_a_lossless_webp_stays_lossless() -> None:
    """Its exact pixels are why somebody chose it."""
    image = photo()

    clean = opened(without_metadata(file_of("WEBP", image, lossless=True, exif=camera_notes(6))).data)

    assert clean.tobytes() == image.transpose(Image.Transpose.ROTATE_270).tobytes()


@pytest.mark.parametrize("quality", [20, 50, 75, 90])
def test_a_lossy_webp_keeps_about_its_quality(quality: int) -> None:
    """At the highest it would be several times as large and no better."""
    data = file_of("WEBP", photo(), quality=quality, exif=camera_notes(3))

    clean = without_metadata(data).data

    assert 0.8 * len(data) < len(clean) < 1.35 * len(data)


@pytest.mark.parametrize(
    ("chunk", "name"),
    [
        pytest.param(png_chunk(b"gAMA", struct.pack(">I", 100_000)), b"gAMA", id="linear light"),
        pytest.param(png_chunk(b"cICP", bytes((9, 16, 0, 1))), b"cICP", id="HDR"),
        pytest.param(png_chunk(b"sRGB", b"\0"), b"sRGB", id="sRGB"),
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_png_keeps_how_its_colours_are_meant(chunk: bytes, name: bytes, orientation: int) -> None:
    """Without it the same numbers are other colours."""
    data = with_first_chunks(file_of("PNG", scene(), exif=camera_notes(orientation)), chunk)

    clean = without_metadata(data).data

    assert chunk in clean
    assert b"CameraMaker" not in clean


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_profile_is_kept_when_a_photo_is_turned(kind: str) -> None:
    """A photo in a wide colour space is pale without it."""
    clean = opened(without_metadata(file_of(kind, scene(), icc_profile=SRGB, exif=camera_notes(6))).data)

    assert clean.info["icc_profile"] == SRGB
    assert clean.size == (32, 48)


_PIXEL = {2: 6, 6: 8}


@pytest.mark.parametrize("colour", [2, 6])
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_png_of_16_bits_keeps_every_bit(colour: int, orientation: int) -> None:
    """A rendering's fine gradients show bands in 8."""
    data, rows = deep_png((20, 300), colour=colour, orientation=orientation)

    clean = without_metadata(data).data

    size = _PIXEL[colour]
    pixels = [[row[at : at + size] for at in range(0, len(row), size)] for row in rows]
    wanted = (
        [list(reversed(row)) for row in reversed(pixels)]
        if orientation == 3
        else [[pixels[y][x] for y in reversed(range(300))] for x in range(20)]
    )
    assert deep_rows(clean) == [b"".join(row) for row in wanted]
    assert b"gAMA" in clean
    assert b"CameraMaker" not in clean
    assert without_metadata(clean).data == clean


def test_16_bits_of_grey_keep_every_bit() -> None:
    """A depth map is nothing but fine steps."""
    grey = Image.frombytes("I;16", (24, 40), b"".join(struct.pack("<H", n * 67) for n in range(960)))

    clean: Any = opened(without_metadata(file_of("PNG", grey, exif=camera_notes(3))).data)

    assert clean.size == (24, 40)
    assert clean.getpixel((23, 39)) == 0
    assert clean.getpixel((0, 0)) == 959 * 67


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
_XMP_TEXT = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP
_RAW_PROFILE = b"\nexif\n      34\n" + camera_notes(6).hex().encode() + b"\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(file_of("JPEG", xmp=XMP), id="XMP in JPEG"),
        pytest.param(file_of("JPEG", xmp=XMP, exif=camera_notes(1)), id="XMP beside EXIF"),
        pytest.param(file_of("WEBP", xmp=XMP), id="XMP in WebP"),
        pytest.param(with_first_chunks(file_of("PNG"), png_chunk(b"iTXt", _XMP_TEXT)), id="XMP in PNG"),
        pytest.param(
            with_first_chunks(file_of("PNG"), png_chunk(b"tEXt", b"Raw profile type exif\0" + _RAW_PROFILE)),
            id="a text of PNG",
        ),
        pytest.param(
            with_first_chunks(file_of("PNG"), png_chunk(b"tEXt", b"exif\0" + camera_notes(6)[6:])),
            id="a text of PNG called exif",
        ),
        pytest.param(file_of("TIFF", tiffinfo={700: XMP}), id="XMP in TIFF"),
        pytest.param(lambda: file_of("AVIF", xmp=XMP), id="XMP in AVIF"),
    ],
)
def test_only_exif_says_how_a_picture_was_held(data: Any) -> None:
    """Viewers read nothing else, and editors leave it in XMP when they have turned the pixels."""
    clean = source_picture(data() if callable(data) else data)

    assert (clean.width_px, clean.height_px) == (48, 32)
    assert b"xmpmeta" not in clean.data
