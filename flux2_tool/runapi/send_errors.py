"""How a request to RunAPI can fail: above all, whether it may have arrived."""

from __future__ import annotations

from flux2_tool.exceptions import ConfigurationError


class NotSentError(Exception):
    """The request was not sent: no connection was made."""


class UnusableNetworkError(NotSentError):
    """The request was not sent, and another attempt would fail as well.

    Args:
        message: What is wrong with the machine's network settings, or with the service's certificate.
        hint: What to do.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint

    def as_set_up_error(self) -> ConfigurationError:
        """Return it as the error that a caller sees."""
        text = str(self)
        return ConfigurationError(f"RunAPI cannot be reached: {text}.", hint=f"{self.hint[:1].upper()}{self.hint[1:]}.")


class MaybeSentError(Exception):
    """The request may have arrived, but its response did not (lost, late, truncated or too large)."""


class CrossOriginRedirectError(Exception):
    """The service redirects to another origin, which must not get the key."""

    def as_end_of_sentence(self) -> str:
        """Return what follows "RunAPI redirects GET /path"."""
        return f"elsewhere: {self}. The key was not sent there."


class RedirectLoopError(CrossOriginRedirectError):
    """The service redirects too often, within its origin."""

    def as_end_of_sentence(self) -> str:
        """Return what follows "RunAPI redirects GET /path"."""
        return f"in a circle: {self}."
