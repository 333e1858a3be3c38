"""Check a tool's arguments before anything is sent or paid, and report every violation at once.

The rules are the manifest's full input schemas; this module turns jsonschema's errors into sentences
that name the given, the allowed and the nearest value. It does not change the arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flux2_tool._characters import has_visible
from flux2_tool._net import MAX_URL_CHARS, split_url
from flux2_tool.exceptions import InvalidArgumentsError
from flux2_tool.schema.argument_aliases import alias_hint
from flux2_tool.schema.argument_faults import faults_of
from flux2_tool.schema.conformance import schema_errors
from flux2_tool.schema.manifest import Manifest, Tool
from flux2_tool.schema.value_text import allowed, kind_of, nearest, shown, shown_text
from flux2_tool.schema.violations import Violation, near_text, violations_of, without_repeats

MAX_MESSAGE_CHARS = 4000
MAX_VIOLATIONS = 50
# What a schema can say of text that must have something to see; what can be seen is decided here.
_VISIBLE_PATTERN = r"\S"


def validate_arguments(
    manifest: Manifest,
    tool_name: str,
    arguments: Any,
    *,
    tiers: Sequence[str],
    agent_host: bool,
    callback_hosts: Sequence[str] = (),
    safety_checker: bool | None = None,
) -> None:
    """Check that a tool may be called with these arguments.

    Args:
        manifest: The tools and their full schemas.
        tool_name: As given by the caller; may be unknown.
        arguments: As given by the caller; may be anything.
        tiers: The tiers the operator enabled.
        agent_host: Whether a model chose the arguments; then the operator's rules for the safety checker
            and for callback hosts apply.
        callback_hosts: Host names an agent may give as callback.
        safety_checker: The operator's setting of that name.

    Raises:
        InvalidArgumentsError: `violations` has one sentence per violation, up to MAX_VIOLATIONS and a count of the
            rest; the message has as many as fit.
    """
    tool = manifest.tools.get(tool_name) if isinstance(tool_name, str) else None
    if tool is None:
        near = nearest(tool_name, manifest.tools)
        is_name = isinstance(tool_name, str)
        what = f"there is no tool {shown(tool_name)}" if is_name else f"a tool's name is text, not {kind_of(tool_name)}"
        text = f"{what}; tools are {', '.join(manifest.tools)}" + near_text(near)
        raise InvalidArgumentsError(text, hint=f"call {near or 'one of these'}", violations=(text,))
    if not isinstance(arguments, dict):
        text = f"the arguments of {tool.name} must be an object such as {example(tool)}, not {kind_of(arguments)}"
        raise InvalidArgumentsError(text, hint="give an object with named arguments", violations=(text,))
    rules = _OperatorRules(
        manifest=manifest,
        tool=tool,
        tiers=tuple(tiers),
        agent_host=agent_host,
        callback_hosts=tuple(host.lower() for host in callback_hosts),
        safety_checker=safety_checker,
    )
    found = list(_violations(tool, arguments, rules))
    if found:
        raise refusal(tool, [violation.text for violation in found])


def refusal(tool: Tool, found: Sequence[str]) -> InvalidArgumentsError:
    """Return the error that names what is wrong with a tool's arguments."""
    texts = tuple(dict.fromkeys(found))
    named = texts
    if len(texts) > MAX_VIOLATIONS:
        named = (*texts[:MAX_VIOLATIONS], f"… and {len(texts) - MAX_VIOLATIONS} more")
    return InvalidArgumentsError(
        _message(tool, texts), hint=f"correct this and call {tool.name} again; nothing was sent", violations=named
    )


def without_nulls(arguments: Any) -> Any:
    """Return arguments without null members: with strict schemas a model sends null for an argument it omits."""
    if not isinstance(arguments, dict):
        return arguments
    return {name: value for name, value in arguments.items() if value is not None}


def _violations(tool: Tool, arguments: dict[Any, Any], rules: _OperatorRules) -> Iterator[Violation]:
    properties = tool.input_schema["properties"]
    unreadable: set[str] = set()
    faults: list[Violation] = []
    unknown = 0
    for name, value in arguments.items():
        if not isinstance(name, str) or name not in properties:
            unknown += 1
            yield _unknown(tool, name, with_advice=unknown <= MAX_VIOLATIONS)
            continue
        for fault in faults_of(value, name, properties[name]):
            faults.append(fault)
            if fault.kind == "unreadable":
                unreadable.add(name)
    yield from faults
    readable = {name: arguments[name] for name in properties if name in arguments and name not in unreadable}
    seen_paths = {fault.path for fault in faults}
    found = [
        violation
        for error in schema_errors(readable, tool.input_schema)
        for violation in violations_of(tool, readable, unreadable, error, rules.tiers)
        if violation.path not in seen_paths
    ]
    yield from without_repeats(found)
    yield from _invisible(tool, {name: value for name, value in readable.items() if name not in seen_paths})
    faulty = {item.path.partition("[")[0] for item in (*faults, *found)}
    yield from rules.violations({name: value for name, value in readable.items() if name not in faulty})


def _invisible(tool: Tool, arguments: Mapping[str, Any]) -> Iterator[Violation]:
    """Yield the texts that are not blank, but of whose characters none can be seen."""
    for name, value in arguments.items():
        if name not in visible_names(tool) or not isinstance(value, str) or not value.strip():
            continue
        if not has_visible(value):
            characters = list(dict.fromkeys(f"U+{ord(c):04X}" for c in value if not c.isspace()))
            listed = ", ".join(characters[:5]) + (", …" if len(characters) > 5 else "")
            must = allowed(tool.input_schema["properties"][name])
            text = f"{name} has only invisible characters ({listed}); it must be {must}"
            yield Violation(path=name, kind="pattern", text=text)


def visible_names(tool: Tool) -> list[str]:
    """Return the names of the texts in which something must be seen."""
    properties = tool.input_schema["properties"]
    return [name for name, item in properties.items() if item.get("pattern") == _VISIBLE_PATTERN]


def _unknown(tool: Tool, name: Any, *, with_advice: bool) -> Violation:
    if not isinstance(name, str):
        return Violation(path="", kind="unknown", text=f"an argument's name must be text, not {kind_of(name)}")
    if not with_advice:  # it is not shown any more, and its name would be compared with every other
        return Violation(path=name, kind="unknown", text=f'unknown argument "{shown_text(name)}"')
    advice = alias_hint(name, tool)
    if advice is None:
        near = nearest(name, tool.input_schema["properties"])
        advice = f"{tool.name} takes {', '.join(public_names(tool))}" + near_text(near)
    return Violation(path=name, kind="unknown", text=f'unknown argument "{shown_text(name)}": {advice}')


def public_names(tool: Tool) -> list[str]:
    """Return the names of the arguments that everyone may give."""
    properties = tool.input_schema["properties"]
    return [name for name, item in properties.items() if "x-audience" not in item]


def example(tool: Tool) -> str:
    """Return a tool's required arguments as they look."""
    examples = {"prompt": '"a red fox"', "source_image_urls": '["task:ID"]', "task_id": '"tsk_..."'}
    names = tool.input_schema["required"] or list(tool.input_schema["properties"])[:1]
    return "{" + ", ".join(f'"{name}": {examples.get(name, "…")}' for name in names) + "}"


def _message(tool: Tool, texts: Sequence[str]) -> str:
    if len(texts) == 1:
        return texts[0][:MAX_MESSAGE_CHARS]
    message = f"{len(texts)} things are wrong with the arguments of {tool.name}:"
    for index, text in enumerate(texts, 1):
        item = f" {index}. {text};"
        if len(message) + len(item) > MAX_MESSAGE_CHARS - 40:
            return f"{message} … and {len(texts) - index + 1} more"
        message += item
    return message.removesuffix(";")


def _url_violations(arguments: Mapping[str, Any]) -> Iterator[Violation]:
    """Yield the URLs without a usable host or port, which a pattern cannot detect."""
    urls = {f"source_image_urls[{index}]": url for index, url in enumerate(arguments.get("source_image_urls", ()))}
    if "callback_url" in arguments:
        urls["callback_url"] = arguments["callback_url"]
    for path, url in urls.items():
        url = url.strip()
        if not url.lower().startswith(("http:", "https:")):
            continue
        try:
            parts = split_url(url)
            usable = bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if len(url) > MAX_URL_CHARS:
            text = f"{path} {shown(url)} has {len(url)} characters; at most {MAX_URL_CHARS} are allowed"
            yield Violation(path=path, kind="url", text=text)
        elif not usable:
            yield Violation(path=path, kind="url", text=f"{path} {shown(url)} has no usable host or port")


@dataclass(frozen=True, slots=True, kw_only=True)
class _OperatorRules:
    """The rules that the operator's settings add to the schema."""

    manifest: Manifest
    tool: Tool
    tiers: tuple[str, ...]
    agent_host: bool
    callback_hosts: tuple[str, ...]
    safety_checker: bool | None

    def violations(self, arguments: Mapping[str, Any]) -> Iterator[Violation]:
        """Yield the violations of these arguments, which match the schema."""
        yield from self._tier_violations(arguments)
        broken = list(_url_violations(arguments))
        yield from broken
        if not self.agent_host:
            return
        if arguments.get("enable_safety_checker") is False and self.safety_checker is not False:
            text = (
                "enable_safety_checker false is the operator's decision, not an agent's; leave it out"
                f" {safety_checker_remedy(self.manifest)}"
            )
            yield Violation(path="enable_safety_checker", kind="operator", text=text)
        if "callback_url" in arguments and not any(item.path == "callback_url" for item in broken):
            host = (split_url(arguments["callback_url"]).hostname or "").rstrip(".")
            if host not in self.callback_hosts:
                listed = ", ".join(self.callback_hosts) or "none"
                text = (
                    f'callback_url: the host "{shown_text(host)}" is not allowed; allowed hosts: {listed}'
                    f" {callback_host_remedy(self.manifest)}"
                )
                yield Violation(path="callback_url", kind="operator", text=text)

    def _tier_violations(self, arguments: Mapping[str, Any]) -> Iterator[Violation]:
        slug = arguments.get("model", self.tool.default_model)
        model = self.manifest.models.get(slug) if slug else None
        if model is None or model.tier in self.tiers:
            return
        usable = [item.slug for item in self.tool.enabled_models(self.tiers)]
        given = "model is missing and the default" if "model" not in arguments else "model"
        text = (
            f"{given} {model.slug} is not enabled here; enabled: {', '.join(usable) or 'none'}"
            f" {tier_remedy(self.manifest, model.tier)}"
        )
        yield Violation(path="model", kind="operator", text=text)


def tier_remedy(manifest: Manifest, tier: str) -> str:
    """Return what an operator can do about a tier that is not enabled."""
    return _remedy(manifest, "tiers", f"add {tier} to")


def safety_checker_remedy(manifest: Manifest) -> str:
    """Return what an operator can do to let agents switch the safety checker off."""
    return _remedy(manifest, "safety_checker", "set false as")


def callback_host_remedy(manifest: Manifest) -> str:
    """Return what an operator can do about a callback host that is not allowed."""
    return _remedy(manifest, "callback_hosts", "add it to")


def _remedy(manifest: Manifest, key: str, value: str) -> str:
    env = manifest.settings[key].env
    return f"(an operator can {value} {key} in plugins.entries.{manifest.id}.config, or {env})"
