"""The manifest: what the package loads, and what its own check finds."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flux2_tool import exceptions
from flux2_tool.exceptions import ConfigurationError, Flux2Error, error_types
from flux2_tool.schema import manifest
from flux2_tool.schema.manifest import (
    COMPILED_NAME,
    MAX_MANIFEST_BYTES,
    compiled_manifest,
    load_manifest,
    manifest_path,
)
from flux2_tool.schema.manifest_check import check_manifest
from flux2_tool.schema.yaml_text import parse_yaml

TEXT = manifest_path().read_text(encoding="utf-8")


def test_the_shipped_manifest_has_no_problem() -> None:
    """Everything else derives from it, so a fault here is a fault everywhere."""
    assert check_manifest(TEXT) == []


def test_plain_safe_load_reads_the_same_data() -> None:
    """Other tools read the file too; it must need nothing but YAML's plain types."""
    assert yaml.safe_load(TEXT) == parse_yaml(TEXT)


def test_the_compiled_data_is_that_of_the_yaml() -> None:
    """Every command starts with it, because YAML takes longer to read; the YAML stays the source of truth."""
    compiled = Path(manifest.__file__).with_name(COMPILED_NAME)

    assert compiled.read_text(encoding="utf-8") == compiled_manifest(TEXT.encode(), parse_yaml(TEXT))
    assert json.loads(compiled.read_text(encoding="utf-8"))["data"] == parse_yaml(TEXT)


def test_another_manifest_is_read_itself(tmp_path: Path) -> None:
    """The compiled data counts for the bytes it was made of alone: a changed price must not be lost."""
    other = tmp_path / "other.yaml"
    other.write_text(TEXT.replace("\nname: ", "\nname: Another ", 1), encoding="utf-8")

    assert load_manifest(other).name == f"Another {load_manifest().name}"


def test_the_version_stands_where_the_build_reads_it() -> None:
    """hatchling takes the version from that line with this pattern."""
    found = re.search(r'(?m)^version: "(?P<version>[^"]+)"$', TEXT)

    assert found is not None
    assert found["version"] == load_manifest().version


def test_the_fingerprint_is_of_the_files_bytes() -> None:
    """Worker and plugin compare it to see that they come from one installation."""
    assert load_manifest().sha256 == hashlib.sha256(manifest_path().read_bytes()).hexdigest()


def test_error_codes_are_those_the_package_raises() -> None:
    """A host switches on the code; one that is not listed would be a surprise."""
    for tool in load_manifest().tools.values():
        listed = tool.output_schema["properties"]["error"]["properties"]["code"]["enum"]

        assert listed == [kind.code for kind in error_types()]


def test_the_tree_in_the_documentation_has_every_error() -> None:
    """Readers of the module look there first."""
    drawn = re.findall(r"── (\w+) +(\w+)  ", str(exceptions.__doc__))

    assert drawn == [(kind.__name__, kind.code) for kind in error_types()]
    assert len(drawn) == len(Flux2Error.__subclasses__())


def test_defaults_are_the_pro_models() -> None:
    """A default must never be the more expensive choice."""
    tools = load_manifest().tools

    assert tools["text_to_image"].default_model == "flux-2-pro-text-to-image"
    assert tools["remix_image"].default_model == "flux-2-pro-remix-image"
    assert tools["get_image_task"].default_model is None


def test_prices_are_the_published_ones_and_unknown_is_not_zero() -> None:
    """What a model says an image costs comes from here."""
    models = load_manifest().models

    for action in ("text-to-image", "remix-image"):
        assert dict(models[f"flux-2-pro-{action}"].prices_usd) == {"1k": 0.05, "2k": 0.07}
        assert dict(models[f"flux-2-flex-{action}"].prices_usd) == {"1k": 0.14, "2k": 0.24}
        assert dict(models[f"flux-2-max-{action}"].prices_usd) == {"1k": None}


def test_what_the_service_documents_is_offered() -> None:
    """A refactoring of the manifest must not lose a ratio, a resolution or a tier."""
    manifest = load_manifest()

    assert set(manifest.aspect_ratios) >= {"1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3"}
    assert set(manifest.output_resolutions) >= {"1k", "2k"}
    assert set(manifest.tiers) >= {"pro", "flex", "max"}
    assert manifest.default_tiers == ("pro", "flex")


def test_only_tools_that_make_images_have_side_effects() -> None:
    """A host may repeat a call that is replay safe, and must not repeat one that costs money."""
    hints = {name: tool.hints for name, tool in load_manifest().tools.items()}

    assert hints["get_image_task"].replay_safe
    assert hints["get_image_task"].read_only
    for name in ("text_to_image", "remix_image"):
        assert hints[name].side_effecting
        assert not hints[name].replay_safe
        assert not hints[name].idempotent


def _replaced(old: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return edit


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        pytest.param(_replaced("id: flux2", "id: Flux 2"), "id: ", id="a field of the wrong form"),
        pytest.param(_replaced("id: flux2\n", ""), "'id' is a required property", id="a missing field"),
        pytest.param(_replaced("id: flux2\n", "id: flux2\nidd: x\n"), "idd", id="an unknown field"),
        pytest.param(_replaced("id: flux2\n", "id: flux2\nid: flux3\n"), 'duplicate key "id"', id="a doubled key"),
        pytest.param(
            _replaced("name: Flux 2 images", "name: !!python/object/apply:os.getcwd []"),
            "not usable YAML",
            id="a tag that builds an object",
        ),
        pytest.param(_replaced("id: flux2", "id: [flux2"), "not usable YAML", id="broken YAML"),
        pytest.param(_replaced('version: "0.1.0"', "version: 0.1.0"), "line of its own", id="an unquoted version"),
        pytest.param(
            _replaced("      text_to_image:\n        slug: flux-2-pro", "      draw:\n        slug: flux-2-pro"),
            "tiers.pro.models.draw: there is no tool draw",
            id="a model of no tool",
        ),
        pytest.param(
            _replaced(
                "      remix_image:\n        slug: flux-2-pro", "      get_image_task:\n        slug: flux-2-pro"
            ),
            "tiers.pro.models.get_image_task: that tool has no argument model",
            id="a model of a tool that takes none",
        ),
        pytest.param(
            _replaced("slug: flux-2-flex-text-to-image", "slug: flux-2-pro-text-to-image"),
            "tiers: duplicate slug flux-2-pro-text-to-image",
            id="a slug of two tiers",
        ),
        pytest.param(
            _replaced("slug: flux-2-flex-text-to-image", "slug: flux-2-flux-text-to-image"),
            "tiers.flex.models.text_to_image.slug: flex is not part of the slug",
            id="a misspelt slug",
        ),
        pytest.param(
            lambda text: text.replace("enabled_by_default: true", "enabled_by_default: false"),
            "tools[0]: no tier that is enabled by default has a model for text_to_image",
            id="no default model",
        ),
        pytest.param(
            _replaced("        use_for: most edits, detailed ones too\n", ""),
            "tiers.pro.models.remix_image: use_for must be given here or at the tier",
            id="a model without its use",
        ),
        pytest.param(
            _replaced("requires: [aspect_ratio]", "requires: [ratio]"),
            "tiers.max.requires: none of its tools has an argument ratio",
            id="a tier that requires what does not exist",
        ),
        pytest.param(
            _replaced("forbids: [enable_safety_checker]", "forbids: [aspect_ratio]"),
            "tiers.max.models.text_to_image.forbids: aspect_ratio must be given",
            id="a tier that forbids what it requires",
        ),
        pytest.param(
            _replaced("    prices_usd: { 1k: 0.14", "    forbids: [output_resolution]\n    prices_usd: { 1k: 0.14"),
            "tiers.flex.models.text_to_image.prices_usd.2k: an image can only be 1k",
            id="a price for a resolution that is forbidden",
        ),
        pytest.param(
            _replaced("refuses_aspect_ratios: [auto]", "refuses_aspect_ratios: [wide]"),
            "tiers.max.models.remix_image.refuses_aspect_ratios: there is no wide",
            id="a refused ratio that does not exist",
        ),
        pytest.param(
            _replaced("max_sources: 1", "max_sources: 9"),
            "tiers.max.models.remix_image.max_sources",
            id="more sources than the tool takes",
        ),
        pytest.param(
            _replaced('description: "The link, while it works."', "description: The link, while it works."),
            "output_schema.properties.recent.items.properties.url: unknown keyword 'while it works.'",
            id="a description cut by its comma",
        ),
        pytest.param(_replaced('  - "1:1"\n', "  - 1:1\n"), "aspect_ratios[0]: 61 is not", id="an unquoted ratio"),
        pytest.param(
            _replaced("x-values-from: aspect_ratios", "x-values-from: ratios"),
            "x-values-from: ratios is not one of aspect_ratios, output_resolutions, models",
            id="a list that does not exist",
        ),
        pytest.param(
            _replaced("prices_usd: { 1k: 0.05, 2k: 0.07 }", "prices_usd: { 1k: 0.05, 4k: 0.07 }"),
            "prices_usd.4k",
            id="a price for a resolution nobody can ask for",
        ),
        pytest.param(
            _replaced("typical_s: { 1k: 8, 2k: 12 }", "typical_s: { 1k: 8 }"),
            "prices_usd and typical_s must name the same resolutions",
            id="a price without a typical time",
        ),
        pytest.param(
            _replaced("prices_usd: { 1k: 0.05, 2k: 0.07 }", "prices_usd: { 1k: 0, 2k: 0.07 }"),
            "prices_usd.1k",
            id="a price of zero",
        ),
        pytest.param(
            _replaced("env: RUNAPI_BASE_URL", "env: FLUX_URL"),
            "settings.base_url.env: must be null or one of RUNAPI_API_KEY, RUNAPI_BASE_URL",
            id="a variable of another name",
        ),
        pytest.param(
            _replaced("    label: Data folder\n", "    env: FLUX2_TOOL_HOME\n    label: Data folder\n"),
            "settings.home.env: is FLUX2_TOOL_HOME anyway",
            id="a variable that need not stand there",
        ),
        pytest.param(_replaced("    label: Data folder\n", ""), "settings.home", id="a setting without a label"),
        pytest.param(_replaced("kind: data_folder", "kind: drawer"), "settings.home.kind", id="an unknown kind"),
        pytest.param(
            _replaced("x-values-from: error_codes", "enum: [internal_error]"),
            "output_schema.properties.error.properties.code",
            id="error codes of its own",
        ),
        pytest.param(
            _replaced("remix_image. {tiers}.", "remix_image."),
            "tools[0].description",
            id="a description without its prices",
        ),
        pytest.param(
            _replaced("required: [prompt]", "required: [promt]"), "there is no property promt", id="a required typo"
        ),
        pytest.param(
            _replaced("pattern: '\\S'", "pattern: '['"), "tools[0].input_schema", id="a pattern that does not compile"
        ),
        pytest.param(_replaced("x-audience: operator", "x-audience: nobody"), "x-audience", id="an unknown audience"),
        pytest.param(
            _replaced("default: everyone", "default: nobody"),
            "settings.spenders.default",
            id="a default that its own schema refuses",
        ),
        pytest.param(
            _replaced("  - name: remix_image", "  - name: text_to_image"),
            "tools: duplicate name text_to_image",
            id="two tools of one name",
        ),
        pytest.param(_replaced("schema_version: 1", "schema_version: &a [*a]"), "contain itself", id="a cycle"),
        pytest.param(_replaced("schema_version: 1", "1: 1"), "is not text", id="a key that is not text"),
        pytest.param(_replaced("schema_version: 1", "schema_version: 2026-01-01"), "schema_version: date", id="a date"),
        pytest.param(_replaced("schema_version: 1", "schema_version: 2026-13-01"), "month must be", id="no such date"),
    ],
)
def test_the_check_names_the_problem_and_where_it_is(edit: Callable[[str], str], problem: str) -> None:
    """Whoever edits the manifest learns of a slip before an agent does."""
    problems = check_manifest(edit(TEXT))

    assert any(problem in found for found in problems), problems


@pytest.mark.parametrize("text", ["", "null", "[]", "a", "{}", "\x00", "a: " + "[" * 5000, "- " * 500])
def test_the_check_takes_anything(text: str) -> None:
    """A wrong file gives problems, not a crash."""
    assert check_manifest(text)


def test_the_check_reads_no_endless_file() -> None:
    """It takes what an editor pipes into it."""
    (problem,) = check_manifest("#" * (MAX_MANIFEST_BYTES + 1))

    assert "longer than" in problem


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    """An installation that lost a file, or a path typed wrong."""
    with pytest.raises(ConfigurationError, match=r"cannot read the manifest .*gone\.yaml: No such file"):
        load_manifest(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"id: flux2\n", "is incomplete", id="incomplete"),
        pytest.param(b"id: [", "not readable YAML", id="cut off"),
        pytest.param(b"id: \xff", "not readable YAML", id="no UTF-8"),
        pytest.param(b"[" * 5000, "not readable YAML", id="very deep"),
    ],
)
def test_a_broken_file_says_which_command_explains_it(tmp_path: Path, data: bytes, said: str) -> None:
    """Loading is quick and shallow; the check has the details."""
    path = tmp_path / "plugin.yaml"
    path.write_bytes(data)

    with pytest.raises(ConfigurationError, match=said) as caught:
        load_manifest(path)

    assert "manifest check" in caught.value.hint


def test_loading_does_not_import_jsonschema() -> None:
    """Every command loads the manifest, and `--help` must stay quick."""
    code = "import sys, flux2_tool.schema.manifest as m; m.load_manifest(); print('jsonschema' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
