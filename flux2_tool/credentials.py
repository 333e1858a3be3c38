"""Find the RunAPI key and the address it belongs to, and never show the key.

Order: given explicitly, `RUNAPI_API_KEY`, `~/.config/runapi/config.json` (the vendor's own file). The
base URL comes from the source that gave the key unless it is set on its own.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flux2_tool._files import read_file
from flux2_tool._folders import home_folder
from flux2_tool._net import normalized_base_url
from flux2_tool._redaction import SecretStr
from flux2_tool.exceptions import ConfigurationError, MissingApiKeyError
from flux2_tool.schema.json_numbers import json_number
from flux2_tool.schema.value_text import shown_address

DEFAULT_BASE_URL = "https://runapi.ai"
KEY_VARIABLE = "RUNAPI_API_KEY"
URL_VARIABLE = "RUNAPI_BASE_URL"
CONFIG_FILE = Path("runapi") / "config.json"
MAX_KEY_CHARS = 4096
MAX_FILE_BYTES = 65_536

# Unfilled placeholders of templates, shells and instructions.
# As "$(cat FILE)" brings it in from a file of a Windows editor; the second one where the locale is not UTF-8.
_MARK = re.compile("^(?:\ufeff|\udcef\udcbb\udcbf)")
_PLACEHOLDER = re.compile(r"\$\{.*|\$\w+|%\w+%|\{\{.*\}\}|<.*>", re.DOTALL)
_SET_KEY = f"set {KEY_VARIABLE} to a key from https://runapi.ai"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The key, where it may be sent, and where it was found. `base_url` has no trailing `/v1`."""

    api_key: SecretStr
    base_url: str
    source: str

    @property
    def fingerprint(self) -> str:
        """The key's fingerprint, which may be stored and logged."""
        return key_fingerprint(self.api_key.get_secret_value())


def key_fingerprint(key: str) -> str:
    """Return the first 16 hexadecimal digits of the key's SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def resolve_credentials(
    *,
    environ: Mapping[str, str],
    explicit_key: str | None = None,
    explicit_base_url: str | None = None,
    config_home: Path | None = None,
    settings_base_url: str | None = None,
) -> Credentials:
    """Return the first key found and its base URL.

    Args:
        environ: The environment, passed in.
        explicit_key: A key from Python code or from the plugin; wins over all.
        explicit_base_url: The address given together with `explicit_key`.
        config_home: The folder that holds `runapi/config.json`; by default `~/.config`.
        settings_base_url: An address set on its own (plugin config, option or variable); wins over all
            but `explicit_base_url`.

    Raises:
        MissingApiKeyError: There is no key, or only a placeholder.
        ConfigurationError: The key, the file or an address is invalid; the message says why.
    """
    key, found_url, source = _first_key(environ, explicit_key, explicit_base_url, config_home)
    for text, origin in (
        (explicit_base_url, "the base URL given with the key"),
        (settings_base_url, "the setting base_url"),
        (found_url, f"the base URL from {source}"),
    ):
        if text is not None and text.strip():
            try:
                base_url = normalized_base_url(text)
            except ValueError as exc:
                raise ConfigurationError(f"{origin}, {shown_address(text)}, {exc}") from exc
            break
    else:
        base_url = DEFAULT_BASE_URL
    return Credentials(api_key=SecretStr(key), base_url=base_url, source=source)


def _first_key(
    environ: Mapping[str, str],
    explicit_key: str | None,
    explicit_base_url: str | None,
    config_home: Path | None,
) -> tuple[str, str | None, str]:
    if explicit_key is not None:
        if not explicit_key.strip():
            raise MissingApiKeyError("the API key that was given is empty", hint=_SET_KEY)
        return _checked(explicit_key, "the API key that was given"), explicit_base_url, "explicit"
    variable = environ.get(KEY_VARIABLE)
    if variable is not None and variable.strip():
        return _checked(variable, KEY_VARIABLE), environ.get(URL_VARIABLE), KEY_VARIABLE
    if config_home is None:
        home = home_folder(environ)
        if home is None:
            raise MissingApiKeyError(
                f"no RunAPI key was found in {KEY_VARIABLE}, and this user has no home folder with a file of it",
                hint=_SET_KEY,
            )
        config_home = home / ".config"
    path = config_home / CONFIG_FILE
    stored = _read_file(path)
    name, stored_key = _text(stored, ("api_key", "apiKey"), path)
    if stored_key is not None:
        if variable is not None:
            # An operator who meant to set it would otherwise spend another account's money.
            raise MissingApiKeyError(
                f"{KEY_VARIABLE} is set but empty; {path} has a key, which is not used then",
                hint=f"unset {KEY_VARIABLE} to use that key, or {_SET_KEY}",
            )
        _, base_url = _text(stored, ("base_url", "baseUrl"), path)
        return _checked(stored_key, f'"{name}" in {path}'), base_url, str(path)
    empty = "" if variable is None else f"{KEY_VARIABLE} is set but empty, and "
    raise MissingApiKeyError(
        f"{empty}no RunAPI key was found in {KEY_VARIABLE} or {path}" if not empty else f"{empty}{path} holds no key",
        hint=_SET_KEY,
    )


def _checked(text: str, where: str) -> str:
    key = _MARK.sub("", text.strip()).strip()
    if not key:
        raise MissingApiKeyError(f"{where} holds a byte order mark and no key", hint=_SET_KEY)
    if _PLACEHOLDER.fullmatch(key):
        raise MissingApiKeyError(
            f"{where} holds a placeholder such as ${{{KEY_VARIABLE}}} instead of a key: nothing filled it in",
            hint=f"set {KEY_VARIABLE} in the environment of the process that starts this one",
        )
    if key[0] in "\"'`“‘" or key[-1] in "\"'`”’":
        raise ConfigurationError(
            f"{where} has quotes around the key", hint="remove the quotes; they are part of the value"
        )
    if key.casefold().startswith("bearer "):
        raise ConfigurationError(f'{where} begins with "Bearer"', hint="give the key alone")
    if "://" in key:
        raise ConfigurationError(
            f"{where} holds a URL instead of a key", hint="is it swapped with the base URL? Give the key alone"
        )
    if any(c.isspace() for c in key):
        raise ConfigurationError(
            f"{where} has white space or a line break inside the key",
            hint="copy the key again, on one line",
        )
    if not key.isascii() or not key.isprintable() or len(key) > MAX_KEY_CHARS:
        raise ConfigurationError(
            f"{where} is not a key: it is too long or has characters a key cannot have",
            hint="copy the key again",
        )
    return key


def _read_file(path: Path) -> Mapping[str, Any]:
    try:
        data = read_file(path, most_bytes=MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as exc:
        if exc.errno != errno.EFBIG:
            raise ConfigurationError(
                f"cannot read {path}: {exc.strerror}", hint=f"put a file there that can be read, or set {KEY_VARIABLE}"
            ) from exc
        data = b""
    wrong = ""
    try:
        # By its bytes, because editors and PowerShell write UTF-16 or a byte order mark.
        found = json.loads(data, parse_int=json_number)
    except (ValueError, RecursionError) as exc:
        # Without the cause: a JSON error carries the whole text, which holds the key.
        found, wrong = None, _place_of(exc)
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"{path} is not a JSON object of at most {MAX_FILE_BYTES} bytes{wrong if data else ''}",
            hint=f'write {{"api_key": "…"}} there, or set {KEY_VARIABLE}',
        )
    return found


def _place_of(error: Exception) -> str:
    """Return where JSON is broken and how, as the end of a sentence, and nothing of its text."""
    if isinstance(error, json.JSONDecodeError):
        return f": {error.msg.removesuffix(' at')} in line {error.lineno}, column {error.colno}"
    return f": byte {error.start + 1} is no {error.encoding}" if isinstance(error, UnicodeDecodeError) else ""


def _text(stored: Mapping[str, Any], names: tuple[str, ...], path: Path) -> tuple[str, str | None]:
    """Return the first of the names whose text is not blank, with it; None with the last name where there is none."""
    for name in names:
        value = stored.get(name)
        if value is not None and not isinstance(value, str):
            raise ConfigurationError(f'"{name}" in {path} is not text', hint="put it in quotes")
        if value is not None and value.strip():
            return name, value
    return names[-1], None
