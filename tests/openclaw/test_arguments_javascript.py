"""The plugin judges arguments before OpenClaw does: the same verdict and the same words as the worker's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from flux2_tool.openclaw.argument_rules import tool_rules
from flux2_tool.openclaw.bundle import tools_data
from flux2_tool.schema.given_arguments import with_json_values
from flux2_tool.schema.manifest import Manifest
from tests.openclaw.conftest import PluginHost
from tests.schema.argument_cases import CASES, FETCH, MANIFEST, REMIX, SETTINGS, TEXT, Case, refusal

MakePlugin = Callable[..., Path]
Answers = list[dict[str, Any]]
QUICK = examples(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
PIECES = (
    *("task:tsk_1", "https://a.example/x?y", "http://u:p@[::1]:0/", "data:image/png;base64,AA", "media://inbound/a"),
    *(
        "16:9",
        "１６：９",
        "1080x1920",
        "2K",
        "flux-2-max-text-to-image",
        "square",
        "[1.0]",
        '["task:a"]',
        "601.0",
        "true",
    ),
    *(" ", "\ufeff", "\u200b", "\x1c", "\0", "🦊", "狐", "\ud83e", "ſ", "ß", "/", ":", "@", "#", "%", "..", "\n"),
)
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(st.characters(), max_size=3), max_size=4).map("".join)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0, 600, 601, -0.0, 1e-5])
VALUES = st.recursive(
    TEXTS | NUMBERS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@pytest.fixture
def judge(host: PluginHost, make_plugin: MakePlugin) -> Callable[[Sequence[Case]], Answers]:
    """Have the plugin judge calls; each answer has what it `threw`, or `prepared`, and what the worker would `read`."""
    folder = make_plugin()
    for name, config in SETTINGS.items():
        host.register(folder, name=name, config=config)

    def judged(cases: Sequence[Case]) -> Answers:
        answers: Answers = []
        for case in cases:
            answers += host.ask("judged", plugin=case.settings, calls=[{"tool": case.tool, "text": case.text}])
        return answers

    return judged


def explained(host: PluginHost, results: Iterable[dict[str, Any]], *, plugin: str = "default") -> list[str]:
    """Return what the model reads of the worker's failures."""
    found: list[str] = host.ask("explained", plugin=plugin, results=list(results))
    return found


@pytest.mark.parametrize("group", range(5))
def test_the_plugin_says_what_the_worker_would_say(host: PluginHost, judge: Any, group: int) -> None:
    """One table for both: a model that is refused reads our list, our nearest value, and everything at once."""
    cases = CASES[group::5]
    answers = judge(cases)

    found = {case.id: answer.get("threw") for case, answer in zip(cases, answers, strict=True)}

    refusals = {c.id: refusal(c.tool, a["read"], c.settings) for c, a in zip(cases, answers, strict=True)}
    texts = iter(explained(host, filter(None, refusals.values())))
    assert found == {name: result and next(texts) for name, result in refusals.items()}
    assert {name for name, text in found.items() if text is None} == {case.id for case in cases if case.said is None}


def calls() -> st.SearchStrategy[Case]:
    """Return calls that are right but for some of their arguments."""

    def of_tool(tool: str) -> st.SearchStrategy[Case]:
        properties = MANIFEST.tools[tool].input_schema["properties"]
        right = {"prompt": "a", "source_image_urls": ["task:a"], "task_id": "a"}
        required = {name: right[name] for name in MANIFEST.tools[tool].input_schema["required"]}
        sensible = {name: st.sampled_from(item["enum"]) for name, item in properties.items() if "enum" in item}
        sensible["source_image_urls"] = st.lists(TEXTS, min_size=1, max_size=3)
        names = st.sampled_from([*properties, "seed", "Task-ID", "promtp", "__proto__", "constructor", "_meta"]) | TEXTS
        pairs = names.flatmap(lambda name: st.tuples(st.just(name), sensible.get(name, VALUES) | VALUES))
        arguments = st.lists(pairs, max_size=5).map(lambda found: {**required, **dict(found)}) | VALUES
        return st.builds(
            Case, id=st.just(""), tool=st.just(tool), text=arguments.map(json.dumps), said=st.none(),
            settings=st.sampled_from(list(SETTINGS)),
        )  # fmt: skip

    return st.sampled_from([TEXT, REMIX, FETCH]).flatmap(of_tool)


@QUICK
@given(case=calls())
def test_the_plugin_refuses_only_what_the_worker_refuses(host: PluginHost, judge: Any, case: Case) -> None:
    """Whatever JSON comes: a refusal has the worker's words, and what is prepared means what was given."""
    [answer] = judge([case])

    expected = refusal(case.tool, answer["read"], case.settings)
    if "threw" in answer:
        assert [answer["threw"]] == explained(host, [expected] if expected else [])
    elif expected is None:
        given = {name: value for name, value in json.loads(answer["read"]).items() if value is not None}
        assert json.loads(answer["prepared"]) == with_json_values(MANIFEST, case.tool, given)
    assert host.ask("logs") == []


@pytest.fixture
def changed(make_plugin: MakePlugin, host: PluginHost) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    """Register the plugin with other rules for text_to_image."""

    def change(edit: Callable[[dict[str, Any]], None]) -> None:
        folder = make_plugin()
        path = folder / "dist" / "tools.json"
        bundle = json.loads(path.read_text())
        edit(bundle["tools"][0]["rules"])
        path.write_text(json.dumps(bundle))
        host.register(folder, name="default")

    return change


def test_what_only_python_can_judge_goes_to_the_worker(host: PluginHost, changed: Any) -> None:
    """Half a list of violations would be corrected half; the worker names all of them."""
    changed(lambda rules: rules["schema"]["properties"]["prompt"].update(pattern=None))
    wrong = json.dumps({"prompt": "fox", "aspect_ratio": "2:1"})

    [unknown, known] = host.ask(
        "judged", plugin="default", calls=[{"tool": TEXT, "text": wrong}, {"tool": TEXT, "text": '{"prompt": 5}'}]
    )

    assert "threw" not in unknown
    assert json.loads(unknown["prepared"]) == json.loads(wrong)
    assert "not the number 5" in known["threw"]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        pytest.param(REMIX, {"prompt": "a", "source_image_urls": ["ftp://[v1.x]/"]}, id="another address in brackets"),
        pytest.param(TEXT, {"prompt": "\u0301"}, id="a mark alone, which an older Unicode may not know"),
        pytest.param(FETCH, {"task_id": "a", "timeoutSeconds": "601.0"}, id="a number that keeps its point in Python"),
        pytest.param(
            REMIX,
            {"prompt": "a", "source_image_urls": "[" * 5000 + "]" * 5000},
            id="a text that is too deep for Python",
        ),
    ],
)
def test_what_depends_on_pythons_version_goes_to_the_worker(judge: Any, tool: str, arguments: dict[str, Any]) -> None:
    """Another text than the worker's would be a second truth."""
    [answer] = judge([Case(id="", tool=tool, text=json.dumps(arguments), said=None)])

    assert "threw" not in answer
    assert refusal(tool, answer["read"]) is not None


def test_a_defect_in_the_rules_stops_no_call(host: PluginHost, changed: Any) -> None:
    """The worker judges every call itself, so a call is right or refused without the plugin, too."""
    changed(lambda rules: rules.pop("tiers"))

    [answer] = host.ask("judged", plugin="default", calls=[{"tool": TEXT, "text": '{"prompt": "fox"}'}])

    assert json.loads(answer["prepared"]) == {"prompt": "fox"}
    [[level, line]] = host.ask("logs")
    assert level == "warn"
    assert "flux2: text_to_image: TypeError" in line


def test_every_rule_of_the_manifest_is_known_to_the_plugin(manifest: Manifest) -> None:
    """A new keyword needs its check in json_schema.js; a pattern that JavaScript cannot read would go to the worker."""
    known = {
        *("type", "enum", "const", "not", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"),
        *("pattern", "x-allowed", "additionalProperties", "allOf", "if", "then", "items", "properties", "required"),
    }

    def keywords(schema: dict[str, Any]) -> Iterator[str]:
        yield from schema
        assert schema.get("pattern", "") is not None
        for part in (*schema.get("properties", {}).values(), *schema.get("allOf", ())):
            yield from keywords(part)
        for name in {"items", "if", "then", "not"} & schema.keys():
            yield from keywords(schema[name])

    for tool in manifest.tools.values():
        assert set(keywords(tool_rules(tool)["schema"])) <= known


def test_the_rules_do_not_depend_on_the_enabled_tiers(manifest: Manifest) -> None:
    """A model of a tier that is off is refused by name, with what an operator can do."""
    found = tools_data(manifest, python=None)["tools"]

    assert {tool["name"]: tool["rules"]["tiers"] for tool in found} == {
        name: {model.slug: model.tier for model in tool.models} for name, tool in manifest.tools.items()
    }
