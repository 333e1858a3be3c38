"""Checks of this machine: Python, packages, settings, disk, source folders, and which routes are known."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from flux2_tool._clock import local_time
from flux2_tool._files import is_file, is_folder, is_there
from flux2_tool._folders import DATA_HOME_VARIABLE, ignored_data_home
from flux2_tool.diagnostics.doctor.finding import Finding, failure, ok, warning
from flux2_tool.openclaw.openclaw_cli import version_numbers
from flux2_tool.runapi import contract
from flux2_tool.runapi.cache import ROUTES_FILE, RouteCache
from flux2_tool.schema.install_text import install_version_text
from flux2_tool.schema.installation import DISTRIBUTION, this_installation
from flux2_tool.schema.manifest import Manifest
from flux2_tool.schema.value_text import shown
from flux2_tool.schema.variables import unknown_variables
from flux2_tool.settings import Settings, SettingsError, load_settings

OLDEST_PYTHON: Final = (3, 11)
SCARCE_BYTES: Final = 500 * 1024 * 1024
TOO_SCARCE_BYTES: Final = 20 * 1024 * 1024
# Where the system keeps its zones, and a zone that is written out, such as CET-1CEST. Source: tzset(3), POSIX's TZ.
_ZONES: Final = "/usr/share/zoneinfo"
_OFFSET: Final = re.compile(r"(?:<[^>]+>|[A-Za-z]{3,})[+-]?\d")
_REQUIREMENT = re.compile(r"^(?P<name>[\w.-]+)\s*>=\s*(?P<floor>[\d.]+)\s*$")


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Check which Python runs this."""
    message = f"{'.'.join(map(str, version))} at {sys.executable}"
    if version < OLDEST_PYTHON:
        return failure("python", f"{message}; 3.11 or newer is needed", "install Python 3.11 or newer")
    return ok("python", message, executable=sys.executable)


def check_packages() -> Finding:
    """Compare the versions of the packages this one needs with the lowest that work."""
    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        fix = this_installation().install_command(".")
        return warning("packages", "flux2-tool is not installed, only imported", fix)
    found, wrong = {}, []
    for match in filter(None, map(_REQUIREMENT.match, required)):
        name, floor = match["name"], match["floor"]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if version_numbers(found[name]) < version_numbers(floor):
            wrong.append(f"{name} is {found[name]}, at least {floor} is needed")
    if wrong:
        fix = install_version_text(metadata.version(DISTRIBUTION), this_installation())
        return failure("packages", "; ".join(wrong), fix, versions=found)
    return ok("packages", ", ".join(f"{name} {version}" for name, version in found.items()), versions=found)


def check_settings(manifest: Manifest, environ: Mapping[str, str]) -> tuple[Settings, list[Finding]]:
    """Check the settings of this shell; return them too, or the defaults when one is wrong."""
    findings = []
    given = {hint.env: key for key, hint in manifest.settings.items() if hint.env and environ.get(hint.env, "").strip()}
    try:
        settings = load_settings(environ, manifest=manifest)
        values = []
        for name, key in given.items():
            value = "…" if manifest.settings[key].sensitive else shown(environ[name])
            values.append(f"{key} {value} ({name})")
        message = "; ".join([*values, "the others at their defaults"]) if values else "all at their defaults"
        findings.append(ok("settings", message, given={key: name for name, key in given.items()}))
    except SettingsError as exc:
        settings = load_settings({}, manifest=manifest)
        findings.append(failure("settings", exc.message, f"correct or unset {', '.join(exc.sources)}"))
    if (ignored := ignored_data_home(environ)) is not None:
        message = f"{DATA_HOME_VARIABLE} is ignored: {shown(ignored)} is no absolute path"
        findings.append(warning("settings", message, f"export {DATA_HOME_VARIABLE}=/an/absolute/path, or unset it"))
    if (fault := _fault_of_zone(environ)) is not None:
        message = f"TZ is {shown(environ['TZ'])}, which {fault}: days, and so the daily cap, and times are those of UTC"
        findings.append(warning("settings", message, "set TZ to a zone such as Europe/Berlin, or unset it"))
    for unknown in unknown_variables(environ, manifest.settings):
        if unknown.guards_money:
            message = f"{unknown.text}; it may be meant to limit what images cost, so none is made"
            findings.append(failure("settings", message, unknown.fix))
        else:
            findings.append(warning("settings", unknown.text, unknown.fix))
    return settings, findings


def _fault_of_zone(environ: Mapping[str, str]) -> str | None:
    """Return what is wrong with TZ, None if nothing is; the system takes a zone that it does not know for UTC."""
    name = environ.get("TZ", "").removeprefix(":")
    if not name or name in ("UTC", "GMT"):
        return None
    if _OFFSET.match(name):
        is_usable = local_time(time.time()).utcoffset() == timedelta(seconds=time.localtime().tm_gmtoff)
        return None if is_usable else "is 24 hours or more away from UTC, as no place is"
    # An absolute path names its file itself.
    is_known = is_file(Path(environ.get("TZDIR") or _ZONES, name))
    return None if is_known else "this machine does not know (is the package tzdata installed?)"


def lowest_price_usd(manifest: Manifest, tiers: Any) -> float:
    """Return the list price of the cheapest image of the enabled tiers; those enabled by default where none has one.

    Args:
        tiers: The setting, as somebody else may have it; any value.
    """
    for enabled in (tiers, manifest.default_tiers):
        models = [model for model in manifest.models.values() if isinstance(enabled, list | tuple | frozenset | set)]
        prices = [usd for model in models if model.tier in enabled for usd in model.prices_usd.values()]
        if known := [usd for usd in prices if usd is not None]:
            return min(known)
    return 0.0  # pragma: no cover - the manifest's check wants a tier that is enabled by default


def check_disk(settings: Settings) -> Finding:
    """Check how much space is left for the journal and the pictures."""
    if settings.home is None:
        return ok("disk", "not checked: there is no data folder")
    folder = _existing(settings.home)
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError as exc:  # pragma: no cover - the folder or its disk vanished meanwhile
        return failure("disk", f"{folder} cannot be examined: {exc.strerror}", "set FLUX2_TOOL_HOME to another folder")
    message = f"{free_bytes / 1e9:.1f} GB free for {settings.home}"
    if free_bytes >= SCARCE_BYTES:
        return ok("disk", message, free_bytes=free_bytes)
    fix = f"free space on the disk of {folder}, or set FLUX2_TOOL_HOME to a folder on another one"
    finding = failure if free_bytes < TOO_SCARCE_BYTES else warning
    return finding("disk", message, fix, free_bytes=free_bytes)


def check_folders(settings: Settings) -> Iterator[Finding]:
    """Check the folders that pictures come from and go to."""
    missing = [root for root in settings.source_roots if not is_folder(root)]
    if missing:
        message = f"{', '.join(map(str, missing))} in source_roots is no folder"
        yield warning("sources", message, f"mkdir -p {shlex.quote(str(missing[0]))}, or correct source_roots")
    else:
        roots = ", ".join(map(str, settings.source_roots)) or "the agent's workspace, and pictures that came in by chat"
        yield ok("sources", f"files from {roots}")
    if settings.save_dir is not None:
        blocked = not_writable(settings.save_dir)
        if blocked is None:
            yield ok("pictures", f"saved in {settings.save_dir}")
        else:
            yield warning("pictures", f"{blocked} cannot be written to", f"correct save_dir ({settings.save_dir})")


def check_routes(settings: Settings, base_url: str) -> Finding:
    """Report which of the service's routes worked before. None is tried: a create would cost money."""
    if settings.route != "auto":
        return ok("routes", f"{settings.route}, as the setting route says")
    memory = RouteCache(None if settings.home is None else settings.home / ROUTES_FILE)
    create, poll = memory.get(base_url, "create"), memory.get(base_url, "poll")
    known = [f"{kind} {shown(value)}" for kind, value in (("create", create), ("poll", poll)) if value]
    for service in contract.SERVICES[1:]:
        path = memory.get(base_url, "poll", service=service.name)
        known += [f"poll of the service {service.name} {shown(path)}"] if path else []
    if not known:
        return ok("routes", "not known yet; the first image finds out which one works")
    return ok("routes", f"known for {base_url}: {', '.join(known)}", create=create, poll=poll)


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next((path for path in (folder, *folder.parents) if is_there(path)), Path("/"))


def not_writable(folder: Path) -> Path | None:
    """Return the folder or file that prevents writing into a folder, or None."""
    existing = _existing(folder)
    try:
        # Tested by writing: permissions are not enough, for root and on read-only disks.
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError:
        return existing
