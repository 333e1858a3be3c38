"""Pack the plugin as an npm tarball that brings everything: `openclaw plugins install npm-pack:FILE` is then enough."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.openclaw.bundle import packed, plugin_files
from flux2_tool.openclaw.npm_package import NPM_NAME, npm_version
from flux2_tool.openclaw.wheel import package_wheel
from flux2_tool.schema.manifest import Manifest


def pack(manifest: Manifest, *, output: Path, repository: str | None = None) -> Path:
    """Write the plugin with a wheel of this package as an npm tarball into a folder and return its path.

    Args:
        manifest: The plugin's.
        output: The folder.
        repository: Where the source code is, for a catalogue: an address that begins with https.

    Raises:
        ConfigurationError: The folder cannot be written, this package cannot be read, or the address is none.
    """
    if repository is not None and not re.fullmatch(r"https://[\w.-]+(/[\w.~-]+)+", repository):
        raise ConfigurationError(
            f"{repository!r} is no address of a repository", hint="give one such as https://github.com/OWNER/NAME"
        )
    path = output / f"{NPM_NAME}-{npm_version(manifest.version)}.tgz"
    address = repository and repository.removesuffix(".git")
    data = packed(plugin_files(manifest, python=None, wheel=package_wheel(manifest.version), repository=address))
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=output, delete=False) as stream:
            stream.write(data)
        temporary = Path(stream.name)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as exc:
        raise ConfigurationError(f"cannot write {path}: {exc.strerror}", hint="choose a folder with --output") from exc
    return path
