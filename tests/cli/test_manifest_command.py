"""manifest check and manifest export."""

from __future__ import annotations

import json

import pytest

from flux2_tool.engine.host_profile import MCP, OPENCLAW
from flux2_tool.schema.export import FORMATS, export
from flux2_tool.schema.manifest import load_manifest, manifest_path
from tests.support.command import Command


def test_the_installed_manifest_is_right(bare: Command) -> None:
    """What CI runs after every edit."""
    done = bare.run("manifest", "check")

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(": ok\n")


def test_each_problem_of_a_file_gets_a_line(bare: Command) -> None:
    """With its path, and an exit code for scripts."""
    text = manifest_path().read_text(encoding="utf-8")
    before, _, after = text.rpartition("{tiers}")
    broken = (before + after).replace("default: everyone", "default: nobody")
    (bare.folder / "mine.yaml").write_text(broken, encoding="utf-8")

    done = bare.run("manifest", "check", "mine.yaml")

    assert done.returncode == 3
    assert done.stdout == ""
    assert "error: settings.spenders.default" in done.stderr
    assert "error: tools[1].description" in done.stderr


def test_strict_is_an_option_of_the_export(bare: Command) -> None:
    """For OpenAI's strict mode; another format says that it has none."""
    done = bare.run("manifest", "export", "--format", "openai-responses", "--strict")
    other = bare.run("manifest", "export", "--format", "gemini", "--strict")

    assert json.loads(done.stdout) == export(
        load_manifest(), "openai-responses", tiers=("pro", "flex"), wait_s=MCP.wait_s, strict=True
    )
    assert other.returncode == 3
    assert "format gemini has no strict mode" in other.stderr


def test_a_manifest_may_come_from_stdin(bare: Command) -> None:
    """Editors pipe."""
    assert "error: line " in bare.run("manifest", "check", "-", stdin="a: [").stderr


def test_a_file_in_another_encoding_is_a_problem_with_its_place(bare: Command) -> None:
    """Some editors save it so."""
    (bare.folder / "mine.yaml").write_bytes(b"id: fl\xfcx\n")

    done = bare.run("manifest", "check", "mine.yaml")

    assert done.returncode == 3
    assert "error: (file): not UTF-8 (byte 6)" in done.stderr


def test_a_file_that_is_not_there_is_a_wrong_argument(bare: Command) -> None:
    """Exit code 2, not a traceback."""
    done = bare.run("manifest", "check", "nowhere.yaml")

    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr


@pytest.mark.parametrize("shape", FORMATS)
def test_an_export_is_the_projection(bare: Command, shape: str) -> None:
    """The command adds nothing and needs no key."""
    done = bare.run("manifest", "export", "--format", shape)

    wait_s = OPENCLAW.wait_s if shape == "openclaw" else MCP.wait_s
    assert json.loads(done.stdout) == export(load_manifest(), shape, tiers=("pro", "flex"), wait_s=wait_s)


def test_an_export_follows_the_settings_and_the_options(bare: Command) -> None:
    """Options win over variables."""
    done = bare.run("manifest", "export", "--format", "mcp", "--callback-hosts", "a.example", FLUX2_TOOL_TIERS="max")
    other = bare.run("manifest", "export", "--format", "mcp", "--tiers", "flex", FLUX2_TOOL_TIERS="max")

    schema = json.loads(done.stdout)[0]["inputSchema"]
    assert schema["properties"]["model"]["enum"] == ["flux-2-max-text-to-image"]
    assert "callback_url" in schema["properties"]
    assert json.loads(other.stdout)[0]["inputSchema"]["properties"]["model"]["enum"] == ["flux-2-flex-text-to-image"]


def test_an_unknown_format_or_tier_is_named(bare: Command) -> None:
    """With the known ones."""
    assert "openai" in bare.run("manifest", "export", "--format", "cohere").stderr
    done = bare.run("manifest", "export", "--format", "mcp", "--tiers", "ultra")
    assert done.returncode == 3
    assert 'option tiers: "ultra" is not one of pro, flex, max' in done.stderr
