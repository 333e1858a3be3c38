"""A file that ends before its picture is refused, and a whole one never is, however plain or padded it is."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFilter

from flux2_tool.images.errors import PictureError
from flux2_tool.images.inspect import read_picture, source_picture, undecoded_picture
from tests.support.pictures import camera_notes, file_of, scene

GREY = (128, 128, 128)


def photo(bottom: str | tuple[int, int, int] | None = None, share: float = 0.3) -> Image.Image:
    """Return a picture full of detail, whose bottom may be plain."""
    noise = Image.effect_noise((160, 120), 90)
    image = Image.merge("RGB", (noise, noise.filter(ImageFilter.BLUR), noise.rotate(180)))
    if bottom is not None:
        ImageDraw.Draw(image).rectangle((0, int(120 * (1 - share)), 160, 120), fill=bottom)
    return image


CODED: list[Any] = [
    pytest.param("JPEG", {"quality": 98, "subsampling": 0}, id="JPEG"),
    pytest.param("JPEG", {"quality": 90, "optimize": True}, id="JPEG with tables of its own"),
    pytest.param("JPEG", {"quality": 90, "progressive": True}, id="progressive JPEG"),
    pytest.param("JPEG", {"quality": 90, "restart_marker_rows": 2}, id="JPEG with restarts"),
    pytest.param("WEBP", {"quality": 90}, id="WebP"),
    pytest.param("WEBP", {"quality": 100, "method": 0}, id="quick WebP"),
    pytest.param("WEBP", {"lossless": True}, id="lossless WebP"),
    pytest.param("WEBP", {"lossless": True, "method": 0, "quality": 0}, id="quick lossless WebP"),
    pytest.param("WEBP", {"quality": 90, "exif": camera_notes()}, id="WebP with notes after it"),
    pytest.param("AVIF", {"quality": 80}, id="AVIF"),
    pytest.param("HEIF", {"quality": 80}, id="HEIC"),
    pytest.param("JPEG2000", {}, id="JPEG 2000"),
    pytest.param("PNG", {}, id="PNG"),
    pytest.param("GIF", {}, id="GIF"),
]


@pytest.mark.parametrize(("kind", "options"), CODED)
@pytest.mark.parametrize("read", [source_picture, read_picture])
@pytest.mark.parametrize("kept", [0.5, 0.8])
def test_a_download_that_stopped_in_a_reserved_file_is_refused(
    kind: str, options: dict[str, Any], read: Any, kept: float
) -> None:
    """The rest of such a file is zeros, which decoders take for a picture; an edit of half a photo is paid."""
    whole = file_of(kind, photo(), **options)
    length = int(kept * len(whole))

    with pytest.raises(PictureError, match="cut short") as caught:
        read(whole[:length] + bytes(len(whole) - length))

    assert caught.value.is_broken
    assert "again" in caught.value.hint


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("size", [(64, 64), (320, 240)], ids=["one chunk", "several"])
@pytest.mark.parametrize("read", [source_picture, read_picture, undecoded_picture])
def test_a_png_may_stop_in_any_of_its_chunks(read: Any, size: tuple[int, int], kept: float) -> None:
    """Zeros stand for pixels of some kind, and decoders look at no checksum of them."""
    noise = Image.effect_noise(size, 90)
    whole = file_of("PNG", Image.merge("RGB", (noise, noise.filter(ImageFilter.BLUR), noise.rotate(180))))
    length = int(kept * len(whole))

    with pytest.raises(PictureError, match="cut short"):
        read(whole[:length] + bytes(len(whole) - length))


@pytest.mark.parametrize("kept", [0.5, 0.8, 0.95, 0.99])
def test_an_icon_may_stop_in_one_of_its_pictures(kept: float) -> None:
    """They are PNGs, the largest at the end."""
    whole = file_of("ICO", photo().resize((256, 256)))
    length = int(kept * len(whole))

    assert source_picture(whole).width_px == 256
    with pytest.raises(PictureError, match="cut short"):
        source_picture(whole[:length] + bytes(len(whole) - length))


def test_a_png_whose_checksum_is_wrong_is_used() -> None:
    """Simple programs write none, and its pixels are all there."""
    whole = file_of("PNG", photo())
    at = whole.index(b"IEND") - 8

    assert source_picture(whole[:at] + bytes(4) + whole[at + 4 :]).width_px == 160
    assert source_picture(whole[:at] + bytes(4) + whole[at + 4 :] + bytes(500)).width_px == 160


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 2}, {"subsampling": 0}])
def test_a_jpeg_that_somebody_gave_an_end_is_refused(options: dict[str, Any]) -> None:
    """Some programs end what they have got of a file."""
    whole = file_of("JPEG", photo(), quality=90, **options)

    for read in (source_picture, read_picture):
        with pytest.raises(PictureError, match="cut short"):
            read(whole[: len(whole) // 2] + b"\xff\xd9")


@pytest.mark.parametrize(("kind", "options"), CODED)
@pytest.mark.parametrize("bottom", ["black", "white", GREY])
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_a_whole_picture_with_a_plain_bottom_is_used(
    kind: str, options: dict[str, Any], bottom: Any, share: float
) -> None:
    """Encoders write many equal bytes for it, and grey is what a decoder shows where it has no data."""
    whole = file_of(kind, photo(bottom, share), **options)

    assert read_picture(whole).data == whole
    assert source_picture(whole).width_px == 160


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "HEIF", "BMP", "TIFF"])
@pytest.mark.parametrize("behind", [bytes(5000), b"SEFH" + bytes(900), b"\xff" * 600])
def test_what_a_camera_writes_behind_a_picture_does_not_matter(kind: str, behind: bytes) -> None:
    """Some fill their files up, and some put a video there."""
    image = scene((64, 48))

    assert source_picture(file_of(kind, image) + behind).width_px == 64


@pytest.mark.parametrize("padding", [100, 5000])
def test_a_jpeg_with_all_its_pixels_needs_no_end(padding: int) -> None:
    """Simple cameras leave the marker out, and every viewer shows their photos."""
    whole = file_of("JPEG", photo(), quality=90)

    assert source_picture(whole[:-2] + bytes(padding)).width_px == 160


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM"])
def test_raw_pixels_may_be_black_to_their_end(kind: str) -> None:
    """A mask often is."""
    assert source_picture(file_of(kind, photo("black", 0.6))).width_px == 160
