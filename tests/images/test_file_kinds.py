"""What people send is named for what it is, and what can be read is converted."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import zlib
from typing import Any

import pytest
from PIL import Image, ImageChops

from flux2_tool.images.decode_limits import MIN_SIDE_PX
from flux2_tool.images.encode import TooLargeError, encoded
from flux2_tool.images.errors import PictureError
from flux2_tool.images.file_kinds import kind_of
from flux2_tool.images.inspect import read_picture, source_picture
from tests.support.hiding import SRGB
from tests.support.pictures import (
    NO_PICTURES,
    camera_notes,
    file_of,
    opened,
    png_chunk,
    scene,
    with_first_chunks,
    with_frame,
    with_long_note,
)


@pytest.mark.parametrize("name", NO_PICTURES)
def test_a_refusal_says_what_was_found_and_what_to_do(name: str) -> None:
    """ "Not a picture" helps nobody whose phone calls a HEIC photo .jpg."""
    data, said = NO_PICTURES[name]

    with pytest.raises(PictureError, match=said.replace("(", r"\(").replace(")", r"\)")) as caught:
        source_picture(data)

    assert caught.value.hint.endswith(".")


@pytest.mark.parametrize("name", NO_PICTURES)
def test_only_pictures_are_kept_as_pictures(name: str) -> None:
    """A finished picture in a format that nothing here decodes is paid for; an error page is no picture."""
    data, _ = NO_PICTURES[name]
    kind = kind_of(data)

    if kind.use == "unreadable":
        assert read_picture(data).suffix == kind.suffix
    else:
        with pytest.raises(PictureError):
            read_picture(data)


@pytest.mark.parametrize(
    ("kind", "options", "named", "sent", "far"),
    [
        ("AVIF", {"quality": 90, "subsampling": "4:4:4"}, "an AVIF picture", "JPEG", 24),
        ("HEIF", {"quality": 95, "chroma": 444}, "a HEIC photo", "JPEG", 24),
        ("JPEG2000", {}, "a JPEG 2000 picture", "JPEG", 24),
        ("TIFF", {}, "a TIFF picture", "PNG", 0),
        ("TIFF", {"compression": "tiff_lzw"}, "a TIFF picture", "PNG", 0),
        ("BMP", {}, "a BMP picture", "PNG", 0),
        ("PPM", {}, "a Netpbm picture", "PNG", 0),
        ("ICO", {"sizes": [(48, 32)]}, "an icon (ICO)", "PNG", 0),
    ],
)
@pytest.mark.parametrize("keep_metadata", [False, True])
def test_what_the_decoder_reads_is_converted_at_high_quality(
    kind: str, options: dict[str, Any], named: str, sent: str, far: int, keep_metadata: bool
) -> None:
    """People cannot be asked to know which formats a service takes."""
    found = source_picture(file_of(kind, **options), keep_metadata=keep_metadata)

    assert (found.kind, found.came_as) == (sent, named)
    image = opened(found.data)
    assert (image.format, image.size) == (sent, (48, 32))
    difference = ImageChops.difference(image.convert("RGB"), scene()).getextrema()
    assert max(high for _, high in difference) <= far
    if sent == "JPEG":
        assert image.layer[0][1:3] == image.layer[1][1:3]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["AVIF", "HEIF", "TIFF"])
def test_a_converted_photo_is_upright_and_has_no_notes(kind: str) -> None:
    """A phone writes how it was held and where, into these as well."""
    notes = camera_notes(6) if kind != "TIFF" else Image.Exif()
    if isinstance(notes, Image.Exif):
        notes[0x0112], notes[0x010F] = 6, "CameraMaker"
    found = source_picture(file_of(kind, scene().transpose(Image.Transpose.ROTATE_90), exif=notes))

    assert (found.width_px, found.height_px) == (48, 32)
    assert b"CameraMaker" not in found.data
    red, _green, _blue = opened(found.data).convert("RGB").getpixel((3, 3))  # type: ignore[misc]
    assert red > 200


@pytest.mark.parametrize("kind", ["AVIF", "HEIF", "TIFF", "ICO"])
def test_transparency_survives_a_conversion(kind: str) -> None:
    """A logo on nothing must not come out on black."""
    logo = scene().convert("RGBA")
    logo.putalpha(Image.linear_gradient("L").resize((48, 32)))

    found = source_picture(file_of(kind, logo, **({"sizes": [(48, 32)]} if kind == "ICO" else {})))

    assert found.kind == "PNG"
    assert opened(found.data).getchannel("A").getextrema()[0] < 20


def _grey16() -> Image.Image:
    return Image.frombytes("I;16", (32, 32), b"".join(struct.pack("<H", n * 61) for n in range(1024)))


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        pytest.param(scene().convert("CMYK"), "RGB", id="print colours"),
        pytest.param(scene().convert("LAB"), "RGB", id="Lab colours"),
        pytest.param(scene().convert("1"), "1", id="black and white"),
        pytest.param(scene().convert("P"), "P", id="a palette"),
        pytest.param(_grey16(), "I;16", id="16 bits of grey"),
    ],
)
def test_a_tiff_of_any_usual_kind_is_converted(image: Image.Image, mode: str) -> None:
    """Scanners and print shops write them; a depth that PNG has is kept."""
    found = opened(source_picture(file_of("TIFF", image)).data)

    assert found.mode in (mode, "I") if mode == "I;16" else found.mode == mode
    if mode == "I;16":
        assert found.getextrema() == (0, 1023 * 61)


def test_values_that_no_picture_has_are_refused() -> None:
    """A height map in floating-point numbers would come out black or white."""
    with pytest.raises(PictureError, match="a TIFF picture that has pixels of a kind"):
        source_picture(file_of("TIFF", Image.new("F", (32, 32), 0.5)))


def test_without_the_extra_a_heic_photo_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the commonest file that cannot be read, and its sender can do something about it."""
    data = file_of("HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)

    with pytest.raises(PictureError, match="is a HEIC photo, which this installation cannot read") as caught:
        source_picture(data)

    assert "Most Compatible" in caught.value.hint
    assert "extra heic" in caught.value.hint
    kept = read_picture(data)
    assert (kept.suffix, kept.width_px) == (".heic", 0)


@pytest.mark.parametrize("size", [(1, 1), (MIN_SIDE_PX - 1, 400), (400, MIN_SIDE_PX - 1)])
@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_a_picture_of_a_few_pixels_is_refused(kind: str, size: tuple[int, int]) -> None:
    """A tracking pixel is no picture, and an edit of it is billed like any other."""
    data = file_of(kind, scene(size))

    with pytest.raises(PictureError, match=f"{size[0]} x {size[1]} pixels; each side must have at least 16"):
        source_picture(data)

    assert read_picture(data).width_px == size[0]


FRAMES = [Image.new("RGB", (48, 32), colour) for colour in ("red", "green", "blue")]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_a_picture_that_moves_is_known_as_such(kind: str) -> None:
    """An edit is made of one frame, which its sender may not expect."""
    moving = file_of(kind, FRAMES[0], save_all=True, append_images=FRAMES[1:])

    assert source_picture(moving).moves
    assert not source_picture(file_of(kind)).moves


def test_a_phones_photo_with_a_second_picture_does_not_move() -> None:
    """It is one photo and its depth, or a brighter one."""
    assert not source_picture(file_of("MPO", scene(), save_all=True, append_images=[scene()])).moves


def test_damage_beside_the_picture_does_not_matter() -> None:
    """Viewers skip a note of a PNG whose checksum is wrong, and so must this."""
    data = with_first_chunks(file_of("PNG"), png_chunk(b"tEXt", b"Comment\0SECRET", checksum=1))

    assert source_picture(data).data == file_of("PNG")
    assert read_picture(data).data == data


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt"])
@pytest.mark.parametrize("place", ["before the pixels", "after them"])
def test_a_note_that_unpacks_to_megabytes_does_not_matter(name: bytes, place: str) -> None:
    """Programs keep their whole state there, such as a workflow; viewers do not read it."""
    plain = file_of("PNG")
    data = with_long_note(plain, name=name)
    if place == "after them":
        data = plain[:-12] + data[33 : len(data) - len(plain) + 33] + plain[-12:]

    assert source_picture(data).data == plain
    assert read_picture(data).data == data


def test_a_large_profile_keeps_its_colours() -> None:
    """A printer's has megabytes of tables, more than Pillow reads of a PNG."""
    count, at = struct.unpack(">I", SRGB[128:132])[0], 132
    tags = [struct.unpack_from(">4sII", SRGB, at + 12 * number) for number in range(count)]
    tags = [*((name, begin + 12, size) for name, begin, size in tags), (b"priv", len(SRGB) + 12, 2_000_000)]
    table = b"".join(struct.pack(">4sII", *tag) for tag in tags)
    large = SRGB[4:128] + struct.pack(">I", len(tags)) + table + SRGB[at + 12 * count :] + bytes(2_000_000)
    large = struct.pack(">I", len(large) + 4) + large
    data = with_first_chunks(file_of("PNG"), png_chunk(b"iCCP", b"x\0\0" + zlib.compress(large)))

    clean = opened(source_picture(data).data)

    assert (
        clean.info["icc_profile"] == opened(source_picture(file_of("JPEG", icc_profile=large)).data).info["icc_profile"]
    )
    assert read_picture(data).data == data


def test_notes_that_would_fill_the_memory_are_not_unpacked() -> None:
    """Ten of a hundred MiB each are a file of a megabyte."""
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100 * 1024 * 1024)))
    profile = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(100 * 1024 * 1024)))
    data = with_first_chunks(file_of("PNG"), profile, *[bomb] * 10)
    tracemalloc.start()
    try:
        assert source_picture(data).data == file_of("PNG")
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most_bytes < 16 * 1024 * 1024


def test_a_moving_png_with_a_long_note_is_known_as_such() -> None:
    """Its sender is warned like any other's."""
    moving = file_of("PNG", FRAMES[0], save_all=True, append_images=FRAMES[1:])

    assert source_picture(with_long_note(moving)).moves


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        pytest.param({"marker": 0xC1, "bits": 12}, "a JPEG picture of 12 bits", id="12 bits"),
        pytest.param({"marker": 0xC3}, "a lossless JPEG picture", id="lossless"),
        pytest.param({"marker": 0xC3, "bits": 12}, "a lossless JPEG picture", id="lossless of 12 bits"),
        pytest.param({"marker": 0xF7}, "a JPEG-LS picture", id="JPEG-LS"),
    ],
)
def test_a_jpeg_of_a_rare_process_is_named_as_such(frame: dict[str, int], said: str) -> None:
    """Whoever is told that it is damaged looks for another copy, which is the same."""
    photo = file_of("JPEG", exif=camera_notes(), comment=b"x" * 9000)

    with pytest.raises(PictureError, match=said) as caught:
        source_picture(with_frame(photo, **frame))

    assert "usual JPEG of 8 bits or a PNG" in caught.value.hint
    assert not caught.value.is_broken
    assert read_picture(with_frame(photo, **frame)).data == with_frame(photo, **frame)
    assert source_picture(photo).kind == "JPEG"


def test_damage_to_the_picture_itself_is_refused() -> None:
    """A palette with a wrong checksum shows wrong colours."""
    whole = file_of("PNG", scene().convert("P"))
    at = whole.index(b"PLTE") + 5
    damaged = whole[:at] + bytes((whole[at] ^ 255,)) + whole[at + 1 :]

    for read in (source_picture, read_picture):
        with pytest.raises(PictureError, match="damaged"):
            read(damaged)


def _noise(mode: str) -> Image.Image:
    return Image.effect_noise((96, 96), 90).convert(mode)


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "JPEG"), ("RGBA", "WEBP"), ("L", "JPEG")])
def test_a_file_that_would_be_too_large_is_coded_more_coarsely(mode: str, kind: str) -> None:
    """A photo as PNG may be ten times as large as its HEIC."""
    image = _noise(mode)
    png = encoded(image.copy(), {}, [("PNG", {})])

    found = encoded(image, {}, [("PNG", {})], max_bytes=len(png.data) - 1)

    assert found.kind == kind
    assert len(found.data) < len(png.data)


def test_a_file_that_is_too_large_in_every_way_is_an_error() -> None:
    """It cannot be sent, and nothing says it was."""
    with pytest.raises(TooLargeError):
        encoded(_noise("RGB"), {}, [("PNG", {})], max_bytes=100)


@pytest.mark.parametrize(
    ("primaries", "transfer", "said"), [(9, 16, True), (12, 13, True), (1, 13, False), (0, 999, False)]
)
def test_colours_that_a_file_names_by_number_are_kept(primaries: int, transfer: int, said: bool) -> None:
    """HDR, and a wide colour space without a profile: as sRGB the same numbers are other colours."""
    data = file_of("AVIF", quality=90)
    at = data.index(b"colrnclx") + 8
    data = data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]

    found = source_picture(data)

    assert (b"cICP" + bytes((primaries, transfer % 256, 0, 1)) in found.data) == said
    assert found.kind == ("PNG" if said else "JPEG")


def test_a_wide_profile_is_kept_by_a_conversion() -> None:
    """A phone's photo in Display P3 without its profile is pale."""
    found = source_picture(file_of("TIFF", scene(), icc_profile=SRGB))

    assert Image.open(io.BytesIO(found.data)).info["icc_profile"] == SRGB
