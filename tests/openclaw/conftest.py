"""A minimal host in Node that runs the plugin's JavaScript, and a fake worker."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.openclaw.bundle import plugin_files, write_plugin
from flux2_tool.schema.manifest import Manifest, load_manifest

HERE = Path(__file__).parent
INSTALL = 'run: eval "$(.ci/install-openclaw)"'


class PluginHost:
    """Drives `plugin_host.mjs`: registers plugins and calls their tools."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self._numbers = itertools.count(1)

    def ask(self, op: str, **options: Any) -> Any:
        """Send one command and return its answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"op": op, "id": next(self._numbers), **options}) + "\n")
        self.process.stdin.flush()
        found = json.loads(self.process.stdout.readline())
        assert "failed" not in found, found["failed"]
        return found["answer"]

    def register(self, root: Path, *, name: str = "plugin", **options: Any) -> Any:
        """Load and register the plugin in a folder; options are config and providers."""
        return self.ask("register", name=name, root=str(root), stateDir=str(self.folder), **options)

    def begin(self, prompt: str, *, plugin: str = "plugin", tool: str = "text_to_image", **options: Any) -> str:
        """Start a tool call and return its name."""
        call = f"call_{next(self._numbers)}"
        args = {"prompt": prompt, **options.pop("args", {})}
        self.ask("begin", plugin=plugin, tool=tool, call=call, args=args, **options)
        return call

    def call(self, prompt: str, **options: Any) -> Any:
        """Make a tool call and return what the plugin gives the host."""
        return self.ask("end", call=self.begin(prompt, **options))

    def wait_for_progress(self, call: str) -> None:
        """Return once the worker has begun the call."""
        while not self.ask("updates", call=call):
            os.sched_yield()

    def pid(self) -> int:
        """Return the process id of the current worker."""
        return int(self.ask("worker")["pid"])


def text_of(outcome: dict[str, Any]) -> str:
    """Return what the model reads of an outcome."""
    return str(outcome["content"][0]["text"])


@pytest.fixture(scope="session")
def node() -> str:
    """The Node that FLUX2_TEST_NODE names, else the one on PATH."""
    found = shutil.which(os.environ.get("FLUX2_TEST_NODE") or "node")
    if found is None:
        message = f"no Node to run the plugin's JavaScript; {INSTALL}"
        if os.environ.get("FLUX2_TEST_REQUIRE_OPENCLAW") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    return load_manifest()


@pytest.fixture
def start_host(node: str, tmp_path: Path) -> Iterator[Callable[..., PluginHost]]:
    """Start hosts, each with exactly the environment given, PATH, and a home folder of its own.

    Without one, a worker finds that of the user who runs the tests, and takes the real journal along.
    """
    home = tmp_path / "home-of-the-user"
    home.mkdir()
    with ExitStack() as stack:

        def start(**environ: str) -> PluginHost:
            command = [node, str(HERE / "plugin_host.mjs")]
            env = {"PATH": "/usr/bin:/bin", "HOME": str(home), **environ}
            process = subprocess.Popen(
                command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
            )
            stack.callback(_end, process)
            return PluginHost(process, tmp_path)

        yield start


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    with process:
        process.wait()


@pytest.fixture
def host(start_host: Callable[..., PluginHost]) -> PluginHost:
    return start_host(RUNAPI_API_KEY="sk-secret-of-the-environment")


@pytest.fixture
def make_plugin(tmp_path: Path, manifest: Manifest) -> Callable[..., Path]:
    """Write a plugin's folder whose interpreter is the fake worker, and return the folder."""

    def make(
        *,
        version: str = manifest.version,
        worker_version: str | None = None,
        python: str | None = "",
        image_generate: bool = False,
    ) -> Path:
        made = replace(manifest, version=version)
        if python == "":
            python = str(
                fake_python(tmp_path / f"python-{version}", version=worker_version or version, sha=made.sha256)
            )
        folder = tmp_path / f"plugin-{version}"
        write_plugin(folder, plugin_files(made, python=python, image_generate=image_generate))
        return folder

    return make


def fake_python(path: Path, *, version: str, sha: str) -> Path:
    """Write a program that takes an interpreter's arguments and is the fake worker."""
    worker = HERE / "fake_worker.py"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{worker}" --version {version} --sha256 {sha} "$@"\n')
    path.chmod(0o755)
    return path


class FakeOpenClaw:
    """An `openclaw` command that only remembers what it was asked, and the state behind it."""

    def __init__(self, folder: Path) -> None:
        self.command = folder / "openclaw"
        self._file = folder / "state.json"
        self.change(version="2026.9.6", busy=0, plugin=None, config={}, others=[], log=[])
        self.command.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -I -S "{HERE / "fake_openclaw.py"}" "{self._file}" "$@"\n'
        )
        self.command.chmod(0o755)

    def change(self, **values: Any) -> None:
        """Change a part of its state."""
        state = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._file.write_text(json.dumps({**state, **values}))

    @property
    def state(self) -> dict[str, Any]:
        """Its state now."""
        found: dict[str, Any] = json.loads(self._file.read_text())
        return found


@pytest.fixture
def openclaw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeOpenClaw:
    """An `openclaw` command that only remembers what it was asked, and a shell with a key and nothing else."""
    for name in [name for name in os.environ if name.startswith(("RUNAPI_", "FLUX2_TOOL_", "OPENCLAW_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FLUX2_TOOL_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("RUNAPI_API_KEY", "sk-secret-0123456789")
    return FakeOpenClaw(tmp_path)
