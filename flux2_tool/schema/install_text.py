"""How to install this package again, in words: the one wording of every fix that asks for it.

`installation.py` knows how a copy was installed; where several are possible, all commands are named.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from flux2_tool.schema.installation import DISTRIBUTION, Installation


def install_extra_text(extra: str, installation: Installation, *, command: Sequence[str] = ("COMMAND",)) -> str:
    """Return how to add an extra to an installation.

    Args:
        extra: The extra's name in pyproject.toml.
        installation: Where it is missing.
        command: What was to run, such as `["mcp"]`, for an installation that lasts for one command only.
    """
    requirement = installation.requirement(extra)
    if installation.is_temporary:
        return f"run it with the extra: {shlex.join(installation.run_command(requirement, command))}"
    place = "" if installation.is_source_known else " from its checkout"
    return f"install it again{place} with the extra: {installation.install_command(requirement)}"


def install_version_text(version: str, installation: Installation) -> str:
    """Return how to install a version over another one, or over packages that are too old.

    Args:
        version: The version that is needed.
        installation: What is to be replaced.
    """
    if not installation.is_from_file and installation.source is None:
        requirement = f"{installation.with_extras(DISTRIBUTION)}=={version}"
        return f"install {DISTRIBUTION} {version}: {installation.install_command(requirement)}"
    command = installation.install_command(installation.with_extras("."))
    return f"in an updated checkout, install {DISTRIBUTION} {version} again: {command}"


def any_install_version_text(version: str, *, pip: str) -> str:
    """Return how to install a version over another one, however that one was installed.

    Args:
        version: The version that is needed.
        pip: The command `pip` of the environment that has the package.
    """
    commands = f"uv tool install --reinstall ., pipx install --force ., or {pip} install ."
    return f"in an updated checkout, install {DISTRIBUTION} {version} again: {commands}"


def lasting_install_text(installation: Installation) -> str:
    """Return how to install a temporary copy for good."""
    return f"install it first: {installation.install_command(installation.requirement())}"
