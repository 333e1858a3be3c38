"""How long the answers of a SOCKS5 proxy are: httpcore takes each for whole, however many pieces it arrives in.

Pure: no I/O. Sources: RFC 1928 sections 3, 4 and 6, and RFC 1929 section 2.
"""

from __future__ import annotations

from typing import Final

_VERSION: Final = 5
# The lengths of the kinds of addresses: IPv4 and IPv6. A name, the third kind, tells its own.
_ADDRESS_BYTES: Final = {1: 4, 4: 16}
_NAME: Final = 3
# Version, reply, reserved, kind of address and its first byte; then the address, then the port.
_HEAD_BYTES: Final = 4
_PORT_BYTES: Final = 2


def is_whole(answer: bytes, asked: bytes) -> bool:
    """Return whether an answer has arrived as a whole, or is none of a SOCKS5 proxy's.

    Args:
        answer: What has arrived.
        asked: What it answers: a greeting, a name and password, or a command.
    """
    version = asked[:1]
    if answer and answer[:1] != version:
        return True
    # A greeting is as long as its number of methods says; a command is longer.
    if version != bytes([_VERSION]) or len(asked) <= 2 + asked[1]:
        return len(answer) >= 2
    if len(answer) <= _HEAD_BYTES:
        return False
    kind = answer[_HEAD_BYTES - 1]
    size = 1 + answer[_HEAD_BYTES] if kind == _NAME else _ADDRESS_BYTES.get(kind, 0)
    return len(answer) >= _HEAD_BYTES + size + _PORT_BYTES
