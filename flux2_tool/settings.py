"""Read the settings from a command's options, the plugin's config, and the environment.

Keys, types, bounds and defaults are the manifest's `config_schema`; the environment variables are its
`config_hints`. Every wrong value is reported at once, with where it came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from flux2_tool._net import normalized_base_url, normalized_public_url, webhook_key
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.manifest import Manifest, Tier, load_manifest
from flux2_tool.schema.messages import allowed, kind_of, nearest, nearest_bound, shown, shown_address

Route = Literal["auto", "guide", "service"]
Spenders = Literal["owner", "everyone"]
JournalMode = Literal["required", "best_effort", "off"]

APP_NAME = "flux2-tool"
_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What may be configured. None means that nobody set it; see the manifest for what then holds.

    `base_url` has no trailing `/v1` or slash; `home` is absolute; `wait_s` is in seconds.
    """

    home: Path
    python: str | None = None
    base_url: str | None = None
    route: Route = "auto"
    wait_s: float | None = None
    tiers: tuple[Tier, ...] = ("pro", "flex")
    safety_checker: bool | None = None
    callback_hosts: tuple[str, ...] = ()
    callback_public_url: str | None = None
    callback_secret: str | None = field(default=None, repr=False)
    journal: JournalMode = "required"
    repeat_max: int = 4
    repeat_window_s: float = 600.0
    resend_window_s: float = 600.0
    max_creates: int = 8
    save_dir: Path | None = None
    source_roots: tuple[Path, ...] = ()
    keep_metadata: bool = False
    max_image_usd: float | None = None
    daily_cap_usd: float = 5.0
    session_cap_usd: float | None = None
    sender_daily_cap_usd: float | None = None
    unknown_price_usd: float = 0.5
    spenders: Spenders = "everyone"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    value: Any
    source: str


def load_settings(
    environ: Mapping[str, str],
    *,
    config: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    manifest: Manifest | None = None,
) -> Settings:
    """Return the settings; overrides win over config, config over the environment, that over defaults.

    Args:
        environ: The environment, passed in; empty under OpenClaw, where a workspace could set variables.
        config: The plugin's config, `plugins.entries.flux2.config`.
        overrides: A command's options; None stands for an option that was not given.
        manifest: Where keys, types, bounds and defaults are; by default the package's own.

    Raises:
        ConfigurationError: One or more values are wrong; the message names all of them.
    """
    manifest = manifest or load_manifest()
    properties: dict[str, Any] = manifest.config_schema["properties"]
    problems: list[str] = []
    values: dict[str, Any] = {key: schema["default"] for key, schema in properties.items() if "default" in schema}
    for key, given in _all_given(manifest, environ, config or {}, overrides or {}):
        if key not in properties:
            near = nearest(key, properties)
            problems.append(f"{given.source} is not a setting" + (f" (nearest: {near})" if near else ""))
            continue
        found = list(_problems(given.value, properties[key], manifest.config_hints[key].allowed))
        problems.extend(f"{given.source}: {problem}" for problem in found)
        if not found:
            values[key] = given.value
            try:
                values[key] = _finished(key, given.value)
            except ValueError as exc:
                is_secret = manifest.config_hints[key].sensitive
                value = shown_address(given.value) if key == "base_url" else shown(given.value)
                problems.append(f"{given.source}: {'it' if is_secret else value} {exc}")
    if not problems and ("callback_public_url" in values) != ("callback_secret" in values):
        problems.append("callback_public_url and callback_secret belong together: one is set, the other is not")
    if problems:
        raise ConfigurationError(
            "; ".join(problems) if len(problems) == 1 else f"{len(problems)} settings are wrong: {'; '.join(problems)}",
            hint="correct or remove them; nothing was sent",
        )
    if "home" not in values:
        import platformdirs

        values["home"] = Path(platformdirs.user_data_dir(APP_NAME, appauthor=False))
    known = {field.name for field in fields(Settings)}
    chosen: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in known
    }
    return Settings(**chosen)


def _all_given(
    manifest: Manifest, environ: Mapping[str, str], config: Mapping[str, Any], overrides: Mapping[str, Any]
) -> Iterator[tuple[str, _Given]]:
    """Yield each setting once, from its strongest source; an empty variable counts as not set."""
    chosen: dict[str, _Given] = {}
    for key, hint in manifest.config_hints.items():
        text = environ.get(hint.env, "").strip() if hint.env else ""
        if text:
            value = parse_text(text, manifest.config_schema["properties"][key])
            chosen[key] = _Given(value=value, source=str(hint.env))
    for key, value in config.items():
        if value is not None:
            chosen[key] = _Given(value=value, source=f"plugins.entries.{manifest.id}.config.{key}")
    for key, value in overrides.items():
        if value is not None:
            value = list(value) if isinstance(value, tuple) else value
            value = str(value) if isinstance(value, Path) else value
            chosen[key] = _Given(value=value, source=f"option {key}")
    yield from chosen.items()


def parse_text(text: str, schema: Mapping[str, Any]) -> Any:
    """Return a text as the schema's type; text that does not fit stays text, so that the check names it."""
    kind = schema.get("type")
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


def _problems(value: Any, schema: Mapping[str, Any], allowed_words: str) -> Iterator[str]:
    # Imported here because no command should pay for jsonschema at its start.
    from jsonschema import Draft202012Validator

    if isinstance(value, float) and value != value:
        yield f"nan is not {allowed(schema)}"
        return
    errors = list(Draft202012Validator(schema).iter_errors(value))
    mistyped = {tuple(error.absolute_path) for error in errors if error.validator == "type"}
    for error in errors:
        if error.validator != "type" and tuple(error.absolute_path) in mistyped:
            continue
        given = error.instance
        part = schema["items"] if error.absolute_path else schema
        if error.validator == "pattern":
            yield f"{shown(given)} is not right; allowed: {allowed_words or part.get('description', 'another form')}"
        elif error.validator == "uniqueItems":
            yield "names something twice"
        elif error.validator == "enum":
            near = nearest(given, part["enum"])
            yield f"{shown(given)} is not {allowed(part)}" + (f" (nearest: {near})" if near else "")
        elif error.validator in ("minimum", "maximum"):
            yield f"{shown(given)} is not {allowed(part)} (nearest: {nearest_bound(given, part)})"
        else:
            yield f"{shown(given) if isinstance(given, str) else kind_of(given)} is not {allowed(part)}"


def _finished(key: str, value: Any) -> Any:
    if key == "base_url":
        return normalized_base_url(value)
    if key == "callback_public_url":
        return normalized_public_url(value)
    if key == "callback_secret":
        webhook_key(value)
        return value.strip()
    if key == "callback_hosts":
        return [host.lower() for host in value]
    if key == "python" and not Path(value).is_absolute():
        raise ValueError("must be an absolute path")
    if key in ("home", "save_dir"):
        return _folder(value)
    if key == "source_roots":
        return [_folder(item) for item in value]
    return value


def _folder(text: str) -> Path:
    folder = Path(text).expanduser()
    if not folder.is_absolute():
        raise ValueError("must be an absolute path, or begin with ~/")
    return folder
