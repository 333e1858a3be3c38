"""The error of everything that reads pictures; here, so that whoever catches it need not load what reads them."""

from __future__ import annotations


class PictureError(Exception):
    """The bytes are not a usable picture. The message completes the sentence "it …".

    Args:
        message: What was found.
        hint: What to do; "" if there is nothing special.
        is_broken: Whether the bytes are no whole picture, so that another copy of it may be.
        is_too_large: Whether decoding it takes more than is allowed, whole as it may be.
    """

    def __init__(self, message: str, *, hint: str = "", is_broken: bool = False, is_too_large: bool = False) -> None:
        super().__init__(message)
        self.hint = hint
        self.is_broken = is_broken
        self.is_too_large = is_too_large
