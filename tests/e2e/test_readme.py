"""The commands for OpenClaw in README and pages, run in the real one: from a checkout to a gateway without a fault."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.sandbox import Sandbox
from tests.e2e.conftest import KEY, World
from tests.e2e.openclaw_host import OpenClaw
from tests.support.readme import NAMES, ROOT, read, to_run
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

SECRET = base64.b64encode(b"the account's webhook secret").decode()
# Installing from a checkout asks a package index, which a machine may have configured in these.
PASSED_ON = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_")


def shell(openclaw: OpenClaw, code: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a block of commands in a checkout, at a terminal where somebody answers yes."""
    own, other = pty.openpty()
    try:
        os.write(own, b"y\n")
        return subprocess.run(
            ["/bin/bash", "-euc", code],
            cwd=ROOT,
            env=dict(environ),
            stdin=other,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        os.close(own)
        os.close(other)


@pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not a checkout")
def test_the_commands_shown_set_up_a_gateway_without_problems(
    make_world: Callable[..., World], sandbox: tuple[str, Sandbox]
) -> None:
    """What a newcomer copies, in the order in which it stands there; the gateway has its key from its file alone."""
    openclaw = make_world(RUNAPI_BASE_URL=sandbox[0]).openclaw
    kept = openclaw.state / ".env"
    kept.write_text(f"FLUX2_TOOL_CALLBACK_SECRET={SECRET}\n")
    environ = {name: text for name, text in os.environ.items() if name.upper().startswith(PASSED_ON)}
    environ |= openclaw.full_environ() | {"RUNAPI_API_KEY": KEY}
    environ["PATH"] = f"{openclaw.home}/.flux2-tool/bin:{environ['PATH']}"
    openclaw.command.with_name("python3").symlink_to(os.path.realpath(sys.executable))

    done = {block.name: shell(openclaw, block.code, environ) for block in to_run("runs in OpenClaw")}

    def examined() -> list[dict[str, Any]]:
        """doctor's findings, once it could ask the gateway, whose port answers before all its plugins do."""
        found = json.loads(shell(openclaw, "flux2-tool doctor --json", environ).stdout)["findings"]
        return found if any(finding["area"] == "gateway key" for finding in found) else []

    with openclaw.gateway():
        findings = wait_until(examined)

    failed = {name: f"{ran.stdout}\n{ran.stderr}" for name, ran in done.items() if ran.returncode != 0}
    assert failed == {}
    assert "Install it?" in done["register"].stderr
    assert done["register"].stdout.endswith("no problems found\n")
    assert '"status": "loaded"' in done["proof"].stdout
    assert done["proof"].stdout.endswith("no problems found\n")
    assert f"RUNAPI_API_KEY={KEY}\n" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    assert [finding for finding in findings if finding["state"] == "failure"] == []
    [key] = [finding for finding in findings if finding["area"] == "gateway key"]
    assert key["state"] == "ok"


def test_each_openclaw_command_shown_exists(make_openclaw: Callable[..., OpenClaw], tmp_path: Path) -> None:
    """OpenClaw renames commands, and answers an unknown one with the help of the group around it."""
    openclaw = make_openclaw(tmp_path)
    text = "\n".join(read(name) for name in NAMES)
    named = re.findall(r"(?:^|`|-gateway )openclaw ((?:[a-z]+(?:-[a-z]+)*(?: |$|`))+)", text, re.MULTILINE)
    commands = sorted({tuple(words.strip(" `\n").split()) for words in named})

    missing = [
        command
        for command in commands
        if f"Usage: openclaw {' '.join(command)}" not in openclaw.run(*command, "--help").stdout
    ]

    assert ("plugins", "validate") in commands
    assert ("config", "set") in commands
    assert missing == []
