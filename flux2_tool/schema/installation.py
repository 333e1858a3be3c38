"""How an interpreter's copy of this package was installed: the one place that decides what is printed about it.

pipx and uv leave files in the environments that they make; what `uvx`, `uv run --with` and `pipx run` make lies in a
cache and vanishes. Sources: PEP 610 (`direct_url.json`), PEP 508, and the environments that uv 0.13 and pipx 1.18 made.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

DISTRIBUTION: Final = "flux2-tool"
Kind = Literal["environment", "uv tool", "uvx", "pipx", "pipx run"]

_UV_CACHE: Final = re.compile(r"(archive|builds|environments)-v\d+")
_PIPX_CACHE: Final = re.compile(r"/(\.cache/pipx|pipx/\.cache)/[0-9a-f]{10,}$")
# Of a copy that was never installed: it came from a checkout.
_NOWHERE: Final = '{"url": "file:///dev/null/checkout"}'
_EXTRA: Final = re.compile(r"^([\w.-]+).*;.*\bextra\s*==\s*['\"]([\w.-]+)['\"]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One installed copy.

    Attributes:
        kind: Who made the environment; "environment" is any other, such as a venv.
        python: The interpreter's absolute path.
        name: The name of the environment, which for uv and pipx is that of the application it was made for.
        has_pip: Whether `python -m pip` works there.
        source: Where the package came from, as in a requirement after "@"; None for an index, or when it is gone.
        is_from_file: Whether it came from a file or folder, which may be gone.
        editable_folder: The folder of an editable installation.
        extras: The extras that are installed.
    """

    kind: Kind
    python: str
    name: str = DISTRIBUTION
    has_pip: bool = True
    source: str | None = None
    is_from_file: bool = False
    editable_folder: str | None = None
    extras: tuple[str, ...] = ()

    @property
    def is_temporary(self) -> bool:
        """Whether the environment lies in a cache, so that its path must not be stored anywhere."""
        return self.kind in ("uvx", "pipx run")

    @property
    def is_source_known(self) -> bool:
        """Whether the package can be installed again without asking where it is."""
        return self.source is not None or not self.is_from_file

    def requirement(self, *extras: str) -> str:
        """Return the requirement that installs this package again, with these extras and those that it has."""
        if self.editable_folder is not None:
            return self.with_extras(self.editable_folder, *extras)
        if self.source is None:
            is_by_name = not self.is_from_file or self.is_temporary
            return self.with_extras(DISTRIBUTION if is_by_name else ".", *extras)
        return f"{self.with_extras(DISTRIBUTION, *extras)} @ {self.source}"

    def with_extras(self, base: str, *extras: str) -> str:
        """Return a name or folder with these extras and those that this copy has."""
        wanted = ",".join(sorted({*self.extras, *extras}))
        return f"{base}[{wanted}]" if wanted else base

    def install_command(self, requirement: str) -> str:
        """Return the command that installs a requirement in place of this copy, for a shell."""
        given = [*(["--editable"] if self.editable_folder is not None else []), requirement]
        is_own = self.name.startswith(DISTRIBUTION)
        if self.kind in ("uv tool", "uvx"):
            tool = given if is_own or self.kind == "uvx" else [self.name, "--with", requirement]
            return shlex.join(["uv", "tool", "install", "--reinstall", *tool])
        if self.kind in ("pipx", "pipx run"):
            verb = ["install"] if is_own or self.kind == "pipx run" else ["inject", self.name]
            return shlex.join(["pipx", *verb, "--force", *given])
        if self.has_pip:
            return shlex.join([self.python, "-m", "pip", "install", *given])
        return shlex.join(["uv", "pip", "install", "--python", self.python, *given])

    def uninstall_command(self) -> str:
        """Return the command that removes this copy, for a shell."""
        is_own = self.name.startswith(DISTRIBUTION)
        if self.kind == "uv tool" and is_own:
            return shlex.join(["uv", "tool", "uninstall", self.name])
        if self.kind == "pipx":
            return shlex.join(
                ["pipx", *(["uninstall", self.name] if is_own else ["uninject", self.name, DISTRIBUTION])]
            )
        if self.has_pip:
            return shlex.join([self.python, "-m", "pip", "uninstall", DISTRIBUTION])
        return shlex.join(["uv", "pip", "uninstall", "--python", self.python, DISTRIBUTION])

    def run_command(
        self, requirement: str, arguments: Sequence[str], *, environ: Mapping[str, str] | None = None
    ) -> list[str]:
        """Return the command that runs `flux2-tool` with these arguments from a new temporary environment.

        Args:
            environ: To name the installer by its absolute path, for a host with a PATH of its own; uv names itself in
                UV for what it starts. By default only the installer's name, for a shell.
        """
        installer = "pipx" if self.kind == "pipx run" else "uvx"
        options = ["run", "--spec"] if self.kind == "pipx run" else ["--from"]
        program = installer if environ is None else _found(installer, environ)
        return [program, *options, requirement, DISTRIBUTION, *arguments]


def this_installation() -> Installation:
    """Return how the running copy was installed."""
    try:
        distribution = metadata.distribution(DISTRIBUTION)
        direct_url, required = distribution.read_text("direct_url.json"), distribution.requires or []
    except metadata.PackageNotFoundError:
        direct_url, required = _NOWHERE, []
    return described(
        prefix=Path(sys.prefix),
        python=str(Path(sys.executable or "python3").absolute()),
        has_pip=importlib.util.find_spec("pip") is not None,
        direct_url=direct_url,
        extras=_installed_extras(required),
    )


def installation_of(python: str) -> Installation:
    """Return how another interpreter's copy was installed, as far as the files of its environment tell."""
    if Path(python).absolute() == Path(sys.executable or "/").absolute():
        return this_installation()
    prefix = Path(python).absolute().parent.parent
    packages = sorted(prefix.glob("lib/python3*/site-packages"))
    installed = [found for folder in packages for found in folder.glob("flux2_tool-*.dist-info")]
    return described(
        prefix=prefix,
        python=python,
        # An environment without a folder of packages is none that can be looked into.
        has_pip=not packages or any((folder / "pip").is_dir() for folder in packages),
        direct_url=_direct_url_in(installed[0]) if installed else _NOWHERE,
    )


def _direct_url_in(folder: Path) -> str | None:
    try:
        return (folder / "direct_url.json").read_text(encoding="utf-8")
    except OSError:
        return None


def described(
    *, prefix: Path, python: str, has_pip: bool, direct_url: str | None, extras: tuple[str, ...] = ()
) -> Installation:
    """Return an installation by the traces that installers leave.

    Args:
        prefix: The environment's folder.
        direct_url: The contents of the package's `direct_url.json`, which exists unless it came from an index.
    """
    source, is_from_file, editable_folder = _origin(direct_url)
    kind = _kind(prefix)
    if kind in ("uvx", "pipx run"):  # what is made anew for each command cannot be edited
        editable_folder = None
    return Installation(
        kind=kind,
        python=python,
        name=prefix.name,
        has_pip=has_pip,
        source=source,
        is_from_file=is_from_file,
        editable_folder=editable_folder,
        extras=extras,
    )


def _kind(prefix: Path) -> Kind:
    if any(_UV_CACHE.fullmatch(part) for part in prefix.parts):
        return "uvx"
    if (prefix / "uv-receipt.toml").is_file():
        return "uv tool"
    if _PIPX_CACHE.search(prefix.as_posix()):
        return "pipx run"
    if (prefix / "pipx_metadata.json").is_file():
        return "pipx" if prefix.parent.name == "venvs" else "pipx run"
    return "environment"


def _origin(direct_url: str | None) -> tuple[str | None, bool, str | None]:
    """Return a source that still exists, whether it is a file or folder, and the folder of an editable one."""
    try:
        found: Any = json.loads(direct_url or "null")
        url = str(found["url"])
    except (ValueError, KeyError, TypeError):
        return None, False, None
    if urlsplit(url).scheme != "file":
        vcs = found.get("vcs_info", {})
        revision = vcs.get("requested_revision")
        return f"{vcs['vcs']}+{url}" + (f"@{revision}" if revision else "") if vcs else url, False, None
    path = unquote(urlsplit(url).path)
    if not Path(path).exists():
        return None, True, None
    return url, True, path if found.get("dir_info", {}).get("editable") else None


def _installed_extras(required: Sequence[str]) -> tuple[str, ...]:
    """Return the extras, except dev, whose every requirement is installed."""
    needs: dict[str, list[str]] = {}
    for name, extra in (match.groups() for match in map(_EXTRA.match, required) if match):
        needs.setdefault(extra, []).append(name)
    return tuple(extra for extra, names in needs.items() if extra != "dev" and all(map(_is_installed, names)))


def _is_installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _found(program: str, environ: Mapping[str, str]) -> str:
    """Return a program's absolute path: beside the uv that runs this, or on the PATH, which a host may not share."""
    beside = Path(environ["UV"]).with_name(program) if environ.get("UV") else None
    if beside is not None and beside.is_file():
        return str(beside)
    return shutil.which(program, path=environ.get("PATH")) or program
