"""Have OpenClaw remove the plugin, remove what only it needed, and say what stays."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from flux2_tool._files import read_file
from flux2_tool._folders import JOURNAL_NAME, state_data_folder
from flux2_tool.credentials import KEY_VARIABLE
from flux2_tool.openclaw.install import plugin_folder
from flux2_tool.openclaw.openclaw_cli import OpenClawCli
from flux2_tool.openclaw.settings_record import read_record
from flux2_tool.schema.installation import this_installation
from flux2_tool.schema.manifest import Manifest


def private_python_folder(state: Path) -> Path:
    """Return the folder of the environments that a packed plugin makes; see `plugin/private_python.js`."""
    return state_data_folder(state) / "python"


def uninstall(cli: OpenClawCli, manifest: Manifest) -> bool:
    """Remove the plugin from OpenClaw, the generated plugin and its private environments; return whether it was there.

    A later installation is enabled again: OpenClaw leaves a mark that would keep it disabled, which goes too.

    Raises:
        ConfigurationError: OpenClaw refused.
    """
    was_installed = any(plugin["id"] == manifest.id for plugin in cli.run_json("plugins", "list", "--json")["plugins"])
    if was_installed:
        cli.run("plugins", "uninstall", manifest.id, "--force")
    entry = f"plugins.entries.{manifest.id}"
    if cli.config_value(entry) == {"enabled": False}:
        cli.run("config", "unset", entry)
    shutil.rmtree(plugin_folder(cli.state_folder), ignore_errors=True)
    shutil.rmtree(private_python_folder(cli.state_folder), ignore_errors=True)
    return was_installed


def what_stays(state: Path, *, home: Path | None, own: Path | None) -> Iterator[str]:
    """Yield a line for everything that an uninstallation leaves, with how to remove it.

    Args:
        state: The state folder of OpenClaw that was addressed.
        home: Our data folder, None when there is none.
        own: The user's own, where a journal that was taken along has left a link; None when there is none.
    """
    folders: Mapping[Path, str] = {
        state_data_folder(state): "the journal of what was paid, and the pictures that are kept with it",
        state / "media" / "tool-flux2": "copies of pictures in the web chat",
        **({home: "the journal of what was paid"} if home is not None else {}),
    }
    for folder, contents in folders.items():
        if folder.is_dir() and any(folder.iterdir()):
            # A link that leads nowhere would keep every command from the journal.
            link = [own / JOURNAL_NAME] if own is not None and _leads_into(own / JOURNAL_NAME, folder) else []
            yield f"{folder} stays: {contents}. To remove it: rm -r {shlex.join(map(str, [folder, *link]))}"
    if (read_record(state) or {}).get("journal_url"):
        yield (
            "The journal in PostgreSQL stays, which other gateways may use. To remove it once none does, in its "
            "database: DROP SCHEMA flux2_tool CASCADE"
        )
    env_file = state / ".env"
    if _has_key(env_file):  # a chat provider may need it
        yield f"The line {KEY_VARIABLE} in {env_file} stays; RunAPI as a chat provider needs it too"
    installation = this_installation()
    is_private = Path(sys.prefix).is_relative_to(private_python_folder(state))
    if not installation.is_temporary and not is_private:
        yield f"This package stays. To remove it: {installation.uninstall_command()}"


def _leads_into(path: Path, folder: Path) -> bool:
    return path.is_symlink() and not path.parent.samefile(folder) and path.resolve().is_relative_to(folder.resolve())


def _has_key(path: Path) -> bool:
    try:
        lines = read_file(path).decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return any(line.strip().removeprefix("export ").partition("=")[0].strip() == KEY_VARIABLE for line in lines)
