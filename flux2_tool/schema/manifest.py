"""Read `openclaw_plugin.yaml`, the single source of truth for tools, parameters, prices and settings.

The YAML is data only. Loading is light, because every command starts with it; the thorough check
against a schema of its own, and for drift between its parts, is `manifest_check.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml

from flux2_tool.exceptions import ConfigurationError

Tier = Literal["pro", "flex", "max"]

MANIFEST_NAME = "openclaw_plugin.yaml"
MAX_MANIFEST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model slug. Prices are USD per image by resolution, None where none is published; times are guesses."""

    slug: str
    tool: str
    tier: Tier
    use_for: str
    limits: str
    prices_usd: Mapping[str, float | None]
    typical_s: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolHints:
    """What a host may assume about a tool; the first four are MCP's annotations."""

    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool
    side_effecting: bool
    replay_safe: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool as the manifest has it. What a model is offered of it is `projection.py`'s business.

    `description` may hold the placeholder `{tiers}`. A tool without models has no `default_model`.
    """

    name: str
    title: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    hints: ToolHints
    models: tuple[Model, ...]
    default_model: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigHint:
    """How a setting is named in the environment (None: not at all) and shown in a form."""

    env: str | None
    label: str
    help: str
    placeholder: str
    allowed: str
    advanced: bool
    sensitive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentVariable:
    """A variable the tool reads beside its settings."""

    name: str
    required: bool
    secret: bool
    shared_with: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole manifest, typed. `sha256` is of the file's bytes; `raw` is the data as read."""

    id: str
    name: str
    version: str
    description: str
    sha256: str
    environment: Mapping[str, EnvironmentVariable]
    models: Mapping[str, Model]
    config_schema: dict[str, Any]
    config_hints: Mapping[str, ConfigHint]
    tools: Mapping[str, Tool]
    raw: dict[str, Any]


def manifest_path() -> Path:
    """Return where the manifest is: inside an installed package, else beside it in a checkout.

    Raises:
        ConfigurationError: It is in neither place.
    """
    package = Path(__file__).resolve().parent.parent
    for path in (package / MANIFEST_NAME, package.parent / MANIFEST_NAME):
        if path.is_file():
            return path
    raise ConfigurationError(f"{MANIFEST_NAME} is missing from the installation", hint="install flux2-tool again")


def load_manifest(path: Path | None = None) -> Manifest:
    """Return the manifest at a path, by default the one this package came with. Read once per process.

    Raises:
        ConfigurationError: It cannot be read, is not YAML, or lacks something.
    """
    return _load((path or manifest_path()).resolve())


@lru_cache(maxsize=8)
def _load(path: Path) -> Manifest:
    hint = f"run: flux2-tool manifest check {path}"
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"cannot read the manifest {path}: {exc.strerror}") from exc
    try:
        raw = parse_yaml(data.decode("utf-8"))
        return _typed(raw, hashlib.sha256(data).hexdigest())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigurationError(f"the manifest {path} is not readable YAML", hint=hint) from exc
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise ConfigurationError(f"the manifest {path} is incomplete: {exc}", hint=hint) from exc


def parse_yaml(text: str) -> Any:
    """Return the data of a YAML text; only plain data types are built.

    Raises:
        yaml.YAMLError: It is not YAML, asks for other types, or names a key twice.
    """
    # The loader derives from SafeLoader, so this is safe_load that also refuses a doubled key.
    return yaml.load(text, Loader=_StrictLoader)  # noqa: S506


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_SafeLoader):  # type: ignore[misc]
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f'the key "{key.value}" stands twice', key.start_mark
                    )
                seen.add(key.value)
        found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return found


def _typed(raw: Any, sha256: str) -> Manifest:
    models = {slug: _model(slug, item) for slug, item in raw["models"].items()}
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
        models=MappingProxyType(models),
        config_schema=raw["config_schema"],
        config_hints=MappingProxyType({key: _config_hint(item) for key, item in raw["config_hints"].items()}),
        tools=MappingProxyType({item["name"]: _tool(item, models) for item in raw["tools"]}),
        raw=raw,
    )


def _model(slug: str, item: Mapping[str, Any]) -> Model:
    return Model(
        slug=slug,
        tool=item["tool"],
        tier=item["tier"],
        use_for=item["use_for"],
        limits=item.get("limits", ""),
        prices_usd=MappingProxyType(dict(item["prices_usd"])),
        typical_s=MappingProxyType({key: float(value) for key, value in item["typical_s"].items()}),
    )


def _config_hint(item: Mapping[str, Any]) -> ConfigHint:
    return ConfigHint(
        env=item["env"],
        label=item["label"],
        help=item["help"],
        placeholder=item.get("placeholder", ""),
        allowed=item.get("allowed", ""),
        advanced=item["advanced"],
        sensitive=item["sensitive"],
    )


def _tool(item: Mapping[str, Any], models: Mapping[str, Model]) -> Tool:
    hints = item["hints"]
    return Tool(
        name=item["name"],
        title=item["title"],
        description=item["description"],
        input_schema=item["input_schema"],
        output_schema=item["output_schema"],
        hints=ToolHints(
            read_only=hints["readOnly"],
            destructive=hints["destructive"],
            idempotent=hints["idempotent"],
            open_world=hints["openWorld"],
            side_effecting=hints["sideEffecting"],
            replay_safe=hints["replaySafe"],
        ),
        models=tuple(model for model in models.values() if model.tool == item["name"]),
        default_model=item["input_schema"]["properties"].get("model", {}).get("default"),
    )
