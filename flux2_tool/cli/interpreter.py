"""The Python interpreter of this command, for hosts to start."""

from __future__ import annotations

import sys
from pathlib import Path

from flux2_tool.exceptions import ConfigurationError


def this_python() -> str:
    """Return the absolute path of the interpreter; its links are kept, because they identify the virtual environment.

    Raises:
        ConfigurationError: Python does not know its own path.
    """
    if not sys.executable:
        raise ConfigurationError("this Python does not know its own path", hint="run it by its absolute path")
    return str(Path(sys.executable).absolute())
