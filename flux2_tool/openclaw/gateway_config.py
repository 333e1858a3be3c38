"""OpenClaw's saved config as the running gateway reads it: one command for all of it.

Each `openclaw config get` takes seconds of a processor and gives one section. The gateway's method `config.get` reads
the same file and masks the same secrets (measured with OpenClaw 2026.9.6). It is asked only where it certainly is this
machine's gateway with this state folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from flux2_tool._files import read_file
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.openclaw.openclaw_cli import GATEWAY_TIMEOUT_S, OpenClawCli

CONFIG_FILE: Final = "openclaw.json"
# Each may lead to another gateway or another file.
_ELSEWHERE: Final = ("OPENCLAW_GATEWAY_URL", "OPENCLAW_CONFIG_PATH")


def gateway_config(cli: OpenClawCli) -> Mapping[str, Any] | None:
    """Return the whole config with its secrets masked; None where this machine's gateway does not give a valid one."""
    path = cli.state_folder / CONFIG_FILE
    if any(cli.environ.get(name) for name in _ELSEWHERE) or not _is_of_a_local_gateway(path):
        return None
    try:
        found = cli.run_json("gateway", "call", "config.get", "--params", "{}", "--json", timeout_s=GATEWAY_TIMEOUT_S)
    except ConfigurationError:
        return None
    if not isinstance(found, Mapping) or found.get("valid") is not True or not _is_same(found.get("path"), path):
        return None
    config = found.get("config")
    return config if isinstance(config, Mapping) else None


def value_at(config: Mapping[str, Any], path: str) -> Any:
    """Return a value by its dotted path, None when it is unset."""
    found: Any = config
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _is_of_a_local_gateway(path: Path) -> bool:
    """Whether a config says so; one that is no plain JSON is left to OpenClaw."""
    try:
        config = json.loads(read_file(path).decode())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and value_at(config, "gateway.mode") == "local"


def _is_same(named: Any, path: Path) -> bool:
    try:
        return isinstance(named, str) and Path(named).samefile(path)
    except (OSError, ValueError):
        return False
