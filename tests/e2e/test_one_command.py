"""`openclaw plugins install` of the packed plugin alone, on a machine whose PATH has only Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flux2_tool.sandbox import Sandbox
from tests.e2e.conftest import KEY, World
from tests.e2e.scripted_model import Say, Step, ToolCall
from tests.support.waiting import wait_until
from tests.support.wheels import folder_of_wheels

pytestmark = pytest.mark.timeout(600)


def test_one_command_is_enough_and_leaves_nothing_that_is_not_named(
    make_world: Callable[..., World], sandbox: tuple[str, Sandbox], tmp_path: Path
) -> None:
    """Without packages it says what is missing, with them it makes an image, and uninstalling removes what it made."""
    world = make_world(
        RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=sandbox[0], PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL="http://127.0.0.1:9"
    )
    openclaw = world.openclaw
    python = Path(sys.base_prefix) / "bin" / "python{}.{}".format(*sys.version_info)
    (openclaw.command.with_name("python3")).write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
    (openclaw.command.with_name("python3")).chmod(0o755)
    openclaw.environ["PATH"] = str(openclaw.command.parent)
    packed = openclaw.flux2_tool("openclaw", "pack", "--output", str(tmp_path))
    openclaw.run("plugins", "install", f"npm-pack:{packed.stdout.strip()}", "--force", "--accept-capabilities")
    ours = openclaw.state / "flux2-tool"
    steps: list[Step] = [ToolCall(tool="text_to_image", arguments={"prompt": "a parcel"}), Say(text="Unpacked.")]
    with openclaw.gateway() as gateway:
        wait_until(lambda: "flux2: The image worker could not be installed" in gateway.log.read_text())
        without = openclaw.turn(f"Please. {world.model.script('without', steps)}", session="one")
        folder_of_wheels(ours / "wheels")

        turn = openclaw.turn(f"Please. {world.model.script('with', steps)}", session="two")

        assert without.media_urls == []
        [told] = world.model.tool_results("without")
        assert "there is no connection to the package index" in told
        assert f"put the wheels it needs into {ours}/wheels" in told
        assert len(turn.media_urls) == 1, world.model.tool_results("with")
        [worker] = gateway.workers()
        assert gateway.process_text(worker, "cmdline").startswith(f"{ours}/python/")

        openclaw.run("plugins", "uninstall", "flux2", "--force")

        wait_until(lambda: not (ours / "python").exists())
        assert gateway.workers() == []
    assert (ours / "wheels").is_dir()
