"""Wheels of the packages that this environment has, for installing without a network."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from flux2_tool.openclaw.wheel import requirements
from flux2_tool.schema.installation import DISTRIBUTION


def folder_of_wheels(folder: Path, *extras: str) -> Path:
    """Fill a folder with a wheel of everything that this package needs, made from what is installed here.

    Args:
        folder: Created if missing.
        extras: The extras of this package whose requirements are needed too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(_needed(extras)):
        _repacked(metadata.distribution(name), folder)
    return folder


def _needed(extras: Sequence[str]) -> set[str]:
    """Return the names of all required distributions that are installed, without this package and its other extras."""
    found: set[str] = set()
    waiting = [
        _name(text)
        for text in requirements().packages
        if "extra ==" not in text or any(f"extra == '{extra}'" in text.replace('"', "'") for extra in extras)
    ]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            required = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError:
            continue  # for another system or version of Python
        found.add(name)
        waiting += [_name(text) for text in required if "extra ==" not in text]
    return found - {DISTRIBUTION}


def _name(requirement: str) -> str:
    stop = next((at for at, letter in enumerate(requirement) if not (letter.isalnum() or letter in "._-")), None)
    return requirement[:stop].lower().replace("_", "-")


def _repacked(distribution: metadata.Distribution, folder: Path) -> None:
    tags = [
        line.partition(":")[2].strip()
        for line in (distribution.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag:")
    ]
    parts = [sorted({tag.split("-")[at] for tag in tags}) for at in range(3)]
    name = "-".join([distribution.name.replace("-", "_"), distribution.version, *(".".join(part) for part in parts)])
    with zipfile.ZipFile(folder / f"{name}.whl", "w", zipfile.ZIP_STORED) as archive:
        for path, data in _files(distribution):
            archive.writestr(path, data)


def _files(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    for file in distribution.files or []:
        path = str(file)
        # What an installer adds by itself.
        if path.startswith("..") or path.endswith((".pyc", "/INSTALLER", "/REQUESTED", "/direct_url.json")):
            continue
        yield path, Path(str(file.locate())).read_bytes()
