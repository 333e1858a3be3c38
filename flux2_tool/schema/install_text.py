"""How to install this package again, in words: the one wording of every fix that asks for it.

The package is not on PyPI, so it is installed again from its checkout, in the way in which it was installed before.
"""

from __future__ import annotations

import shlex


def install_extra_text(extra: str, *, python: str) -> str:
    """Return how to add an extra to this installation.

    Args:
        extra: The extra's name in pyproject.toml.
        python: The interpreter of a virtual environment that has the package.
    """
    source = f"'.[{extra}]'"
    return f"install it again from the checkout with the extra: {_commands(source, pip_of(python))}"


def install_version_text(version: str, *, pip: str) -> str:
    """Return how to install a version over another one, or over packages that are too old.

    Args:
        version: The version that is needed.
        pip: The command `pip` of the environment that has the package, as of `pip_of`.
    """
    return f"in an updated checkout, install flux2-tool {version} again: {_commands('.', pip)}"


def pip_of(python: str) -> str:
    """Return the command `pip` of an interpreter, for a shell."""
    return f"{shlex.quote(python)} -m pip"


def _commands(source: str, pip: str) -> str:
    return f"uv tool install --reinstall {source}, pipx install --force {source}, or {pip} install {source}"
