"""The manifest's entries as types: models, tools, settings, environment variables.

`expand.py` builds them from the YAML's data; `Manifest` in `manifest.py` contains them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model slug: a tier of Flux 2 as one tool uses it, with everything the tier needs or refuses.

    Attributes:
        use_for: What it is for, as a model reads it; `limits` likewise, empty if there are none.
        prices_usd: The list price per image by resolution, in US dollars; None where none is published.
        typical_s: Our estimate of an image's duration, by resolution, in seconds.
        requires: Arguments that must be given beyond those the tool requires.
        forbids: Arguments that must not be given.
        aspect_ratios: The values of aspect_ratio it takes; empty where it has no such argument.
        resolutions: The values of output_resolution it takes; empty where it has no such argument: its one price is
            then listed under the default resolution.
        max_sources: How many source pictures it takes; 0 for a tool without sources.
    """

    slug: str
    tool: str
    tier: str
    use_for: str
    limits: str
    prices_usd: Mapping[str, float | None]
    typical_s: Mapping[str, float]
    requires: tuple[str, ...]
    forbids: tuple[str, ...]
    aspect_ratios: tuple[str, ...]
    resolutions: tuple[str, ...]
    max_sources: int


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
    """One tool with its full JSON Schemas; `export.py` derives the definition that a model is offered.

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

    def enabled_models(self, tiers: Sequence[str]) -> tuple[Model, ...]:
        """Return the models that the enabled tiers allow, in the manifest's order."""
        return tuple(model for model in self.models if model.tier in tiers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: its schema, how its value is normalised, and how a form shows it.

    Attributes:
        schema: The JSON Schema of its value, as OpenClaw reads it.
        kind: How a value that matches the schema is checked further and normalised (`settings.py` has the table);
            empty for a value that is used as it is.
        env: Its environment variable outside OpenClaw; None for a setting of the plugin alone.
        label: Its name in a form; `help` is shown beside it.
        allowed: What a pattern allows, in words; empty if there is no pattern to explain.
        advanced: Whether a form hides it at first.
        sensitive: Whether its value is a secret.
        placeholder: What holds while it is unset, as a form shows it in its place; empty for the default. A form shows
            a boolean with one as a choice of three.
        dangerous: A value that OpenClaw's doctor and security audit warn about; None for none.
        guards: How the stricter of two values is found (`guards.py`); empty where it guards no money.
    """

    schema: dict[str, Any]
    kind: str
    env: str | None
    label: str
    help: str
    allowed: str
    advanced: bool
    sensitive: bool
    placeholder: str
    dangerous: Any
    guards: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingGroup:
    """Settings under one title of a form, in the order that it shows them."""

    id: str
    title: str
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentVariable:
    """A variable the tool reads beside its settings."""

    name: str
    required: bool
    secret: bool
    shared_with: str
    description: str
