"""Cut a picture's file down to its picture, without decoding and encoding it.

One module per format parses the file strictly and writes only what its rules allow: parts that are needed to display
the picture, each of the length and values that its format gives it. Any other, known or unknown, may identify the
place, time, device or person. What is hidden in the pixels, or in how an encoder chose to code them, stays.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from flux2_tool.images.gif import cut_gif
from flux2_tool.images.jpeg import cut_jpeg
from flux2_tool.images.parts import CannotCutError
from flux2_tool.images.png import cut_png
from flux2_tool.images.webp import cut_webp

_CUTS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "PNG": cut_png,
    "JPEG": cut_jpeg,
    "WEBP": cut_webp,
    "GIF": cut_gif,
}


def only_the_picture(data: bytes, kind: str) -> bytes:
    """Return a file with the same pixels and colours and nothing else; equal to `data` if it held nothing else.

    Pure, in time linear in the file and its pixels.

    Args:
        data: The bytes of a file that Pillow can decode.
        kind: PNG, JPEG, WEBP or GIF.

    Raises:
        CannotCutError: Its parts break the format's rules in a way that cutting cannot correct.
    """
    try:
        return _CUTS[kind](data)
    except (IndexError, ValueError, struct.error) as exc:
        raise CannotCutError("a part ends before its length") from exc
