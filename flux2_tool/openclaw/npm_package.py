"""The plugin's `package.json`: what npm, OpenClaw's installer and ClawHub read of it.

Sources: OpenClaw's own docs, `plugins/building-plugins.md`, and what the command `clawhub package` of the npm package
`clawhub` demands.
"""

from __future__ import annotations

import re
from typing import Any, Final

from flux2_tool.schema.manifest import Manifest

MINIMUM_OPENCLAW: Final = "2026.9.6"
"""The lowest OpenClaw that the end-to-end tests ran with."""

NPM_NAME: Final = "flux2-tool"
"""Not the plugin's id: an unrelated npm package has that name, and `openclaw plugins update` looks there."""

WHEEL_FOLDER: Final = "python"
_KEYWORDS: Final = ("openclaw", "openclaw-plugin", "flux", "flux-2", "image-generation", "runapi")


def package_manifest(manifest: Manifest, *, repository: str | None = None) -> dict[str, Any]:
    """Return `package.json`: entry file, versions of OpenClaw that may install it, and what a catalogue shows.

    Args:
        manifest: The plugin's.
        repository: Where the source code is, as an address that begins with https; left out while there is none.
    """
    addresses = {
        "homepage": f"{repository}#readme",
        "repository": {"type": "git", "url": f"git+{repository}.git"},
        "bugs": {"url": f"{repository}/issues"},
    }
    return {
        "name": NPM_NAME,
        "version": npm_version(manifest.version),
        "description": manifest.description,
        "keywords": list(_KEYWORDS),
        "license": "MIT",
        **(addresses if repository else {}),
        "type": "module",
        "files": ["dist", "assets", WHEEL_FOLDER, "skills", "openclaw.plugin.json"],
        # The host itself, which installs nothing for it.
        "peerDependencies": {"openclaw": f">={MINIMUM_OPENCLAW}"},
        "openclaw": {
            "extensions": ["./dist/index.js"],
            "compat": {"pluginApi": f">={MINIMUM_OPENCLAW}", "minGatewayVersion": MINIMUM_OPENCLAW},
            "build": {"openclawVersion": MINIMUM_OPENCLAW, "pluginSdkVersion": MINIMUM_OPENCLAW},
            "install": {"minHostVersion": f">={MINIMUM_OPENCLAW}"},
        },
    }


def npm_version(version: str) -> str:
    """Return a Python version as npm writes it: "1.0.0rc1" is "1.0.0-rc.1"."""
    return re.sub(r"^(\d+\.\d+\.\d+)\.?([a-z]+)(\d+)$", r"\1-\2.\3", version)
