"""A key that is echoed is taken out, in whatever form; everything else stays byte for byte."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flux2_tool._redaction import (
    MASK,
    MAX_DEPTH,
    MAX_RECORD_DEPTH,
    masked,
    masked_json,
    masked_text,
    redact,
    redact_url,
    visible,
)

KEY = "sk-a+b/c=d&e~f<0123456789"

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in a URL": lambda key: quote(key, safe=""),
    "in a URL, small letters": lambda key: quote(key, safe="").lower().replace("sk", "sk"),
    "in a URL twice": lambda key: quote(quote(key, safe=""), safe=""),
    "in JSON": lambda key: json.dumps(key)[1:-1],
    "in JSON with slashes escaped": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "in JSON, all escaped": lambda key: "".join(f"\\u{ord(character):04x}" for character in key),
    "in base64, escaped in JSON": lambda key: "".join(
        f"\\u{ord(character):04X}" for character in base64.b64encode(key.encode()).decode()
    ),
    "in HTML": html.escape,
    "in HTML, numbered": lambda key: "".join(f"&#{ord(character)};" for character in key),
    "in HTML, numbered in hexadecimal": lambda key: "".join(f"&#x{ord(character):X};" for character in key),
    "in hexadecimal": lambda key: key.encode().hex(),
    "in hexadecimal capitals": lambda key: key.encode().hex().upper(),
    "in base64": lambda key: base64.b64encode(key.encode()).decode(),
    "in base64 for URLs": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "in base64, escaped in a URL": lambda key: quote(base64.b64encode(key.encode()).decode(), safe=""),
    "in base64 behind a word": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "in base64 between words": lambda key: base64.b64encode(f"ab{key}yz".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_echo_is_masked_in_every_form(form: str) -> None:
    """A proxy's error page, a debugging response, a link with the key in it."""
    echo = FORMS[form](KEY)

    found = masked(f'{{"error": "bad: {echo}"}}'.encode(), KEY)

    assert MASK in found
    assert b"0123456789" not in found
    assert echo[4:20].encode() not in found


@pytest.mark.parametrize("form", [form for form in FORMS if "base64" in form])
@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_base64_is_masked_in_either_alphabet(form: str, before: str) -> None:
    """Its two last characters have two spellings, of which a key may have many, at any alignment."""
    key = "?~>" * 8
    echo = FORMS[form](before + key)

    found = masked(f"bad: {echo}".encode(), key)

    assert MASK in found
    assert echo[8:20].encode() not in found


@pytest.mark.parametrize("length", [24, 25, 26])
@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_base64_is_masked_to_its_ends(length: int, before: str) -> None:
    """Each character that is left tells most of one of the key's."""
    key = (KEY + "z")[:length]

    found = masked(base64.b64encode(f"{before}{key}".encode()), key)

    assert found.count(MASK) == 1
    first, last = found.split(MASK)
    # What depends on the text before the key too, and the last few bits with the padding.
    assert len(first) == -(-len(before) * 8 // 6)
    assert len(last.rstrip(b"=")) <= 1


@given(text=st.text())
@example(text="\\/")
@example(text='{"url": "https:\\/\\/cdn.example\\u002fa.png"}')
def test_what_is_no_key_stays_as_it_is(text: str) -> None:
    """Responses are read after this; it must not bend them."""
    assert masked_text(text, KEY) == text
    assert masked(text.encode(), None) == text.encode()


@example(key="000000\\/", form="in HTML")
@example(key="00000<\\/", form="in HTML")
@given(
    key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=80),
    form=st.sampled_from(sorted(FORMS)),
)
def test_any_key_is_masked(key: str, form: str) -> None:
    """Keys may have any printable character."""
    if "small letters" not in form:
        assert MASK in masked(FORMS[form](key).encode(), key)


@given(value=st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_means_the_same_afterwards(value: object) -> None:
    """Escapes are undone on the way, but only those that mean nothing."""
    text = json.dumps(value)
    forms = [text, json.dumps(text), text.replace("/", "\\/")]
    if "\\" not in text:
        forms.append(text.replace("a", "\\u0061"))

    for form in forms:
        assert json.loads(masked(form.encode(), KEY)) == json.loads(form)


def test_json_deeper_than_any_field_that_is_read_is_left_out() -> None:
    """A key may be hidden at any depth; a walk of any depth would end this process."""
    deep: object = f"here is {KEY}"
    for _ in range(2 * MAX_DEPTH):
        deep = [deep]

    found = masked_json({"deep": deep, "near": f"here is {KEY}"}, KEY)

    assert KEY not in json.dumps(found)
    assert found["near"] == f"here is {MASK.decode()}"


def test_json_of_any_depth_is_walked() -> None:
    """Deeper than Python's own limit of calls within calls."""
    deep: object = f"here is {KEY}"
    for number in range(100_000):
        deep = [deep] if number % 2 else {"a": deep}

    found = masked_json([deep, KEY], KEY)

    assert found[1] == MASK.decode()


def test_a_text_too_short_for_a_key_is_left_alone() -> None:
    """Masking a word would spoil every response that has it."""
    assert masked(b'{"status": "pending"}', "pending"[:7]) == b'{"status": "pending"}'


@pytest.mark.parametrize(
    "unseen",
    ["\u200b", "\x00", "\ud800", "\u00ad", "\u034f", "\u115f", "\u180b", "\u3164", "\ufe0e", "\ufe0f", "\U000e0100"],
)
def test_a_key_that_is_split_by_what_cannot_be_seen_is_masked(unseen: str) -> None:
    """Whoever shows the text drops such characters, or draws nothing for them: the key can be read."""
    split = f"{KEY[:6]}{unseen}{KEY[6:15]}{unseen}{unseen}{KEY[15:]}"

    assert masked_text(f"bad key: {split}", KEY) == "bad key: [key]"
    assert masked_json({"error": [f"{split}!"]}, KEY) == {"error": ["[key]!"]}


def test_lone_surrogates_survive() -> None:
    """The text of an error may hold anything."""
    assert masked_text("\ud800 a", KEY) == "\ud800 a"


def test_a_key_of_other_letters_is_masked_too() -> None:
    """Nobody has one, but an error about it must not be another error."""
    key = "sk-ünï-schlüssel"

    for echo in (key, quote(key, safe=""), json.dumps(key)):
        assert "[key]" in masked_text(f"\\ & {echo}", key)


# ---- the record ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "Http"])
def test_the_record_of_a_response_carries_neither_key_nor_signature(scheme: str) -> None:
    """The raw response is kept and shown in support cases."""
    signed = f"{scheme}://b.example/f.png?X-Amz-Date=20261123T000000Z&X-Amz-Signature=fe5f80&token=eyJ&sig=1"
    text = redact({"images": [signed], "echo": "Bearer sk-secret-key"}, secrets=("sk-secret-key",))

    assert "sk-secret-key" not in text
    assert not any(value in text for value in ("fe5f80", "eyJ", "sig=1"))
    assert "X-Amz-Date=20261123T000000Z" in text


@pytest.mark.parametrize("secret", ['sk-"quoted"', "sk-back\\slash", "sk-ünï"])
def test_a_key_is_found_in_the_record_although_json_writes_it_differently(secret: str) -> None:
    """A quotation mark in a key is written with a backslash in JSON."""
    text = redact({"echo": f"key {secret} end"}, secrets=(secret,))

    assert "[key]" in text
    assert "sk-" not in text


def test_a_field_that_is_named_like_a_secret_is_not_recorded() -> None:
    """A response may echo credentials of the service's own."""
    text = redact({"upload": {"secret_access_key": "abc", "api_key": "def", "access_token": "ghi"}, "model": "pro"})

    assert not any(value in text for value in ("abc", "def", "ghi"))
    assert "pro" in text


def test_the_record_is_bounded() -> None:
    """It goes into a database row and a terminal."""
    assert len(redact({"x": ["y" * 100_000] * 500})) <= 4001


@pytest.mark.parametrize("wrap", [lambda inner: {"in": inner}, lambda inner: [inner]], ids=["objects", "lists"])
def test_the_record_keeps_what_is_nested_up_to_its_bound(wrap: Callable[[object], object]) -> None:
    """What a diagnosis needs is near the top, and what is deeper is left out rather than all of it."""

    def nested(levels: int) -> object:
        value: object = "needle"
        for _ in range(levels):
            value = wrap(value)
        return value

    assert json.loads(redact(nested(MAX_RECORD_DEPTH))) == nested(MAX_RECORD_DEPTH)
    assert "needle" not in redact(nested(MAX_RECORD_DEPTH + 1))


def test_the_record_keeps_every_language_as_it_is_written() -> None:
    """A person reads it, and its length is counted in characters; only what UTF-8 cannot hold is replaced."""
    assert redact({"error": "余额不足 \ud800"}) == '{"error": "余额不足 ?"}'


def test_what_cannot_be_seen_is_taken_away_and_nothing_else() -> None:
    """It would split a key in two for the search, and not for the eye."""
    assert visible("a\u034f\u115f\ufe0f\u3164b ü 余额") == "ab ü 余额"
    assert visible("a\x00_\u200bb\u202e \t\n(\ud800c)") == "a_b \t\n(c)"


def test_a_url_keeps_its_names_when_its_secrets_go() -> None:
    """Which parameters a link had is what a diagnosis needs."""
    assert redact_url("https://e.x/f?a=1&X-Amz-Credential=k&token=t") == "https://e.x/f?a=1&X-Amz-Credential=…&token=…"
    assert redact_url("https://e.x/f") == "https://e.x/f"


def test_parameters_separated_by_semicolons_lose_their_secrets_too() -> None:
    """Some servers take ";" like "&"."""
    assert redact_url("https://e.x/f?a=1;token=t;b=2") == "https://e.x/f?a=1;token=…;b=2"


def test_a_url_that_cannot_be_read_loses_its_query() -> None:
    """What nobody can take apart may hold anything."""
    assert redact_url("https://[e.x/f?token=t") == "https://[e.x/f"


def test_a_link_of_any_length_is_redacted_in_linear_time() -> None:
    """A response may name a megabyte of combining marks as a link; splitting it would take an hour."""
    marks = "a" + "\u0315\u0300" * 500_000

    redacted = redact_url(f"https://{marks}/x?token=secret&a=1;sig=secret#secret")

    assert redacted == f"https://{marks}/x?token=…&a=1;sig=…#…"
    assert redact_url(f"https://[{marks}/x?token=secret") == f"https://[{marks}/x"


def test_a_text_too_short_for_the_key_is_not_searched() -> None:
    """A response of a million short texts would be searched a million times in every form of the key."""
    assert masked_text("ab", "sk-0123456789") == "ab"
    assert masked_text("sk-0123456789", "sk-0123456789") == "[key]"
