"""The Python interpreter of this command, for hosts to start later."""

from __future__ import annotations

import sys
from pathlib import Path

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.install_text import lasting_install_text
from flux2_tool.schema.installation import this_installation


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
