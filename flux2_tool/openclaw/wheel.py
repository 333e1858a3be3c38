"""Make a wheel of this very package, for a plugin that brings its own Python side.

It is made from the files that run now, so it works from a wheel, from uv's and pipx's environments and from an editable
checkout, without a build tool. The same files give the same bytes: fixed dates, sorted names, no compression (the npm
tarball around it compresses). Source: https://packaging.python.org/specifications/binary-distribution-format.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.installation import DISTRIBUTION
from flux2_tool.schema.manifest import manifest_path

_PACKAGE = "flux2_tool"
_FOLDER = Path(__file__).resolve().parent.parent
_UNSHIPPED = re.compile(r"(^|/)(__pycache__|\.)|\.py[co]$")
_EARLIEST = (1980, 1, 1, 0, 0, 0)
_WHEEL = "Wheel-Version: 1.0\nGenerator: flux2-tool\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_ENTRY_POINTS = "[console_scripts]\nflux2-tool = flux2_tool.cli:main\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel of this package.

    Attributes:
        name: Its file name, which pip reads the version from.
        data: Its bytes.
    """

    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        """Return the checksum of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What the package needs.

    Attributes:
        python: The versions of Python, such as ">=3.11".
        packages: The requirements as in PEP 508, those of extras with their marker.
    """

    python: str
    packages: tuple[str, ...]


def package_wheel(version: str) -> Wheel:
    """Return a wheel of the running package.

    Args:
        version: The manifest's, which an editable installation's own metadata may not have yet.

    Raises:
        ConfigurationError: A file of the package cannot be read, or what it requires is not known, because it was
            never installed.
    """
    needed = requirements()
    folder = f"{_PACKAGE}-{version}.dist-info"
    try:
        files = dict(_package_files())
    except OSError as exc:
        raise ConfigurationError(f"cannot read this package: {exc}", hint="install flux2-tool again") from exc
    files[f"{folder}/METADATA"] = _metadata(version, needed)
    files[f"{folder}/WHEEL"] = _WHEEL.encode()
    files[f"{folder}/entry_points.txt"] = _ENTRY_POINTS.encode()
    record = f"{folder}/RECORD"
    lines = [f"{path},sha256={_checksum(data)},{len(data)}\n" for path, data in sorted(files.items())]
    return Wheel(
        name=f"{_PACKAGE}-{version}-py3-none-any.whl",
        data=_zipped({**files, record: "".join([*lines, f"{record},,\n"]).encode()}),
    )


def requirements() -> Requirements:
    """Return what this package needs: in a checkout what pyproject.toml says now, else what was installed.

    Raises:
        ConfigurationError: There is neither.
    """
    pyproject = _FOLDER.parent / "pyproject.toml"
    try:
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        project = None
    if project is not None and project.get("name") == DISTRIBUTION:
        return Requirements(python=project["requires-python"], packages=tuple(_in_checkout(project)))
    try:
        found = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError as exc:
        raise ConfigurationError(
            "this copy of flux2-tool was never installed, so what it requires is not known",
            hint="install it with pip, uv or pipx, and pack it from there",
        ) from exc
    packages = tuple(text for text in found.requires or () if not _is_for_development(text))
    return Requirements(python=str(found.metadata["Requires-Python"]), packages=packages)


def _in_checkout(project: Mapping[str, Any]) -> Iterator[str]:
    yield from project["dependencies"]
    for extra, packages in project["optional-dependencies"].items():
        if extra == "dev":
            continue
        for text in packages:
            needed, _, marker = text.partition(";")
            also = f"({marker.strip()}) and " if marker else ""
            yield f"{needed.strip()}; {also}extra == '{extra}'"


def _is_for_development(requirement: str) -> bool:
    return re.search(r"extra\s*==\s*['\"]dev['\"]", requirement) is not None


def _package_files() -> Iterator[tuple[str, bytes]]:
    for path in sorted(_FOLDER.rglob("*")):
        name = path.relative_to(_FOLDER).as_posix()
        if path.is_file() and not _UNSHIPPED.search(name):
            yield f"{_PACKAGE}/{name}", path.read_bytes()
    yield f"{_PACKAGE}/{manifest_path().name}", manifest_path().read_bytes()


def _metadata(version: str, needed: Requirements) -> bytes:
    extras = sorted({found for text in needed.packages for found in re.findall(r"extra\s*==\s*['\"]([\w.-]+)", text)})
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {DISTRIBUTION}",
        f"Version: {version}",
        f"Requires-Python: {needed.python}",
        *(f"Provides-Extra: {extra}" for extra in extras),
        *(f"Requires-Dist: {text}" for text in needed.packages),
    ]
    return ("\n".join(lines) + "\n").encode()


def _checksum(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for path, data in sorted(files.items()):
            entry = zipfile.ZipInfo(path, date_time=_EARLIEST)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3  # Unix, wherever it is made
            archive.writestr(entry, data)
    return stream.getvalue()
