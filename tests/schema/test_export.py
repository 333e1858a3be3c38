"""What a model is offered, derived from the full schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flux2_tool.engine.host_profile import MCP
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.export import FORMATS, Format, export, offered_description, offered_parameters, offered_tokens
from flux2_tool.schema.manifest import load_manifest

MANIFEST = load_manifest()
TOOLS = MANIFEST.tools
DEFAULT_TIERS = ("pro", "flex")
ALL_TIERS = MANIFEST.tiers
ALLOWED_WORDS = {
    *("type", "enum", "required", "description", "items", "properties", "additionalProperties"),
    *("minItems", "maxItems", "minimum", "maximum"),
}


def _words(schema: Any) -> Iterator[str]:
    for key, value in schema.items():
        yield key
        if key == "properties":
            for item in value.values():
                yield from _words(item)
        elif key == "items":
            yield from _words(value)


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("tiers", [DEFAULT_TIERS, ALL_TIERS, ("max",)])
def test_an_offered_schema_has_only_words_every_provider_takes(name: str, tiers: tuple[str, ...]) -> None:
    """Providers refuse the whole request for one if/then or allOf in a tool's parameters."""
    parameters = offered_parameters(TOOLS[name], tiers=tiers, callback_hosts=("hooks.example.com",))

    assert set(_words(parameters)) <= ALLOWED_WORDS
    Draft202012Validator.check_schema(parameters)


@pytest.mark.parametrize("name", TOOLS)
def test_the_offered_bounds_are_those_of_the_full_schema(name: str) -> None:
    """Written once: an enum or a bound that differs would be a second truth."""
    full = TOOLS[name].input_schema["properties"]

    offered = offered_parameters(TOOLS[name], tiers=ALL_TIERS, callback_hosts=("a.example",))["properties"]

    for key, item in offered.items():
        for word in ("type", "enum", "minItems", "maxItems", "minimum", "maximum"):
            assert item.get(word) == full[key].get(word)


@pytest.mark.parametrize("shape", ["openai", "openai-responses"])
@pytest.mark.parametrize("name", TOOLS)
def test_a_strict_definition_requires_every_argument_and_takes_null(shape: str, name: str) -> None:
    """OpenAI's strict mode refuses a schema with an optional property, and knows no bounds of a text's length."""
    tiers, hosts = ALL_TIERS, ("hooks.example.com",)
    plain = offered_parameters(TOOLS[name], tiers=tiers, callback_hosts=hosts)

    definitions = export(MANIFEST, shape, tiers=tiers, callback_hosts=hosts, strict=True)

    [function] = [one.get("function", one) for one in definitions if one.get("function", one)["name"] == name]
    strict = function["parameters"]
    assert function["strict"] is True
    assert strict["required"] == list(strict["properties"]) == list(plain["properties"])
    assert strict["additionalProperties"] is False
    assert not {"minLength", "maxLength"} & set(_words(strict))
    for key, item in strict["properties"].items():
        is_optional = key not in plain["required"]
        assert Draft202012Validator(item).is_valid(None) is is_optional


def test_a_function_for_the_responses_api_says_that_it_is_not_strict() -> None:
    """Without the word the API takes it as strict, and refuses it."""
    assert [one["strict"] for one in export(MANIFEST, "openai-responses", tiers=DEFAULT_TIERS)] == [False] * 3


def test_a_declaration_for_gemini_has_only_words_of_its_schema() -> None:
    """Its API refuses the whole request for another one."""
    definitions = export(MANIFEST, "gemini", tiers=ALL_TIERS, callback_hosts=("hooks.example.com",))

    for one in definitions:
        assert set(one) == {"name", "description", "parameters"}
        assert set(_words(one["parameters"])) <= ALLOWED_WORDS - {"additionalProperties"}
        assert one["parameters"].get("required") != []


@pytest.mark.parametrize("shape", ["openclaw", "mcp", "anthropic", "gemini"])
def test_a_format_without_a_strict_mode_says_so(shape: str) -> None:
    """A definition that is not strict must not pass for one that is."""
    with pytest.raises(ConfigurationError, match=f"format {shape} has no strict mode"):
        export(MANIFEST, shape, tiers=DEFAULT_TIERS, strict=True)


def test_a_model_is_not_offered_the_operators_settings() -> None:
    """The safety checker is switched by people, and callbacks go where the operator allows."""
    offered = offered_parameters(TOOLS["text_to_image"], tiers=ALL_TIERS)["properties"]

    assert set(offered) == {"prompt", "model", "aspect_ratio", "output_resolution", "count"}


def test_callback_url_is_offered_once_hosts_are_allowed() -> None:
    """Without an allowed host every use would be refused, so it is not worth a model's attention."""
    for name in ("text_to_image", "remix_image"):
        offered = offered_parameters(TOOLS[name], tiers=ALL_TIERS, callback_hosts=("hooks.example.com",))

        assert "hooks.example.com" in offered["properties"]["callback_url"]["description"]


def test_over_mcp_no_longer_wait_is_offered_than_the_host_has() -> None:
    """Its host would give up on the call; elsewhere nobody does."""

    def longest(shape: str, **options: float) -> Any:
        tool = export(MANIFEST, shape, tiers=DEFAULT_TIERS, **options)[-1]
        parameters = tool.get("inputSchema") or tool["input_schema"]
        return parameters["properties"]["timeoutSeconds"]["maximum"]

    assert longest("anthropic") == 600
    assert longest("anthropic", wait_s=20) == 600
    assert longest("mcp", wait_s=MCP.wait_s) == 50
    assert longest("mcp", wait_s=20) == 20
    assert longest("mcp", wait_s=3600) == 600


def test_models_of_disabled_tiers_are_not_offered() -> None:
    """A price nobody published is the operator's risk to take."""
    offered = offered_parameters(TOOLS["remix_image"], tiers=DEFAULT_TIERS)

    assert offered["properties"]["model"]["enum"] == ["flux-2-pro-remix-image", "flux-2-flex-remix-image"]
    assert offered["required"] == ["prompt", "source_image_urls"]
    assert "max" not in offered_description(TOOLS["remix_image"], tiers=DEFAULT_TIERS)


def test_the_model_must_be_given_when_the_default_is_disabled() -> None:
    """Leaving it out would mean a model the operator switched off."""
    offered = offered_parameters(TOOLS["text_to_image"], tiers=("max",))

    assert "model" in offered["required"]
    assert offered["properties"]["output_resolution"]["enum"] == ["1k"]


def test_a_tier_that_a_tool_does_not_have_leaves_it_as_it_is() -> None:
    """klein makes pictures from text alone: alone it leaves no tool to edit with, beside pro no trace in it."""
    alone = {item["name"]: item for item in export(MANIFEST, "mcp", tiers=("klein",))}
    beside = {item["name"]: item for item in export(MANIFEST, "mcp", tiers=("pro", "klein"))}
    without = {item["name"]: item for item in export(MANIFEST, "mcp", tiers=("pro",))}
    offered = alone["text_to_image"]["inputSchema"]

    assert list(alone) == ["text_to_image", "get_image_task"]
    assert offered["properties"]["model"]["enum"] == ["flux-2-klein"]
    assert "output_resolution" not in offered["properties"]
    assert "klein (cheap drafts, no output_resolution, ~4 s) 0.03" in alone["text_to_image"]["description"]
    assert beside["remix_image"] == without["remix_image"]
    assert beside["text_to_image"]["inputSchema"]["required"] == ["prompt"]
    model = beside["text_to_image"]["inputSchema"]["properties"]["model"]
    assert model["description"] == "Default flux-2-pro-text-to-image."


def test_klein_costs_few_tokens() -> None:
    """Every turn of every chat of those who enable it carries them."""
    without = offered_tokens(export(MANIFEST, "openai", tiers=DEFAULT_TIERS))
    with_klein = offered_tokens(export(MANIFEST, "openai", tiers=(*DEFAULT_TIERS, "klein")))

    assert with_klein - without <= 20


def test_descriptions_carry_prices_from_the_models_table() -> None:
    """The agent tells people what a picture costs; the figures have one source."""
    said = offered_description(TOOLS["text_to_image"], tiers=ALL_TIERS)

    assert "{" not in said
    for part in ("1k 0.05 2k 0.07", "1k 0.14 2k 0.24", "price unknown", "aspect_ratio required"):
        assert part in said


@pytest.mark.parametrize(
    ("tiers", "hosts", "most"),
    [
        pytest.param(DEFAULT_TIERS, (), 900, id="default settings"),
        pytest.param(ALL_TIERS, ("hooks.example.com",), 1050, id="everything on"),
        pytest.param(("max",), (), 900, id="max alone"),
    ],
)
@pytest.mark.parametrize("shape", FORMATS)
def test_the_three_definitions_fit_in_their_tokens(
    shape: Format, tiers: tuple[str, ...], hosts: tuple[str, ...], most: int
) -> None:
    """Every turn of every chat carries them. A token is taken as 4 characters of compact JSON.

    What a model reads counts: name, description and parameters, in the format's own words. Titles, annotations and
    output schemas stay with the host.
    """
    unread = {"label", "metadata", "title", "outputSchema", "annotations", "strict"}
    definitions = [
        {key: value for key, value in item.items() if key not in unread}
        for item in export(MANIFEST, shape, tiers=tiers, callback_hosts=hosts, wait_s=80.0)
    ]
    text = "".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in definitions)

    assert len(definitions) == 3
    assert offered_tokens(definitions) == len(text) / 4
    assert offered_tokens(definitions) <= most


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("detailed ones too", id="detailed alone is pro"),
        pytest.param("flex (only for lettering in the picture or when asked for", id="when flex"),
        pytest.param(
            "Unsupported (21:9, 4k, size in pixels, seed, negative prompt): take the closest and say so", id="no"
        ),
        pytest.param("Already attached: write a caption, no link. Not attached: send its path or link", id="delivery"),
        pytest.param("You do not see the picture: do not vouch for it", id="unseen"),
        pytest.param("Left out, RunAPI decides: expect 1:1", id="the default shape"),
        pytest.param("2048x2048", id="2k in pixels"),
        pytest.param("file paths in the workspace only", id="which files"),
        pytest.param("ask the user to send it here", id="any other picture"),
        pytest.param("when the user cannot see it: making it again does not help", id="not seen"),
        pytest.param("Default 50.", id="the wait"),
    ],
)
def test_the_definitions_answer_what_models_got_wrong(words: str) -> None:
    """Each of these misled a model that had the definitions alone."""
    assert words in json.dumps(export(MANIFEST, "openai", tiers=DEFAULT_TIERS, wait_s=50.0), ensure_ascii=False)


def test_each_format_has_its_hosts_shape() -> None:
    """Agent developers paste the export into their host's SDK as it is."""
    found = {shape: export(MANIFEST, shape, tiers=DEFAULT_TIERS)[0] for shape in FORMATS}

    assert set(found["openclaw"]) == {"name", "label", "description", "parameters", "metadata"}
    assert set(found["mcp"]) == {"name", "title", "description", "inputSchema", "outputSchema", "annotations"}
    assert found["mcp"]["annotations"]["readOnlyHint"] is False
    assert found["openai"]["type"] == "function"
    assert set(found["openai"]["function"]) == {"name", "description", "parameters"}
    assert set(found["anthropic"]) == {"name", "description", "input_schema"}


def test_an_unknown_format_is_named_with_the_known_ones() -> None:
    """The command line passes the word through."""
    with pytest.raises(ConfigurationError, match="openclaw, mcp, openai, openai-responses, anthropic, gemini"):
        export(MANIFEST, "cohere", tiers=DEFAULT_TIERS)


def test_changing_an_export_does_not_change_the_manifest() -> None:
    """Hosts rewrite definitions in place; the next export must be clean."""
    first = export(MANIFEST, "mcp", tiers=DEFAULT_TIERS)
    first[0]["inputSchema"]["properties"].clear()
    first[0]["outputSchema"].clear()

    assert export(MANIFEST, "mcp", tiers=DEFAULT_TIERS)[0]["inputSchema"]["properties"]
    assert TOOLS["text_to_image"].output_schema
