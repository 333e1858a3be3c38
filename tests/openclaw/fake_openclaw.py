"""An `openclaw` command that keeps its state in one JSON file, for tests of the installer without OpenClaw.

Answers are shaped like those of OpenClaw 2026.9.6. `state.json` holds: version, busy (how many times an install
or reload is refused), plugin (null or its state), loads (what of it an installation changes), config (sections by
path), others (more plugins), gateway (answers by method of one that runs), hangs (whether it never answers), unread (a
failure of reading the config), failures and texts (error and output by a command's beginning), notice (printed around
JSON), log (what was asked).
"""

from __future__ import annotations

import fcntl
import json
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # hundreds of processes run this, so that it imports no more than it needs, nor pathlib
    from typing import Any


def main(state_file: str, arguments: list[str]) -> int:
    """Answer one command and keep what it changed."""
    with open(state_file, "r+") as stream:  # noqa: PTH123
        # Several commands may run at the same time.
        fcntl.flock(stream, fcntl.LOCK_EX)
        state = json.load(stream)
        state["log"].append(arguments)
        code = answer(state, arguments)
        stream.seek(0)
        stream.truncate()
        json.dump(state, stream)
    if arguments[:2] == ["gateway", "call"] and state.get("hangs"):
        signal.pause()
    return code


def answer(state: dict[str, Any], arguments: list[str]) -> int:
    """Print the answer and return the exit code."""
    if arguments[0] == "--profile":
        arguments = arguments[2:]
    plugin = state["plugin"]
    line = " ".join(arguments)
    for beginning, message in state.get("failures", {}).items():
        if line.startswith(beginning):
            return failed(message)
    for beginning, text in state.get("texts", {}).items():
        if line.startswith(beginning):
            print(text)
            return 0
    match arguments:
        case ["--version"]:
            print(f"OpenClaw {state['version']} (abcdef0)")
        case ["plugins", "install", folder, "--force", "--accept-capabilities"]:
            made = read(f"{folder}/openclaw.plugin.json")
            disabled = (state["config"].get("plugins") or {}).get("entries", {}).get("flux2", {}).get(
                "enabled"
            ) is False
            state["plugin"] = {
                "id": made["id"],
                "version": made["version"],
                "rootDir": folder,
                "enabled": not disabled,
                "status": "disabled" if disabled else state.get("status", "loaded"),
                "toolNames": [] if disabled else made["contracts"]["tools"],
                **state.get("loads", {}),
            }
            return refused_while_busy(state)
        case ["plugins", "reload", "flux2", "--accept-capabilities"]:
            return refused_while_busy(state)
        case ["plugins", "enable", "flux2", "--accept-capabilities"]:
            tools = read(f"{plugin['rootDir']}/dist/tools.json")["tools"]
            plugin |= {"enabled": True, "status": "loaded", "toolNames": [tool["name"] for tool in tools]}
        case ["plugins", "inspect", "flux2", "--runtime", "--json"] if plugin:
            print("a notice before the JSON")
            print(json.dumps({"plugin": plugin, "diagnostics": state.get("diagnostics", [])}))
        case ["plugins", "inspect", "flux2", "--runtime", "--json"]:
            return failed("Plugin not found: flux2. Run `openclaw plugins list` to see installed plugins.")
        case ["plugins", "list", "--json"]:
            print(json.dumps({"plugins": [*([plugin] if plugin else []), *state["others"]]}))
        case ["plugins", "uninstall", "flux2", "--force"]:
            state["plugin"] = None
            state["config"]["plugins.entries.flux2"] = {"enabled": False}
        case ["config", "unset", path] if path in state["config"]:
            del state["config"][path]
        case ["config", "get", path, "--json"] if state.get("invalid"):
            return failed("OpenClaw config is invalid", issues=[{"path": path, "message": "must be a list"}])
        case ["config", "get", path, "--json"] if state.get("unread"):
            return failed(state["unread"])
        case ["config", "get", path, "--json"] if (found := value_at(path, state["config"])) is not None:
            print(state.get("notice", ""))
            print(json.dumps(found, indent=2))
            print(state.get("notice", ""))
        case ["config", "get", path, "--json"]:
            return failed(f"Config path is valid but unset: {path}.")
        case ["gateway", "call", method, *_] if method in state.get("gateway", {}):
            print(json.dumps(state["gateway"][method]))
        case ["gateway", "call", method, *_] if "gateway" in state:
            return failed(f"unknown method: {method}")
        case _:
            return failed("Gateway not reachable at ws://127.0.0.1:9 (ECONNREFUSED).", kind="gateway_transport")
    return 0


def read(file: str) -> Any:
    """Return what a JSON file says."""
    with open(file) as stream:  # noqa: PTH123
        return json.load(stream)


def value_at(path: str, config: dict[str, Any]) -> Any:
    """Return what a config has at a dotted path, however the test has divided it into sections."""
    whole: dict[str, Any] = {}
    for section in sorted(config):
        *folders, name = section.split(".")
        inner = whole
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = config[section]
    found: Any = whole
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def refused_while_busy(state: dict[str, Any]) -> int:
    """Refuse as long as the gateway is busy."""
    if state["busy"] <= 0:
        return 0
    state["busy"] -= 1
    sys.stderr.write("Plugin flux2 still has active retained work; retry after the work finishes.\n")
    return 1


def failed(message: str, kind: str = "cli_error", **more: Any) -> int:
    """Print OpenClaw's JSON of a failure."""
    print(json.dumps({"ok": False, "error": {"type": kind, "message": message}, **more}))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
