"""The Python interpreter of this command, for hosts to start later, and how people call the command again."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.install_text import lasting_install_text
from flux2_tool.schema.installation import DISTRIBUTION, this_installation


def this_python() -> str:
    """Return the absolute path of the interpreter; its links are kept, because they identify the virtual environment.

    Raises:
        ConfigurationError: Python does not know its own path, or the path will not last.
    """
    if not sys.executable:
        raise ConfigurationError("this Python does not know its own path", hint="run it by its absolute path")
    installation = this_installation()
    if installation.is_temporary:
        raise ConfigurationError(
            "this Python lies in a cache and will vanish, so no other program can be told to start it",
            hint=lasting_install_text(installation),
        )
    return str(Path(sys.executable).absolute())


def lasting_python() -> str:
    """Return `this_python`, for a plugin that is to start it for years.

    Raises:
        ConfigurationError: As there, or it belongs to the environment that a packed plugin has made for itself.
    """
    if (Path(sys.prefix).parent / "flux2-tool").is_file() and Path(sys.prefix).parent.parent.name == DISTRIBUTION:
        raise ConfigurationError(
            f"this Python, {sys.prefix}, belongs to the plugin that is installed, and is replaced with it",
            hint="to upgrade, run: openclaw plugins install npm-pack:FILE --force --accept-capabilities",
        )
    return this_python()


def command_here(environ: Mapping[str, str]) -> str:
    """Return how this command is called from this shell: by its name where the PATH has this very one."""
    own = Path(sys.executable).absolute().with_name(DISTRIBUTION)
    if not own.is_file():
        return f"{shlex.quote(sys.executable)} -m flux2_tool"
    return (
        DISTRIBUTION if _is_same(shutil.which(DISTRIBUTION, path=environ.get("PATH")), own) else shlex.quote(str(own))
    )


def command_advice(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what to do where the PATH has no `flux2-tool`, or another one."""
    found = shutil.which(DISTRIBUTION, path=environ.get("PATH"))
    own = Path(sys.executable).absolute().with_name(DISTRIBUTION)
    if _is_same(found, own) or not own.is_file():
        return
    state = "is not on your PATH" if found is None else f"on your PATH is another installation, {found}"
    yield f"flux2-tool {state}. To call this one by its name, in this shell and later ones:"
    yield f'  export PATH={shlex.quote(str(own.parent))}:"$PATH"   (and the same line in ~/.profile)'


def _is_same(found: str | None, own: Path) -> bool:
    if found is None:
        return False
    # uv and pipx put links into a folder of the PATH.
    return Path(found).resolve() == own.resolve()
