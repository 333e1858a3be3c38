"""The server's small decisions, without a connection."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="the MCP server needs the extra mcp")

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.hosts.mcp_sdk import LOWEST, sdk

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


@pytest.mark.parametrize("version", ["1.23.9", "0.9.1", "3.0.0"])
def test_a_version_of_the_sdk_that_nobody_tried_is_refused(version: str) -> None:
    """Another package in the environment may have brought it; else the server would fail in the middle of a call."""
    with pytest.raises(ConfigurationError, match=rf"1\.24 or newer, or 2, of the package mcp; {version} is installed"):
        sdk(version)


def test_the_versions_of_the_sdk_are_those_that_are_installed() -> None:
    """pip must not choose one that the server then refuses."""
    [requirement] = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]["mcp"]

    lowest, highest = min(LOWEST), max(LOWEST)
    assert requirement == f"mcp>={lowest}.{LOWEST[lowest][1]},<{highest + 1}"
