"""Arguments are checked before anything is sent, and every fault is named at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from flux2_tool.exceptions import InvalidArgumentsError
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.validation import MAX_MESSAGE_CHARS, MAX_VIOLATIONS, validate_arguments
from flux2_tool.schema.value_text import shown

MANIFEST = load_manifest()
ALL_TIERS = MANIFEST.tiers
RATIOS = list(MANIFEST.aspect_ratios)
QUICK = examples(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])


def _violations(tool: Any, arguments: Any, **options: Any) -> tuple[str, ...]:
    """The violations, or none when the arguments are right."""
    chosen = {"tiers": ("pro", "flex"), "agent_host": True, **options}
    try:
        validate_arguments(MANIFEST, tool, arguments, **chosen)
    except InvalidArgumentsError as error:
        message, violations = error.message, error.violations
    else:
        return ()
    assert violations
    assert len(message) <= MAX_MESSAGE_CHARS
    message.encode()
    return violations


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        pytest.param("text_to_image", {"prompt": "狐"}, id="a single Chinese character"),
        pytest.param("text_to_image", {"prompt": "x" * 5000}, id="the longest prompt"),
        pytest.param(
            "text_to_image",
            {
                "model": "flux-2-pro-text-to-image",
                "prompt": "A cinematic product photo",
                "aspect_ratio": "16:9",
                "output_resolution": "2k",
            },
            id="all a model is offered",
        ),
        pytest.param("remix_image", {"prompt": "a", "source_image_urls": ["task:tsk_abc123"]}, id="an earlier image"),
        pytest.param(
            "remix_image",
            {"prompt": "a", "source_image_urls": ["https://a.example/x.png?sig=1&x=%20"] * 8, "aspect_ratio": "auto"},
            id="eight URLs and auto",
        ),
        pytest.param("get_image_task", {"task_id": "task:tsk_abc123", "timeoutSeconds": 0}, id="a reference"),
        pytest.param("get_image_task", {"task_id": "0b7f-4c_2", "timeoutSeconds": 599.5}, id="an id of another form"),
    ],
)
def test_right_arguments_pass(tool: str, arguments: dict[str, Any]) -> None:
    """What the service takes must not be refused here."""
    assert _violations(tool, arguments) == ()


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        pytest.param(
            "text_to_image",
            {"prompt": "fox", "aspect_ratio": "2:1"},
            f'aspect_ratio "2:1" is not one of {", ".join(RATIOS)} (nearest: 16:9)',
            id="the nearest ratio by number",
        ),
        pytest.param("text_to_image", {"prompt": "a", "aspect_ratio": "1080x1920"}, "nearest: 9:16", id="a pixel size"),
        pytest.param("text_to_image", {"prompt": "a", "aspect_ratio": "square"}, "nearest: 1:1", id="a named ratio"),
        pytest.param("text_to_image", {"prompt": "a", "output_resolution": "4k"}, "nearest: 2k", id="too fine"),
        pytest.param("text_to_image", {"prompt": "a", "output_resolution": "1K"}, "nearest: 1k", id="capitals"),
        pytest.param(
            "text_to_image",
            {"prompt": "a", "model": "flex"},
            "nearest: flux-2-flex-text-to-image",
            id="a tier as model",
        ),
        pytest.param(
            "text_to_image",
            {"prompt": "a", "model": "flux-2-pro-remix-image"},
            "nearest: flux-2-pro-text-to-image",
            id="the other tool's model",
        ),
        pytest.param("text_to_image", {}, "prompt is missing", id="no prompt"),
        pytest.param("text_to_image", {"prompt": ""}, "prompt is empty", id="an empty prompt"),
        pytest.param("text_to_image", {"prompt": " \n\t"}, "only white space", id="a blank prompt"),
        pytest.param("text_to_image", {"prompt": "x" * 5001}, "5001 characters; at most 5000", id="a long prompt"),
        pytest.param("text_to_image", {"prompt": True}, "prompt must be", id="a boolean prompt"),
        pytest.param("text_to_image", {"prompt": None}, "prompt is null; leave it out", id="null"),
        pytest.param("text_to_image", {"prompt": "a\ud83d"}, "lone surrogate", id="half of a pair"),
        pytest.param("text_to_image", {"prompt": "a", "promtp": 1}, "nearest: prompt", id="a misspelt name"),
        pytest.param("remix_image", {"prompt": "a", "source_image_urls": []}, "1 to 8", id="no source"),
        pytest.param(
            "remix_image", {"prompt": "a", "source_image_urls": ["task:a"] * 9}, "has 9; a list of 1 to 8", id="nine"
        ),
        pytest.param(
            "remix_image",
            {"prompt": "a", "source_image_urls": "https://a.example/x.png"},
            "source_image_urls must be a list",
            id="text for a list",
        ),
        pytest.param(
            "remix_image",
            {"prompt": "a", "source_image_urls": ["task:a", "ftp://a.example/photo.png"]},
            'source_image_urls[1] "ftp://a.example/photo.png" is not a public http(s) URL',
            id="another scheme",
        ),
        pytest.param(
            "remix_image", {"prompt": "a", "source_image_urls": ["https://a.example/x\ny"]}, "[0]", id="a line break"
        ),
        pytest.param("get_image_task", {"task_id": "task:.."}, "task_id", id="an id that would change the path"),
        pytest.param("get_image_task", {"task_id": "a/b"}, "task_id", id="an id with a slash"),
        pytest.param("get_image_task", {"task_id": "a", "timeoutSeconds": 601}, "nearest: 600", id="too long a wait"),
        pytest.param("get_image_task", {"task_id": "a", "timeoutSeconds": -1}, "nearest: 0", id="a negative wait"),
        pytest.param("get_image_task", {"task_id": "a", "timeoutSeconds": True}, "not true", id="a boolean number"),
        pytest.param("get_image_task", {"task_id": "a", "timeoutSeconds": float("nan")}, "is nan", id="NaN"),
        pytest.param(
            "get_image_task",
            {"task_id": "a", "timeoutSeconds": 10**5000},
            "too large; it must be a number from 0 to 600",
            id="a huge number",
        ),
        pytest.param("text_to_imag", {"prompt": "a"}, "nearest: text_to_image", id="a misspelt tool"),
        pytest.param(None, {"prompt": "a"}, "a tool's name is text, not null; tools are text_to_image", id="no tool"),
        pytest.param("text_to_image", "a red fox", "must be an object", id="text for arguments"),
        pytest.param("text_to_image", [], "must be an object", id="a list for arguments"),
        pytest.param("text_to_image", {"prompt": "a", 3: 4}, "name must be text", id="a name that is no text"),
        pytest.param("text_to_image", {"prompt": b"a"}, "not a JSON value", id="bytes"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(tool: Any, arguments: Any, said: str) -> None:
    """A model fixes the call from this sentence alone."""
    found = _violations(tool, arguments)

    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("tool", "name", "said"),
    [
        ("text_to_image", "seed", "there is no seed"),
        ("text_to_image", "negative_prompt", "say in prompt"),
        ("text_to_image", "width", "aspect_ratio and output_resolution"),
        ("text_to_image", "height", "aspect_ratio and output_resolution"),
        ("text_to_image", "size", "aspect_ratio and output_resolution"),
        ("text_to_image", "n", "it is called count here"),
        ("text_to_image", "num_images", "it is called count here"),
        ("remix_image", "quantity", "it is called count here"),
        ("text_to_image", "output_format", "leave it out"),
        ("text_to_image", "quality", "leave it out"),
        ("text_to_image", "image_url", "use remix_image"),
        ("text_to_image", "source_image_urls", "use remix_image"),
        ("remix_image", "image", "source_image_urls"),
        ("remix_image", "image_url", "source_image_urls"),
        ("text_to_image", "resolution", "it is called output_resolution here"),
        ("get_image_task", "id", "it is called task_id here"),
        ("get_image_task", "timeout", "it is called timeoutSeconds here"),
    ],
)
def test_an_argument_of_other_tools_gets_a_hint(tool: str, name: str, said: str) -> None:
    """Models bring these names from other APIs, and would try the next one."""
    right = {"prompt": "a", "source_image_urls": ["task:a"], "task_id": "a"}
    known = MANIFEST.tools[tool].input_schema["required"]

    found = _violations(tool, {**{key: right[key] for key in known}, name: 1})

    assert len(found) == 1
    assert f'unknown argument "{name}"' in found[0]
    assert said in found[0]


def test_a_tool_without_pictures_gives_no_advice_about_them() -> None:
    """Advice that belongs to another tool would be followed."""
    (found,) = _violations("get_image_task", {"task_id": "a", "image_url": "https://e.x/a.png"})

    assert 'unknown argument "image_url"' in found
    assert "source_image_urls" not in found
    assert "remix_image" not in found


def test_every_violation_is_reported_at_once() -> None:
    """Each round trip through a model costs time and money."""
    found = _violations(
        "remix_image",
        {
            "prompt": "",
            "source_image_urls": ["ssh:x", "task:a", 3, None],
            "aspect_ratio": "7:1",
            "output_resolution": "8k",
            "model": "dall-e",
            "seed": 1,
            "steps": 3,
        },
    )

    for path in ("prompt", "[0]", "[2]", "[3]", "aspect_ratio", "output_resolution", "model", "seed", "steps"):
        assert any(path in text for text in found), path
    assert len(found) == 9


def test_the_rules_of_max_read_like_sentences() -> None:
    """Nobody should have to know what "False schema does not allow" means."""
    found = _violations(
        "remix_image",
        {
            "prompt": "a",
            "model": "flux-2-max-remix-image",
            "source_image_urls": ["task:a"] * 3,
            "output_resolution": "2k",
            "aspect_ratio": "auto",
            "enable_safety_checker": True,
        },
        tiers=ALL_TIERS,
    )

    assert set(found) == {
        "flux-2-max-remix-image takes exactly 1 source picture, 3 were given (source_image_urls)",
        'flux-2-max-remix-image takes output_resolution 1k only, not "2k" (nearest: 1k)',
        f'flux-2-max-remix-image takes aspect_ratio {", ".join(RATIOS)} only, not "auto"',
        "flux-2-max-remix-image does not take enable_safety_checker; leave it out",
    }


def test_max_requires_an_aspect_ratio() -> None:
    """The service refuses the request without one, after the wait."""
    found = _violations("text_to_image", {"prompt": "a", "model": "flux-2-max-text-to-image"}, tiers=ALL_TIERS)

    assert found == ("flux-2-max-text-to-image requires aspect_ratio: one of " + ", ".join(RATIOS),)


def test_a_disabled_tier_names_the_setting_that_enables_it() -> None:
    """The person reading the refusal can do something about it."""
    (found,) = _violations("text_to_image", {"prompt": "a", "model": "flux-2-max-text-to-image", "aspect_ratio": "1:1"})

    assert "flux-2-max-text-to-image is not enabled here" in found
    assert "FLUX2_TOOL_TIERS" in found
    assert "plugins.entries.flux2.config" in found


@pytest.mark.parametrize("model", [7, None, ["pro"], "flux-3"], ids=["a number", "null", "a list", "unknown"])
def test_a_wrong_model_gets_only_the_enabled_ones_named(model: Any) -> None:
    """A model that is told of a tier which is off asks for it next."""
    [said] = _violations("text_to_image", {"prompt": "a fox", "model": model})

    assert "flux-2-max" not in said


def test_a_disabled_default_asks_for_another_model() -> None:
    """Leaving the model out must not use a tier the operator switched off."""
    (found,) = _violations("text_to_image", {"prompt": "a"}, tiers=("flex",))

    assert "flux-2-flex-text-to-image" in found


def test_an_agent_may_not_switch_the_safety_checker_off() -> None:
    """That is the operator's decision; people at a command line decide for themselves."""
    arguments = {"prompt": "a", "enable_safety_checker": False}

    assert "operator" in _violations("text_to_image", arguments)[0]
    assert _violations("text_to_image", arguments, safety_checker=True)
    assert _violations("text_to_image", arguments, safety_checker=False) == ()
    assert _violations("text_to_image", arguments, agent_host=False) == ()
    assert _violations("text_to_image", {"prompt": "a", "enable_safety_checker": True}) == ()


def test_an_agent_may_give_a_callback_only_on_an_allowed_host() -> None:
    """A misled agent could send pictures anywhere."""
    hosts = ("hooks.example.com",)

    def call(url: str, **options: Any) -> tuple[str, ...]:
        return _violations("text_to_image", {"prompt": "a", "callback_url": url}, **options)

    assert "allowed hosts: none" in call("https://hooks.example.com/x")[0]
    assert call("https://hooks.example.com/x", callback_hosts=hosts) == ()
    assert call("https://HOOKS.example.com:8443/x", callback_hosts=hosts) == ()
    assert call("https://evil.example/?hooks.example.com", callback_hosts=hosts)
    assert call("https://hooks.example.com.evil.example/x", callback_hosts=hosts)
    assert call("https://evil.example/x", agent_host=False) == ()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/x",
        "a.example/x",
        "https://",
        "https://u:hunter2@a.example/x",
        "https://a.example/x y",
        "https://[",
    ],
)
def test_a_callback_must_be_a_plain_web_address(url: str) -> None:
    """Also where every host is allowed; and what is secret in it is not repeated."""
    found = _violations("text_to_image", {"prompt": "a", "callback_url": url}, callback_hosts=("a.example",))

    assert found
    assert "hunter2" not in "".join(found)


def test_a_message_never_repeats_a_prompt_or_a_signature() -> None:
    """Messages go into logs and chats."""
    secret = "wolf " * 2000

    found = _violations(
        "remix_image", {"prompt": secret, "source_image_urls": ["https://a.example/ x?sig=hunter2"], "promt": secret}
    )

    assert "wolf wolf" not in "".join(found)
    assert "hunter2" not in "".join(found)


def test_very_deep_and_very_wide_input_is_refused_quickly() -> None:
    """A model can be made to send anything."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    cycle: list[Any] = []
    cycle.append(cycle)

    assert "nested deeper" in _violations("remix_image", {"prompt": "a", "source_image_urls": deep})[0]
    assert "nested deeper" in _violations("remix_image", {"prompt": "a", "source_image_urls": cycle})[0]
    assert "more than" in _violations("remix_image", {"prompt": "a", "source_image_urls": ["x"] * 10**6})[0]
    wide = _violations("text_to_image", {"prompt": "a", **{f"x{n}": n for n in range(3000)}})
    assert len(wide) == 51
    assert wide[-1] == "… and 2950 more"


def test_nothing_is_changed_in_the_arguments() -> None:
    """The body that is sent is what the agent gave."""
    arguments = {"prompt": " a ", "source_image_urls": ["https://a.example/x"], "aspect_ratio": "1:1"}
    before = json.dumps(arguments)

    assert _violations("remix_image", arguments) == ()
    assert json.dumps(arguments) == before


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=25)
PROMPTS = st.tuples(ANY_TEXT, st.sampled_from("aé狐🦊7?"), ANY_TEXT).map("".join)
SOURCES = st.lists(
    st.sampled_from(["https://a.example/x.png", "task:tsk_abc123", "HTTP://b.example:80/y?z=1"]), min_size=1, max_size=8
)
TEXT_CALLS = st.fixed_dictionaries(
    {"prompt": PROMPTS},
    optional={
        "model": st.sampled_from(["flux-2-pro-text-to-image", "flux-2-flex-text-to-image"]),
        "aspect_ratio": st.sampled_from(RATIOS),
        "output_resolution": st.sampled_from(["1k", "2k"]),
    },
)
REMIX_CALLS = st.fixed_dictionaries(
    {"prompt": PROMPTS, "source_image_urls": SOURCES},
    optional={
        "model": st.sampled_from(["flux-2-pro-remix-image", "flux-2-flex-remix-image"]),
        "aspect_ratio": st.sampled_from([*RATIOS, "auto"]),
        "output_resolution": st.sampled_from(["1k", "2k"]),
    },
)
JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["1k", "16:9", "flux-2-max-remix-image", "flux-2-max-text-to-image", "task:a", "https://a.b/c"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        *("prompt", "model", "aspect_ratio", "output_resolution", "source_image_urls", "task_id"),
        *("timeoutSeconds", "callback_url", "enable_safety_checker", "seed", "width"),
    ]
) | st.text(st.characters(), max_size=8)


@QUICK
@given(TEXT_CALLS)
def test_every_valid_text_to_image_call_passes(arguments: dict[str, Any]) -> None:
    """A false refusal is a picture nobody gets."""
    assert _violations("text_to_image", arguments) == ()


@QUICK
@given(REMIX_CALLS)
def test_every_valid_remix_call_passes(arguments: dict[str, Any]) -> None:
    """A false refusal is a picture nobody gets."""
    assert _violations("remix_image", arguments) == ()


@QUICK
@given(st.sampled_from(sorted(MANIFEST.tools)) | JSON_LIKE, JSON_LIKE | st.dictionaries(NAMES, JSON_LIKE, max_size=6))
def test_anything_is_accepted_or_refused_but_never_crashes(tool: Any, arguments: Any) -> None:
    """The arguments come from a model that may have been told to break things."""
    _violations(tool, arguments, tiers=ALL_TIERS, callback_hosts=("a.b",))


@QUICK
@given(st.sampled_from(sorted(MANIFEST.tools)), st.dictionaries(NAMES, JSON_LIKE, max_size=6))
def test_each_place_the_schema_refuses_is_named(tool: str, arguments: dict[str, Any]) -> None:
    """What jsonschema refuses, a violation must name; what it takes may only break an operator's rule."""
    errors = list(Draft202012Validator(MANIFEST.tools[tool].input_schema).iter_errors(arguments))

    found = _violations(tool, arguments, tiers=ALL_TIERS, agent_host=False)

    assert bool(found) >= bool(errors)
    for error in errors:
        if error.validator == "additionalProperties":
            continue
        names = [str(error.absolute_path[0])] if error.absolute_path else list(error.validator_value)
        assert any(name in text for name in names for text in found), (error.message, found)
    unknown = set(arguments) - set(MANIFEST.tools[tool].input_schema["properties"])
    assert sum("unknown argument" in text for text in found) == len(unknown)


def test_a_link_is_refused_for_its_length_before_it_is_taken_apart() -> None:
    """Taking apart a megabyte of combining marks takes an hour, in which no session gets an answer."""
    marks = "a" + "\u0315\u0300" * 400_000

    for name in ("source_image_urls", "callback_url"):
        url = f"https://{marks}/x.png"
        arguments = {"prompt": "a", "source_image_urls": [url] if name == "source_image_urls" else ["https://a.b/c"]}
        [text] = _violations("remix_image", {**arguments, **({name: url} if name == "callback_url" else {})})
        assert "at most 8192" in text or "at most 2048" in text
        assert len(text) < 200
    assert len(shown(f"https://{marks}")) < 100


def test_a_long_name_is_not_repeated_for_everything_below_it() -> None:
    """A megabyte of a name, times two thousand values, would be two gigabytes of paths."""
    [text] = _violations("remix_image", {"prompt": "a", "source_image_urls": {"n" * 1_000_000: [None] * 1_900}})[:1]

    assert len(text) < 200


def test_only_the_unknown_names_that_are_shown_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each comparison looks at every known name; a hundred thousand of them took many seconds."""
    compared: list[Any] = []
    monkeypatch.setattr("flux2_tool.schema.validation.nearest", lambda name, _names: compared.append(name))

    found = _violations("text_to_image", {"prompt": "a", **{f"x{n}": n for n in range(20_000)}})

    assert len(compared) == MAX_VIOLATIONS
    assert found[-1].endswith("more")
