"""Say what a file is by its first bytes, so that a refusal can name it and its reader knows what to do.

Pure, and reads a few thousand bytes; more only to skip an XML document's comments or a JPEG's metadata.
Sources: the formats' own specifications, and file(1)'s magic numbers.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from flux2_tool.images.data_url import BASE64_BEGINNINGS

# What becomes of a file: it may be sent, it is converted first, it is a picture that cannot be read, or none at all.
Use = Literal["sent", "converted", "unreadable", "none"]

HEAD_BYTES: Final = 4096
_EXPORT: Final = "Export it as PNG or JPEG, then use that."
_USUAL_JPEG: Final = "Export it as a usual JPEG of 8 bits or a PNG, then use that."
_FRAME: Final = "Save one frame of it as a PNG or JPEG, then use that."
_PAGE: Final = "Save the page as a PNG or JPEG, then use that."
_LINK: Final = "Fetch the picture's own address (it may need a login), then use that file."
_OTHER: Final = "Use a PNG, JPEG or WebP picture."
_AGAIN: Final = "Send or download the picture again, then use the new file."
_TAKE_OUT: Final = "Take the picture out of it, then use that."


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is.

    Attributes:
        name: In words, with its article: "a HEIC photo".
        use: What becomes of it as a source.
        suffix: Of a picture's file name, with the dot; "" for what is no picture.
        decoder: Pillow's name of the format; "" if Pillow does not read it.
        advice: What whoever sent it can do; "" if it is used.
    """

    name: str
    use: Use = "none"
    suffix: str = ""
    decoder: str = ""
    advice: str = _OTHER


PNG: Final = FileKind("a PNG picture", "sent", ".png", "PNG", "")
JPEG: Final = FileKind("a JPEG picture", "sent", ".jpg", "JPEG", "")
WEBP: Final = FileKind("a WebP picture", "sent", ".webp", "WEBP", "")
GIF: Final = FileKind("a GIF picture", "sent", ".gif", "GIF", "")
AVIF: Final = FileKind("an AVIF picture", "converted", ".avif", "AVIF", _EXPORT)
HEIC: Final = FileKind("a HEIC photo", "converted", ".heic", "HEIF", "Send it as JPEG.")
TIFF: Final = FileKind("a TIFF picture", "converted", ".tif", "TIFF", _EXPORT)
BMP: Final = FileKind("a BMP picture", "converted", ".bmp", "BMP", _EXPORT)
ICO: Final = FileKind("an icon (ICO)", "converted", ".ico", "ICO", _EXPORT)
JPEG_2000: Final = FileKind("a JPEG 2000 picture", "converted", ".jp2", "JPEG2000", _EXPORT)
EMPTY: Final = FileKind("an empty file (0 bytes)", advice=_AGAIN)
_JPEG_XL: Final = FileKind("a JPEG XL picture", "unreadable", ".jxl", advice=_EXPORT)
_RAW: Final = FileKind("a camera's raw photo", "unreadable", ".dng", advice=_EXPORT)
_QUICKTIME: Final = FileKind("a video (QuickTime)", advice=_FRAME)
_ZEROS: Final = FileKind("a file of zeros, as a download leaves it that was broken off", advice=_AGAIN)
_TEXT: Final = FileKind("text")
_JSON: Final = FileKind("JSON text, such as a service's error message", advice=_LINK)
_HTML: Final = FileKind("an HTML page", advice=_LINK)
_XML: Final = FileKind("an XML document, such as a storage's error message", advice=_LINK)
_SVG: Final = FileKind("an SVG drawing", advice=_EXPORT)
_PDF: Final = FileKind("a PDF document", advice=_PAGE)
_POINTER: Final = FileKind("a Git LFS pointer", advice="Run git lfs pull, then use the file.")
_CODED: Final = FileKind(
    "the text of a picture in base64", advice="Decode it into a file, or give that text as a data: URL."
)
_TARGA: Final = FileKind("a Targa picture (TGA)", "unreadable", ".tga", advice=_EXPORT)
_NETPBM: Final = FileKind("a Netpbm picture", "converted", ".ppm", "PPM", _EXPORT)
_TWELVE_BITS: Final = FileKind("a JPEG picture of 12 bits", "unreadable", ".jpg", advice=_USUAL_JPEG)
_LOSSLESS: Final = FileKind("a lossless JPEG picture", "unreadable", ".jpg", advice=_USUAL_JPEG)
_JPEG_LS: Final = FileKind("a JPEG-LS picture", "unreadable", ".jls", advice=_USUAL_JPEG)
UNKNOWN: Final = FileKind("of no known kind", advice=_OTHER)

_MAGIC: Final[tuple[tuple[bytes, FileKind], ...]] = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"\0\0\1\0", ICO),
    # A pointer says here how many it holds.
    (b"\0\0\2\0\0\0\0\0", _TARGA),
    (b"\0\0\x0a\0\0\0\0\0", _TARGA),
    (b"\0\0\2\0", FileKind("a mouse pointer (CUR)", advice=_EXPORT)),
    (b"\x0a\5\1\x08", FileKind("a PCX picture", "unreadable", ".pcx", advice=_EXPORT)),
    (b"\0\0\0\x0cjP  \r\n\x87\n", JPEG_2000),
    (b"\xff\x4f\xff\x51", JPEG_2000),
    (b"\0\0\0\x0cJXL \r\n\x87\n", _JPEG_XL),
    (b"\xff\x0a", _JPEG_XL),
    (b"8BPS", FileKind("a Photoshop document (PSD)", "unreadable", ".psd", advice=_EXPORT)),
    (b"gimp xcf", FileKind("a GIMP document (XCF)", "unreadable", ".xcf", advice=_EXPORT)),
    (b"icns", FileKind("a Mac's icon (ICNS)", "unreadable", ".icns", advice=_EXPORT)),
    (b"qoif", FileKind("a QOI picture", "unreadable", ".qoi", advice=_EXPORT)),
    (b"\x76\x2f\x31\x01", FileKind("an OpenEXR picture", "unreadable", ".exr", advice=_EXPORT)),
    (b"#?RADIANCE", FileKind("a Radiance HDR picture", "unreadable", ".hdr", advice=_EXPORT)),
    (b"DDS ", FileKind("a DDS texture", "unreadable", ".dds", advice=_EXPORT)),
    (b"IIRO", _RAW),
    (b"IIRS", _RAW),
    (b"IIU\0", _RAW),
    (b"FUJIFILMCCD-RAW", _RAW),
    (b"II+\0", FileKind("a BigTIFF picture", "unreadable", ".tif", advice=_EXPORT)),
    (b"MM\0+", FileKind("a BigTIFF picture", "unreadable", ".tif", advice=_EXPORT)),
    (b"%!PS", FileKind("a PostScript drawing", advice=_EXPORT)),
    (b"\xc5\xd0\xd3\xc6", FileKind("a PostScript drawing", advice=_EXPORT)),
    (b"OggS", FileKind("an Ogg recording", advice=_FRAME)),
    (b"FLV\1", FileKind("a video (FLV)", advice=_FRAME)),
    (b"\0\0\1\xba", FileKind("a video (MPEG)", advice=_FRAME)),
    (b"\0\0\1\xb3", FileKind("a video (MPEG)", advice=_FRAME)),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", FileKind("a video (WMV)", advice=_FRAME)),
    (b"ID3", FileKind("a sound recording (MP3)")),
    (b"\xff\xfb", FileKind("a sound recording (MP3)")),
    (b"fLaC", FileKind("a sound recording (FLAC)")),
    (b"\x1f\x8b", FileKind("a gzip archive", advice=_TAKE_OUT)),
    (b"7z\xbc\xaf\x27\x1c", FileKind("a 7z archive", advice=_TAKE_OUT)),
    (b"Rar!", FileKind("a RAR archive", advice=_TAKE_OUT)),
    (b"BZh", FileKind("a bzip2 archive", advice=_TAKE_OUT)),
    (b"\xfd7zXZ\0", FileKind("an xz archive", advice=_TAKE_OUT)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind("an old Office document", advice=_TAKE_OUT)),
    (b"SQLite format 3\0", FileKind("a database (SQLite)")),
    (b"\x7fELF", FileKind("a program")),
    (b"MZ\x90", FileKind("a program")),
    (
        b"\0\x05\x16\x07",
        FileKind("a Mac's companion file (AppleDouble)", advice="Use the file without ._ before it."),
    ),
)
_BRANDS: Final[tuple[tuple[tuple[bytes, ...], FileKind], ...]] = (
    ((b"avif", b"avis"), AVIF),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), HEIC),
    ((b"crx ",), _RAW),
    ((b"qt  ",), _QUICKTIME),
    ((b"M4A ", b"M4B "), FileKind("a sound recording (M4A)")),
)
_OFFICE: Final = ((b"word/", "a Word document"), (b"xl/", "an Excel document"), (b"ppt/", "a PowerPoint document"))
_IS_NETPBM: Final = re.compile(rb"P[1-6]\s+[#0-9]")
_IS_CODED: Final = re.compile(
    rf"\s*(?:data:image/[^,\s]{{1,100}},\s*)?(?:{'|'.join(BASE64_BEGINNINGS)})[A-Za-z0-9+/_-]{{20}}".encode()
)
# Whatever else there is of JPEG's frames, with a process that usual decoders have; and those without loss.
_FRAMES: Final = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
_LOSSLESS_FRAMES: Final = frozenset((0xC3, 0xC7, 0xCB, 0xCF))
_MAX_UTF_16_BYTES: Final = 256 * 1024
_BEFORE_ROOT: Final = re.compile(rb"[\s>]*(<\?|<!--)")
_PAGE_TAGS: Final = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<title", b"<meta", b"<div", b"<p>")


def kind_of(data: bytes) -> FileKind:
    """Return what a file is; UNKNOWN for binary data without a known beginning.

    Args:
        data: The whole file, or at least its first HEAD_BYTES.
    """
    if not data:
        return EMPTY
    head = data[:HEAD_BYTES]
    for found in (_of_container(head), _of_magic(head), _of_text(data)):
        if found is not None:
            return _of_frame(data) if found is JPEG else found
    return UNKNOWN if head.strip(b"\0") else _ZEROS


def unreadable_because(data: bytes, kind: FileKind) -> str:
    """Return why a picture of a known kind could not be decoded; completes the sentence "it …"."""
    if has_no_end(data, kind):
        return cut_short(data, kind)
    return f"is {kind.name} that is damaged or cut short ({len(data)} bytes)"


def cut_short(data: bytes, kind: FileKind) -> str:
    """Return the same of a picture that is certainly cut short."""
    return f"is {kind.name} that is cut short ({len(data)} bytes)"


def has_no_end(data: bytes, kind: FileKind) -> bool:
    """Return whether a file that cannot be decoded has no end of its format."""
    if kind is WEBP:
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    end = {"PNG": b"IEND", "JPEG": b"\xff\xd9", "GIF": b";"}.get(kind.decoder)
    return end is not None and end not in data.rstrip(b"\0")[-1024:]


def _of_container(head: bytes) -> FileKind | None:
    """Return the kind of a file whose container may hold several."""
    if head[:4] == b"RIFF":
        names = {b"WEBP": WEBP, b"AVI ": FileKind("a video (AVI)", advice=_FRAME)}
        return names.get(head[8:12], FileKind("a sound recording (WAV)") if head[8:12] == b"WAVE" else None)
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    if head[4:8] in (b"moov", b"mdat", b"wide") or (head[4:8] == b"free" and b"mdat" in head):
        return _QUICKTIME
    if head[:4] == b"\x1aE\xdf\xa3":
        return FileKind(f"a video ({'WebM' if b'webm' in head[:64] else 'Matroska'})", advice=_FRAME)
    if head[:4] == b"PK\3\4":
        name = next((name for part, name in _OFFICE if part in head), "a ZIP archive")
        return FileKind(name, advice=_TAKE_OUT)
    if head[:4] in (b"II*\0", b"MM\0*"):
        return _RAW if _is_raw(head) else TIFF
    if head[:2] == b"BM" and len(head) > 18 and int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124):
        return BMP
    if _IS_NETPBM.match(head):
        return _NETPBM
    return _PDF if b"%PDF-" in head[:1024] else None


def _of_brands(head: bytes) -> FileKind:
    """Return the kind of an ISO container, by its own brand first. Source: ISO/IEC 14496-12, 23008-12."""
    box = head[8 : max(16, min(int.from_bytes(head[:4], "big"), 256))]
    brands = [box[:4], *(box[at : at + 4] for at in range(8, len(box), 4))]
    # A HEIF file of the general brand says among the compatible ones how it is coded.
    if brands[0] in (b"mif1", b"msf1") and b"avif" in brands:
        return AVIF
    for names, kind in _BRANDS:
        if brands[0] in names:
            return kind
    return FileKind("a video (MP4)", advice=_FRAME)


def _is_raw(head: bytes) -> bool:
    """Return whether a TIFF is a raw photo: its first picture is then a small preview. Source: TIFF 6.0, DNG 1.7."""
    if head[8:10] == b"CR":
        return True
    tags = dict(_first_tags(head))
    return 0xC612 in tags or (bool(tags.get(254, 0) & 1) and 330 in tags)


def _first_tags(head: bytes) -> Iterator[tuple[int, int]]:
    order = "<" if head[:2] == b"II" else ">"
    try:
        (at,) = struct.unpack_from(f"{order}I", head, 4)
        (count,) = struct.unpack_from(f"{order}H", head, at)
        for number in range(count):
            tag, _type, _count, value = struct.unpack_from(f"{order}HHII", head, at + 2 + 12 * number)
            yield tag, value
    except struct.error:
        return


def _of_magic(head: bytes) -> FileKind | None:
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


def _of_frame(data: bytes) -> FileKind:
    """Return the kind of a JPEG by the marker of its frame. Sources: ITU-T T.81, table B.1; ITU-T T.87."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 5 <= len(data):
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _LOSSLESS_FRAMES:
            return _LOSSLESS
        if marker == 0xF7:
            return _JPEG_LS
        if marker in _FRAMES:
            return _TWELVE_BITS if data[at + 4] == 12 else JPEG
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2:
            break
        at += 2 + length
    return JPEG


def _of_text(data: bytes) -> FileKind | None:
    text = data.removeprefix(b"\xef\xbb\xbf")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data[:_MAX_UTF_16_BYTES].decode("utf-16", "replace").encode()
    start = text[:HEAD_BYTES].lstrip().lower()
    if start.startswith(b"<"):
        is_xml = start.startswith(b"<?xml")
        start = _from_root(text).lower()
        if b"<svg" in start:
            return _SVG if not any(tag in start[: start.index(b"<svg")] for tag in _PAGE_TAGS) else _HTML
        if is_xml and b"<html" not in start:
            return _XML
        return _HTML if any(tag in start for tag in _PAGE_TAGS) else _XML
    text = text[:HEAD_BYTES]
    if not _is_text(text):
        return None
    if start.startswith(b"version https://git-lfs"):
        return _POINTER
    if _IS_CODED.match(text):
        return _CODED
    return _JSON if start[:1] in (b"{", b"[") else _TEXT


def _from_root(text: bytes) -> bytes:
    """Return the beginning of a document without the instructions and comments before its first tag."""
    at = 0
    while (found := _BEFORE_ROOT.match(text, at)) is not None:
        end = text.find(b"-->" if found[1] == b"<!--" else b"?>", found.end())
        if end < 0:
            break
        at = end + len(b"?>")
    return text[at : at + HEAD_BYTES]


def _is_text(data: bytes) -> bool:
    try:
        # Not to its end, because the head may end within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return not any(character < " " and character not in "\t\n\r\f\x1b" for character in text)
