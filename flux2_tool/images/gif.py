"""Cut a GIF down to its picture: screen, colour tables, frames up to their last code, and the number of loops.

Frames are kept, all of them. Source: GIF89a; NETSCAPE2.0 as browsers read it.
"""

from __future__ import annotations

from typing import Final

from flux2_tool.images.gif_codes import CodeBudget, cut_codes
from flux2_tool.images.parts import CannotCutError

_LOOPS: Final = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_MAX_BLOCK_BYTES: Final = 255
_MAX_READ_BLOCKS: Final = 8


def cut_gif(data: bytes) -> bytes:
    """Return a GIF's picture.

    Raises:
        CannotCutError: See `only_the_picture`.
    """
    if data[:6] not in (b"GIF87a", b"GIF89a") or len(data) < 13:
        raise CannotCutError("it does not begin with its header")
    at = 13 + _table_bytes(data[10])
    if len(data) < at:
        raise CannotCutError("its colour table is cut short")
    blocks, uses_table = _blocks(data, at)
    table = data[13:at] if uses_table else bytes(at - 13)
    return b"".join((data[:13], table, *blocks, b";"))


def _blocks(data: bytes, at: int) -> tuple[list[bytes], bool]:
    """Return the blocks to keep, and whether a frame uses the table of all."""
    output: list[bytes] = []
    budget = CodeBudget()
    control = b""
    has_loops = uses_table = has_frames = False
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x2C:
            frame, at = _frame(data, at, budget)
            uses_table |= not frame[9] & 0x80
            output += (control, frame)
            control, has_frames = b"", True
        elif data[at] == 0x21:
            label = data[at + 1]
            content, at = _sub_blocks(data, at + 2)
            if label == 0xF9 and content:
                control = _control(content[0], control)
            elif label == 0xFF and content and content[0] in _LOOPS and not has_loops:
                loops = _loops(content)
                has_loops = bool(loops)
                output.append(loops)
        else:
            at += 1  # decoders look for the next block
    if not has_frames:
        raise CannotCutError("it has no frame")
    return output, uses_table


def _table_bytes(flags: int) -> int:
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def _sub_blocks(data: bytes, at: int) -> tuple[list[bytes], int]:
    """Return an extension's first sub-blocks, which are all that one with a meaning has, and where the last ends."""
    found: list[bytes] = []
    while size := data[at]:
        if len(found) < _MAX_READ_BLOCKS:
            found.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    return found, at + 1


def _joined_blocks(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the content of all sub-blocks of a frame, and where they end."""
    found = bytearray()
    while size := data[at]:
        found += data[at + 1 : at + 1 + size]
        at += 1 + size
    return bytes(found), at + 1


def _control(content: bytes, earlier: bytes) -> bytes:
    """Return the block that says how the next frame is shown; decoders merge it with an earlier one for the same."""
    if len(content) != 4:
        raise CannotCutError("a frame's delay is invalid")
    # The three upper bits of the flags are reserved; a transparent colour has a meaning only with its flag.
    flags, transparent = content[0] & 0x1F, content[3] if content[0] & 1 else 0
    if earlier:
        if not flags & 1 and earlier[3] & 1:
            flags, transparent = flags | 1, earlier[6]
        if not flags & 0x1C:
            flags |= earlier[3] & 0x1C
    return b"\x21\xf9\x04" + bytes((flags, content[1], content[2], transparent, 0))


def _loops(content: list[bytes]) -> bytes:
    for block in content[1:]:
        if len(block) >= 3 and block[0] == 1:
            return b"\x21\xff\x0b" + content[0] + b"\x03" + block[:3] + b"\0"
    return b""


def _frame(data: bytes, at: int, budget: CodeBudget) -> tuple[bytes, int]:
    """Return a frame without anything after its last code, and where it ends."""
    flags = data[at + 9]
    start = at + 10 + _table_bytes(flags)
    head = data[at : at + 9] + bytes((flags & 0xE7,)) + data[at + 10 : start + 1]
    width_px, height_px = (
        int.from_bytes(data[at + 5 : at + 7], "little"),
        int.from_bytes(data[at + 7 : at + 9], "little"),
    )
    coded, end = _joined_blocks(data, start + 1)
    kept = cut_codes(coded, data[start], width_px * height_px, budget)
    if kept == coded:
        return head + data[start + 1 : end], end
    pieces = [kept[first : first + _MAX_BLOCK_BYTES] for first in range(0, len(kept), _MAX_BLOCK_BYTES)]
    return head + b"".join(bytes((len(piece),)) + piece for piece in pieces) + b"\0", end
