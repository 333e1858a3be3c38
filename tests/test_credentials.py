"""Where the key comes from, and that it is never shown."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from flux2_tool.credentials import DEFAULT_BASE_URL, MAX_KEY_CHARS, key_fingerprint, resolve_credentials
from flux2_tool.exceptions import ConfigurationError, Flux2Error, MissingApiKeyError
from flux2_tool.settings import load_settings

KEY = "rk_live_0123456789abcdef"


def _stored(home: Path, **content: object) -> Path:
    path = home / "runapi" / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_an_explicit_key_beats_the_environment_that_beats_the_file(tmp_path: Path) -> None:
    """A caller who passes a key means that key."""
    _stored(tmp_path, api_key="from-file")
    environ = {"RUNAPI_API_KEY": "from-env"}

    first = resolve_credentials(explicit_key="from-code", environ=environ, config_home=tmp_path)
    second = resolve_credentials(environ=environ, config_home=tmp_path)
    third = resolve_credentials(environ={}, config_home=tmp_path)

    assert [found.api_key.get_secret_value() for found in (first, second, third)] == [
        "from-code",
        "from-env",
        "from-file",
    ]
    assert second.source == "RUNAPI_API_KEY"


@pytest.mark.parametrize("names", [("api_key", "base_url"), ("apiKey", "baseUrl")])
def test_the_vendors_file_is_read_in_both_spellings(tmp_path: Path, names: tuple[str, str]) -> None:
    """Its own tools write either."""
    path = _stored(tmp_path, **{names[0]: KEY, names[1]: "https://eu.example.com/v1"})

    found = resolve_credentials(environ={}, config_home=tmp_path)

    assert (found.base_url, found.source) == ("https://eu.example.com", str(path))


def test_a_blank_value_hides_no_other_spelling(tmp_path: Path) -> None:
    """A template has both; and the spelling that is read is the one that an error names."""
    both = {"api_key": "", "apiKey": KEY, "base_url": " ", "baseUrl": "https://eu.example.com"}
    _stored(tmp_path / "a", **both)
    _stored(tmp_path / "b", **{**both, "apiKey": f'"{KEY}"'})

    assert resolve_credentials(environ={}, config_home=tmp_path / "a").base_url == "https://eu.example.com"
    with pytest.raises(ConfigurationError, match=r'"apiKey" in .* has quotes around the key'):
        resolve_credentials(environ={}, config_home=tmp_path / "b")


def test_the_address_comes_from_the_source_of_the_key(tmp_path: Path) -> None:
    """A key must not be sent to the address of another key."""
    _stored(tmp_path, api_key="from-file", base_url="https://file.example.com")

    found = resolve_credentials(environ={"RUNAPI_API_KEY": KEY}, config_home=tmp_path)

    assert found.base_url == "https://runapi.ai"


def test_an_address_set_on_its_own_wins_over_that_of_the_key(tmp_path: Path) -> None:
    """Whoever sets the address alone means it for every key."""
    _stored(tmp_path, api_key=KEY, base_url="https://file.example.com")

    found = resolve_credentials(environ={}, config_home=tmp_path, settings_base_url="http://127.0.0.1:9/v1")

    assert found.base_url == "http://127.0.0.1:9"


def test_an_explicit_address_goes_with_an_explicit_key() -> None:
    """The plugin passes the pair it found together."""
    found = resolve_credentials(explicit_key=KEY, explicit_base_url="https://a.example/v1", environ={})

    assert (found.base_url, found.source) == ("https://a.example", "explicit")


def test_without_a_key_the_places_searched_are_named(tmp_path: Path) -> None:
    """The commonest fault deserves the clearest message."""
    with pytest.raises(MissingApiKeyError) as caught:
        resolve_credentials(environ={}, config_home=tmp_path)

    assert "RUNAPI_API_KEY" in caught.value.message
    assert str(tmp_path) in caught.value.message
    assert "RUNAPI_API_KEY" in caught.value.hint


def test_the_file_is_looked_for_in_the_home_of_the_environment(tmp_path: Path) -> None:
    """Services run with a HOME of their own."""
    _stored(tmp_path / ".config", api_key=KEY)

    assert resolve_credentials(environ={"HOME": str(tmp_path)}).api_key.get_secret_value() == KEY


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        pytest.param("", MissingApiKeyError, "set but empty", id="empty"),
        pytest.param("  \n", MissingApiKeyError, "set but empty", id="blank"),
        pytest.param("${RUNAPI_API_KEY}", MissingApiKeyError, "placeholder", id="nothing filled it in"),
        pytest.param("$RUNAPI_API_KEY", MissingApiKeyError, "placeholder", id="a shell variable in single quotes"),
        pytest.param("%RUNAPI_API_KEY%", MissingApiKeyError, "placeholder", id="a variable of another shell"),
        pytest.param("{{ RUNAPI_API_KEY }}", MissingApiKeyError, "placeholder", id="a template's variable"),
        pytest.param("<your-key>", MissingApiKeyError, "placeholder", id="copied from instructions"),
        pytest.param("https://runapi.ai/v1", ConfigurationError, "URL instead of a key", id="the base URL"),
        pytest.param(f'"{KEY}"', ConfigurationError, "quotes", id="double quotes"),
        pytest.param(f"'{KEY}'", ConfigurationError, "quotes", id="single quotes"),
        pytest.param(f'"{KEY}', ConfigurationError, "quotes", id="a quote before it"),
        pytest.param(f"{KEY}'", ConfigurationError, "quotes", id="a quote after it"),
        pytest.param(f"\u201c{KEY}\u201d", ConfigurationError, "quotes", id="quotes of a word processor"),
        pytest.param(f"{KEY}\n{KEY}", ConfigurationError, "line break", id="two lines"),
        pytest.param(f"Bearer {KEY}", ConfigurationError, "Bearer", id="the whole header"),
        pytest.param(f"{KEY}ü", ConfigurationError, "characters", id="not ASCII"),
        pytest.param(f"{KEY}\x00", ConfigurationError, "characters", id="a control character"),
        pytest.param("k" * 5000, ConfigurationError, "too long", id="a whole file"),
        pytest.param("k" * 4097, ConfigurationError, "too long", id="one character too long"),
    ],
)
def test_a_mangled_key_is_named_by_its_likely_mistake(
    tmp_path: Path, value: str, kind: type[Flux2Error], said: str
) -> None:
    """ "401 unauthorized" would send people to the wrong place."""
    with pytest.raises(kind) as caught:
        resolve_credentials(environ={"RUNAPI_API_KEY": value}, config_home=tmp_path)

    assert said in caught.value.message
    assert KEY not in caught.value.message + caught.value.hint


def test_a_key_may_be_as_long_as_the_bound() -> None:
    """Some accounts' keys are signed tokens of thousands of characters."""
    key = "k" * MAX_KEY_CHARS

    assert resolve_credentials(environ={"RUNAPI_API_KEY": key}).api_key.get_secret_value() == key


@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_blank_address_is_none(tmp_path: Path, blank: str) -> None:
    """A form that was left empty, or a variable that nothing filled in; the next place that has one counts."""
    environ = {"RUNAPI_API_KEY": KEY, "RUNAPI_BASE_URL": blank}

    alone = resolve_credentials(environ=environ, config_home=tmp_path)
    given = resolve_credentials(environ={}, explicit_key=KEY, explicit_base_url=blank, settings_base_url=blank)
    beside = resolve_credentials(
        environ={**environ, "RUNAPI_BASE_URL": "https://eu.example"}, config_home=tmp_path, settings_base_url=blank
    )

    assert [found.base_url for found in (alone, given, beside)] == [DEFAULT_BASE_URL] * 2 + ["https://eu.example"]


@pytest.mark.parametrize("value", ["", " \n"])
def test_an_empty_variable_is_an_error_even_where_the_file_has_a_key(tmp_path: Path, value: str) -> None:
    """A variable that somebody meant to fill would otherwise spend the money of another account."""
    path = _stored(tmp_path, api_key=KEY)

    with pytest.raises(MissingApiKeyError) as caught:
        resolve_credentials(environ={"RUNAPI_API_KEY": value}, config_home=tmp_path)

    assert f"RUNAPI_API_KEY is set but empty; {path} has a key" in caught.value.message
    assert "unset RUNAPI_API_KEY" in caught.value.hint


SWAPPED: dict[str, Callable[[Path, str], object]] = {
    "variable": lambda home, text: resolve_credentials(
        environ={"RUNAPI_API_KEY": "sk-another-0123456", "RUNAPI_BASE_URL": text}, config_home=home
    ),
    "file": lambda home, _text: resolve_credentials(environ={}, config_home=home),
    "plugin": lambda _home, text: resolve_credentials(
        environ={}, explicit_key="sk-another-0123456", explicit_base_url=text
    ),
    "settings": lambda _home, text: load_settings({}, config={"base_url": text}),
}


@pytest.mark.parametrize("swapped", [KEY, f" {KEY}", f"{KEY} https://runapi.ai", f"https://runapi.ai {KEY}"])
@pytest.mark.parametrize("place", SWAPPED)
def test_a_key_in_the_place_of_the_base_url_is_not_shown(tmp_path: Path, swapped: str, place: str) -> None:
    """The two are set side by side, and an error goes to the chat and the log."""
    _stored(tmp_path, api_key="sk-another-0123456", base_url=swapped)

    with pytest.raises(ConfigurationError) as caught:
        SWAPPED[place](tmp_path, swapped)

    assert KEY not in f"{caught.value.message} {caught.value.hint}"
    assert f"text of {len(swapped)} characters (is it the key?)" in caught.value.message


def test_a_line_break_at_the_end_of_a_key_does_no_harm() -> None:
    """Files and pipes end in one."""
    assert resolve_credentials(environ={"RUNAPI_API_KEY": f"{KEY}\n"}).api_key.get_secret_value() == KEY


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (f'{{"api_key": "{KEY}", "base_url":\n}}'.encode(), "line 2, column 1"),
        (f'{{"api_key": "{KEY}"\n"base_url": ""}}'.encode(), "line 2, column 1"),
        (f'{{"api_key": "{KEY}", "note": "caf\u00e9"}}'.encode("latin-1"), "is no utf-8"),
    ],
)
def test_a_broken_file_says_where_and_not_with_what(tmp_path: Path, content: bytes, where: str) -> None:
    """A value that is missing is found at once, or by nobody."""
    path = tmp_path / "runapi" / "config.json"
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(ConfigurationError) as caught:
        resolve_credentials(environ={}, config_home=tmp_path)

    assert where in caught.value.message
    assert KEY not in caught.value.message


def test_a_number_of_thousands_of_digits_breaks_no_file(tmp_path: Path) -> None:
    """Nobody reads it."""
    path = _stored(tmp_path, api_key=KEY)
    path.write_text(path.read_text(encoding="utf-8")[:-1] + ', "x": ' + "9" * 5000 + "}", encoding="utf-8")

    assert resolve_credentials(environ={}, config_home=tmp_path).api_key.get_secret_value() == KEY


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'"x"', b"[" * 60000, b" " * 70000, b'{"api_key": 3}'])
def test_a_broken_file_is_a_configuration_error_without_its_content(tmp_path: Path, content: bytes) -> None:
    """A JSON error quotes the text, and the text holds the key."""
    path = tmp_path / "runapi" / "config.json"
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(ConfigurationError) as caught:
        resolve_credentials(environ={}, config_home=tmp_path)

    assert str(path) in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("make", "what"),
    [
        pytest.param(os.mkfifo, "it is a pipe, not a file", id="a pipe"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file", id="a device"),
        pytest.param(lambda path: os.mknod(path, stat.S_IFSOCK), "it is a socket, not a file", id="a socket"),
        pytest.param(Path.mkdir, "Is a directory", id="a folder"),
    ],
)
def test_what_is_no_file_in_the_files_place_is_not_read(
    tmp_path: Path, make: Callable[[Path], None], what: str
) -> None:
    """To open a pipe waits for whoever writes to it."""
    path = tmp_path / "runapi" / "config.json"
    path.parent.mkdir()
    make(path)

    with pytest.raises(ConfigurationError) as caught:
        resolve_credentials(environ={}, config_home=tmp_path)

    assert caught.value.message == f"cannot read {path}: {what}"
    assert "set RUNAPI_API_KEY" in caught.value.hint


def test_the_vendors_file_may_be_a_link(tmp_path: Path) -> None:
    """As programs that keep settings elsewhere make it."""
    path = _stored(tmp_path / "elsewhere", api_key=KEY)
    (tmp_path / "runapi").symlink_to(path.parent)

    assert resolve_credentials(environ={}, config_home=tmp_path).api_key.get_secret_value() == KEY


def test_a_wrong_address_says_where_it_stands() -> None:
    """There are four places it may come from."""
    with pytest.raises(ConfigurationError, match="the base URL from RUNAPI_API_KEY"):
        resolve_credentials(environ={"RUNAPI_API_KEY": KEY, "RUNAPI_BASE_URL": "http://api.example.com"})


def test_the_key_is_not_in_any_text_of_the_credentials() -> None:
    """They end up in logs and tracebacks."""
    found = resolve_credentials(environ={"RUNAPI_API_KEY": KEY})

    assert KEY not in f"{found!r} {found} {found.api_key!r}"


def test_a_fingerprint_is_short_and_not_the_key() -> None:
    """Journal rows are told apart by it."""
    assert key_fingerprint(KEY) == hashlib.sha256(KEY.encode()).hexdigest()[:16]
    assert resolve_credentials(environ={"RUNAPI_API_KEY": KEY}).fingerprint == key_fingerprint(KEY)


def test_a_file_that_cannot_be_read_is_an_error_and_not_a_missing_key(tmp_path: Path) -> None:
    """ "No key was found" would send people to set one beside the one they have."""
    (tmp_path / "runapi" / "config.json").mkdir(parents=True)

    with pytest.raises(ConfigurationError, match=r"cannot read .*config\.json") as caught:
        resolve_credentials(environ={}, config_home=tmp_path)

    assert "RUNAPI_API_KEY" in caught.value.hint


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_byte_order_mark_before_the_file_is_no_part_of_it(tmp_path: Path, end: str) -> None:
    """Windows editors and PowerShell write one."""
    path = _stored(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"api_key": KEY}).encode() + end.encode())

    assert resolve_credentials(environ={}, config_home=tmp_path).api_key.get_secret_value() == KEY


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_the_file_may_be_as_windows_programs_write_it(tmp_path: Path, encoding: str) -> None:
    """PowerShell's ">" writes UTF-16."""
    path = _stored(tmp_path)
    path.write_bytes(f'{{"api_key": "{KEY}"}}\r\n'.encode(encoding))

    assert resolve_credentials(environ={}, config_home=tmp_path).api_key.get_secret_value() == KEY


@pytest.mark.parametrize("mark", ["\ufeff", "\udcef\udcbb\udcbf"])
def test_a_byte_order_mark_before_a_key_is_no_part_of_it(mark: str) -> None:
    """`export RUNAPI_API_KEY="$(cat key.txt)"`, with a file that an editor wrote on Windows."""
    found = resolve_credentials(environ={"RUNAPI_API_KEY": f"{mark}{KEY}\r"})

    assert found.api_key.get_secret_value() == KEY
    with pytest.raises(MissingApiKeyError, match="byte order mark and no key"):
        resolve_credentials(environ={"RUNAPI_API_KEY": mark})
