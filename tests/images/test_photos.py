"""Photos of a phone are cut and turned in a fraction of a second, and nothing else of them leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import warnings
from typing import Any

import pytest
from PIL import Image

from flux2_tool.images.decode_limits import MIB, DecodeLimits
from flux2_tool.images.decoder import Decoder, PictureCopy
from flux2_tool.images.inspect import without_metadata
from flux2_tool.images.jpeg import cut_jpeg
from flux2_tool.images.jpeg_bands import turned_jpeg
from flux2_tool.images.jpeg_photo import cut_photo
from flux2_tool.images.parts import CannotCutError
from tests.support.hiding import SRGB, places_of
from tests.support.pictures import camera_notes, file_of, opened

SECRET = b"NOBODY-READS-THIS"
WAYS: list[Any] = [
    pytest.param("RGB", {}, id="4:2:0"),
    pytest.param("RGB", {"subsampling": "4:2:2"}, id="4:2:2"),
    pytest.param("RGB", {"subsampling": "4:4:4", "quality": 95}, id="4:4:4"),
    pytest.param("L", {}, id="grey"),
    pytest.param("RGB", {"restart_marker_rows": 1}, id="with restarts"),
    pytest.param("RGB", {"restart_marker_blocks": 9, "subsampling": "4:2:2"}, id="with restarts within rows"),
]


def noise(size: tuple[int, int] = (360, 203), mode: str = "RGB") -> Image.Image:
    """Return a picture whose coded data are long, of sides that are no multiples of a block's."""
    shapes = Image.radial_gradient("L").resize(size)
    return Image.merge("RGB", (Image.effect_noise(size, 60), shapes, Image.effect_noise(size, 20))).convert(mode)


def copied(data: bytes, limits: DecodeLimits) -> PictureCopy:
    """Return a file's picture as a decoding process with these limits copies it."""
    decoder = Decoder(limits)
    try:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            return asyncio.run(decoder.copy(file, keep_metadata=False))
    finally:
        decoder.close()


# ---- cutting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "options"), WAYS)
def test_a_photo_is_cut_to_the_same_bytes_as_bit_by_bit(mode: str, options: dict[str, Any]) -> None:
    """Only the way to see that nothing else is in it is another."""
    data = file_of("JPEG", noise(mode=mode), exif=camera_notes(), **options)

    clean = cut_photo(data)

    assert clean == cut_jpeg(data)
    assert b"CameraMaker" in data
    assert b"CameraMaker" not in clean
    assert cut_photo(clean) == clean


@pytest.mark.parametrize(("mode", "options"), WAYS)
@pytest.mark.parametrize("count", range(1, 10))
def test_not_one_byte_hides_behind_a_scan(mode: str, options: dict[str, Any], count: int) -> None:
    """Decoders read ahead by a few bytes, and skip them without a word."""
    data = file_of("JPEG", noise((150, 110), mode), **options)
    ends = [at for at in range(len(data) - 1) if data[at] == 0xFF and data[at + 1] in (*range(0xD0, 0xD8), 0xD9)]

    for end in ends:
        with pytest.raises(CannotCutError):
            cut_photo(data[:end] + SECRET[:count] + data[end:])
    assert cut_photo(data) == data


@pytest.mark.parametrize(("mode", "options"), WAYS[::4])
def test_no_place_of_a_photo_lets_a_secret_out(mode: str, options: dict[str, Any]) -> None:
    """What is not certainly a whole scan and nothing else is left to be followed bit by bit."""
    data = file_of("JPEG", noise((128, 96), mode), **options)
    cut = 0

    for name, hidden in places_of("JPEG", data, SECRET):
        try:
            clean = cut_photo(hidden)
        except (CannotCutError, IndexError, ValueError):
            continue
        cut += 1
        assert SECRET[:4] not in clean, name
        with contextlib.suppress(OSError, SyntaxError), warnings.catch_warnings():  # of what was cut out
            warnings.simplefilter("ignore")
            assert opened(hidden).tobytes() == opened(clean).tobytes(), name

    assert cut > 100


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data.replace(b"\xff\xd1", b"\xff\xd2", 1), id="restarts out of order"),
        pytest.param(lambda data: data.replace(b"\xff\xd1", b"", 1), id="a restart is missing"),
        pytest.param(lambda data: data[:-2] + b"\xff\xd5" + data[-2:], id="a restart too many"),
        pytest.param(lambda data: data[:-2], id="no end"),
    ],
)
def test_a_damaged_photo_is_left_to_the_other_ways(damage: Any) -> None:
    """They say what is wrong with it, or encode what there is of it again."""
    data = file_of("JPEG", noise(), restart_marker_rows=1)

    with pytest.raises(CannotCutError):
        cut_photo(damage(data))


def test_a_photo_of_12_megapixels_keeps_its_pixels_in_a_second() -> None:
    """Followed bit by bit it takes two seconds of CPU time, and eight of them make a person wait for ten."""
    data = file_of("JPEG", noise((4032, 3024)), quality=85, exif=camera_notes())

    clean = copied(data, DecodeLimits(cpu_s=1, memory_bytes=110 * MIB))

    assert os.pread(clean.file.fileno(), len(data), 0) == cut_photo(data)


# ---- turning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [one.name for one in Image.Transpose])
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        pytest.param("RGB", {"subsampling": 2}, id="4:2:0"),
        pytest.param("RGB", {"subsampling": 1}, id="4:2:2"),
        pytest.param("RGB", {"subsampling": 0}, id="4:4:4"),
        pytest.param("RGB", {"keep_rgb": True}, id="red, green and blue"),
        pytest.param("L", {}, id="grey"),
        pytest.param("CMYK", {}, id="CMYK"),
    ],
)
def test_a_photo_turned_by_band_is_as_one_encoded_whole(operation: str, mode: str, options: dict[str, Any]) -> None:
    """A band begins at whole blocks, and a restart marker changes no pixel."""
    image = noise((150, 110), mode=mode)
    whole = image.transpose(Image.Transpose[operation])

    data, size = turned_jpeg(image, operation, {"quality": 90, "icc_profile": SRGB, **options}, band_px=2_500)

    wanted = opened(file_of("JPEG", whole, quality=90, **options))
    found = opened(data)
    assert (size, found.mode, found.info["icc_profile"]) == (whole.size, wanted.mode, SRGB)
    assert found.tobytes() == wanted.tobytes()
    assert data.count(b"ICC_PROFILE") == 1
    assert cut_jpeg(data) == data
    assert without_metadata(data).data == data


def test_a_photo_of_12_megapixels_is_turned_in_little_memory() -> None:
    """Two of them at once, and the worker, are to stay within 300 MB."""
    data = file_of("JPEG", noise((4032, 3024)), quality=85, exif=camera_notes(6))

    clean = copied(data, DecodeLimits(memory_bytes=110 * MIB))

    assert (clean.facts.width_px, clean.facts.height_px) == (3024, 4032)
    assert b"CameraMaker" not in os.pread(clean.file.fileno(), 10_000, 0)
    assert opened(os.pread(clean.file.fileno(), clean.facts.size_bytes, 0)).size == (3024, 4032)
