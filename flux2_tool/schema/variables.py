"""The environment's variables with this tool's prefix: which are read, and which may be misspelt guards of money.

A misspelt variable sets nothing, so one that may have been meant as a cap must not be passed over: no image is made
until it is corrected. The rule is that for unknown keys of the plugin's config (`guards.py`). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.entries import Setting
from flux2_tool.schema.guards import may_guard_money
from flux2_tool.schema.value_text import nearest, shown_text

PREFIX: Final = "FLUX2_TOOL_"
TOKEN_VARIABLE: Final = "FLUX2_TOOL_MCP_TOKEN"  # noqa: S105 - its name
"""The token of the MCP server over HTTP, which is no setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownVariable:
    """A variable with the prefix that is set and is not read.

    Attributes:
        name: As it is written.
        nearest: The variable that it may have been meant to be, None if none is similar.
        guards_money: Whether it may have been meant to hold spending down.
    """

    name: str
    nearest: str | None
    guards_money: bool

    @property
    def text(self) -> str:
        """What is wrong, as a sentence without its full stop."""
        near = f" (nearest: {self.nearest})" if self.nearest else ""
        return f"{shown_text(self.name)} is set but is no setting{near}"

    @property
    def fix(self) -> str:
        """What to do about it."""
        name = shown_text(self.name)
        return f"rename {name} to {self.nearest}, or unset {name}" if self.nearest else f"unset {name}"


def unknown_variables(environ: Mapping[str, str], settings: Mapping[str, Setting]) -> tuple[UnknownVariable, ...]:
    """Return the variables with the prefix that are not read, by name; an empty one counts as not set."""
    variables = {key: setting.env for key, setting in settings.items() if setting.env}
    variables[TOKEN_VARIABLE.removeprefix(PREFIX).lower()] = TOKEN_VARIABLE
    read = set(variables.values())
    found = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in read or not environ[name].strip():
            continue
        # Compared without the prefix, which would make every name similar to every other.
        key = name.removeprefix(PREFIX).lower()
        near = nearest(key, variables)
        guards = may_guard_money(key, near, settings)
        found.append(UnknownVariable(name=name, nearest=variables[near] if near else None, guards_money=guards))
    return tuple(found)


def check_variables(unknown: Sequence[UnknownVariable]) -> None:
    """Refuse to make an image while a variable that is not read may have been meant as a cap.

    Raises:
        ConfigurationError: There is such a variable.
    """
    guards = [one for one in unknown if one.guards_money]
    if guards:
        wrong = "; ".join(one.text for one in guards)
        raise ConfigurationError(
            f"{wrong}. It may have been meant to limit what images cost, so none is made. Nothing was sent.",
            hint=f"{'; '.join(one.fix for one in guards)}: in the shell, or where the host starts the server",
        )
