"""Find the settings of OpenClaw's config that hide the plugin's tools from a model, with the fix for each.

Pure functions of the config's sections. Source: OpenClaw's docs `gateway/config-tools/tool-policy.md` and
`gateway/sandbox-vs-tool-policy-vs-elevated.md`. `deny` wins; a non-empty `allow` blocks everything else;
`profile` is a base list to which `alsoAllow` adds; a sandboxed session has a second policy of the same form.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

Section = Mapping[str, Any]

PROFILES_WITH_PLUGIN_TOOLS = {"coding", "messaging", "full"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBlock:
    """One setting that hides tools.

    Attributes:
        where: Its path in OpenClaw's config.
        tools: The tools that it hides.
        reason: How it hides them.
        fix: The command that fixes it.
    """

    where: str
    tools: tuple[str, ...]
    reason: str
    fix: str

    @property
    def is_partial(self) -> bool:
        """Whether it applies to one agent's conversations or one sender's requests only."""
        return self.where.startswith("agents.entries") or ".toolsBySender" in self.where


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClawConfig:
    """The sections of OpenClaw's config that decide about tools; an unset one is empty."""

    tools: Section
    agents: Section
    plugins: Section


def find_policy_blocks(config: OpenClawConfig, *, plugin: str, tools: Sequence[str]) -> list[PolicyBlock]:
    """Return a block for each setting that hides some of the tools, the plugin's own switches first."""
    found = [
        *_plugin_switches(config.plugins, plugin, tools),
        *_policies("tools", config.tools, plugin, tools),
    ]
    for agent, section in (config.agents.get("entries") or {}).items():
        found += _policies(f"agents.entries{_key(agent)}.tools", section.get("tools") or {}, plugin, tools)
    return [*found, *_sandbox(config, plugin, tools)]


def find_conflicts(others: Sequence[Section], *, plugin: str, tools: Sequence[str]) -> list[PolicyBlock]:
    """Return a block for each enabled plugin with a tool of the same name; OpenClaw offers only one of the two.

    Args:
        others: The entries of `openclaw plugins list --json`.
        plugin: Our plugin's id.
        tools: Our tools' names.
    """
    found = []
    for other in others:
        names = {*(other.get("toolNames") or ()), *((other.get("contracts") or {}).get("tools") or ())}
        same = tuple(tool for tool in tools if tool in names)
        if same and other.get("enabled") and other["id"] != plugin:
            reason = f"the plugin {other['id']} has a tool of the same name, and only one of the two is offered"
            fix = f"openclaw plugins disable {shlex.quote(str(other['id']))}"
            found.append(PolicyBlock(where=f"plugins.entries.{other['id']}", tools=same, reason=reason, fix=fix))
    return found


def _plugin_switches(plugins: Section, plugin: str, tools: Sequence[str]) -> Iterator[PolicyBlock]:
    every = tuple(tools)
    entry = (plugins.get("entries") or {}).get(plugin) or {}
    if plugins.get("enabled") is False:
        fix = "openclaw config set plugins.enabled true"
        yield PolicyBlock(where="plugins.enabled", tools=every, reason="all plugins are switched off", fix=fix)
    if entry.get("enabled") is False:
        fix = f"openclaw plugins enable {plugin}"
        where = f"plugins.entries.{plugin}.enabled"
        yield PolicyBlock(where=where, tools=every, reason="the plugin is disabled", fix=fix)
    denied, allowed = plugins.get("deny") or [], plugins.get("allow") or []
    if plugin in denied:
        fix = _set("plugins.deny", [item for item in denied if item != plugin])
        yield PolicyBlock(where="plugins.deny", tools=every, reason="the list names this plugin", fix=fix)
    if allowed and plugin not in allowed:
        fix = _set("plugins.allow", [*allowed, plugin])
        yield PolicyBlock(where="plugins.allow", tools=every, reason="the list lacks this plugin", fix=fix)


def _policies(where: str, policy: Section, plugin: str, tools: Sequence[str]) -> Iterator[PolicyBlock]:
    yield from _policy(where, policy, plugin, tools)
    for provider, section in (policy.get("byProvider") or {}).items():
        yield from _policy(f"{where}.byProvider{_key(provider)}", section, plugin, tools)
    for sender, section in (policy.get("toolsBySender") or {}).items():
        yield from _policy(f"{where}.toolsBySender{_key(sender)}", section, plugin, tools)


def _policy(where: str, policy: Section, plugin: str, tools: Sequence[str]) -> Iterator[PolicyBlock]:
    also, allowed, denied = (list(policy.get(key) or []) for key in ("alsoAllow", "allow", "deny"))
    profile = policy.get("profile")
    if profile is not None and profile not in PROFILES_WITH_PLUGIN_TOOLS:
        hidden = _without(tools, plugin, also)
        # A scope may not have both allow and alsoAllow, so an existing allow list decides which one is changed.
        fix = _set(f"{where}.profile", "full") if allowed else _set(f"{where}.alsoAllow", [*also, plugin])
        if hidden:
            yield PolicyBlock(
                where=f"{where}.profile", tools=hidden, reason=f"the profile {profile} lacks them", fix=fix
            )
    if allowed:
        hidden = _without(tools, plugin, allowed)
        if hidden:
            fix = _set(f"{where}.allow", [*allowed, plugin])
            yield PolicyBlock(
                where=f"{where}.allow", tools=hidden, reason="the list of allowed tools lacks them", fix=fix
            )
    yield from _denials(where, denied, plugin, tools)


def _denials(where: str, denied: Sequence[str], plugin: str, tools: Sequence[str]) -> Iterator[PolicyBlock]:
    hidden = tuple(tool for tool in tools if _named(tool, plugin, denied))
    if hidden:
        kept = [entry for entry in denied if not any(_named(tool, plugin, [entry]) for tool in tools)]
        fix = _set(f"{where}.deny", kept)
        yield PolicyBlock(where=f"{where}.deny", tools=hidden, reason="the list forbids them", fix=fix)


def _sandbox(config: OpenClawConfig, plugin: str, tools: Sequence[str]) -> Iterator[PolicyBlock]:
    default = ((config.agents.get("defaults") or {}).get("sandbox") or {}).get("mode", "off")
    common = ((config.tools.get("sandbox") or {}).get("tools")) or {}
    scopes: dict[str, tuple[str, Section]] = {}
    if default != "off":
        scopes["tools.sandbox.tools"] = (default, common)
    for agent, entry in (config.agents.get("entries") or {}).items():
        own = ((entry.get("tools") or {}).get("sandbox") or {}).get("tools")
        mode = (entry.get("sandbox") or {}).get("mode", default)
        if mode != "off" and own is not None:
            scopes[f"agents.entries{_key(agent)}.tools.sandbox.tools"] = (mode, {**common, **own})
        elif mode != "off":
            scopes["tools.sandbox.tools"] = (mode, common)
    for where, (mode, policy) in scopes.items():
        also, allowed = list(policy.get("alsoAllow") or []), policy.get("allow")
        # An empty allow list lets everything through; an unset one means OpenClaw's own short list.
        hidden = () if allowed == [] else _without(tools, plugin, [*(allowed or []), *also])
        if hidden:
            key, entries = ("allow", list(allowed)) if allowed else ("alsoAllow", also)
            reason = f"sandboxed sessions (mode {mode}) have a policy of their own"
            yield PolicyBlock(where=where, tools=hidden, reason=reason, fix=_set(f"{where}.{key}", [*entries, plugin]))
        yield from _denials(where, list(policy.get("deny") or []), plugin, tools)


def _without(tools: Sequence[str], plugin: str, entries: Sequence[str]) -> tuple[str, ...]:
    return tuple(tool for tool in tools if not _named(tool, plugin, entries))


def _named(tool: str, plugin: str, entries: Sequence[str]) -> bool:
    """Return whether a list names a tool: by name or pattern, through its plugin, or through all plugins."""
    lowered = [str(entry).lower() for entry in entries]
    return any(entry in (plugin, "group:plugins") or fnmatchcase(tool.lower(), entry) for entry in lowered)


def _set(path: str, value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"openclaw config set {shlex.quote(path)} {shlex.quote(text)}"


def _key(name: str) -> str:
    """Return a member of a path as OpenClaw writes it: `.plain`, or in brackets when it is not plain."""
    return f".{name}" if name.replace("-", "").replace("_", "").isalnum() else json.dumps([name])
