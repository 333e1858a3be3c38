"""Small pictures for tests that need real bytes, and files that are none."""

from __future__ import annotations

import base64
import io
import struct
import textwrap
import urllib.parse
import zlib
from typing import Any, Final

import pytest
from PIL import Image, ImageDraw, features


def picture(kind: str = "PNG", size: tuple[int, int] = (32, 16), **options: Any) -> bytes:
    """Return a small picture's bytes."""
    output = io.BytesIO()
    Image.new("RGB", size, "teal").save(output, kind, **options)
    return output.getvalue()


def scene(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Return a picture that looks different each way it is turned."""
    image = Image.new("RGB", size, "teal")
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2, size[1] // 3), fill="orange")
    return image


def file_of(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    """Return the file of a picture, by default of `scene`; skip the test where Pillow cannot write the format."""
    if kind == "AVIF" and not ("avif" in features.modules and features.check("avif")):
        pytest.skip("this Pillow has no AVIF")
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    output = io.BytesIO()
    (image or scene()).save(output, kind, **options)
    return output.getvalue()


def opened(data: bytes) -> Image.Image:
    """Return a file's picture."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def camera_notes(orientation: int = 1) -> bytes:
    """Return what a phone writes into a photo."""
    notes = Image.Exif()
    notes[0x0112] = orientation
    notes[0x010F] = "CameraMaker"
    notes.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0), 0x1D: "2020:01:01"})
    return notes.tobytes()


def png_chunk(name: bytes, body: bytes, *, checksum: int | None = None) -> bytes:
    """Return a chunk of a PNG, by default with its checksum."""
    checksum = zlib.crc32(name + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def with_first_chunks(png: bytes, *chunks: bytes) -> bytes:
    """Return a PNG with more chunks after its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def with_long_note(png: bytes, *, name: bytes = b"zTXt") -> bytes:
    """Return a PNG with a note that unpacks to three MiB."""
    head = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0"}[name]
    return with_first_chunks(png, png_chunk(name, head + zlib.compress(b"SECRET " * 450_000)))


def plain_png(width_px: int, height_px: int, *, rows: int | None = None) -> bytes:
    """Return a black PNG, of which so many rows are there; by default all of them."""
    packer, row = zlib.compressobj(), bytes(1 + width_px)
    pixels = b"".join(packer.compress(row) for _ in range(height_px if rows is None else rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 0, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def with_frame(jpeg: bytes, *, marker: int = 0xC0, bits: int = 8) -> bytes:
    """Return a baseline JPEG whose frame says that it is of another process or depth."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 1] + bytes((marker,)) + jpeg[at + 2 : at + 4] + bytes((bits,)) + jpeg[at + 5 :]


def deep_png(size: tuple[int, int], *, colour: int = 2, orientation: int = 1) -> tuple[bytes, list[bytes]]:
    """Return a PNG of 16 bits a sample, and its rows as they are stored.

    Args:
        size: In pixels.
        colour: 2 for RGB, 6 with transparency.
        orientation: As a camera says how it was held.
    """
    pixel_bytes = {2: 6, 6: 8}[colour]
    rows = [bytes((x * 37 + y * 11 + x * y) % 256 for x in range(size[0] * pixel_bytes)) for y in range(size[1])]
    header = struct.pack(">IIBBBBB", *size, 16, colour, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"gAMA", struct.pack(">I", 100_000))
    chunks += png_chunk(b"eXIf", camera_notes(orientation).removeprefix(b"Exif\0\0"))
    chunks += png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks, rows


def deep_rows(png: bytes) -> list[bytes]:
    """Return the rows of a 16-bit PNG whose rows have the filters "none" and "up"."""
    at, packed, width_px, colour = 8, b"", int.from_bytes(png[16:20], "big"), png[25]
    assert png[24] == 16
    while at < len(png):
        length, name = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        packed += png[at + 8 : at + 8 + length] if name == b"IDAT" else b""
        at += 12 + length
    raw, row_bytes = zlib.decompress(packed), width_px * {2: 6, 6: 8}[colour]
    rows, above = [], bytes(row_bytes)
    for start in range(0, len(raw), row_bytes + 1):
        row = raw[start + 1 : start + 1 + row_bytes]
        if raw[start] == 2:
            row = bytes((now + before) % 256 for now, before in zip(row, above, strict=True))
        above = row
        rows.append(row)
    return rows


def _tiff_of_a_camera(extra_tag: int) -> bytes:
    """Return the beginning of a raw photo, which is a TIFF whose first picture is a preview."""
    entries = sorted([(254, 4, 1, 1), (256, 4, 1, 16), (257, 4, 1, 16), (extra_tag, 4, 1, 0)])
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(200)


def _zip(*names: str) -> bytes:
    return b"".join(b"PK\3\4" + bytes(22) + struct.pack("<HH", len(name), 0) + name.encode() for name in names)


# What people send that is no picture, or none that can be read: name, bytes, what a refusal calls it.
NO_PICTURES: Final[dict[str, tuple[bytes, str]]] = {
    "nothing": (b"", "an empty file"),
    "zeros": (bytes(5000), "a file of zeros"),
    "an HTML page": (b"\n<!DOCTYPE html><title>Sign in</title>", "an HTML page"),
    "an HTML page in UTF-16": ("<html><p>Sign in".encode("utf-16"), "an HTML page"),
    "a page with a drawing": (b"<html><body><svg></svg>", "an HTML page"),
    "a storage's error": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "an XML document"),
    "a service's error": (b'{"error": {"message": "no"}}', "JSON text"),
    "text": ("Grüße, here is the picture".encode(), "text"),
    "text cut in a letter": (b"a" * 4095 + "ü".encode(), "text"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a Git LFS pointer, not"),
    "base64": (base64.b64encode(file_of("JPEG")), "the text of a picture in base64"),
    "a data: URL": (b"data:image/png;base64,\n" + base64.b64encode(file_of("PNG")), "the text of a picture in base64"),
    "SVG": (b"<?xml version='1.0'?><!-- x --><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
    "SVG after a long comment": (b"<?xml version='1.0'?>\n<!-- " + b"x" * 9000 + b" -->\n<svg/>", "an SVG drawing"),
    "SVG in UTF-16": (f"<!--{'x' * 9000}--><svg/>".encode("utf-16"), "an SVG drawing"),
    "SVG with a type": (b"<?xml?><!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'x'>\n<svg/>", "an SVG drawing"),
    "a page after a long comment": (b"<!-- " + b"<svg>" * 2000 + b" --><html>", "an HTML page"),
    "a comment without an end": (b"<!-- " + b"x" * 9000, "an XML document"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0", "a PostScript drawing"),
    "MP4": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2avc1mp41", "a video (MP4)"),
    "MOV": (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", "a video (QuickTime)"),
    "old MOV": (b"\0\0\0\x08wide\0\0\0\x20mdat", "a video (QuickTime)"),
    "WebM": (b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\x82\x84webm", "a video (WebM)"),
    "Matroska": (b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\x82\x88matroska", "a video (Matroska)"),
    "AVI": (b"RIFF\0\0\1\0AVI LIST", "a video (AVI)"),
    "WAV": (b"RIFF\0\0\1\0WAVEfmt ", "a sound recording (WAV)"),
    "MP3": (b"ID3\4\0\0\0\0\0\0", "a sound recording (MP3)"),
    "M4A": (b"\0\0\0\x18ftypM4A \0\0\2\0M4A isom", "a sound recording (M4A)"),
    "ZIP": (_zip("a.txt"), "a ZIP archive"),
    "docx": (_zip("[Content_Types].xml", "word/document.xml"), "a Word document"),
    "gzip": (b"\x1f\x8b\x08\0", "a gzip archive"),
    "a companion file": (b"\0\x05\x16\x07\0\2\0\0Mac OS X", "a Mac's companion file"),
    "JPEG XL": (b"\xff\x0a\xfa\x0f", "a JPEG XL picture"),
    "JPEG XL in a container": (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    "TGA": (file_of("TGA"), "a Targa picture"),
    "a compressed TGA": (file_of("TGA", compression="tga_rle"), "a Targa picture"),
    "a mouse pointer": (b"\0\0\2\0\1\0\x20\x20\0\0", "a mouse pointer"),
    "PCX": (file_of("PCX"), "a PCX picture"),
    "PSD": (b"8BPS\0\1", "a Photoshop document"),
    "DNG": (_tiff_of_a_camera(0xC612), "a camera's raw photo"),
    "NEF": (_tiff_of_a_camera(330), "a camera's raw photo"),
    "CR3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw photo"),
    "a cut PNG": (file_of("PNG")[:-30], "a PNG picture that is cut short"),
    "half a JPEG": (file_of("JPEG")[:400], "a JPEG picture that is cut short"),
    "half a WebP": (file_of("WEBP")[:60], "a WebP picture that is cut short"),
    "a damaged PNG": (file_of("PNG").replace(b"IDAT", b"IDAT\xff", 1), "a PNG picture that is damaged"),
    "half a TIFF": (file_of("TIFF")[:300], "a TIFF picture that is damaged or cut short"),
    "bytes": (b"\xfe\xed\xfa\xce\1\2\3\4", "of no known kind"),
}


def data_urls(data: bytes, mime: str = "image/png") -> dict[str, str]:
    """Return spellings of one picture as a `data:` URL that people and programs send."""
    coded = base64.b64encode(data).decode()
    return {
        "plain": f"data:{mime};base64,{coded}",
        "upper case": f"DATA:{mime.upper()};BASE64,{coded}",
        "charset": f"data:{mime};charset=utf-8;base64,{coded}",
        "a name with a space": f"data:{mime};name=a b.png;base64,{coded}",
        "space before base64": f"data:{mime}; base64,{coded}",
        "lines of 76": f"data:{mime};base64," + "\n".join(textwrap.wrap(coded, 76)),
        "Windows lines": f"data:{mime};base64,\r\n" + "\r\n".join(textwrap.wrap(coded, 64)) + "\r\n",
        "space after the comma": f"data:{mime};base64, {coded}",
        "white space around": f" \ndata:{mime};base64,{coded}\n",
        "quoted": f'"data:{mime};base64,{coded}"',
        "alphabet of URLs": f"data:{mime};base64," + base64.urlsafe_b64encode(data).decode(),
        "no padding": f"data:{mime};base64," + coded.rstrip("="),
        "percent-encoded base64": f"data:{mime};base64," + urllib.parse.quote(coded, safe=""),
        "percent-encoded bytes": f"data:{mime}," + urllib.parse.quote_from_bytes(data),
        "no type": f"data:;base64,{coded}",
        "another type": f"data:text/plain;base64,{coded}",
        "pluses as spaces, as forms decode them": f"data:{mime};base64," + coded.replace("+", " "),
        "lines apart by spaces": f"data:{mime};base64," + " ".join(textwrap.wrap(coded, 76)),
        "line breaks escaped": f"data:{mime};base64," + r"\n".join(textwrap.wrap(coded, 76)) + r"\r\n",
        "slashes escaped": f"data:{mime};base64,{coded}".replace("/", r"\/"),
        "the prefix twice": f"data:{mime};base64,data:{mime};base64,{coded}",
        "a parameter after base64": f"data:{mime};base64;charset=utf-8,{coded}",
        "without base64": f"data:{mime},{coded}",
        "a comma in a quoted name": f'data:{mime};name="a, b.png";base64,{coded}',
        "percent-encoded head": f"data:{mime.replace('/', '%2F')}%3Bbase64,{coded}",
        "a fragment": f"data:{mime};base64,{coded}#fox",
        "a byte order mark": f"\ufeffdata:{mime};base64,{coded}",
        "an invisible character": f"data:{mime};base64,\u200b{coded}",
    }
