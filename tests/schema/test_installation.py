"""How a copy was installed, by what installers leave in their environments; and the commands that work there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.schema.installation import Installation, described, installation_of

WHEEL = "flux2_tool-0.1.0-py3-none-any.whl"


def environment(folder: Path, *traces: str) -> Path:
    """Make an environment's folder with the files that its installer leaves."""
    folder.mkdir(parents=True)
    for trace in traces:
        (folder / trace).touch()
    return folder


def found_in(prefix: Path, *, has_pip: bool = False, direct_url: Mapping[str, Any] | None = None) -> Installation:
    """Describe an environment."""
    url = None if direct_url is None else json.dumps(direct_url)
    return described(prefix=prefix, python=f"{prefix}/bin/python", has_pip=has_pip, direct_url=url)


def wheel(folder: Path) -> dict[str, Any]:
    """Return the `direct_url.json` of a wheel that is there."""
    (folder / WHEEL).touch()
    return {"url": (folder / WHEEL).as_uri(), "archive_info": {}}


@pytest.mark.parametrize(
    ("path", "trace", "kind", "command"),
    [
        ("share/uv/tools/flux2-tool", "uv-receipt.toml", "uv tool", "uv tool install --reinstall 'flux2-tool[mcp]'"),
        ("share/pipx/venvs/flux2-tool", "pipx_metadata.json", "pipx", "pipx install --force 'flux2-tool[mcp]'"),
        ("pipx/venvs/flux2-tool-2", "pipx_metadata.json", "pipx", "pipx install --force 'flux2-tool[mcp]'"),
        ("venvs/my-agent", "pipx_metadata.json", "pipx", "pipx inject my-agent --force 'flux2-tool[mcp]'"),
        (
            "uv/tools/my-agent",
            "uv-receipt.toml",
            "uv tool",
            "uv tool install --reinstall my-agent --with 'flux2-tool[mcp]'",
        ),
        ("project/.venv", "pyvenv.cfg", "environment", "uv pip install --python {prefix}/bin/python 'flux2-tool[mcp]'"),
    ],
)
def test_each_installer_gets_its_own_command(tmp_path: Path, path: str, trace: str, kind: str, command: str) -> None:
    """None of these environments has pip: its hint would fail where it is followed."""
    found = found_in(environment(tmp_path / path, trace))

    assert found.kind == kind
    assert not found.is_temporary
    assert found.install_command(found.requirement("mcp")) == command.format(prefix=tmp_path / path)


@pytest.mark.parametrize(
    ("path", "trace", "command"),
    [
        ("share/uv/tools/flux2-tool", "uv-receipt.toml", "uv tool uninstall flux2-tool"),
        ("pipx/venvs/flux2-tool-2", "pipx_metadata.json", "pipx uninstall flux2-tool-2"),
        ("venvs/my-agent", "pipx_metadata.json", "pipx uninject my-agent flux2-tool"),
        ("uv/tools/my-agent", "uv-receipt.toml", "uv pip uninstall --python {prefix}/bin/python flux2-tool"),
        ("project/.venv", "pyvenv.cfg", "uv pip uninstall --python {prefix}/bin/python flux2-tool"),
    ],
)
def test_each_installer_removes_what_it_installed(tmp_path: Path, path: str, trace: str, command: str) -> None:
    """An application that the package was added to stays."""
    found = found_in(environment(tmp_path / path, trace))

    assert found.uninstall_command() == command.format(prefix=tmp_path / path)


def test_pip_removes_what_pip_installed(tmp_path: Path) -> None:
    """By its interpreter, as it was installed."""
    found = found_in(environment(tmp_path / "venv"), has_pip=True)

    assert found.uninstall_command() == f"{tmp_path}/venv/bin/python -m pip uninstall flux2-tool"


def test_pip_is_named_where_there_is_pip(tmp_path: Path) -> None:
    """By its interpreter: a bare `pip` may belong to another Python."""
    found = found_in(environment(tmp_path / "my venv"), has_pip=True)

    assert found.install_command("x") == f"'{tmp_path}/my venv/bin/python' -m pip install x"


@pytest.mark.parametrize(
    ("path", "trace", "command"),
    [
        ("uv/archive-v0/2mXhash", "CACHEDIR.TAG", ["uvx", "--from"]),
        ("uv/builds-v0/.tmpzaXi2d", "pyvenv.cfg", ["uvx", "--from"]),
        ("uv/environments-v2/script-4f", "pyvenv.cfg", ["uvx", "--from"]),
        ("cache/pipx/672fcb0a555df40", "pipx_metadata.json", ["pipx", "run", "--spec"]),
        (".cache/pipx/672fcb0a555df40", "pyvenv.cfg", ["pipx", "run", "--spec"]),
        ("pipx/.cache/672fcb0a555df40", "pyvenv.cfg", ["pipx", "run", "--spec"]),
    ],
)
def test_what_lies_in_a_cache_is_never_named(tmp_path: Path, path: str, trace: str, command: list[str]) -> None:
    """A host that stores its path cannot start it after the cache was cleaned."""
    found = found_in(environment(tmp_path / path, trace), direct_url=wheel(tmp_path))

    assert found.is_temporary
    requirement = found.requirement("mcp")
    assert requirement == f"flux2-tool[mcp] @ {(tmp_path / WHEEL).as_uri()}"
    assert found.run_command(requirement, ["mcp"]) == [*command, requirement, "flux2-tool", "mcp"]
    assert path not in found.install_command(requirement)


def test_a_host_is_told_where_the_installer_is(tmp_path: Path) -> None:
    """A host that is started from a desktop has a PATH of its own."""
    found = found_in(environment(tmp_path / "uv/archive-v0/hash"))
    for program in ("own/uvx", "path/uvx"):
        (tmp_path / program).parent.mkdir()
        (tmp_path / program).touch(mode=0o755)

    by_uv = found.run_command("x", [], environ={"UV": f"{tmp_path}/own/uv", "PATH": f"{tmp_path}/path"})
    by_path = found.run_command("x", [], environ={"PATH": f"{tmp_path}/path"})
    by_name = found.run_command("x", [], environ={"PATH": f"{tmp_path}/nothing"})

    assert [by_uv[0], by_path[0], by_name[0]] == [f"{tmp_path}/own/uvx", f"{tmp_path}/path/uvx", "uvx"]


@pytest.mark.parametrize(
    ("direct_url", "requirement"),
    [
        pytest.param(None, "flux2-tool[mcp]", id="an index"),
        pytest.param({"url": "file:///gone/x.whl", "archive_info": {}}, ".[mcp]", id="a file that is gone"),
        pytest.param({"url": "https://a.b/x.whl"}, "flux2-tool[mcp] @ https://a.b/x.whl", id="an address"),
        pytest.param(
            {"url": "https://a.b/r.git", "vcs_info": {"vcs": "git", "requested_revision": "v1", "commit_id": "9f"}},
            "flux2-tool[mcp] @ git+https://a.b/r.git@v1",
            id="a repository",
        ),
    ],
)
def test_the_requirement_says_where_the_package_came_from(
    tmp_path: Path, direct_url: dict[str, Any] | None, requirement: str
) -> None:
    """By its name alone it could be another package's, or nobody's."""
    assert found_in(environment(tmp_path / "venv"), direct_url=direct_url).requirement("mcp") == requirement


def test_an_editable_installation_stays_editable(tmp_path: Path) -> None:
    """Else whoever develops it edits files that nothing imports any more."""
    direct_url = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}

    found = found_in(environment(tmp_path / "venv"), has_pip=True, direct_url=direct_url)

    assert found.install_command(found.requirement("mcp")).endswith(f"pip install --editable '{tmp_path}[mcp]'")


def test_the_extras_that_are_there_are_kept() -> None:
    """`uv tool install` replaces the environment: what is not named is gone."""
    found = Installation(kind="uv tool", python="/p", extras=("sandbox",))

    assert found.requirement("mcp") == "flux2-tool[mcp,sandbox]"


@pytest.mark.parametrize("has_pip", [True, False])
def test_another_interpreter_is_looked_into(tmp_path: Path, has_pip: bool) -> None:
    """The plugin's Python need not be the one that checks it."""
    packages = tmp_path / "venv/lib/python3.11/site-packages"
    distribution = packages / "flux2_tool-0.1.0.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "direct_url.json").write_text(json.dumps(wheel(tmp_path)))
    if has_pip:
        (packages / "pip").mkdir()

    found = installation_of(f"{tmp_path}/venv/bin/python")

    assert found.has_pip is has_pip
    assert found.source == (tmp_path / WHEEL).as_uri()


def test_an_interpreter_without_the_package_gets_it_from_a_checkout(tmp_path: Path) -> None:
    """No index has it."""
    (tmp_path / "venv/lib/python3.11/site-packages").mkdir(parents=True)

    found = installation_of(f"{tmp_path}/venv/bin/python")

    assert found.requirement() == "."
