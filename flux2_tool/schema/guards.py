"""What guards money among the settings: which of two configs is looser, and which of its keys are no settings.

A config here is `plugins.entries.flux2.config` as OpenClaw has it; a setting that it does not name has its default. The
plugin has the same rules for one call in `openclaw/plugin/guards.js`. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flux2_tool.schema.entries import Setting
from flux2_tool.schema.value_text import nearest

# Parts of a name that say that it is meant to hold spending down, whatever it is called.
_MONEY: Final = frozenset(
    (
        "cap",
        "caps",
        "usd",
        "spend",
        "spender",
        "spenders",
        "budget",
        "limit",
        "price",
        "cost",
        "dollars",
        "pay",
        "owner",
    )
)
MASK: Final = "…"
"""Takes the place of a secret's value where settings are recorded or shown (`openclaw/plugin/guards.js`)."""
_PART: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownSetting:
    """A key of the config that is no setting.

    Attributes:
        name: As it is written.
        nearest: The setting that it may have been meant to be, None if none is similar.
        guards_money: Whether it may have been meant to hold spending down: then no image is made until it is corrected.
    """

    name: str
    nearest: str | None
    guards_money: bool

    @property
    def text(self) -> str:
        """What is wrong, as the end of a sentence that begins with the key."""
        return "is not a setting" + (f" (nearest: {self.nearest})" if self.nearest else "")


def unknown_settings(config: Iterable[str], settings: Mapping[str, Setting]) -> tuple[UnknownSetting, ...]:
    """Return the keys of a config that are no settings."""
    found = []
    for name in config:
        if name in settings:
            continue
        near = nearest(name, settings)
        guards_money = may_guard_money(name, near, settings)
        found.append(UnknownSetting(name=name, nearest=near, guards_money=guards_money))
    return tuple(found)


def may_guard_money(name: str, near: str | None, settings: Mapping[str, Setting]) -> bool:
    """Return whether a name that is no setting may have been meant to hold spending down.

    Args:
        name: As it is written.
        near: The nearest name that is known, of a setting or of something else; None if none is similar.
        settings: All of them.
    """
    is_guard = near is not None and near in settings and settings[near].guards != ""
    return is_guard or any(part.casefold() in _MONEY for part in _PART.findall(name))


def guards_in_force(config: Mapping[str, Any], settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Return the value of each setting that guards money, defaults filled in; None for one without either."""
    return {
        name: config[name] if config.get(name) is not None else setting.schema.get("default")
        for name, setting in settings.items()
        if setting.guards
    }


def loosened(
    before: Mapping[str, Any], after: Mapping[str, Any], settings: Mapping[str, Setting]
) -> dict[str, tuple[Any, Any]]:
    """Return the guards that are looser than they were, each with its value before and after."""
    old, new = guards_in_force(before, settings), guards_in_force(after, settings)
    return {name: (old[name], new[name]) for name in old if is_looser(old[name], new[name], settings[name])}


def is_looser(before: Any, after: Any, setting: Setting) -> bool:
    """Return whether a value guards less than another; one of the wrong type is not compared."""
    if setting.guards in ("lower", "higher"):
        sign = 1 if setting.guards == "lower" else -1
        old, new = (_number(value, unset=sign * float("inf")) for value in (before, after))
        return old is not None and new is not None and sign * new > sign * old
    if setting.guards == "first":
        order = setting.schema["enum"]
        return before in order and after in order and order.index(after) > order.index(before)
    if setting.guards == "fewer":
        return isinstance(before, list) and isinstance(after, list) and not set(after) <= set(before)
    return setting.guards == "same" and before is not None and after is None


def _number(value: Any, *, unset: float) -> float | None:
    if value is None:
        return unset
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
