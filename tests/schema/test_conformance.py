"""The short way through validation: what it lets pass, jsonschema lets pass as well."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from flux2_tool.schema.conformance import conforms
from flux2_tool.schema.manifest import load_manifest
from tests.schema.argument_cases import CASES

MANIFEST = load_manifest()
SCHEMAS = [
    *(tool.input_schema for tool in MANIFEST.tools.values()),
    *(setting.schema for setting in MANIFEST.settings.values()),
]


def _words(schema: Any) -> set[str]:
    """Return every text in a schema, such as names, values and models."""
    if isinstance(schema, dict):
        return {*schema, *(word for part in schema.values() for word in _words(part))}
    if isinstance(schema, list):
        return {word for part in schema for word in _words(part)}
    return {schema} if isinstance(schema, str) else set()


_TEXTS = st.sampled_from(sorted(_words([tool.input_schema for tool in MANIFEST.tools.values()]))) | st.text(max_size=6)
_SCALARS = st.none() | st.booleans() | st.integers(-2, 700) | st.floats() | _TEXTS
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=10) | st.dictionaries(_TEXTS, inner, max_size=4), max_leaves=12
)


def _arguments(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return objects with the schema's own names, whose values are often those it takes."""
    return st.fixed_dictionaries(
        {}, optional={name: _near(part) for name, part in schema.get("properties", {}).items()}
    )


def _near(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    right: st.SearchStrategy[Any] = st.sampled_from(["a fox", "https://a.example/x.png", "task:tsk_1", "tsk_1", " "])
    if "enum" in schema:
        right = st.sampled_from(schema["enum"])
    if schema["type"] == "array":
        right = st.lists(right, max_size=9)
    if schema["type"] in ("integer", "number"):
        right = st.integers(0, 5) | st.floats(0, 5)
    return right | (st.booleans() if schema["type"] == "boolean" else _SCALARS)


@given(st.data())
def test_what_conforms_is_valid(data: st.DataObject) -> None:
    """A wrong "yes" would send, and pay for, what the manifest forbids."""
    schema = data.draw(st.sampled_from(SCHEMAS))
    value = data.draw(_VALUES | _arguments(schema))

    if conforms(value, schema):
        assert Draft202012Validator(schema).is_valid(value), value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_no_refused_case_takes_the_short_way(case: Any) -> None:
    """The table has every rule of the manifest, each broken once."""
    value, schema = json.loads(case.text), MANIFEST.tools[case.tool].input_schema

    assert not conforms(value, schema) or Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("text_to_image", {"prompt": "a fox"}),
        ("text_to_image", {"prompt": "a fox", "count": 4, "output_resolution": "2k", "aspect_ratio": "16:9"}),
        ("text_to_image", {"prompt": "a fox", "model": "flux-2-max-text-to-image", "aspect_ratio": "1:1"}),
        ("text_to_image", {"prompt": "a fox", "model": "flux-2-klein", "callback_url": "https://a.example/x"}),
        ("remix_image", {"prompt": "at night", "source_image_urls": ["task:last", "./fox.png"]}),
        ("get_image_task", {}),
        ("get_image_task", {"task_id": "task:tsk_1", "timeoutSeconds": 0.5}),
    ],
)
def test_an_ordinary_call_takes_the_short_way(tool: str, arguments: dict[str, Any]) -> None:
    """Else it would load jsonschema for nothing; a keyword that is new in the manifest would be noticed here."""
    assert conforms(arguments, MANIFEST.tools[tool].input_schema)


@pytest.mark.parametrize("schema", [{"not": {}}, {"type": ["string", "null"]}, {"$ref": "#/x"}, {"if": {}, "else": {}}])
def test_what_a_schema_says_in_other_words_is_left_to_jsonschema(schema: dict[str, Any]) -> None:
    """A keyword that nobody reads here must not count as kept."""
    assert not conforms("a fox", schema)


def test_every_default_of_a_setting_takes_the_short_way() -> None:
    """Settings are checked at the start of every command."""
    for setting in MANIFEST.settings.values():
        if "default" in setting.schema:
            assert conforms(setting.schema["default"], setting.schema)
