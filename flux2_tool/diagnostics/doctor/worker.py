"""Check whether the worker starts under an interpreter, as the plugin would start it: initialize, then shutdown."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Mapping
from typing import Any, Final

from flux2_tool._files import is_folder
from flux2_tool._folders import home_folder
from flux2_tool.diagnostics.doctor.finding import Finding, failure, ok
from flux2_tool.runapi.text import printable
from flux2_tool.schema.install_text import install_version_text
from flux2_tool.schema.installation import installation_of
from flux2_tool.schema.manifest import Manifest

START_S: Final = 30.0
# The variables that the plugin passes to the worker; never a key.
_PASSED_ON = re.compile(
    r"PATH|HOME|USER|LANG|TZ|TMPDIR|SSL_CERT_FILE|SSL_CERT_DIR|OPENCLAW_STATE_DIR|LC_\w+|XDG_\w+"
    r"|(http|https|all|no)_proxy|(HTTP|HTTPS|ALL|NO)_PROXY"
)


def check_worker(python: str, manifest: Manifest, environ: Mapping[str, str]) -> Finding:
    """Start `python -m flux2_tool worker`, compare its version, and end it. Nothing is sent to RunAPI."""
    fix = install_version_text(manifest.version, installation_of(python))
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"plugin_version": manifest.version}},
        {"jsonrpc": "2.0", "id": 2, "method": "shutdown", "params": {}},
    ]
    begun_s, home = time.monotonic(), home_folder(environ)
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter or the one the plugin was installed with
            [python, "-P", "-m", "flux2_tool", "worker"],
            input="".join(json.dumps(line) + "\n" for line in lines),
            env={name: value for name, value in environ.items() if _PASSED_ON.fullmatch(name)},
            cwd=home if home is not None and is_folder(home) else None,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=START_S,
            check=False,
        )
    except OSError as exc:
        return failure("worker", f"{python} does not start: {exc.strerror}", "flux2-tool openclaw install")
    except subprocess.TimeoutExpired:
        return failure("worker", f"{python} does not start the worker within {START_S:.0f} s", fix)
    result = _initialize_result(done.stdout)
    if result is None:
        last = printable((done.stderr.strip().splitlines() or ["it printed nothing"])[-1], 200)
        return failure("worker", f"{python} does not start the worker: {last}", fix)
    if (result.get("version"), result.get("manifest_sha256")) != (manifest.version, manifest.sha256):
        version = printable(str(result.get("version")), 40)
        return failure("worker", f"{python} has flux2-tool {version} or another manifest", fix)
    took_s = time.monotonic() - begun_s
    return ok("worker", f"starts and ends, {took_s:.1f} s, {python}", elapsed_s=round(took_s, 2))


def _initialize_result(stdout: str) -> Mapping[str, Any] | None:
    """Return the result of `initialize` among the lines the worker printed."""
    for line in stdout.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, Mapping) and message.get("id") == 1 and isinstance(message.get("result"), Mapping):
            found: Mapping[str, Any] = message["result"]
            return found
    return None
