"""Tell from OpenClaw's config what keeps the plugin's tools from a model, and the line that mends it.

Pure: the config's sections go in, findings come out. Source: OpenClaw's docs `gateway/config-tools/tool-policy.md`
and `gateway/sandbox-vs-tool-policy-vs-elevated.md`. `deny` wins; a non-empty `allow` blocks everything else;
`profile` is a base list to which `alsoAllow` adds; a sandboxed session has a second gate of the same form.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

Section = Mapping[str, Any]

PROFILES_WITH_US = {"coding", "messaging", "full"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBlock:
    """One thing that hides tools: where it stands, which tools it hides, and the command that mends it."""

    where: str
    tools: tuple[str, ...]
    why: str
    mend: str

    @property
    def is_partial(self) -> bool:
        """Whether it concerns one agent's conversations or one sender's requests only."""
        return self.where.startswith("agents.entries") or ".toolsBySender" in self.where


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """The parts of OpenClaw's config that decide about tools; an unset part is empty."""

    tools: Section
    agents: Section
    plugins: Section


def find_policy_blocks(config: HostConfig, *, plugin: str, tools: Sequence[str]) -> list[PolicyBlock]:
    """Return everything in the config that hides some of the tools, the plugin's own switches first."""
    found = [
        *_plugin_switches(config.plugins, plugin, tools),
        *_policies("tools", config.tools, plugin, tools),
    ]
    for agent, section in (config.agents.get("entries") or {}).items():
        found += _policies(f"agents.entries{_key(agent)}.tools", section.get("tools") or {}, plugin, tools)
    return [*found, *_sandbox(config, plugin, tools)]


def conflicts(others: Sequence[Section], *, plugin: str, tools: Sequence[str]) -> list[PolicyBlock]:
    """Return the enabled plugins that have a tool of the same name; OpenClaw then offers only one of the two.

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
            why = f"the plugin {other['id']} has a tool of the same name, and only one of them can be offered"
            mend = f"openclaw plugins disable {shlex.quote(str(other['id']))}"
            found.append(PolicyBlock(where=f"plugins.entries.{other['id']}", tools=same, why=why, mend=mend))
    return found


def _plugin_switches(plugins: Section, plugin: str, tools: Sequence[str]) -> Iterator[PolicyBlock]:
    every = tuple(tools)
    entry = (plugins.get("entries") or {}).get(plugin) or {}
    if plugins.get("enabled") is False:
        mend = "openclaw config set plugins.enabled true"
        yield PolicyBlock(where="plugins.enabled", tools=every, why="all plugins are switched off", mend=mend)
    if entry.get("enabled") is False:
        mend = f"openclaw plugins enable {plugin}"
        where = f"plugins.entries.{plugin}.enabled"
        yield PolicyBlock(where=where, tools=every, why="the plugin is disabled", mend=mend)
    denied, allowed = plugins.get("deny") or [], plugins.get("allow") or []
    if plugin in denied:
        mend = _set("plugins.deny", [item for item in denied if item != plugin])
        yield PolicyBlock(where="plugins.deny", tools=every, why="the list names this plugin", mend=mend)
    if allowed and plugin not in allowed:
        mend = _set("plugins.allow", [*allowed, plugin])
        yield PolicyBlock(where="plugins.allow", tools=every, why="the list lacks this plugin", mend=mend)


def _policies(where: str, policy: Section, plugin: str, tools: Sequence[str]) -> Iterator[PolicyBlock]:
    yield from _policy(where, policy, plugin, tools)
    for provider, section in (policy.get("byProvider") or {}).items():
        yield from _policy(f"{where}.byProvider{_key(provider)}", section, plugin, tools)
    for sender, section in (policy.get("toolsBySender") or {}).items():
        yield from _policy(f"{where}.toolsBySender{_key(sender)}", section, plugin, tools)


def _policy(where: str, policy: Section, plugin: str, tools: Sequence[str]) -> Iterator[PolicyBlock]:
    also, allowed, denied = (list(policy.get(key) or []) for key in ("alsoAllow", "allow", "deny"))
    profile = policy.get("profile")
    if profile is not None and profile not in PROFILES_WITH_US:
        hidden = _without(tools, plugin, also)
        # The two may not stand in one scope, so what is wanted goes where a list already is.
        mend = _set(f"{where}.profile", "full") if allowed else _set(f"{where}.alsoAllow", [*also, plugin])
        if hidden:
            yield PolicyBlock(
                where=f"{where}.profile", tools=hidden, why=f"the profile {profile} lacks them", mend=mend
            )
    if allowed:
        hidden = _without(tools, plugin, allowed)
        if hidden:
            mend = _set(f"{where}.allow", [*allowed, plugin])
            yield PolicyBlock(
                where=f"{where}.allow", tools=hidden, why="a list of all that is allowed lacks them", mend=mend
            )
    yield from _denials(where, denied, plugin, tools)


def _denials(where: str, denied: Sequence[str], plugin: str, tools: Sequence[str]) -> Iterator[PolicyBlock]:
    hidden = tuple(tool for tool in tools if _named(tool, plugin, denied))
    if hidden:
        kept = [entry for entry in denied if not any(_named(tool, plugin, [entry]) for tool in tools)]
        mend = _set(f"{where}.deny", kept)
        yield PolicyBlock(where=f"{where}.deny", tools=hidden, why="the list forbids them", mend=mend)


def _sandbox(config: HostConfig, plugin: str, tools: Sequence[str]) -> Iterator[PolicyBlock]:
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
    for where, (mode, gate) in scopes.items():
        also, allowed = list(gate.get("alsoAllow") or []), gate.get("allow")
        # An empty allow list lets everything through; an unset one stands for OpenClaw's own short list.
        hidden = () if allowed == [] else _without(tools, plugin, [*(allowed or []), *also])
        if hidden:
            key, entries = ("allow", list(allowed)) if allowed else ("alsoAllow", also)
            why = f"sandboxed sessions (mode {mode}) have a gate of their own"
            yield PolicyBlock(where=where, tools=hidden, why=why, mend=_set(f"{where}.{key}", [*entries, plugin]))
        yield from _denials(where, list(gate.get("deny") or []), plugin, tools)


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
