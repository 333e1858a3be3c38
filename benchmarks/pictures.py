"""Eight worst pictures at once: what the worker and the processes that decode for it take, in memory and CPU time.

Twice: in calls that wait for less than that takes, so that it must be given up, and in calls that wait for all of it.
Memory is the sum of the proportional set sizes of the worker and everything below it, sampled every 20 ms: shared
pages count once. CPU time includes children that have ended. Sources: proc(5), smaps_rollup.
"""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from PIL import Image

from benchmarks.bench import Bench, say
from benchmarks.family_costs import Costs

AT_ONCE: Final = 8
WAIT_S: Final = 120
SHORT_WAIT_S: Final = 2
LATE_S: Final = 1.0
_MIB: Final = 1024 * 1024
_NOTE: Final = b"Exif\0\0MM\0*\0\0\0\x08\0\0"


async def measure(bench: Bench) -> list[dict[str, Any]]:
    """Return one entry an attack: eight calls at once, each with one such picture of its own."""
    entries = []
    for name, make in ATTACKS.items():
        data = make()
        home = bench.new_home()
        sources = _sources(home, name, data)
        async with bench.ours(home=home) as client:
            await client.remix("none.png", workspace=home, wait_s=0)

            async def calls(wait_s: float) -> tuple[Counter[str], float]:
                begun_s = time.monotonic()
                results = await asyncio.gather(
                    *(client.remix(source, workspace=home, wait_s=wait_s) for source in sources)  # noqa: B023 - awaited here
                )
                return Counter(outcome_of(result) for result in results), time.monotonic() - begun_s

            costs = Costs(client.meter.pid)
            watching = asyncio.create_task(costs.watch())
            _, answered_s = await calls(SHORT_WAIT_S)
            await asyncio.sleep(max(0.0, SHORT_WAIT_S + LATE_S - answered_s))
            late_cpu_s = await costs.of_the_living(LATE_S)
            begun_cpu_s = costs.cpu_s
            outcomes, wall_s = await calls(WAIT_S)
            watching.cancel()
        entries.append(
            {"attack": name, "file_bytes": len(data), "outcomes": dict(outcomes), "wall_s": wall_s}
            | {"peak_bytes": costs.peak_bytes, "cpu_s": costs.cpu_s - begun_cpu_s}
            | {"short_wait_s": SHORT_WAIT_S, "answered_s": answered_s, "late_cpu_s": late_cpu_s}
        )
        say(f"pictures: {name}, {costs.peak_bytes / 1e6:.0f} MB, {costs.cpu_s:.1f} s")
    return entries


def _sources(home: Path, name: str, data: bytes) -> list[str]:
    if name.startswith("data:"):
        return [f"data:image/webp;base64,{base64.b64encode(data).decode()}"] * AT_ONCE
    home.mkdir(parents=True, exist_ok=True)
    names = [f"{number}.bin" for number in range(AT_ONCE)]
    for one in names:
        (home / one).write_bytes(data)
    return names


def outcome_of(result: Mapping[str, Any]) -> str:
    """Return what became of a call's source picture."""
    if "error" not in result:
        return "used"
    message = str(result["error"]["message"])
    return message.partition("was refused: ")[2].partition(". Nothing")[0] or message


# ---- the pictures ----------------------------------------------------------------------------------------------------


def _png(width_px: int, height_px: int, *, extra: bytes = b"") -> bytes:
    rows = zlib.compressobj(9)
    row = bytes(1 + 4 * width_px)
    pixels = b"".join(rows.compress(row) for _ in range(height_px)) + rows.flush()
    head = struct.pack(">IIBBBBB", width_px, height_px, 8, 6, 0, 0, 0)
    parts = (_chunk(b"IHDR", head), extra, _chunk(b"IDAT", pixels), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def _noise(side_px: int) -> Image.Image:
    return Image.effect_noise((side_px, side_px), 90).convert("RGB")


def _repeated_scans(side_px: int, *, mib: int) -> bytes:
    data = _saved(Image.new("L", (side_px, side_px)), "JPEG", progressive=True, quality=30)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * ((mib * _MIB - len(data)) // len(scan)) + data[-2:]


def _turned_photo() -> bytes:
    notes = Image.Exif()
    notes[0x0112] = 6
    return _saved(_noise(6900), "JPEG", quality=80, exif=notes)


def _png_in_pieces(before: bytes, *, mib: int) -> bytes:
    """A PNG of a few pixels, filled up with one part repeated between its header and its pixels."""
    part = _chunk(before, b"")
    return _png(8, 8, extra=part * (mib * _MIB // len(part)))


def _many_png_frames(*, mib: int) -> bytes:
    """A moving PNG whose frames have one pixel each."""
    pixel = zlib.compress(bytes(5))
    control = struct.pack(">4I2H2B", 1, 1, 0, 0, 1, 10, 0, 0)
    frame = _chunk(b"fcTL", bytes(4) + control) + _chunk(b"fdAT", bytes(4) + pixel)
    count = mib * _MIB // len(frame)
    still = _png(1, 1, extra=_chunk(b"acTL", struct.pack(">2I", count, 0)))
    return still[:-12] + frame * count + still[-12:]


def _many_frames() -> bytes:
    data = _saved(Image.new("P", (1, 1)), "GIF")
    frames = data[13 + 3 * (2 << (data[10] & 7)) : -1]
    return data[:-1] + frames[frames.index(b"\x2c") :] * 1_000_000 + b"\x3b"


ATTACKS: Final[Mapping[str, Callable[[], bytes]]] = {
    "PNG, 64 megapixels with a note": lambda: _png(7999, 8000, extra=_chunk(b"tEXt", b"k\0note")),
    "data: URL, WebP, 64 megapixels": lambda: _saved(
        Image.new("RGB", (16383, 3906)), "WEBP", lossless=True, exif=_NOTE
    ),
    "JPEG, 64 megapixels, scans repeated": lambda: _repeated_scans(8000, mib=3),
    "JPEG, 9 megapixels, scans repeated": lambda: _repeated_scans(3000, mib=3),
    "JPEG, 48 megapixels, to be turned": _turned_photo,
    "WebP, 16 megapixels of noise with a note": lambda: _saved(_noise(4000), "WEBP", quality=80, exif=_NOTE),
    "PNG, 2 million empty parts": lambda: _png(8, 8, extra=_chunk(b"sBIT", b"") * 2_000_000),
    "PNG, 30 MB of empty notes": lambda: _png_in_pieces(b"tEXt", mib=28),
    "PNG, 30 MB of empty pieces of its pixels": lambda: _png_in_pieces(b"IDAT", mib=28),
    "PNG, 30 MB of one-pixel frames": lambda: _many_png_frames(mib=28),
    "GIF, a million frames": _many_frames,
}
