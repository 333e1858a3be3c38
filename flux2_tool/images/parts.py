"""What the modules that cut a picture's file share: the error that says that cutting cannot be enough."""

from __future__ import annotations


class CannotCutError(Exception):
    """A part that is needed breaks its rules, or cannot be checked: the picture must be encoded again.

    The message says what was found; it is for logs and tests, since encoding again usually succeeds.
    """


class EndsEarlyError(CannotCutError):
    """Coded data end before the picture does, as a file does that was cut short."""
