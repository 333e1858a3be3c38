"""This machine's side: Python, packages, settings, disk, source folders, and which routes are known."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

from flux2_tool.diagnostics.doctor.finding import Finding, failure, ok, warning
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.runapi.cache import ROUTES_FILE, RouteCache
from flux2_tool.schema.manifest import Manifest
from flux2_tool.schema.messages import nearest, shown
from flux2_tool.settings import Settings, load_settings

DISTRIBUTION: Final = "flux2-tool"
OLDEST_PYTHON: Final = (3, 11)
SCARCE_BYTES: Final = 500 * 1024 * 1024
TOO_SCARCE_BYTES: Final = 20 * 1024 * 1024
_REQUIREMENT = re.compile(r"^(?P<name>[\w.-]+)\s*>=\s*(?P<floor>[\d.]+)\s*$")


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Return which Python runs this."""
    said = f"{'.'.join(map(str, version))} at {sys.executable}"
    if version < OLDEST_PYTHON:
        return failure("python", f"{said}; 3.11 or newer is needed", "install Python 3.11 or newer")
    return ok("python", said, executable=sys.executable)


def packages() -> Finding:
    """Return the versions of what this package needs, compared with the lowest that work."""
    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return warning("packages", "flux2-tool is not installed, only imported", f"{sys.executable} -m pip install .")
    found, wrong = {}, []
    for match in filter(None, map(_REQUIREMENT.match, required)):
        name, floor = match["name"], match["floor"]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if _numbers(found[name]) < _numbers(floor):
            wrong.append(f"{name} is {found[name]}, at least {floor} is needed")
    if wrong:
        mend = f'{sys.executable} -m pip install --upgrade "{DISTRIBUTION}"'
        return failure("packages", "; ".join(wrong), mend, versions=found)
    return ok("packages", ", ".join(f"{name} {version}" for name, version in found.items()), versions=found)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def settings_of(manifest: Manifest, environ: Mapping[str, str]) -> tuple[Settings, list[Finding]]:
    """Return the settings of this shell and what is to say of them; with a wrong one, the defaults."""
    findings = []
    given = {hint.env: key for key, hint in manifest.config_hints.items() if hint.env and environ.get(hint.env)}
    try:
        settings = load_settings(environ, manifest=manifest)
        told = []
        for name, key in given.items():
            value = "…" if manifest.config_hints[key].sensitive else shown(environ[name])
            told.append(f"{key} {value} ({name})")
        said = "; ".join([*told, "the others at their defaults"]) if told else "all at their defaults"
        findings.append(ok("settings", said, given={key: name for name, key in given.items()}))
    except ConfigurationError as exc:
        settings = load_settings({}, manifest=manifest)
        findings.append(failure("settings", exc.message, f"correct or unset {', '.join(given)}"))
    known = {hint.env for hint in manifest.config_hints.values()}
    for name in sorted(environ):
        if name.startswith("FLUX2_TOOL_") and name not in known:
            near = nearest(name, [text for text in known if text])
            said = f"{name} is set but is no setting" + (f" (nearest: {near})" if near else "")
            findings.append(warning("settings", said, f"unset {name}"))
    return settings, findings


def lowest_price_usd(manifest: Manifest) -> float:
    """Return what the cheapest image costs by the list."""
    return min(usd for model in manifest.models.values() for usd in model.prices_usd.values() if usd is not None)


def disk(settings: Settings) -> Finding:
    """Return how much room is left for the journal and the pictures."""
    folder = _existing(settings.home)
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError as exc:
        return failure("disk", f"{folder} cannot be looked at: {exc.strerror}", "set FLUX2_TOOL_HOME to another folder")
    said = f"{free_bytes / 1e9:.1f} GB free for {settings.home}"
    mend = f"make room on the disk of {folder}, or set FLUX2_TOOL_HOME to a folder on another one"
    if free_bytes < TOO_SCARCE_BYTES:
        return failure("disk", said, mend, free_bytes=free_bytes)
    return (
        warning("disk", said, mend, free_bytes=free_bytes)
        if free_bytes < SCARCE_BYTES
        else ok("disk", said, free_bytes=free_bytes)
    )


def folders(settings: Settings) -> Iterator[Finding]:
    """Yield what is to say of the folders that pictures come from and go to."""
    missing = [root for root in settings.source_roots if not root.is_dir()]
    if missing:
        said = f"{', '.join(map(str, missing))} in source_roots is no folder"
        yield warning("sources", said, f"mkdir -p {missing[0]}, or correct source_roots")
    else:
        roots = ", ".join(map(str, settings.source_roots)) or "the agent's workspace, and pictures that came in by chat"
        yield ok("sources", f"files from {roots}")
    if settings.save_dir is not None:
        blocked = not_writable(settings.save_dir)
        if blocked is None:
            yield ok("pictures", f"saved in {settings.save_dir}")
        else:
            yield warning("pictures", f"{blocked} cannot be written to", f"correct save_dir ({settings.save_dir})")


def routes(settings: Settings, base_url: str) -> Finding:
    """Return which of the service's routes answered before. None is tried: a create would cost money."""
    if settings.route != "auto":
        return ok("routes", f"{settings.route}, as the setting route says")
    memory = RouteCache(settings.home / ROUTES_FILE)
    create, poll = memory.get(base_url, "create"), memory.get(base_url, "poll")
    if create is None and poll is None:
        return ok("routes", "not known yet; the first image tells which one answers")
    known = [f"{kind} {shown(value)}" for kind, value in (("create", create), ("poll", poll)) if value]
    return ok("routes", f"known for {base_url}: {', '.join(known)}", create=create, poll=poll)


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))


def not_writable(folder: Path) -> Path | None:
    """Return what stands in the way of writing into a folder, or None."""
    existing = _existing(folder)
    try:
        # By doing it: permissions alone do not tell, for root and on read-only disks.
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError:
        return existing
