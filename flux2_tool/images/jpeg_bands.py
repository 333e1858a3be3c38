"""Turn a large JPEG and encode it band by band, each with the same tables, joined by restart markers into one scan.

So neither the turned picture nor a second copy of the pixels is ever held, and the file has the same pixels as one that
is encoded whole. Source: ITU-T T.81, annexes B.2.4.4 (DRI) and F.1.1.5 (what a restart resets).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flux2_tool.images.turning import bands_of

if TYPE_CHECKING:
    from PIL import Image

_BAND_PX: Final = 1_000_000
# A multiple of the height of an MCU, whatever the sampling that Pillow writes.
_BAND_ROWS: Final = 16
_SOF: Final = (0xC0, 0xC1)
_SOS: Final = 0xDA


@dataclass(frozen=True, slots=True, kw_only=True)
class _Baseline:
    """A baseline JPEG of one scan, as Pillow writes it."""

    before_scan: bytes
    scan: bytes
    frame_at: int
    mcus_a_row: int
    mcu_rows_px: int

    @classmethod
    def of(cls, data: bytes) -> _Baseline:
        at, frame_at = 2, 0
        while (marker := data[at + 1]) != _SOS:
            if marker in _SOF:
                frame_at = at + 4
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        (width_px,), count = struct.unpack_from(">H", data, frame_at + 3), data[frame_at + 5]
        samplings = data[frame_at + 7 : frame_at + 6 + 3 * count : 3]
        # The blocks of a component that is alone are not interleaved with others.
        across, down = (max(one >> 4 for one in samplings), max(one & 15 for one in samplings)) if count > 1 else (1, 1)
        return cls(
            before_scan=data[:at],
            scan=data[at:-2],
            frame_at=frame_at,
            mcus_a_row=-(-width_px // (8 * across)),
            mcu_rows_px=8 * down,
        )

    def head(self, height_px: int, *, restart_rows: int) -> bytes:
        """Return what is before the scan of a picture of this height that restarts after so many rows."""
        head = bytearray(self.before_scan)
        struct.pack_into(">H", head, self.frame_at + 1, height_px)
        if restart_rows < height_px:
            head += struct.pack(">HHH", 0xFFDD, 4, self.mcus_a_row * (restart_rows // self.mcu_rows_px))
        return bytes(head)

    @property
    def coded(self) -> bytes:
        """The scan without its header."""
        return self.scan[2 + int.from_bytes(self.scan[2:4], "big") :]


def turned_jpeg(
    image: Image.Image, transpose: str, options: Mapping[str, Any], *, band_px: int = _BAND_PX
) -> tuple[bytes, tuple[int, int]]:
    """Return a baseline JPEG of a picture turned by one of Pillow's transpose operations, and its size in pixels.

    Args:
        image: Loaded, and left as it is; what its `info` holds is not written.
        transpose: The name of a member of Pillow's `Transpose`.
        options: Pillow's for a JPEG; the same for every band, so none that depends on the pixels.
        band_px: About how many pixels a band has.
    """
    size, bands = bands_of(image, transpose, band_px=band_px, multiple_of=_BAND_ROWS)
    # Unlike a join of parts, it takes the memory of the file only once.
    output = io.BytesIO()
    for number, band in enumerate(bands):
        if number == 0:
            first = _Baseline.of(_saved(band, options))
            output.write(first.head(size[1], restart_rows=band.size[1]) + first.scan)
            continue
        # Only the first band's parts before its scan are kept.
        written = _Baseline.of(_saved(band, {**options, "icc_profile": None}))
        output.write(bytes((0xFF, 0xD0 + (number - 1) % 8)) + written.coded)
    output.write(b"\xff\xd9")
    return output.getvalue(), size


def _saved(band: Image.Image, options: Mapping[str, Any]) -> bytes:
    band.info = {}
    output = io.BytesIO()
    band.save(output, format="JPEG", **options)
    return output.getvalue()
