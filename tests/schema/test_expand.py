"""The manifest says each thing once; the schemas that hosts read are made from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from flux2_tool.exceptions import InvalidArgumentsError
from flux2_tool.openclaw.bundle import tools_data
from flux2_tool.openclaw.image_provider import image_provider
from flux2_tool.runapi.prices import list_price
from flux2_tool.schema.expand import expanded_settings, expanded_tools
from flux2_tool.schema.export import export, offered_description, offered_parameters
from flux2_tool.schema.manifest import Manifest, load_manifest, manifest_path
from flux2_tool.schema.manifest_check import check_manifest
from flux2_tool.schema.validation import validate_arguments
from flux2_tool.settings import load_settings

TEXT = manifest_path().read_text(encoding="utf-8")
# A tier that differs from the others in all that a tier may: one tool, one price, arguments it does not take.
DRAFT = """\
  draft:
    enabled_by_default: false
    use_for: quick sketches
    prices_usd: { 1k: 0.03 }
    typical_s: { 1k: 4 }
    forbids: [output_resolution, enable_safety_checker]
    models:
      text_to_image:
        slug: flux-2-draft-text-to-image

"""
SMALL = """
aspect_ratios: ["1:1", "16:9"]
output_resolutions: [1k, 2k]
tiers:
  plain:
    enabled_by_default: true
    use_for: most images
    prices_usd: { 1k: 0.1, 2k: 0.2 }
    typical_s: { 1k: 1, 2k: 2 }
    models: { paint: { slug: plain-paint } }
  strict:
    enabled_by_default: false
    use_for: few images
    prices_usd: { 1k: null }
    typical_s: { 1k: 3 }
    requires: [aspect_ratio]
    models:
      paint: { slug: strict-paint, forbids: [style], refuses_aspect_ratios: [auto], max_sources: 1 }
tools:
  - name: paint
    title: Paint
    description: Paints.
    input_schema:
      type: object
      properties:
        source_image_urls: { type: array, maxItems: 8 }
        model: { type: string, x-values-from: models, x-default-from: models, description: Which. }
        aspect_ratio: { type: string, x-values-from: aspect_ratios, x-values-also: [auto] }
        output_resolution: { type: string, x-values-from: output_resolutions, x-default-from: output_resolutions }
        style: { type: string }
    output_schema: { type: object, properties: {} }
    hints:
      { readOnly: no, destructive: no, idempotent: no, openWorld: yes, sideEffecting: yes, replaySafe: no }
settings:
  tiers:
    type: array
    items: { type: string, x-values-from: tiers }
    x-default-from: tiers
    description: Which tiers.
    label: Tiers
    help: Some.
"""


def test_a_tier_becomes_a_model_and_a_rule() -> None:
    """All that hosts and the validation read, from the short form to the last word."""
    [tool] = expanded_tools(yaml.safe_load(SMALL))

    assert tool.input_schema == {
        "type": "object",
        "properties": {
            "source_image_urls": {"type": "array", "maxItems": 8},
            "model": {
                "type": "string",
                "enum": ["plain-paint", "strict-paint"],
                "default": "plain-paint",
                "description": "Which.",
            },
            "aspect_ratio": {"type": "string", "enum": ["1:1", "16:9", "auto"]},
            "output_resolution": {"type": "string", "enum": ["1k", "2k"], "default": "1k"},
            "style": {"type": "string"},
        },
        "allOf": [
            {
                "if": {"required": ["model"], "properties": {"model": {"const": "strict-paint"}}},
                "then": {
                    "required": ["aspect_ratio"],
                    "properties": {
                        "source_image_urls": {"maxItems": 1},
                        "aspect_ratio": {"enum": ["1:1", "16:9"]},
                        "output_resolution": {"enum": ["1k"]},
                        "style": {"not": {}},
                    },
                },
            }
        ],
    }
    plain, strict = tool.models
    assert (plain.aspect_ratios, plain.resolutions, plain.max_sources) == (("1:1", "16:9", "auto"), ("1k", "2k"), 8)
    assert (strict.requires, strict.forbids, strict.max_sources) == (("aspect_ratio",), ("style",), 1)
    assert (strict.aspect_ratios, strict.resolutions) == (("1:1", "16:9"), ("1k",))
    assert tool.default_model == "plain-paint"


def test_a_setting_takes_its_variable_from_its_key() -> None:
    """Whoever adds one names a variable only where it is another."""
    [(key, setting)] = expanded_settings(yaml.safe_load(SMALL))

    assert (key, setting.env, setting.advanced, setting.sensitive) == ("tiers", "FLUX2_TOOL_TIERS", False, False)
    assert setting.schema == {
        "type": "array",
        "items": {"type": "string", "enum": ["plain", "strict"]},
        "default": ["plain"],
        "description": "Which tiers.",
    }


def test_the_rules_of_the_default_model_hold_without_a_model() -> None:
    """Whoever names no model means that one."""
    small = yaml.safe_load(SMALL)
    small["tiers"]["plain"]["enabled_by_default"] = False
    small["tiers"]["strict"]["enabled_by_default"] = True

    [tool] = expanded_tools(small)

    takes = Draft202012Validator(tool.input_schema)
    assert tool.default_model == "strict-paint"
    assert takes.is_valid({"aspect_ratio": "1:1"})
    assert not takes.is_valid({})
    assert not takes.is_valid({"aspect_ratio": "auto"})
    assert takes.is_valid({"model": "plain-paint"})


def test_what_hosts_read_has_no_words_of_the_short_form() -> None:
    """OpenClaw's own check of a config schema refuses words it does not know."""
    manifest = load_manifest()

    seen = repr([manifest.config_schema, [(tool.input_schema, tool.output_schema) for tool in manifest.tools.values()]])

    for word in ("x-values", "x-default", "'kind'", "'label'", "'env'"):
        assert word not in seen


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[str], Manifest]:
    """Return what loads a manifest's text."""

    def load(text: str) -> Manifest:
        path = tmp_path / "plugin.yaml"
        path.write_text(text, encoding="utf-8")
        return load_manifest(path)

    return load


@pytest.fixture
def drafting(loaded: Callable[[str], Manifest]) -> Manifest:
    """Return the shipped manifest with the tier `draft`, which one entry adds."""
    before, mark, after = TEXT.partition("# How a form groups the settings")
    text = before.rstrip("\n") + "\n" + DRAFT + mark + after
    assert check_manifest(text) == []
    return loaded(text)


def test_a_tier_of_one_tool_is_offered_with_that_tool_alone(drafting: Manifest) -> None:
    """A model must not be offered an argument or a tool that every call with it would be refused for."""
    names = [tool["name"] for tool in export(drafting, "openclaw", tiers=("draft",))]
    make = drafting.tools["text_to_image"]
    alone, beside = (offered_parameters(make, tiers=tiers) for tiers in (("draft",), ("pro", "draft")))

    assert names == ["text_to_image", "get_image_task"]
    assert set(alone["properties"]) == {"prompt", "model", "aspect_ratio", "count"}
    assert alone["required"] == ["prompt", "model"]
    assert beside["properties"]["output_resolution"]["enum"] == ["1k", "2k"]
    assert "draft (quick sketches, ~4 s) 0.03." in offered_description(make, tiers=("draft",))


@pytest.mark.parametrize(
    ("argument", "value"), [("output_resolution", "1k"), ("enable_safety_checker", True)], ids=lambda item: str(item)
)
def test_what_a_tier_forbids_is_refused(drafting: Manifest, argument: str, value: object) -> None:
    """And said in a sentence that tells what to do."""
    arguments: dict[str, Any] = {"prompt": "a fox", "model": "flux-2-draft-text-to-image"}
    rules: dict[str, Any] = {"tiers": ("draft",), "agent_host": True}
    validate_arguments(drafting, "text_to_image", arguments, **rules)

    with pytest.raises(InvalidArgumentsError, match=f"does not take {argument}; leave it out"):
        validate_arguments(drafting, "text_to_image", {**arguments, argument: value}, **rules)


def test_a_new_tier_is_off_until_somebody_enables_it(drafting: Manifest) -> None:
    """An upgrade adds no prices to anybody's agents."""
    assert load_settings({}, manifest=drafting).tiers == ("pro", "flex")
    assert load_settings({"FLUX2_TOOL_TIERS": "draft"}, manifest=drafting).tiers == ("draft",)
    assert list_price(drafting, "flux-2-draft-text-to-image", "1k").usd == 0.03


def test_the_plugin_withholds_what_the_enabled_tiers_lack(drafting: Manifest) -> None:
    """Its JavaScript picks from these parts."""
    make, remix, task = tools_data(drafting, python=None)["tools"]

    assert make["by_tiers"]["draft"]["without"] == ["output_resolution"]
    assert "without" not in make["by_tiers"]["pro,draft"]
    assert remix["by_tiers"]["draft"] == {"withheld": True}
    assert "withheld" not in remix["by_tiers"]["flex,draft"]
    assert task["by_tiers"] == {}


def test_image_generate_takes_no_sources_for_a_tier_without_them(drafting: Manifest) -> None:
    """OpenClaw asks the provider how many pictures a model takes."""
    draft = image_provider(drafting)["models"][-1]

    assert (draft["name"], draft["remix_image"], draft["max_sources"]) == ("flux-2-draft", None, 0)
    assert (draft["resolutions"], draft["needs_aspect_ratio"]) == ([], False)


def test_an_aspect_ratio_is_one_line(loaded: Callable[[str], Manifest]) -> None:
    """Every tool takes it, and every tier that does not refuse it."""
    manifest = loaded(TEXT.replace('  - "2:3"\n', '  - "2:3"\n  - "7:2"\n'))

    assert all("7:2" in model.aspect_ratios for model in manifest.models.values())
    rule = manifest.tools["remix_image"].input_schema["allOf"][0]["then"]["properties"]["aspect_ratio"]
    assert rule["enum"] == list(manifest.aspect_ratios)
