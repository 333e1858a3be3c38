"""Installing, looking at, upgrading, packing and removing the plugin, with the commands people use."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

import flux2_tool
from flux2_tool.openclaw.npm_package import MINIMUM_OPENCLAW
from flux2_tool.sandbox import Sandbox
from flux2_tool.schema.manifest import load_manifest, manifest_path
from tests.e2e.conftest import KEY, World
from tests.e2e.openclaw_host import OpenClaw
from tests.e2e.scripted_model import Say, Step, ToolCall
from tests.e2e.test_turns import run
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

TOOLS = list(load_manifest().tools)


def newer_version(folder: Path, *, version: str) -> Path:
    """Make an environment with this package under another version number, and return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    # The dependencies come from this environment, the package from the copy, which is found first.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    package = site / "flux2_tool"
    shutil.copytree(Path(flux2_tool.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    text = manifest_path().read_text(encoding="utf-8")
    text = text.replace(f'version: "{load_manifest().version}"', f'version: "{version}"')
    text = text.replace("Make a picture from text", "Make a brand-new picture from text")
    (package / manifest_path().name).write_text(text, encoding="utf-8")
    return folder / "bin" / "python"


def inspected(openclaw: OpenClaw) -> dict[str, object]:
    """What `plugins inspect --runtime` says of the plugin."""
    found: dict[str, object] = json.loads(openclaw.run("plugins", "inspect", "flux2", "--runtime", "--json").stdout)
    return found


def test_install_shows_its_terms_and_openclaw_accepts_it(world: World) -> None:
    """Nobody should be surprised by a bill; and a plugin with diagnostics is half broken."""
    asked = world.openclaw.flux2_tool("openclaw", "install")

    assert asked.returncode == 3
    assert "text_to_image, remix_image, get_image_task" in asked.stderr
    assert "flux-2-pro-text-to-image: 1k 0.05 USD, 2k 0.07 USD" in asked.stderr
    assert "openclaw install --yes" in asked.stderr
    found = inspected(world.openclaw)
    assert found["diagnostics"] == []
    assert found["plugin"]["status"] == "loaded"  # type: ignore[index]
    assert found["plugin"]["toolNames"] == TOOLS  # type: ignore[index]
    doctor = json.loads(world.openclaw.run("plugins", "doctor", "--json").stdout)
    assert not [value for value in doctor.values() if isinstance(value, list) and value]


def test_status_names_what_hides_tools_and_its_fix_works(world: World) -> None:
    """ "The agent says it has no such tool" is answered by one command and fixed by another."""
    world.openclaw.configure(tools={"allow": ["read"]})
    hidden = world.openclaw.flux2_tool("openclaw", "status", "--json")
    [hiding] = json.loads(hidden.stdout)["hidden"]

    fixed = subprocess.run(
        ["sh", "-c", hiding["fix"]], env=world.openclaw.full_environ(), capture_output=True, text=True, check=False
    )
    status = world.openclaw.flux2_tool("openclaw", "status", "--json")

    assert hidden.returncode == 3
    assert (hiding["where"], hiding["tools"]) == ("tools.allow", TOOLS)
    assert fixed.returncode == 0, fixed.stderr
    found = json.loads(status.stdout)
    assert found["ok"], found
    assert found["offered"] == TOOLS
    assert found["plugin_version"] == found["package_version"] == load_manifest().version
    assert found["key_sources"] == ["RUNAPI_API_KEY, seen from here"]
    assert KEY not in hidden.stdout + hidden.stderr + status.stdout + status.stderr


def test_an_upgrade_keeps_settings_and_calls_in_flight(
    make_world: Callable[..., World], sandbox: tuple[str, Sandbox], tmp_path: Path
) -> None:
    """From version N to N+1 without a restart, while a picture is being made."""
    world = make_world(RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=sandbox[0])
    world.openclaw.install_plugin()
    world.openclaw.run("config", "set", "plugins.entries.flux2.config.tiers", '["pro"]')
    newer = newer_version(tmp_path / "newer", version="77.0.0")
    with world.openclaw.gateway() as gateway:
        run(world, [ToolCall(tool="text_to_image", arguments={"prompt": "an old ship"}), Say(text="Old.")])
        old = gateway.workers()
        world.sandbox.options = world.sandbox.options.changed({"duration_s": 14.0})
        steps: list[Step] = [
            ToolCall(tool="text_to_image", arguments={"prompt": "a ship at sea"}),
            Say(text="Arrived."),
        ]
        process = world.openclaw.begin_turn(f"Sail. {world.model.script('sea', steps)}", session="sea")
        wait_until(lambda: [t for t in world.sandbox.ledger.tasks.values() if "at sea" in t.arguments["prompt"]])

        world.openclaw.install_plugin(python=newer)
        world.sandbox.options = world.sandbox.options.changed({"duration_s": 1.0})
        at_sea = world.openclaw.finish_turn(process)
        turn, results = run(
            world, [ToolCall(tool="text_to_image", arguments={"prompt": "a new ship"}), Say(text="New.")]
        )

        assert len(at_sea.media_urls) == 1
        assert len(turn.media_urls) == 1, results
        [worker] = wait_until(lambda: [pids for pids in [gateway.workers()] if len(pids) == 1])[0]
        assert worker not in old
        assert str(newer) in gateway.process_text(worker, "cmdline")
    offered = world.model.requests[-1].tools["text_to_image"]
    assert offered["description"].startswith("Make a brand-new picture")
    assert offered["parameters"]["properties"]["model"]["enum"] == ["flux-2-pro-text-to-image"]


def test_state_folders_are_installed_and_uninstalled_apart(world: World, tmp_path: Path) -> None:
    """Two gateways of one user: neither has the other's options or files; what was removed comes back enabled."""
    openclaw, first = world.openclaw, world.openclaw.environ.copy()
    second = openclaw.home / ".openclaw-second"
    openclaw.environ["OPENCLAW_STATE_DIR"] = str(second)
    installed = openclaw.flux2_tool("openclaw", "install", "--yes", "--image-generate")
    openclaw.environ = first

    removed = openclaw.flux2_tool("openclaw", "uninstall")
    packed = openclaw.flux2_tool("openclaw", "pack", "--output", str(tmp_path))
    openclaw.run("plugins", "install", f"npm-pack:{packed.stdout.strip()}", "--force", "--accept-capabilities")

    assert f"is installed in OpenClaw {MINIMUM_OPENCLAW} (state folder {second})" in installed.stdout
    assert removed.returncode == 0, removed.stderr
    assert removed.stdout.startswith(
        f"flux2 is removed from OpenClaw {MINIMUM_OPENCLAW} (state folder {openclaw.state})"
    )
    assert "This package stays. To remove it: " in removed.stderr
    assert not list((openclaw.state / "extensions").glob("flux2*"))
    again = inspected(openclaw)
    assert again["diagnostics"] == []
    assert again["install"]["source"] == "npm"  # type: ignore[index]
    assert again["plugin"]["toolNames"] == TOOLS  # type: ignore[index]
    assert again["plugin"]["imageGenerationProviderIds"] == []  # type: ignore[index]
    openclaw.environ["OPENCLAW_STATE_DIR"] = str(second)
    untouched = inspected(openclaw)
    openclaw.environ = first
    assert untouched["plugin"]["status"] == "loaded"  # type: ignore[index]
    assert untouched["plugin"]["imageGenerationProviderIds"] == ["runapi"]  # type: ignore[index]
    assert (second / "flux2-tool" / "openclaw-plugin" / "package.json").is_file()


def test_a_missing_or_old_openclaw_says_so(world: World, tmp_path: Path) -> None:
    """The first command a newcomer runs must name what is missing."""
    old = tmp_path / "openclaw"
    old.write_text("#!/bin/sh\necho 'OpenClaw 2025.1.2 (abc)'\n")
    old.chmod(0o755)

    missing = world.openclaw.flux2_tool("openclaw", "status", "--openclaw", str(tmp_path / "none"))
    too_old = world.openclaw.flux2_tool("openclaw", "status", "--openclaw", str(old))

    assert (missing.returncode, too_old.returncode) == (3, 3)
    assert "npm install -g openclaw" in missing.stderr
    assert "2025.1.2" in too_old.stderr
    assert "too old" in too_old.stderr
