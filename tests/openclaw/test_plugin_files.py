"""The generator: what OpenClaw and the model read is the manifest's, byte for byte the same each time."""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from flux2_tool.engine.host_profile import OPENCLAW
from flux2_tool.openclaw.bundle import packed, plugin_files, plugin_manifest, write_plugin
from flux2_tool.openclaw.image_provider import image_provider
from flux2_tool.openclaw.npm_package import npm_version
from flux2_tool.schema.export import export
from flux2_tool.schema.manifest import Manifest, load_manifest
from tests.openclaw.conftest import PluginHost

TIERS = load_manifest().tiers
TIER_SETS = [chosen for size in range(1, len(TIERS) + 1) for chosen in itertools.combinations(TIERS, size)]


@pytest.mark.parametrize("callback_hosts", [(), ("hooks.example",)], ids=["no callbacks", "callbacks"])
@pytest.mark.parametrize("tiers", [None, *TIER_SETS], ids=str)
def test_the_plugin_offers_exactly_what_the_manifest_exports(
    host: PluginHost,
    make_plugin: Callable[..., Path],
    manifest: Manifest,
    tiers: tuple[str, ...] | None,
    callback_hosts: tuple[str, ...],
) -> None:
    """The JavaScript picks from generated parts; no setting may make it drift from the manifest."""
    config = {"callback_hosts": list(callback_hosts), **({"tiers": list(tiers)[::-1]} if tiers else {})}
    host.register(make_plugin(), config=config)

    found = host.ask("definitions", plugin="plugin")

    expected = export(
        manifest,
        "openclaw",
        tiers=tiers or ("pro", "flex"),
        callback_hosts=callback_hosts,
        wait_s=OPENCLAW.wait_s,
    )
    for definition in expected:
        definition.pop("metadata")
        definition["catalogMode"] = "direct-only"
    assert found == expected
    for shown, wanted in zip(found, expected, strict=True):
        assert list(shown["parameters"]["properties"]) == list(wanted["parameters"]["properties"])


def test_a_tier_may_lack_a_tool_or_an_argument(host: PluginHost, make_plugin: Callable[..., Path]) -> None:
    """Such as a tier that makes images from text alone, in one size: nothing is offered that it would refuse."""
    folder = make_plugin()
    path = folder / "dist" / "tools.json"
    bundle = json.loads(path.read_text())
    differences = {tool["name"]: tool["by_tiers"].setdefault("pro", {}) for tool in bundle["tools"]}
    differences["text_to_image"]["without"] = ["output_resolution"]
    differences["remix_image"]["withheld"] = True
    path.write_text(json.dumps(bundle))
    host.register(folder, config={"tiers": ["pro"]})

    found = {definition["name"]: definition for definition in host.ask("definitions", plugin="plugin")}

    assert sorted(found) == ["get_image_task", "text_to_image"]
    assert "output_resolution" not in found["text_to_image"]["parameters"]["properties"]


def test_the_plugins_manifest_is_derived_from_ours(manifest: Manifest) -> None:
    """OpenClaw checks the config and the tools against it before it runs anything."""
    found = plugin_manifest(manifest)

    assert found["id"] == manifest.id
    # An unknown key stops neither the plugin nor OpenClaw: the plugin, status and doctor name it.
    assert found["configSchema"] == {**manifest.config_schema, "additionalProperties": True}
    assert found["contracts"]["tools"] == list(manifest.tools)
    assert set(found["uiHints"]) == set(manifest.config_schema["properties"])
    for name, tool in manifest.tools.items():
        assert found["toolMetadata"][name] == {
            "profiles": ["coding", "messaging"],
            "sideEffecting": tool.hints.side_effecting,
            "replaySafe": tool.hints.replay_safe,
        }


def test_image_generate_is_declared_only_when_asked_for(manifest: Manifest) -> None:
    """It would compete with our own tools for the same job, so it is off unless somebody asks."""
    without, having = plugin_manifest(manifest), plugin_manifest(manifest, image_generate=True)

    assert "imageGenerationProviders" not in without["contracts"]
    assert having["contracts"] == {**without["contracts"], "imageGenerationProviders": ["runapi"]}
    assert {**having, "contracts": {}} == {**without, "contracts": {}}
    assert [provider["id"] for provider in without["setup"]["providers"]] == ["runapi"]


def test_image_generate_has_the_models_and_limits_of_the_manifest(manifest: Manifest) -> None:
    """Nothing about a model is written twice."""
    found = {model["name"]: model for model in image_provider(manifest)["models"]}

    assert [model["tier"] for model in found.values()] == list(manifest.tiers)
    for name in ("flux-2-pro", "flux-2-flex", "flux-2-max"):
        model = found[name]
        for tool in ("text_to_image", "remix_image"):
            assert model[tool] in manifest.tools[tool].input_schema["properties"]["model"]["enum"]
            assert list(manifest.models[model[tool]].prices_usd) == model["resolutions"]
        assert model["needs_aspect_ratio"] == (name == "flux-2-max")
        assert model["max_sources"] == (1 if name == "flux-2-max" else 8)


def test_generating_twice_gives_the_same_bytes(manifest: Manifest) -> None:
    """A packed plugin has one checksum, whoever packs it and when."""
    first = packed(plugin_files(manifest, python=None))

    assert packed(plugin_files(manifest, python=None)) == first


def test_a_packed_plugin_names_no_interpreter(manifest: Manifest) -> None:
    """The path of one machine means nothing on another."""
    with tarfile.open(fileobj=io.BytesIO(packed(plugin_files(manifest, python=None)))) as archive:
        names = archive.getnames()
        tools = archive.extractfile("package/dist/tools.json")
        assert tools is not None
        data = json.load(tools)

    assert data["python"] is None
    assert {"package/package.json", "package/openclaw.plugin.json", "package/dist/index.js"} <= set(names)


def test_an_upgrade_removes_the_older_plugins_files(manifest: Manifest, tmp_path: Path) -> None:
    """A left-over file of version N would be loaded by version N+1."""
    (tmp_path / "dist" / "old").mkdir(parents=True)
    (tmp_path / "dist" / "old" / "gone.js").write_text("")
    files = plugin_files(manifest, python="/usr/bin/python3")

    write_plugin(tmp_path, files)

    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == files
    assert not (tmp_path / "dist" / "old").exists()


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
def test_nobody_else_may_change_the_plugins_files(manifest: Manifest, tmp_path: Path, umask: int) -> None:
    """Measured: OpenClaw says "no valid plugin manifest" of a folder that anybody may write to."""
    before = os.umask(umask)
    try:
        write_plugin(tmp_path / "plugin", plugin_files(manifest, python="/usr/bin/python3"))
    finally:
        os.umask(before)

    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in (tmp_path / "plugin").rglob("*")}
    assert modes == {True: 0o755, False: 0o644}


def test_the_plugin_has_every_javascript_file_and_no_types(manifest: Manifest) -> None:
    """A module that is missing fails in the gateway alone; the types are for the checker."""
    written = {path.name for path in (resources.files("flux2_tool.openclaw") / "plugin").iterdir()}

    shipped = {
        path.removeprefix("dist/") for path in plugin_files(manifest, python=None) if path.endswith((".js", ".ts"))
    }

    assert shipped == {name for name in written if name.endswith(".js")}
    assert "types.d.ts" in written


def test_the_javascript_is_small_and_has_no_dependencies(manifest: Manifest) -> None:
    """It runs inside the gateway; everything that can be in Python is."""
    files = plugin_files(manifest, python=None)

    for name in (name for name in files if name.endswith(".js")):
        lines = files[name].decode().splitlines()
        assert len(lines) <= 250
        assert all('"node:' in line or '"./' in line for line in lines if line.startswith("import "))
    assert "dependencies" not in json.loads(files["package.json"])


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.2.3", "1.2.3"), ("1.2.3rc1", "1.2.3-rc.1"), ("0.1.0.dev4", "0.1.0-dev.4")],
)
def test_a_python_version_becomes_an_npm_version(version: str, expected: str) -> None:
    """OpenClaw refuses a package whose version is not semantic."""
    assert npm_version(version) == expected
