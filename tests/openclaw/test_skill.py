"""The skill that the plugin ships: what an agent reads before it makes a picture."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
import yaml

from flux2_tool.openclaw.bundle import plugin_files, plugin_manifest
from flux2_tool.openclaw.npm_package import package_manifest
from flux2_tool.schema.manifest import load_manifest

PATH = "skills/flux2/SKILL.md"
TEXT = files("flux2_tool.openclaw").joinpath("plugin", PATH).read_text(encoding="utf-8")
_, HEAD, BODY = TEXT.split("---\n", 2)


def test_the_plugin_ships_the_skill_where_its_manifest_says() -> None:
    """OpenClaw looks in the listed folders, and npm packs only the listed files."""
    manifest = load_manifest()

    assert plugin_files(manifest, python=None)[PATH] == TEXT.encode()
    assert plugin_manifest(manifest)["skills"] == ["./skills"]
    assert "skills" in package_manifest(manifest)["files"]


def test_the_skill_has_the_front_matter_openclaw_requires() -> None:
    """Every conversation's prompt carries name and description: one short line, the same name as the folder."""
    head = yaml.safe_load(HEAD)

    assert head["name"] == PATH.split("/")[1]
    assert len(head["description"]) <= 160
    assert "\n" not in head["description"]
    assert len(TEXT) < 10_000


def test_the_skill_names_only_existing_tools_and_codes() -> None:
    """A tool or an argument that was renamed would send every agent astray."""
    manifest = load_manifest()
    schemas = [tool.input_schema["properties"] for tool in manifest.tools.values()]
    result = manifest.tools["text_to_image"].output_schema["properties"]
    known = {
        *manifest.tools,
        *(name for schema in schemas for name in schema),
        *(value for schema in schemas for item in schema.values() for value in item.get("enum", ())),
        *result["task"]["properties"]["state"]["enum"],
        *result["error"]["properties"]["code"]["enum"],
        *(name for part in result.values() for name in [*part.get("properties", {})]),
        *result,
    }

    named = set(re.findall(r"`([a-z_]+)`", BODY))

    assert named <= known
    assert set(manifest.tools) <= named


@pytest.mark.parametrize(
    "advice",
    [
        pytest.param(r"\*\*pro\*\*.*\*\*flex\*\*.*\*\*max\*\*.*\*\*klein\*\*", id="which tier"),
        pytest.param(r"task:last", id="edits start from the newest picture"),
        pytest.param(
            r"Never call `text_to_image` or `remix_image` again", id="a picture in the making is not bought twice"
        ),
        pytest.param(r"what it cost", id="the user is told the cost"),
        pytest.param(r"no negative prompts", id="what the model does not understand"),
        pytest.param(r"already attached → write a caption, no link; not attached →", id="who delivers"),
        pytest.param(r"do not vouch for what it shows", id="the picture is not seen"),
        pytest.param(r'"detailed", "sharp" and "high quality" are pro', id="detailed alone is pro"),
        pytest.param(r"21:9, 4k.*take the closest, and say so", id="what is not there"),
        pytest.param(r"do not reword the prompt yourself", id="a refused prompt is the user's to change"),
        pytest.param(r"ask the user to send the picture in this chat", id="a picture out of reach"),
        pytest.param(r"Making it again does not help", id="a picture that is not seen"),
        pytest.param(r"绝不为它再次调用 `text_to_image`", id="the same in Chinese"),
    ],
)
def test_the_skill_says_how_not_to_pay_twice(advice: str) -> None:
    """It may be rewritten, but not lose one of these."""
    assert re.search(advice, BODY, re.DOTALL)


def _shape(text: str) -> list[tuple[str, int, int, list[str]]]:
    """Return each section's level of heading, items and sub-items, and the names it speaks of."""
    shape = []
    for heading, section in re.findall(r"^(#+) [^\n]*\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE):
        items = [len(re.findall(rf"^{indent}(?:-|\d\.) ", section, re.MULTILINE)) for indent in ("", " {2,3}")]
        shape.append((heading, items[0], items[1], sorted(set(re.findall(r"`([a-z_:]+)`", section)))))
    return shape


def test_the_skill_says_the_same_in_both_languages() -> None:
    """An agent of a Chinese user follows the Chinese half; what stands in one half alone holds for half the users."""
    english, chinese = re.split(r"(?=^# 用 Flux 2 画图)", BODY, flags=re.MULTILINE)

    assert _shape(chinese) == _shape(english)
    assert len(_shape(english)) == 5


def test_the_skill_contains_no_prices() -> None:
    """Prices change; they are in the tools' descriptions, from the manifest."""
    prices = {
        f"{price:.2f}" for model in load_manifest().models.values() for price in model.prices_usd.values() if price
    }

    assert not prices & set(re.findall(r"\d+\.\d\d", BODY))
