"""The commands of README and pages, each run as it stands against a sandbox: what people copy must work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Command, scratch_environ
from tests.support.readme import EXAMPLE_TASK, Block, to_run

BLOCKS = to_run("runs")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A shell's environment: `flux2-tool` on the PATH, and the line that `flux2-tool sandbox` prints taken over."""
    folder = tmp_path_factory.mktemp("readme")
    program = folder / "bin" / "flux2-tool"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m flux2_tool "$@"\n')
    program.chmod(0o755)
    environ = {**scratch_environ(folder), "PATH": f"{program.parent}:/usr/bin:/bin"}
    bare = Command(folder=folder, environ=environ)
    with bare.start("sandbox", "--duration", "0.1") as sandbox:
        assert sandbox.stderr is not None
        line = sandbox.stderr.readline()
        try:
            exported = re.search(r": export (.+)$", line)
            assert exported, line
            yield Command(folder=folder, environ=environ | dict(word.split("=", 1) for word in exported[1].split()))
        finally:
            sandbox.terminate()
            sandbox.communicate(timeout=30)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_each_block_of_commands_runs_as_it_stands(block: Block, shell: Command, tmp_path: Path) -> None:
    """In a folder of its own, with the id of a real task in the place of the example's."""
    assert shell.run("generate", f"a lighthouse for {block.name}").returncode == 0
    task = shell.tasks()[-1]["task_id"]

    done = subprocess.run(
        ["/bin/sh", "-euc", block.code.replace(EXAMPLE_TASK, task)],
        cwd=tmp_path,
        env=dict(shell.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
    assert done.stdout


def test_there_are_commands_to_run() -> None:
    """Without this a change of the marks' form would leave nothing to run."""
    assert {block.name for block in BLOCKS} >= {"command line", "money", "journal", "doctor", "mcp", "definitions"}
