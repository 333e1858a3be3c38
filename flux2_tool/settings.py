"""Read the settings from a command's options, the plugin's config, and the environment.

A setting is defined by its entry in the manifest, from which `.ci/generate` derives `Settings`; only the further checks
and the normalization of each `kind` are here. All wrong values are reported at once, each with its source.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from flux2_tool._database_url import shown_url
from flux2_tool._folders import data_folder, expanded, state_data_folder
from flux2_tool._net import normalized_base_url, normalized_public_url, webhook_key
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.conformance import schema_errors
from flux2_tool.schema.generated import Journal as JournalMode
from flux2_tool.schema.generated import Settings
from flux2_tool.schema.guards import MASK
from flux2_tool.schema.manifest import Manifest, Setting, load_manifest
from flux2_tool.schema.value_text import allowed, kind_of, nearest, nearest_bound, shown, shown_address

__all__ = ["NORMALIZERS", "JournalMode", "Settings", "SettingsError", "load_settings"]

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})


class SettingsError(ConfigurationError):
    """One or more settings are wrong.

    Args:
        problems: The source of each wrong value, such as its variable, and the rest of the sentence; in order.
    """

    def __init__(self, problems: Sequence[tuple[tuple[str, ...], str]]) -> None:
        texts = [text for _, text in problems]
        self.sources = tuple(dict.fromkeys(source for sources, _ in problems for source in sources))
        super().__init__(
            texts[0] if len(texts) == 1 else f"{len(texts)} settings are wrong: {'; '.join(texts)}",
            hint=f"correct or remove {'it' if len(self.sources) == 1 else 'them'}; nothing was sent",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """A value as given, and its source, in words for a message."""

    value: Any
    source: str


def load_settings(
    environ: Mapping[str, str],
    *,
    config: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    manifest: Manifest | None = None,
    state: Path | None = None,
) -> Settings:
    """Return the settings; overrides win over config, config over the environment, that over defaults.

    Args:
        environ: The environment, passed in; empty under OpenClaw, where a workspace could set variables.
        config: The plugin's config, `plugins.entries.flux2.config`.
        overrides: A command's options; None stands for an option that was not given.
        manifest: Where the settings are; by default the package's own.
        state: OpenClaw's state folder, for its gateway's own process: the data is in there unless a setting says else.

    Raises:
        SettingsError: One or more values are wrong; the message names all of them.
    """
    manifest = manifest or load_manifest()
    settings = manifest.settings
    given = _all_given(manifest, environ, config or {}, overrides or {})
    problems: list[tuple[tuple[str, ...], str]] = [
        ((item.source,), f"{item.source}{problem}")
        for key, item in given.items()
        for problem in (_problems(item.value, settings[key]) if key in settings else [_unknown(key, settings)])
    ]
    # Only OpenClaw's plugin has webhooks: a shell that has read its `.env` has the secret, and needs neither.
    webhooks = ("callback_public_url", "callback_secret")
    pair = [key for key in webhooks if key in given]
    if not problems and len(pair) == 1 and given[pair[0]].source != settings[pair[0]].env:
        text = "callback_public_url and callback_secret belong together: one is set, the other is not"
        problems.append(((given[pair[0]].source,), text))
    if problems:
        raise SettingsError(problems)
    values: dict[str, Any] = {}
    for key, setting in settings.items():
        if key in given or "default" in setting.schema:
            values[key] = _normalized(given[key].value if key in given else setting.schema["default"], setting)
        elif setting.kind == "data_folder":
            values[key] = data_folder(os.environ) if state is None else state_data_folder(state)
    return Settings(**values)


def _all_given(
    manifest: Manifest, environ: Mapping[str, str], config: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, _Given]:
    """Return each setting that is set, from its strongest source; an empty variable counts as not set."""
    chosen: dict[str, _Given] = {}
    for key, setting in manifest.settings.items():
        text = environ.get(setting.env, "").strip() if setting.env else ""
        if text:
            chosen[key] = _Given(value=_parsed(text, setting.schema["type"]), source=str(setting.env))
    for key, value in config.items():
        if value is not None:
            chosen[key] = _Given(value=value, source=f"plugins.entries.{manifest.id}.config.{key}")
    for key, value in overrides.items():
        if value is not None:
            plain = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
            chosen[key] = _Given(value=plain, source=f"option {key}")
    return chosen


def _parsed(text: str, kind: str) -> Any:
    """Return a text as a type of JSON Schema; text that does not fit stays text, so that the check names it."""
    if kind == "array":
        return [item.strip() for item in text.split(",") if item.strip()]
    if kind == "boolean":
        word = text.casefold()
        return True if word in _TRUE else False if word in _FALSE else text
    if kind in ("number", "integer"):
        try:
            number = json.loads(text)
        except ValueError:
            return text
        return number if isinstance(number, int | float) and not isinstance(number, bool) else text
    return text


def _unknown(key: str, settings: Mapping[str, Setting]) -> str:
    near = nearest(key, settings)
    return " is not a setting" + (f" (nearest: {near})" if near else "")


def _problems(value: Any, setting: Setting) -> Iterator[str]:
    """Yield a value's problems, each as the end of a sentence that begins with its source."""
    if setting.sensitive and value == MASK:
        yield " is gone from the config, and what it was is not recorded, because it is a secret: set it again"
        return
    found = list(_schema_problems(value, setting))
    yield from (f": {problem}" for problem in found)
    if found:
        return
    for item in value if isinstance(value, list) else [value]:
        try:
            _normalized(item, setting)
        except ValueError as exc:
            name = "it" if setting.sensitive else shown_address(item) if setting.kind == "base_url" else shown(item)
            yield f": {name} {exc}"


def _schema_problems(value: Any, setting: Setting) -> Iterator[str]:
    schema = setting.schema
    if isinstance(value, float) and value != value:
        yield f"nan is not {allowed(schema)}"
        return
    errors = list(schema_errors(value, schema))
    mistyped = {tuple(error.absolute_path) for error in errors if error.validator == "type"}
    for error in errors:
        if error.validator != "type" and tuple(error.absolute_path) in mistyped:
            continue
        given = error.instance
        part = schema["items"] if error.absolute_path else schema
        if error.validator == "pattern":
            form = setting.allowed or part.get("description", "another form")
            yield f"{shown(given)} is not right; allowed: {form}"
        elif error.validator == "uniqueItems":
            yield "contains a duplicate"
        elif error.validator == "enum":
            near = nearest(given, part["enum"])
            yield f"{shown(given)} is not {allowed(part)}" + (f" (nearest: {near})" if near else "")
        elif error.validator in ("minimum", "maximum"):
            yield f"{shown(given)} is not {allowed(part)} (nearest: {nearest_bound(given, part)})"
        else:
            yield f"{shown(given) if isinstance(given, str) else kind_of(given)} is not {allowed(part)}"


def _normalized(value: Any, setting: Setting) -> Any:
    """Return a value that matches the schema, normalized for `Settings`.

    Raises:
        ValueError: It is wrong for its kind; the text follows the shown value in a message.
    """
    if isinstance(value, list):
        return tuple(_normalized(item, setting) for item in value)
    return NORMALIZERS[setting.kind](value) if setting.kind else value


def _absolute_path(text: str) -> str:
    if not Path(text).is_absolute():
        raise ValueError("must be an absolute path")
    return text


def _folder(text: str) -> Path:
    folder = expanded(text, os.environ)
    if not folder.is_absolute():
        raise ValueError("must be an absolute path, or begin with ~/")
    return folder


def _database_url(text: str) -> str:
    shown_url(text)
    return text


def _webhook_secret(text: str) -> str:
    webhook_key(text)
    return text.strip()


NORMALIZERS: Final[Mapping[str, Callable[[str], str | Path]]] = MappingProxyType(
    {
        "absolute_path": _absolute_path,
        "base_url": normalized_base_url,
        "data_folder": _folder,
        "folder": _folder,
        "host_name": str.lower,
        "public_url": normalized_public_url,
        "webhook_secret": _webhook_secret,
        "database_url": _database_url,
    }
)
"""Functions that normalize a text of each kind for `Settings`; of a list, each item."""
