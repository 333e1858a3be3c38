"""Read `openclaw_plugin.yaml`, the single source of truth for tools, parameters, prices and settings.

The YAML is data only and states each fact once; `expand.py` derives the full schemas from it. Loading is light, because
every command does it; `manifest_check.py` has the full check, against a JSON Schema and for drift between its parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flux2_tool._characters import shell_word
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.entries import EnvironmentVariable, Model, Setting, SettingGroup, Tool
from flux2_tool.schema.expand import expanded_settings, expanded_tools

__all__ = [
    "MAX_MANIFEST_BYTES",
    "Manifest",
    "Model",
    "Setting",
    "Tool",
    "load_manifest",
    "manifest_path",
]


MANIFEST_NAME = "openclaw_plugin.yaml"
COMPILED_NAME = "manifest_data.json"
"""Beside this module: the manifest's data as JSON, written by `.ci/generate`. It counts only for a manifest with the
hash in it, so that another one, or one that was edited, is parsed."""
MAX_MANIFEST_BYTES = 1_000_000
UNKNOWN_TYPICAL_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole manifest, typed and expanded.

    Attributes:
        sha256: Of the file's bytes.
        aspect_ratios: Width to height; every tool that makes an image accepts them.
        output_resolutions: All of them; the first is the default.
        tiers: Every tier, in the order of the models.
        default_tiers: Those enabled while the setting tiers is unset.
        models: By slug, in the order of the tools.
        settings: By key.
        setting_groups: Each setting is in one, in the order of a form.
    """

    id: str
    name: str
    version: str
    description: str
    sha256: str
    environment: Mapping[str, EnvironmentVariable]
    aspect_ratios: tuple[str, ...]
    output_resolutions: tuple[str, ...]
    tiers: tuple[str, ...]
    default_tiers: tuple[str, ...]
    models: Mapping[str, Model]
    settings: Mapping[str, Setting]
    setting_groups: tuple[SettingGroup, ...]
    tools: Mapping[str, Tool]

    def image_kind(self, tool: str, arguments: Mapping[str, Any]) -> tuple[str, str]:
        """Return the model and the output resolution that a call of a tool asks for, defaults filled in."""
        model = arguments.get("model", self.tools[tool].default_model)
        resolution = arguments.get("output_resolution", self.output_resolutions[0])
        return _text(model), _text(resolution)

    def typical_s(self, model: str, resolution: str) -> float:
        """Return how long an image of a model usually takes, in seconds; UNKNOWN_TYPICAL_S for an unknown model."""
        known = self.models.get(model)
        return UNKNOWN_TYPICAL_S if known is None else known.typical_s.get(resolution, UNKNOWN_TYPICAL_S)

    @property
    def config_schema(self) -> dict[str, Any]:
        """The JSON Schema of the plugin's config: an object of all settings."""
        properties = {key: setting.schema for key, setting in self.settings.items()}
        return {"type": "object", "additionalProperties": False, "properties": properties}


def manifest_path() -> Path:
    """Return the manifest's path: inside an installed package, else beside it in a checkout.

    Raises:
        ConfigurationError: It is in neither place.
    """
    package = Path(__file__).resolve().parent.parent
    for path in (package / MANIFEST_NAME, package.parent / MANIFEST_NAME):
        if path.is_file():
            return path
    raise ConfigurationError(f"{MANIFEST_NAME} is missing from the installation", hint="install flux2-tool again")


def load_manifest(path: Path | None = None) -> Manifest:
    """Return the manifest at a path, by default this package's own. Read once per process.

    Raises:
        ConfigurationError: It cannot be read, is not YAML, or is incomplete.
    """
    return _load((path or manifest_path()).resolve())


@lru_cache(maxsize=8)
def _load(path: Path) -> Manifest:
    hint = f"run: flux2-tool manifest check {shell_word(str(path))}"
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"cannot read the manifest {path}: {exc.strerror}") from exc
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        return _typed(_compiled(sha256) or _parsed(data), sha256)
    except _NotYamlError as exc:
        raise ConfigurationError(f"the manifest {path} is not readable YAML", hint=hint) from exc
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise ConfigurationError(f"the manifest {path} is incomplete: {exc}", hint=hint) from exc


def compiled_manifest(data: bytes, raw: Any) -> str:
    """Return the text of COMPILED_NAME for a manifest's bytes and the data in them."""
    return json.dumps({"sha256": hashlib.sha256(data).hexdigest(), "data": raw}, separators=(",", ":")) + "\n"


def _compiled(sha256: str) -> Any:
    """Return the data of the manifest with this hash if it was compiled, else None."""
    try:
        found = json.loads(Path(__file__).with_name(COMPILED_NAME).read_bytes())
        return found["data"] if found["sha256"] == sha256 else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _parsed(data: bytes) -> Any:
    """Return the data of a manifest's YAML.

    Raises:
        _NotYamlError: It is not YAML.
    """
    # Imported here because the package's own manifest is compiled, and YAML takes longer than all the rest of it.
    from yaml import YAMLError

    from flux2_tool.schema.yaml_text import parse_yaml

    try:
        return parse_yaml(data.decode("utf-8"))
    except (YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise _NotYamlError(str(exc)) from exc


class _NotYamlError(Exception):
    """A manifest's text is not YAML."""


def _typed(raw: Any, sha256: str) -> Manifest:
    tools = {tool.name: tool for tool in expanded_tools(raw)}
    return Manifest(
        id=raw["id"],
        name=raw["name"],
        version=raw["version"],
        description=raw["description"],
        sha256=sha256,
        environment=MappingProxyType(
            {
                name: EnvironmentVariable(
                    name=name,
                    required=item["required"],
                    secret=item["secret"],
                    shared_with=item.get("shared_with", ""),
                    description=item["description"],
                )
                for name, item in raw["environment"].items()
            }
        ),
        aspect_ratios=tuple(raw["aspect_ratios"]),
        output_resolutions=tuple(raw["output_resolutions"]),
        tiers=tuple(raw["tiers"]),
        default_tiers=tuple(name for name, tier in raw["tiers"].items() if tier["enabled_by_default"]),
        models=MappingProxyType({model.slug: model for tool in tools.values() for model in tool.models}),
        settings=MappingProxyType(dict(expanded_settings(raw))),
        setting_groups=tuple(
            SettingGroup(id=item["id"], title=item["title"], settings=tuple(item["settings"]))
            for item in raw["setting_groups"]
        ),
        tools=MappingProxyType(tools),
    )


def _text(value: Any) -> str:
    """Return a text as it is; that of an Enum's member is its value, where `str` would be its name."""
    return str.__str__(value) if isinstance(value, str) else str(value)
