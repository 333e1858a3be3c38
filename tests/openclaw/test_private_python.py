"""The environment that a packed plugin makes for itself: with real interpreters, wheels and processes, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.openclaw.bundle import plugin_files, write_plugin
from flux2_tool.openclaw.wheel import package_wheel
from flux2_tool.schema.manifest import Manifest
from tests.openclaw.conftest import PluginHost
from tests.support.waiting import wait_until
from tests.support.wheels import folder_of_wheels

StartHost = Callable[..., PluginHost]

# Whatever this machine's pip is configured to do: nothing is found, and nobody answers.
NO_NETWORK = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
BASE = Path(sys.base_prefix) / "bin"


@pytest.fixture
def packed_plugin(tmp_path: Path, manifest: Manifest) -> Path:
    """The folder of a plugin that brings its wheel, as OpenClaw unpacks it."""
    folder = tmp_path / "plugin"
    write_plugin(folder, plugin_files(manifest, python=None, wheel=package_wheel(manifest.version)))
    return folder


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_wheels(tmp_path_factory.mktemp("wheels"))


def environments(state: Path) -> list[str]:
    """The names of what lies in the folder of environments, without the command for people."""
    return sorted(path.name for path in (state / "flux2-tool" / "python").iterdir() if path.name != "flux2-tool")


def error_of(outcome: dict[str, Any]) -> dict[str, Any]:
    """The error of a call."""
    found: dict[str, Any] = outcome["details"]["result"]["error"]
    return found


def program(path: Path, line: str) -> None:
    """Write a program of one line of shell."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def test_the_first_call_makes_the_environment_once_for_all_processes(
    start_host: StartHost, packed_plugin: Path, manifest: Manifest, wheels: Path, tmp_path: Path
) -> None:
    """Two processes wait for one installation; what a killed one left is taken over; the last two are kept."""
    root = tmp_path / "flux2-tool" / "python"
    for age, name in enumerate(["0.0.3-newest", "0.0.2-older", "0.0.1-oldest", ".part-of-a-dead-process"]):
        (root / name).mkdir(parents=True)
        (root / name / "pyvenv.cfg").touch()
        os.utime(root / name, (1_000_000_000 - age, 1_000_000_000 - age))
    ended = subprocess.Popen(["true"])
    ended.wait()
    (root / "lock").write_text(str(ended.pid))
    shutil.copytree(wheels, tmp_path / "flux2-tool" / "wheels")
    other = tmp_path / "flux2-tool-on-path"
    other.mkdir()
    program(other / "flux2-tool", 'echo \'{"result": {"version": "0.0.1", "manifest_sha256": "another"}}\'')
    # As a workspace's .env may set it: what is installed is not for it to say.
    of_workspace = {"PIP_REQUIREMENT": str(tmp_path / "requirements of a workspace.txt"), "PIP_NO_DEPS": "1"}
    hosts = [start_host(**NO_NETWORK, **of_workspace, PATH=f"{other}:/usr/bin:/bin") for _ in range(2)]
    for host in hosts:
        host.register(packed_plugin)
    stopped = hosts[0].begin("fox")
    hosts[0].ask("abort", call=stopped)
    calls = [host.begin("fox") for host in hosts]

    outcomes = [host.ask("end", call=call) for host, call in zip(hosts, calls, strict=True)]

    # The worker itself answers: only it knows where a key may be.
    assert [error_of(outcome)["code"] for outcome in outcomes] == ["missing_api_key"] * 2
    assert error_of(hosts[0].ask("end", call=stopped))["code"] == "cancelled"
    updates = [update["progress"]["text"] for update in hosts[0].ask("updates", call=calls[0])]
    assert any("the image worker" in text for text in updates)
    [made] = [name for name in environments(tmp_path) if name.startswith(manifest.version)]
    assert environments(tmp_path) == ["0.0.3-newest", made]
    assert root.stat().st_mode & 0o777 == 0o700
    command = subprocess.run([root / "flux2-tool", "--version"], capture_output=True, text=True, check=True)
    assert command.stdout == f"flux2-tool {manifest.version}\n"

    # Later there are no wheels and no network: what was made is used, and what does not run is to be made again.
    shutil.rmtree(tmp_path / "flux2-tool" / "wheels")
    later = start_host(**NO_NETWORK)
    later.register(packed_plugin)
    assert error_of(later.call("fox"))["code"] == "missing_api_key"
    for python in (root / made / "bin").glob("python*"):
        python.unlink()
    last = start_host(**NO_NETWORK)
    last.register(packed_plugin)
    error = error_of(last.call("fox"))
    assert error["code"] == "configuration_error"
    assert "there is no connection to the package index" in error["message"]
    assert environments(tmp_path) == ["0.0.3-newest", made]


def test_an_environment_that_runs_is_used_whatever_else_fails(
    start_host: StartHost, packed_plugin: Path, tmp_path: Path
) -> None:
    """A state folder that was restored as another user's, or a full disk: the worker needs none of it."""
    root = tmp_path / "flux2-tool" / "python"
    bundle = json.loads((packed_plugin / "dist" / "tools.json").read_text())
    own = f"{bundle['version']}-{bundle['wheel']['sha256'][:12]}"
    for age, name in enumerate([own, "0.0.3-newest", "0.0.2-older"]):
        (root / name / "bin").mkdir(parents=True)
        (root / name / "pyvenv.cfg").touch()
        os.utime(root / name, (1_000_000_000 - age, 1_000_000_000 - age))
    program(root / own / "bin" / "python", f'exec "{sys.executable}" "$@"')
    (root / "flux2-tool").mkdir()  # the command for people cannot be written
    host = start_host(**NO_NETWORK, PATH="/usr/bin:/bin")
    host.register(packed_plugin)

    error = error_of(host.call("fox"))

    assert error["code"] == "missing_api_key"  # the worker's own answer
    warnings = [text for level, text in host.ask("logs") if level == "warn"]
    assert any(f"the command {root}/flux2-tool cannot be written" in text for text in warnings)
    assert [name for name in environments(tmp_path) if not name.endswith(".part")] == ["0.0.3-newest", own]


def test_a_command_on_the_path_that_fits_is_used_as_it_is(
    start_host: StartHost, packed_plugin: Path, tmp_path: Path
) -> None:
    """Who has installed flux2-tool, perhaps with extras, gets no second one; one wait for both calls."""
    program(tmp_path / "flux2-tool", f'exec "{sys.executable}" -P -m flux2_tool "$@"')
    state = tmp_path / "state"
    host = start_host(**NO_NETWORK, PATH=f"{tmp_path}:/usr/bin:/bin")
    host.ask("register", name="plugin", root=str(packed_plugin), stateDir=str(state))
    state.mkdir()

    assert error_of(host.call("fox"))["code"] == "missing_api_key"
    assert not (state / "flux2-tool" / "python").exists()


def test_a_call_does_not_wait_for_an_installation_without_end(
    start_host: StartHost, packed_plugin: Path, tmp_path: Path
) -> None:
    """A host gives a tool some minutes at most; the installation goes on, and the next call finds it."""
    os.mkfifo(tmp_path / "never")
    program(tmp_path / "flux2-tool", f'read line < "{tmp_path}/never"')
    host = start_host(**NO_NETWORK, PATH=f"{tmp_path}:/usr/bin:/bin")
    host.register(packed_plugin)
    host.ask("hurry", times=1000)

    error = error_of(host.call("fox"))

    os.close(os.open(tmp_path / "never", os.O_WRONLY | os.O_NONBLOCK))  # whoever reads there ends
    assert error["message"] == "The image worker is still being installed, after 80 s."
    assert (error["retryable"], error["charged"]) == (True, "no")
    assert "Make the same call again" in error["hint"]


@pytest.fixture
def make_python(start_host: StartHost, packed_plugin: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return what makes the environment with the interpreters of some folders, and returns the error."""

    def make(*folders: Path, **environ: str) -> dict[str, Any]:
        host = start_host(**{**NO_NETWORK, **environ})
        names = [str(folder) for folder in folders]
        made = host.ask("makePython", root=str(packed_plugin), stateDir=str(tmp_path), folders=names)
        assert not [name for name in environments(tmp_path) if name != "lock"] if made["error"] else True
        found: dict[str, Any] = made["error"]
        return found

    return make


def test_a_machine_without_a_fitting_python_is_told_so(
    make_python: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Where it was looked for, what was found instead, and the command that brings one."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "python3").write_text(f'#!/bin/sh\necho \'[[3, 9], "{old}/python3", ["venv", "ensurepip"]]\'\n')
    (old / "python3").chmod(0o755)
    (old / "python").write_text("#!/bin/sh\nexit 127\n")
    (old / "python").chmod(0o755)

    none = make_python(tmp_path / "empty")
    too_old = make_python(old)

    assert none["code"] == too_old["code"] == "configuration_error"
    assert f"it needs Python 3.11 or newer, and there is none in {tmp_path}/empty." in none["message"]
    assert f"{old}/python3 is 3.9" in too_old["message"]
    for error in (none, too_old):
        assert error["hint"].startswith("Nothing was sent. To fix it, install Python 3.11 or newer")
        assert "apt install python3 python3-venv" in error["hint"]
        assert "openclaw config set plugins.entries.flux2.config.python" in error["hint"]


def test_a_python_that_cannot_make_environments_is_named_with_its_package(
    make_python: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Debian's python3 comes without the package that venv needs."""
    folder = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    (site / "sitecustomize.py").write_text("import sys\nsys.modules['ensurepip'] = None\n")
    version = "{}.{}".format(*sys.version_info)

    error = make_python(folder / "bin")

    assert f"(Python {version}) has no module ensurepip and pip" in error["message"]
    assert f"apt install python{version}-venv" in error["hint"]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        pytest.param({}, "there is no connection to the package index", id="no network"),
        pytest.param(
            {"PIP_INDEX_URL": "https://index.example/simple", "HTTPS_PROXY": "http://user:secret-word@127.0.0.1:9"},
            "the proxy of HTTPS_PROXY does not let the package installer through",
            id="a proxy",
        ),
    ],
)
def test_a_machine_that_reaches_no_packages_is_told_why(
    make_python: Callable[..., dict[str, Any]], tmp_path: Path, environ: dict[str, str], said: str
) -> None:
    """And where to put wheels instead; what an address has of a password is shown nowhere."""
    error = make_python(BASE, **environ)

    assert said in error["message"]
    assert f"put the wheels it needs into {tmp_path}/flux2-tool/wheels" in error["hint"]
    assert "secret-word" not in str(error)


def test_a_folder_of_wheels_that_is_not_whole_names_what_is_missing(
    make_python: Callable[..., dict[str, Any]], wheels: Path, tmp_path: Path
) -> None:
    """It is filled on another machine; each round there and back costs somebody a day."""
    folder = tmp_path / "flux2-tool" / "wheels"
    shutil.copytree(wheels, folder)
    [missing] = folder.glob("httpcore-*")
    missing.unlink()

    error = make_python(BASE)

    assert f"the folder {folder} has no wheel of httpcore" in error["message"]


def test_a_folder_that_is_not_ours_is_named(start_host: StartHost, packed_plugin: Path, tmp_path: Path) -> None:
    """A state folder that was restored as another user's."""
    (tmp_path / "flux2-tool").write_text("a file")

    made = start_host().ask("makePython", root=str(packed_plugin), stateDir=str(tmp_path), folders=[str(BASE)])

    assert f"the folder {tmp_path}/flux2-tool/python cannot be used" in made["error"]["message"]


def test_after_an_uninstallation_the_environments_go(
    start_host: StartHost, packed_plugin: Path, tmp_path: Path
) -> None:
    """A disabled plugin, or one that was replaced by another version, keeps them."""
    host = start_host(**NO_NETWORK, FLUX2_TEST="1")
    root = tmp_path / "flux2-tool" / "python"
    (root / "0.0.1-abc").mkdir(parents=True)
    newer = tmp_path / "newer"
    shutil.copytree(packed_plugin, newer)
    host.register(packed_plugin, config={"python": sys.executable})
    host.register(newer, name="newer", config={"python": sys.executable})

    host.ask("start", plugin="plugin")
    host.ask("start", plugin="newer")
    host.ask("stop", plugin="plugin")
    shutil.rmtree(packed_plugin)
    host.ask("settle")
    was_kept = root.exists()
    host.ask("stop", plugin="newer")
    host.ask("settle")
    is_kept_while_disabled = root.exists()
    shutil.rmtree(newer)

    wait_until(lambda: not root.exists())
    assert (was_kept, is_kept_while_disabled) == (True, True)
