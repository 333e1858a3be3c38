"""One table of a call's arguments, as JSON text, for Python's validator and for the plugin's JavaScript.

`said` is part of what the model reads; None where the arguments are accepted. The tests that use this table:
`test_argument_cases.py` here, `tests/openclaw/test_arguments_javascript.py` for the plugin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from flux2_tool.exceptions import InvalidArgumentsError
from flux2_tool.schema.given_arguments import as_meant
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.results import error_object
from flux2_tool.schema.validation import validate_arguments, without_nulls

MANIFEST = load_manifest()
TEXT, REMIX, FETCH = MANIFEST.tools
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "max": {"tiers": ["max"]},
    "klein": {"tiers": ["pro", "klein"]},
    "all": {"tiers": ["pro", "flex", "max"], "callback_hosts": ["Hooks.Example.com", "b.example"]},
    "flex, unsafe": {"tiers": ["flex"], "safety_checker": False},
}
"""The plugin's settings by the names that the cases give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call's arguments and what becomes of them."""

    id: str
    tool: str
    text: str
    said: str | None
    settings: str = "default"


def refusal(tool: str, text: str, settings: str = "default") -> dict[str, Any] | None:
    """Return the worker's error object for these arguments under these settings, or None.

    JavaScript has read them before, which has one kind of number, and the plugin takes null for "not given".
    """
    chosen = SETTINGS[settings]
    arguments = without_nulls(json.loads(text, parse_int=_javascript_number, parse_float=_javascript_number))
    try:
        meant, _ = as_meant(MANIFEST, tool, arguments, with_host=False)
        validate_arguments(
            MANIFEST,
            tool,
            meant,
            tiers=chosen.get("tiers", MANIFEST.default_tiers),
            agent_host=True,
            callback_hosts=chosen.get("callback_hosts", ()),
            safety_checker=chosen.get("safety_checker"),
        )
    except InvalidArgumentsError as error:
        return error_object(error)
    return None


def _javascript_number(digits: str) -> float | int:
    number = float(digits)
    return int(Decimal(repr(number))) if number.is_integer() and abs(number) < 1e21 else number


def _case(name: str, tool: str, arguments: Any, said: str | None, settings: str = "default") -> Case:
    text = arguments if isinstance(arguments, _Text) else json.dumps(arguments)
    return Case(id=name, tool=tool, text=text, said=said, settings=settings)


class _Text(str):
    """JSON text as it stands."""

    __slots__ = ()


def _fox(**arguments: Any) -> dict[str, Any]:
    return {"prompt": "fox", **arguments}


def _sources(*sources: Any, **arguments: Any) -> dict[str, Any]:
    return {"prompt": "fox", "source_image_urls": list(sources), **arguments}


def _deep(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


_BAD_URL = "has no usable host or port"
_NO_SOURCE = "is not a public http(s) URL without user name or password"
CASES: tuple[Case, ...] = (
    # Accepted
    _case(
        "all that is offered",
        TEXT,
        _fox(model="flux-2-flex-text-to-image", aspect_ratio="2:3", output_resolution="2k", count=4),
        None,
    ),
    _case("a count as JSON text", REMIX, _sources("task:a", count="2"), None),
    _case("a count with a point", TEXT, _Text('{"prompt": "fox", "count": 2.0}'), None),
    _case("one Chinese character", TEXT, {"prompt": "狐"}, None),
    _case("as many emoji as characters may be", TEXT, {"prompt": "🦊" * 5000}, None),
    _case("a flag, a family and a skin tone", TEXT, {"prompt": "🇯🇵 👨‍👩‍👧 👍🏽"}, None),
    _case("a white space of JavaScript alone", TEXT, {"prompt": "\ufeffa"}, None),
    _case("an unassigned character", TEXT, {"prompt": "\U0003fffd"}, None),
    _case("an id with a line break at its end", FETCH, {"task_id": "tsk_1"}, None),
    _case(
        "every kind of source",
        REMIX,
        _sources(
            "task:tsk_1",
            "task:last",
            "https://a.example/x.png?sig=%20",
            "狐 .png",
            "media://inbound/a b",
            "file:///a.png",
            "data:image/png;base64,AAAA",
            " HTTP://A.EXAMPLE:/ ",
        ),
        None,
    ),
    _case("auto", REMIX, _sources("task:a", aspect_ratio="auto"), None),
    _case("an IPv6 address", REMIX, _sources("http://[2001:db8::1]:8080/x", "http://[::ffff:10.0.0.1]"), None),
    _case("no id, which looks back", FETCH, {}, None),
    _case("a list as JSON text", REMIX, {"prompt": "fox", "source_image_urls": ' ["task:a",\n"狐.png"] '}, None),
    _case("a number as JSON text", FETCH, {"task_id": "a", "timeoutSeconds": "12.50"}, None),
    _case("zero as -0", FETCH, _Text('{"task_id": "a", "timeoutSeconds": -0}'), None),
    _case("a whole number with a point", FETCH, _Text('{"task_id": "a", "timeoutSeconds": 5.0}'), None),
    _case("an integer with an exponent", FETCH, _Text('{"task_id": "a", "timeoutSeconds": 6e2}'), None),
    _case("max with what it needs", TEXT, _fox(aspect_ratio="1:1", model="flux-2-max-text-to-image"), None, "max"),
    _case("an allowed callback", TEXT, _fox(callback_url="https://HOOKS.example.com.:8443/x?y#z"), None, "all"),
    _case(
        "a safety checker that the operator lets go",
        TEXT,
        _fox(enable_safety_checker=False, model="flux-2-flex-text-to-image"),
        None,
        "flex, unsafe",
    ),
    _case(
        "a boolean as JSON text",
        TEXT,
        _fox(enable_safety_checker="false", model="flux-2-flex-text-to-image"),
        None,
        "flex, unsafe",
    ),
    _case("a data URL of a megabyte", REMIX, _sources("data:image/png;base64," + "A" * 999_000), None),
    # Containers
    _case("a list", TEXT, ["a red fox"], 'must be an object such as {"prompt": "a red fox"}, not a list of 1'),
    _case("text", REMIX, "a 🦊", "not text of 3 characters"),
    _case("an object as JSON text", TEXT, '{"prompt": "fox"}', "not text of 17 characters"),
    _case("null", FETCH, None, 'such as {"task_id": "tsk_..."}, not null'),
    _case("a number", FETCH, 1.5e-7, "not the number 1.5e-07"),
    _case("true", FETCH, True, "not true"),
    _case(
        "nothing", TEXT, {}, "prompt is missing; text_to_image requires it: text with at least one visible character"
    ),
    _case("null for what is required", TEXT, {"prompt": None}, "prompt is missing"),
    _case("two missing", REMIX, {}, "2 things are wrong with the arguments of remix_image: 1. prompt is missing;"),
    # Types
    _case(
        "a number for text",
        TEXT,
        {"prompt": 12345},
        "must be text with at least one visible character, not the number 12345",
    ),
    _case("a boolean for text", TEXT, {"prompt": True}, "not true"),
    _case("a list for text", TEXT, {"prompt": ["a", "b"]}, "not a list of 2"),
    _case("an object for text", TEXT, {"prompt": {"text": "a"}}, "not an object"),
    _case(
        "a boolean for a number",
        FETCH,
        {"task_id": "a", "timeoutSeconds": True},
        "must be a number from 0 to 600, not true",
    ),
    _case("text for a number", FETCH, {"task_id": "a", "timeoutSeconds": "+5"}, "not text of 2 characters"),
    _case("a one for a boolean", TEXT, _fox(enable_safety_checker=1), "must be true or false, not the number 1"),
    _case(
        "text for a list",
        REMIX,
        {"prompt": "a", "source_image_urls": "task:a"},
        "must be a list of 1 to 8 texts, not text of 6",
    ),
    _case("a number for a list", REMIX, {"prompt": "a", "source_image_urls": 7}, "not the number 7"),
    _case(
        "nested items", REMIX, _sources(["task:a"], {"url": "x"}, 5, None), "source_image_urls[3] is null; leave it out"
    ),
    _case("a number for a choice", TEXT, _fox(aspect_ratio=1.5), "aspect_ratio must be one of 1:1"),
    _case(
        "a number for a size",
        TEXT,
        _fox(output_resolution=2048),
        "output_resolution must be one of 1k, 2k, not the number 2048",
    ),
    _case("a list for the model", TEXT, _fox(model=["flux-2-pro-text-to-image"]), "not a list of 1"),
    # Numbers
    _case(
        "1e400",
        FETCH,
        _Text('{"task_id": "a", "timeoutSeconds": 1e400}'),
        "timeoutSeconds is a number that is too large; it must be a number from ",
    ),
    _case(
        "-1e400",
        FETCH,
        _Text('{"task_id": "a", "timeoutSeconds": -1e400}'),
        "is a number that is too small; it must be",
    ),
    _case("1e400 as text", FETCH, {"task_id": "a", "timeoutSeconds": "1e400"}, "is a number that is too large"),
    _case("NaN as text", FETCH, {"task_id": "a", "timeoutSeconds": "NaN"}, "not text of 3 characters"),
    _case(
        "1e400 in a list",
        REMIX,
        _Text('{"prompt": "a", "source_image_urls": [1e400]}'),
        "source_image_urls[0] is a number that is too large",
    ),
    _case(
        "too much",
        FETCH,
        {"task_id": "a", "timeoutSeconds": 601},
        "timeoutSeconds 601 is not a number from 0 to 600 (nearest: 600)",
    ),
    _case("too much as text", FETCH, {"task_id": "a", "timeoutSeconds": "601"}, "(nearest: 600)"),
    _case("more than four", TEXT, _fox(count=5), "count 5 is not a whole number from 1 to 4 (nearest: 4)"),
    _case("none", REMIX, _sources("task:a", count=0), "count 0 is not a whole number from 1 to 4 (nearest: 1)"),
    _case("one and a half", TEXT, _fox(count=1.5), "count must be a whole number from 1 to 4"),
    _case("a count in words", TEXT, _fox(count="two"), "count must be a whole number from 1 to 4"),
    _case("a fraction as text", TEXT, _fox(count="1.5"), "count must be a whole number from 1 to 4"),
    _case("too little", FETCH, {"task_id": "a", "timeoutSeconds": -0.00001}, "timeoutSeconds -1e-05 is not"),
    _case(
        "a large number", FETCH, {"task_id": "a", "timeoutSeconds": 12345678901234567890}, "12345678901234567000 is not"
    ),
    _case("a larger number", FETCH, {"task_id": "a", "timeoutSeconds": 10**22}, "timeoutSeconds 1e+22 is not"),
    _case("a negative fraction", FETCH, {"task_id": "a", "timeoutSeconds": -0.0015}, "timeoutSeconds -0.0015 is not"),
    # Choices
    _case("a ratio", TEXT, _fox(aspect_ratio="2:1"), 'aspect_ratio "2:1" is not one of 1:1, 4:3'),
    _case("a pixel size", TEXT, _fox(aspect_ratio=" 1080 × 1920 "), "(nearest: 9:16)"),
    _case("a ratio in full-width characters", TEXT, _fox(aspect_ratio="１６：９"), "(nearest: 16:9)"),
    _case("a ratio in another script's digits", TEXT, _fox(aspect_ratio="٣:٤"), "(nearest: 3:4)"),
    _case("a named ratio", TEXT, _fox(aspect_ratio="Square"), "(nearest: 1:1)"),
    _case("no ratio", TEXT, _fox(aspect_ratio="0:5"), "is not one of"),
    _case("a Chinese ratio", TEXT, _fox(aspect_ratio="横向"), 'aspect_ratio "横向" is not one of'),
    _case("auto where there is no source", TEXT, _fox(aspect_ratio="auto"), "is not one of"),
    _case("auto in capitals", REMIX, _sources("task:a", aspect_ratio="AUTO"), "(nearest: auto)"),
    _case("a resolution", TEXT, _fox(output_resolution="4K"), "(nearest: 2k)"),
    _case("a Kelvin sign", TEXT, _fox(output_resolution="1\u212a"), "(nearest: 1k)"),
    _case("a resolution in pixels", TEXT, _fox(output_resolution="1024 px"), "(nearest: 1k)"),
    _case("a tier", TEXT, _fox(model="FLEX"), "(nearest: flux-2-flex-text-to-image)"),
    _case(
        "a model with underscores", TEXT, _fox(model="flux_2 pro--text to_image"), "(nearest: flux-2-pro-text-to-image)"
    ),
    _case("a misspelt model", TEXT, _fox(model="flux-2-prro-text-image"), "(nearest: flux-2-pro-text-to-image)"),
    _case(
        "a ligature in a model", TEXT, _fox(model="ﬂux-2-ﬂex-text-to-imageſ"), "(nearest: flux-2-flex-text-to-image)"
    ),
    _case("another model", TEXT, _fox(model="dall-e-3"), 'model "dall-e-3" is not one of'),
    _case("an empty choice", TEXT, _fox(aspect_ratio="", output_resolution=" "), 'aspect_ratio "" is not one of'),
    _case("a choice of a megabyte", TEXT, _fox(model="flux-2-" * 150_000), 'model "flux-2-flux-2-'),
    _case("a choice of white space", TEXT, _fox(model=" " * 1_000_000 + "x"), "…"),
    _case("a choice with controls", TEXT, _fox(model="a\u001b[2J\u202e\U000e0041"), "\\u001b[2J\\u202e\\ue0041"),
    _case(
        "a character of a later Unicode",
        TEXT,
        _fox(model="\U000323af\U0003fffd\U0001fae9\u0378\U000e0fff\ufff0\ufdd0"),
        "\\ue0fff\\ufff0\\ufdd0",
    ),
    _case("a URL for a choice", TEXT, _fox(model="https://u:p@a.example/x?key=secret"), '"https://***@a.example/x?…"'),
    # Texts
    _case("an empty prompt", TEXT, {"prompt": ""}, "prompt is empty; it must be text with"),
    _case("a blank prompt", TEXT, {"prompt": " \t\n\u3000\u001c\u0085"}, "prompt is only white space"),
    _case(
        "an invisible prompt",
        TEXT,
        {"prompt": " \u200b\ufeff\u00ad\u3164"},
        "has only invisible characters (U+200B, U+FEFF, U+00AD, U+3164)",
    ),
    _case(
        "an invisible prompt of many characters",
        TEXT,
        {"prompt": "\u200b\u200c\u200d\u200e\u200f\ue000\u0001"},
        "U+200F, …)",
    ),
    _case("a byte order mark", TEXT, {"prompt": "\ufeff"}, "(U+FEFF)"),
    _case("too many emoji", TEXT, {"prompt": "🦊" * 5001}, "prompt has 5001 characters; at most 5000 are allowed"),
    _case("half of a pair", TEXT, {"prompt": "a\ud83d"}, "prompt has half of a character pair (a lone surrogate)"),
    _case("a NUL after emoji", TEXT, {"prompt": "🦊🦊\0"}, "has a NUL character (U+0000) at position 3"),
    _case("an id with a slash", FETCH, {"task_id": "a/b"}, 'task_id "a/b" is not the id of a task'),
    _case("an id of dots", FETCH, {"task_id": "task:.."}, "is not the id of a task"),
    _case("an id and a line break", FETCH, {"task_id": "tsk_1\n"}, '"tsk_1\\u000a" is not'),
    _case("a Chinese id", FETCH, {"task_id": "狐"}, 'task_id "狐" is not'),
    _case(
        "an id that is a prompt", FETCH, {"task_id": "x" * 300}, "task_id has 300 characters; at most 261 are allowed"
    ),
    _case("an empty id", FETCH, {"task_id": ""}, "task_id is empty"),
    # Lists
    _case("no source", REMIX, _sources(), "source_image_urls has 0; a list of 1 to 8 texts is allowed (nearest: 1)"),
    _case("nine sources", REMIX, _sources(*["task:a"] * 9), "has 9; a list of 1 to 8 texts is allowed (nearest: 8)"),
    _case("no sources as text", REMIX, {"prompt": "a", "source_image_urls": "[]"}, "source_image_urls has 0"),
    _case("numbers in a list as text", REMIX, {"prompt": "a", "source_image_urls": "[1, true]"}, "not the number 1"),
    _case(
        "a broken list as text", REMIX, {"prompt": "a", "source_image_urls": '["task:a"'}, "not text of 9 characters"
    ),
    _case(
        "2,001 sources",
        REMIX,
        _sources(*["task:a"] * 2001),
        "source_image_urls holds more than 2000 values; it must be a list of 1 to 8 texts",
    ),
    _case("2,001 models", TEXT, _fox(model=["a"] * 2001), "model holds more than 2000 values"),
    _case(
        "400 digits", TEXT, _Text('{"prompt": "a", "count": ' + "9" * 400 + "}"), "count is a number that is too large"
    ),
    _case("text of one character", FETCH, {"task_id": "a", "timeoutSeconds": "x"}, "not text of 1 character"),
    _case("a million sources", REMIX, _sources(*["a"] * 100_000), "holds more than 2000 values"),
    _case(
        "another scheme",
        REMIX,
        _sources("task:a", "ftp://u:p@a.example/x?y"),
        f'source_image_urls[1] "ftp://***@a.example/x?…" {_NO_SOURCE}',
    ),
    _case(
        "a URL with a password", REMIX, _sources("https://u:p@a.example/x"), f'"https://***@a.example/x" {_NO_SOURCE}'
    ),
    _case("a URL with a user name", REMIX, _sources("https://u@a.example"), f'"https://***@a.example" {_NO_SOURCE}'),
    _case(
        "a URL with a password over two lines",
        REMIX,
        _sources("https://u:p\np@a.example/x"),
        '"https://***@a.example/x" has a line break at position 12; write the link without it; it must be a public',
    ),
    _case("a URL in another", REMIX, _sources("blob:https://x.example/y"), f'"blob:https://x.example/y" {_NO_SOURCE}'),
    _case(
        "a password in a URL in another",
        REMIX,
        _sources("blob:https://u:p@x.example/y?k=v#f"),
        f'"blob:https://***@x.example/y?…" {_NO_SOURCE}',
    ),
    _case("an address of mail", REMIX, _sources("mailto:x@a.example"), f'"mailto:x@a.example" {_NO_SOURCE}'),
    _case(
        "a URL with a line break",
        REMIX,
        _sources(" https://a.example/x\ny"),
        '" https://a.example/x\\u000ay" has a line break at position 21',
    ),
    _case(
        "a URL with a space", REMIX, _sources("https://a.example/🦊 y"), "has a space at position 20; write it as %20"
    ),
    _case(
        "a URL with a wide space", REMIX, _sources("https://a.example/\u3000y"), "must not have (U+3000) at position 19"
    ),
    _case(
        "a path of Windows",
        REMIX,
        _sources(r"C:\Users\me\x.jpg", "d:/x.jpg"),
        r'source_image_urls[0] "C:\Users\me\x.jpg" is a path of Windows, which cannot be opened here (in WSL, wslpath',
    ),
    _case("a tab in a name", REMIX, _sources(" 🦊\tx.jpg"), "has a tab at position 3; rename the file; it must be a"),
    _case("a line break in a name", REMIX, _sources("a\nb.jpg"), '"a\\u000ab.jpg" has a line break at position 2'),
    _case("a control character in a name", REMIX, _sources("a\x01b"), "must not have (U+0001) at position 2; rename"),
    _case(
        "a data URL without data", REMIX, _sources("data:image/png;base64,"), "has no data after its comma; write it"
    ),
    _case("a data URL without a comma", REMIX, _sources("DATA:AAAA"), "has no comma before its data; write it as"),
    _case("a data URL with a long head", REMIX, _sources(f"data:{'x' * 501},AAAA"), "has too much before its comma"),
    _case(
        "a URL of a megabyte",
        REMIX,
        _sources("https://a.example/" + "x" * 1_000_001),
        "has 1000019 characters; at most 1000000",
    ),
    _case(
        "a URL that is too long",
        REMIX,
        _sources("https://a.example/" + "x" * 9000),
        '"https://…" has 9018 characters; at most 8192 are allowed',
    ),
    _case("a URL whose host is too long", REMIX, _sources(f"https://{'é' * 3000}/x"), f'"https://…" {_BAD_URL}'),
    _case("blanks before a source of a megabyte", REMIX, _sources(" " * 900_000 + "\0"), "has a NUL character"),
    _case("a megabyte of blanks", REMIX, _sources(" " * 900_000), "is only white space"),
    _case("an empty source", REMIX, _sources("", "\u3000"), "source_image_urls[1] is only white space"),
    _case(
        "no host",
        REMIX,
        _sources("https://:80/x", "http://a.example:0/", "http://a:x/"),
        f'source_image_urls[2] "http://a:x/" {_BAD_URL}',
    ),
    _case("a port that is too high", REMIX, _sources("https://a.example:65536/x"), _BAD_URL),
    _case("a port of digits of another script", REMIX, _sources("https://a.example:８０/x"), _BAD_URL),
    _case(
        "an IPv6 address and port 0",
        REMIX,
        _sources("https://[2001:DB8::1]:0/x"),
        f'"https://[2001:DB8::1]:0/x" {_BAD_URL}',
    ),
    _case("half a bracket", REMIX, _sources("https://[::1/x"), _BAD_URL),
    _case("a host that becomes a path", REMIX, _sources("https://a.example℀/x"), _BAD_URL),
    # Names
    _case(
        "a misspelt name",
        TEXT,
        _fox(promtp=1),
        '"promtp": text_to_image takes prompt, model, aspect_ratio, output_resolution, count (nearest: prompt)',
    ),
    _case("a name of other tools", TEXT, _fox(Seed=1, **{" negative-prompt": "x"}), "there is no seed"),
    _case(
        "a renamed one",
        REMIX,
        _sources("task:a", **{"Image URL": "x", "ratio": "1:1"}),
        "give the pictures as source_image_urls",
    ),
    _case("a picture for text_to_image", TEXT, _fox(image="x"), "this tool takes no pictures; use remix_image"),
    _case("a task by another name", FETCH, {"id": "tsk_1"}, 'unknown argument "id": it is called task_id here'),
    _case("a host's name", TEXT, _fox(_meta={"a": 1}, toolCallId="x"), 'unknown argument "_meta"'),
    _case(
        "names of JavaScript's own",
        TEXT,
        _Text('{"prompt": "fox", "__proto__": {"prompt": 1}, "constructor": 1, "toString": 2, "hasOwnProperty": 3}'),
        'unknown argument "__proto__"',
    ),
    _case("a prototype alone", TEXT, _Text('{"__proto__": {"prompt": "fox"}}'), "prompt is missing"),
    _case(
        "names of JavaScript's own as values",
        TEXT,
        _fox(model="constructor", aspect_ratio="__proto__"),
        'model "constructor" is not',
    ),
    _case("names like numbers", TEXT, _Text('{"b": 1, "prompt": "fox", "10": 2, "9": 3}'), 'unknown argument "9"'),
    _case("an empty name", TEXT, _fox(**{"": 1, " ": 2}), 'unknown argument ""'),
    _case("a name of half a pair", TEXT, _fox(**{"\ud83d": 1}), 'unknown argument "\\ud83d"'),
    _case("a Chinese name", TEXT, _fox(提示="狐"), 'unknown argument "提示": text_to_image takes'),
    _case(
        "a name of a megabyte",
        TEXT,
        _fox(**{"promp" * 200_000: 1, " " * 500_000 + "seed" + " " * 500_000: 1}),
        "there is no seed",
    ),
    _case("a thousand names", TEXT, _fox(**{f"prompt{number}": 1 for number in range(1000)}), "1000 things are wrong"),
    _case("a name with a secret", TEXT, _fox(**{"https://u:p@a.example/?k=s": 1}), '"https://***@a.example/?…"'),
    _case(
        "callback_url where none is offered",
        TEXT,
        _fox(callback_url="https://b.example/"),
        'the host "b.example" is not allowed; allowed hosts: none',
    ),
    # Nesting
    _case("nested too deep", REMIX, {"prompt": "a", "source_image_urls": _deep(9)}, "is nested deeper than 8 levels"),
    _case(
        "nested as deep as may be",
        REMIX,
        {"prompt": "a", "source_image_urls": _deep(7)},
        "source_image_urls[0] must be",
    ),
    _case("a deep object", TEXT, {"prompt": {"a": {"b🦊": [None, "\0", "\ud800"]}}}, "prompt.a.b🦊[0] is null"),
    _case("a NUL in a name", TEXT, {"prompt": {"a\0": 1}}, "a name in prompt has a NUL character"),
    _case("a long name within", TEXT, {"prompt": {"🦊" * 300: {"x" * 300: None}}}, "is null"),
    # One model's rules
    _case(
        "max without a ratio",
        TEXT,
        _fox(model="flux-2-max-text-to-image"),
        "flux-2-max-text-to-image requires aspect_ratio: one of",
        "all",
    ),
    _case(
        "max and 2k",
        TEXT,
        _fox(model="flux-2-max-text-to-image", aspect_ratio="1:1", output_resolution="2k"),
        'takes output_resolution 1k only, not "2k" (nearest: 1k)',
        "max",
    ),
    _case(
        "max and 4k",
        TEXT,
        _fox(model="flux-2-max-text-to-image", aspect_ratio="1:1", output_resolution="4k"),
        "takes output_resolution 1k only",
        "max",
    ),
    _case(
        "max and the checker",
        TEXT,
        _fox(model="flux-2-max-text-to-image", aspect_ratio="1:1", enable_safety_checker=True),
        "does not take enable_safety_checker; leave it out",
        "max",
    ),
    _case(
        "max and two sources",
        REMIX,
        _sources("task:a", "task:b", model="flux-2-max-remix-image", aspect_ratio="auto"),
        "takes exactly 1 source picture, 2 were given (source_image_urls)",
        "all",
    ),
    _case(
        "max and nine sources",
        REMIX,
        _sources(*["task:b"] * 9, model="flux-2-max-remix-image", aspect_ratio=5),
        "takes exactly 1 source picture",
        "all",
    ),
    _case("klein with what it takes", TEXT, _fox(model="flux-2-klein", aspect_ratio="2:3"), None, "klein"),
    _case(
        "klein and 2k",
        TEXT,
        _fox(model="flux-2-klein", output_resolution="2k"),
        "flux-2-klein does not take output_resolution; leave it out",
        "klein",
    ),
    _case(
        "klein and 4k",
        TEXT,
        _fox(model="flux-2-klein", output_resolution="4k"),
        "flux-2-klein does not take output_resolution; leave it out",
        "klein",
    ),
    _case(
        "klein and a source",
        TEXT,
        _sources("task:a", model="flux-2-klein"),
        "this tool takes no pictures; use remix_image",
        "klein",
    ),
    _case(
        "klein as an editor",
        REMIX,
        _sources("task:a", model="flux-2-klein"),
        'model "flux-2-klein" is not one of flux-2-pro-remix-image',
        "klein",
    ),
    # The operator's rules
    _case("klein that is off", TEXT, _fox(model="flux-2-klein"), "(an operator can add klein to tiers"),
    _case(
        "a tier that is off",
        TEXT,
        _fox(model="flux-2-max-text-to-image", aspect_ratio="1:1"),
        "(an operator can add max to tiers in plugins.entries.flux2.config, or FLUX2_TOOL_TIERS)",
    ),
    _case(
        "the default is off",
        TEXT,
        _fox(),
        "the default flux-2-pro-text-to-image is not enabled here; enabled: flux-2-max-text-to-image",
        "max",
    ),
    _case(
        "a wrong model and the default is off",
        TEXT,
        _fox(model="sdxl"),
        "is not one of flux-2-max-text-to-image",
        "max",
    ),
    _case("the checker off", TEXT, _fox(enable_safety_checker=False), "is the operator's decision, not an agent's"),
    _case(
        "another callback host",
        TEXT,
        _fox(callback_url="https://EVIL.example./x"),
        'the host "evil.example" is not allowed; allowed hosts: hooks.example.com, b.example',
        "all",
    ),
    _case(
        "a callback to an address",
        TEXT,
        _fox(callback_url="https://[2001:DB8::1]:1/x"),
        'the host "2001:db8::1" is not',
        "all",
    ),
    _case("a callback without a host", TEXT, _fox(callback_url="https://:1/x"), _BAD_URL, "all"),
    _case(
        "a callback with a password",
        TEXT,
        _fox(callback_url="https://u:p@b.example/x"),
        "is not an http(s) URL without user name or password",
        "all",
    ),
    _case("a callback to a file", TEXT, _fox(callback_url="file:///etc/passwd"), "is not an http(s) URL", "all"),
    # Several at once
    _case(
        "everything",
        REMIX,
        {
            "prompt": "",
            "source_image_urls": ["task:a", "ftp://x/y", 3],
            "model": "flex",
            "aspect_ratio": "2:1",
            "output_resolution": "4k",
            "enable_safety_checker": "no",
            "callback_url": "x",
            "seed": 7,
            "提示": 1,
        },
        '10 things are wrong with the arguments of remix_image: 1. unknown argument "seed"',
    ),
    _case(
        "an invisible prompt and a wrong ratio", TEXT, {"prompt": "\u200b", "aspect_ratio": "7"}, "2 things are wrong"
    ),
    _case(
        "more than a message holds", REMIX, _sources(*[f"ftp://{number}.example/" for number in range(200)]), "… and "
    ),
    _case("long unknown names of emoji", TEXT, _fox(**{str(number) + "🦊" * 70: 1 for number in range(60)}), "… and "),
)
