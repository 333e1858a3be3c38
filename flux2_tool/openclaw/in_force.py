"""What the running gateway has in force, beside what OpenClaw's config says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flux2_tool._net import normalized_base_url
from flux2_tool.credentials import DEFAULT_BASE_URL, URL_VARIABLE
from flux2_tool.openclaw.gateway_report import PluginReport
from flux2_tool.openclaw.settings_record import value_text
from flux2_tool.runapi.text import printable
from flux2_tool.schema.guards import unknown_settings
from flux2_tool.schema.manifest import Manifest, load_manifest

MAX_SHOWN_CHARS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem, and the command that fixes it."""

    message: str
    fix: str


def differences(report: PluginReport, saved: Mapping[str, Any], manifest: Manifest) -> Iterator[Problem]:
    """Yield each setting for which the gateway has another value in force than the saved config says.

    Args:
        report: The running plugin's.
        saved: The plugin's config as `openclaw config get` shows it: secrets masked, defaults filled in.
        manifest: This package's.
    """
    if report.settings is None:
        return
    where = f"plugins.entries.{manifest.id}.config"
    reload = f"openclaw plugins reload {manifest.id} --accept-capabilities"
    for name, setting in manifest.settings.items():
        default = setting.schema.get("default")
        live, wanted = (
            config.get(name) if config.get(name) is not None else default for config in (report.settings, saved)
        )
        if name in (report.kept or ()) and setting.sensitive:
            message = f"{where}.{name} is gone from the config; no image is made until it is set again"
            fix = f"openclaw config set {where}.{name} '${{{setting.env}}}'   (or, to go without: "
            yield Problem(message=message, fix=f"{fix}flux2-tool openclaw install --accept-looser-settings)")
        elif name in (report.kept or ()):
            message = f"{where}.{name} is gone from the config; {_shown(live)} stays in force, as it was last"
            fix = f"openclaw config set {where}.{name} '{json.dumps(live)}'   (or, to go without: "
            yield Problem(message=message, fix=f"{fix}flux2-tool openclaw install --accept-looser-settings)")
        elif setting.sensitive:
            if (live is None) != (wanted is None):
                yield Problem(message=f"{where}.{name} is saved but not in force, or the reverse", fix=reload)
        elif live != wanted and "${" not in str(wanted):
            message = f"{where}.{name} is {_shown(wanted)}, but {_shown(live)} is in force in the gateway"
            yield Problem(message=message, fix=reload)
    for name in report.needs_reload or ():
        message = f"OpenClaw's image_generate still offers what {printable(name, 40)} was when the plugin was loaded"
        yield Problem(message=message, fix=reload)


def unknown_problems(saved: Mapping[str, Any], manifest: Manifest) -> Iterator[Problem]:
    """Yield each key of the config that is no setting; one that may be meant as a cap stops every new image."""
    where = f"plugins.entries.{manifest.id}.config"
    for one in unknown_settings(saved, manifest.settings):
        name = printable(one.name, 60)
        stops = "; it may be meant to guard money, so no image is made" if one.guards_money else "; it has no effect"
        rename = f"openclaw config set {where}.{one.nearest} VALUE, then: " if one.nearest else ""
        yield Problem(message=f"{where}.{name} {one.text}{stops}", fix=f"{rename}openclaw config unset {where}.{name}")


def address_in_use(running: PluginReport | str, saved: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return RunAPI's address, and who says so: the gateway, its config, or this shell."""
    if isinstance(running, PluginReport) and (running.key is not None or running.address is not None):
        return f"{running.address or DEFAULT_BASE_URL} (the gateway's)"
    for text, source in (
        (saved.get("base_url"), "the setting base_url"),
        (environ.get(URL_VARIABLE), "seen from here"),
    ):
        with suppress(ValueError):
            if isinstance(text, str) and text.strip():
                return f"{normalized_base_url(text)} ({source})"
    return f"{DEFAULT_BASE_URL} (the default)"


def in_force_text(settings: Mapping[str, Any]) -> str:
    """Return the settings in force that guard money, as the gateway says."""
    known = load_manifest().settings
    shown = [f"{name} {_shown(value)}" for name, value in settings.items() if name in known and known[name].guards]
    return ", ".join(shown) or "nothing but the defaults"


def _shown(value: Any) -> str:
    return printable(value_text(value), MAX_SHOWN_CHARS)
