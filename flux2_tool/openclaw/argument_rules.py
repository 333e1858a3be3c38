"""Generate what the plugin's JavaScript needs to judge a call's arguments as `schema/validation.py` does.

The words and the order of the rules are in `plugin/arguments.js` and its neighbours, which read these two objects of
`dist/tools.json`. One shared table of cases (tests/schema/argument_cases.py) holds both sides to the same text.

    argument_rules   for all tools
      limits         the constants of the Python modules, by their names in lower case
      type_words     of each JSON type
      named_ratios   such as "square"
      invisible      first and last code point of each range of characters that nobody can see
      operator       what an operator can do about a tier ("{tier}"), the safety checker, a callback host
    rules            of one tool
      schema         the full input schema without descriptions and defaults; a pattern is as JavaScript reads it, or,
                     where it cannot be, null: only Python knows then
      default_model  null for a tool without models
      tiers          the tier of each model
      public_names   the arguments that "takes" names
      visible        the arguments in which something must be seen
      advice         sentences, each with the other names that it answers
      example        arguments as they look
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flux2_tool._characters import INVISIBLE_RANGES
from flux2_tool._net import MAX_UNICODE_AUTHORITY_CHARS, MAX_URL_CHARS
from flux2_tool.openclaw.portable_pattern import portable_pattern
from flux2_tool.schema import argument_faults, validation, value_text
from flux2_tool.schema.argument_aliases import all_alias_hints
from flux2_tool.schema.manifest import Manifest, Tool

_NOT_JUDGED = frozenset({"description", "default", "x-audience"})


def argument_rules(manifest: Manifest) -> dict[str, Any]:
    """Return what the rules of all tools share; the module's docstring describes its shape."""
    return {
        "limits": {
            "max_message_chars": validation.MAX_MESSAGE_CHARS,
            "max_violations": validation.MAX_VIOLATIONS,
            "max_depth": argument_faults.MAX_DEPTH,
            "max_values": argument_faults.MAX_VALUES,
            "max_name_chars": argument_faults.MAX_NAME_CHARS,
            "max_shown_chars": value_text.MAX_SHOWN_CHARS,
            "max_compared_chars": value_text.MAX_COMPARED_CHARS,
            "max_url_chars": MAX_URL_CHARS,
            "max_unicode_authority_chars": MAX_UNICODE_AUTHORITY_CHARS,
        },
        "type_words": dict(value_text.TYPE_WORDS),
        "named_ratios": dict(value_text.NAMED_RATIOS),
        "invisible": [list(both) for both in INVISIBLE_RANGES],
        "operator": {
            "tier": validation.tier_remedy(manifest, "{tier}"),
            "safety_checker": validation.safety_checker_remedy(manifest),
            "callback_host": validation.callback_host_remedy(manifest),
        },
    }


def tool_rules(tool: Tool) -> dict[str, Any]:
    """Return the rules of one tool; the module's docstring describes their shape."""
    return {
        "schema": _judged(tool.input_schema),
        "default_model": tool.default_model,
        "tiers": {model.slug: model.tier for model in tool.models},
        "public_names": validation.public_names(tool),
        "visible": validation.visible_names(tool),
        "advice": all_alias_hints(tool),
        "example": validation.example(tool),
    }


def _judged(schema: Any, *, is_names: bool = False) -> Any:
    """Return a schema without what judges nothing; in an object of properties every key is a name."""
    if isinstance(schema, list):
        return [_judged(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    if is_names:
        return {name: _judged(item) for name, item in schema.items()}
    return {
        keyword: portable_pattern(value) if keyword == "pattern" else _judged(value, is_names=keyword == "properties")
        for keyword, value in schema.items()
        if keyword not in _NOT_JUDGED
    }
