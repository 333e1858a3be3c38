"""The server's small decisions, without a connection."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from flux2_tool.schema.export import export, offered_tokens
from flux2_tool.schema.manifest import load_manifest

pytest.importorskip("mcp", reason="the MCP server needs the extra mcp")

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.hosts.mcp_sdk import LOWEST, sdk
from flux2_tool.hosts.mcp_server import as_tool_result

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


def test_text_that_no_message_can_carry_does_not_end_the_connection() -> None:
    """A service's answer may hold half a character; the SDK would fail while writing it."""
    answer = as_tool_result({"task": {"id": "a\ud800b"}, "warnings": ["狐狸"]})

    assert answer["structuredContent"] == {"task": {"id": "a?b"}, "warnings": ["狐狸"]}
    json.dumps(answer, ensure_ascii=False).encode()


def test_the_text_is_what_a_javascript_host_makes_of_the_object() -> None:
    """OpenClaw compares the two character by character, and else shows the model everything twice."""
    answer = as_tool_result({"timing": {"elapsed_s": 12.0}, "usd": 0.05, "images": []})

    [content] = answer["content"]
    shown = ["{", '  "timing": {', '    "elapsed_s": 12', "  },", '  "usd": 0.05,', '  "images": []', "}"]
    assert content["text"].splitlines() == shown


@pytest.mark.parametrize("callback_hosts", [(), ("hooks.example.com",)])
@pytest.mark.parametrize("tiers", [("pro", "flex"), ("pro", "flex", "max")])
def test_the_three_tools_cost_a_model_at_most_900_tokens(
    tiers: tuple[str, ...], callback_hosts: tuple[str, ...]
) -> None:
    """Every conversation pays for them, whether it wants a picture or not. Output schemas stay with the host."""
    definitions = export(load_manifest(), "mcp", tiers=tiers, callback_hosts=callback_hosts)
    offered = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in definitions]

    assert offered_tokens(offered) <= 900
    assert offered_tokens(export(load_manifest(), "openai", tiers=tiers, callback_hosts=callback_hosts)) <= 900
