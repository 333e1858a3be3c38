"""A source picture is found by the text a person means, and only where it may be read."""

from __future__ import annotations

import shlex
import unicodedata
from pathlib import Path

import pytest

from flux2_tool.exceptions import SourceRefusedError
from flux2_tool.images.data_url import DataUrlError, data_of, is_data_url
from flux2_tool.images.source_names import CHECK_PATH, advice_for, meant
from flux2_tool.images.source_paths import open_named
from flux2_tool.images.source_places import SourcePlaces
from tests.support.pictures import data_urls, file_of

WHERE = "source_image_urls[0]"
SCREENSHOT = "Screenshot 2026-11-20 at 9.22.20\u202fPM.png"
UMLAUT = "Grüße aus Köln.png"


def nfd(text: str) -> str:
    """Return a text as macOS writes names."""
    return unicodedata.normalize("NFD", text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace."""
    path = tmp_path / "work"
    path.mkdir()
    return path


def places(folder: Path) -> SourcePlaces:
    """Return the places of a call that may read one folder."""
    return SourcePlaces(roots=(folder,), workspace=folder)


def found(source: str, where: SourcePlaces) -> str:
    """Return what is in the file that a source names."""
    with open_named(source, where, where=WHERE) as file:
        return file.read().decode()


def refusal(source: str, where: SourcePlaces) -> SourceRefusedError:
    """Return why a source is refused."""
    with pytest.raises(SourceRefusedError) as caught:
        open_named(source, where, where=WHERE)
    return caught.value


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        pytest.param(SCREENSHOT, SCREENSHOT.replace("\u202f", " "), id="a narrow space"),
        pytest.param("a b.png", "a\u00a0b.png", id="a space that does not break"),
        pytest.param("a\u3000b.png", "a b.png", id="a wide space"),
        pytest.param("a  b.png", "a b.png", id="two spaces, of which a page shows one"),
        pytest.param(nfd(UMLAUT), UMLAUT, id="stored in parts"),
        pytest.param(UMLAUT, nfd(UMLAUT), id="asked in parts"),
        pytest.param("が.png", nfd("が.png"), id="Japanese"),
        pytest.param(f"{nfd('Köln')}/{nfd('Tür')}.png", "Köln/Tür.png", id="a folder and a file"),
        pytest.param("cat.png", "cat\u200b.png", id="what cannot be seen"),
        pytest.param("cat.png", "\u202a{folder}/cat.png", id="a path copied on Windows"),
        pytest.param("cat.png", "\ufeff{folder}/cat.png", id="a byte order mark before"),
        pytest.param("cat.png", "\u2068{folder}/cat.png\u2069", id="isolated, as chats do"),
        pytest.param("my cat.png", '\u202a"{folder}/my cat.png"\u202c', id="what cannot be seen around quotes"),
        pytest.param("my cat.png", '"\u202a{folder}/my cat.png"', id="what cannot be seen in quotes"),
        pytest.param("cat.png", "\u2066 \u200bcat.png", id="what cannot be seen and spaces before"),
        pytest.param("my cat.png", "\ufefffile://{folder}/my%20cat.png", id="a byte order mark before a URL"),
        pytest.param("❤\ufe0f", "❤\ufe0f", id="a variation that belongs to the name"),
        pytest.param("cat.png", "cat.png\n", id="a line break at the end"),
        pytest.param("cat.png", "  cat.png\r\n", id="white space around"),
        pytest.param("my cat.png", '"my cat.png"', id="quoted"),
        pytest.param("my cat.png", "'my cat.png'", id="quoted once"),
        pytest.param("my cat.png", "“my cat.png”", id="quoted as in print"),
        pytest.param("my cat (1).png", r"my\ cat\ \(1\).png", id="as a shell writes it"),
        pytest.param("cat's.png", r"'cat'\''s.png'", id="as a terminal writes a dragged file"),
        pytest.param("cat's.png", shlex.quote("cat's.png"), id="as Python quotes for a shell"),
        pytest.param('a "cat" $1.png', r'"a \"cat\" \$1.png"', id="escapes in double quotes"),
        pytest.param("my cat.png", "{folder}/'my cat.png'", id="quoted in part"),
        pytest.param("cat.png", '"{folder}/cat.png"', id="an absolute path in quotes"),
        pytest.param("my cat.png", "file://{folder}/my%20cat.png", id="a URL"),
        pytest.param("my cat.png", "file://{folder}/my cat.png", id="a URL as people write it"),
        pytest.param("cat #1.png", "file://{folder}/cat #1.png", id="a number sign in a URL"),
        pytest.param("cat?.png", "file://{folder}/cat?.png", id="a question mark in a URL"),
        pytest.param("100%.png", "file://{folder}/100%.png", id="a percent sign in a URL"),
        pytest.param("a%20b.png", "file://{folder}/a%20b.png", id="a name that looks encoded"),
        pytest.param("cat.png", "file://{folder}/cat.png#page=1", id="a fragment"),
        pytest.param("cat.png", "file://LOCALHOST{folder}/cat.png", id="a host in capitals"),
        pytest.param("cat.png", "FILE://{folder}/cat.png", id="a scheme in capitals"),
        pytest.param("cat.png", "'file://{folder}/cat.png'", id="a URL in quotes"),
        pytest.param("cat.png", "file:cat.png", id="a URL without slashes"),
        pytest.param('"cat".png', '"cat".png', id="quotes that belong to the name"),
        pytest.param(r"a\b.png", r"a\b.png", id="a backslash that belongs to the name"),
        pytest.param(" cat.png", " cat.png", id="a space that belongs to the name"),
        pytest.param("cat's.png", "cat's.png", id="an apostrophe that belongs to the name"),
    ],
)
def test_a_file_is_found_as_a_person_means_it(folder: Path, stored: str, asked: str) -> None:
    """A name is copied from a screen, dragged into a terminal, or written by a program."""
    (folder / stored).parent.mkdir(exist_ok=True)
    (folder / stored).write_text("it")

    assert found(asked.format(folder=folder) if "{folder}" in asked else asked, places(folder)) == "it"
    assert (
        found(asked.format(folder=folder) if "{folder}" in asked else asked, SourcePlaces(roots=None, workspace=folder))
        == "it"
    )


@pytest.mark.parametrize(
    ("asked", "others"),
    [
        pytest.param("a b.png", ["a\u00a0b.png", "a\u202fb.png"], id="its own spelling first"),
        pytest.param('"cat.png"', ["cat.png"], id="its own quotes first"),
        pytest.param(UMLAUT, [nfd(UMLAUT)], id="its own letters first"),
    ],
)
def test_the_most_literal_reading_wins(folder: Path, asked: str, others: list[str]) -> None:
    """Whoever writes a name exactly gets exactly that file."""
    for name in others:
        (folder / name).write_text("another")
    (folder / asked).write_text("it")

    assert found(asked, places(folder)) == "it"


def test_two_names_that_look_the_same_are_both_named(folder: Path) -> None:
    """A guess would edit, and pay for, the wrong picture."""
    for name in ("a\u00a0b.png", "a\u202fb.png"):
        (folder / name).write_text("it")

    message = refusal("a b.png", places(folder)).message

    assert r'"a\xa0b.png"' in message
    assert r'"a\u202fb.png"' in message


def test_a_miss_shows_the_text_that_was_looked_for(folder: Path) -> None:
    """A space that cannot be seen is the difference."""
    (folder / "cat.png").write_text("it")

    assert '"cats.png"' in refusal("cats.png", places(folder)).message
    assert r'"a\u202fcat.png"' in refusal("a\u202fcat.png", places(folder)).message
    assert len(refusal("x" * 5000, places(folder)).message) < 400


@pytest.mark.parametrize(
    ("asked", "advice"),
    [
        ("tsk_abc123", 'write "task:tsk_abc123"'),
        ("0f8fad5b-d9cb-469f-a165-70867728950e", 'write "task:0f8fad5b'),
        ("iVBORw0KGgo" + "A" * 300, "data:image/png;base64,"),
        ("'https://cdn.example/x.png'", "without quotes"),
        ("\ufeffhttps://cdn.example/x.png", "without characters that cannot be seen"),
        ("www.cdn.example/x.png", 'write "https://www.cdn.example/x.png"'),
        ("www.cat.png", 'write "https://www.cat.png"'),
        (r'"C:\Users\me\cat.png"', "In WSL"),
        (r"\\server\share\cat.png", "In WSL"),
        ("cat.png", "check the path."),
    ],
)
def test_a_text_that_is_no_path_gets_its_own_advice(folder: Path, asked: str, advice: str) -> None:
    """Models hand on what they have, without its prefix."""
    assert advice in refusal(asked, places(folder)).hint


def test_a_workspace_itself_may_be_spelt_otherwise(tmp_path: Path) -> None:
    """On macOS the home folder of somebody called Müller is written in parts."""
    folder = tmp_path / nfd("Müller")
    folder.mkdir()
    (folder / "cat.png").write_text("it")

    assert found(f"{tmp_path}/Müller/cat.png", places(folder)) == "it"


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param('"{outside}/secret.png"', id="in quotes"),
        pytest.param("file://{outside}/secret.png#x", id="by a URL"),
        pytest.param(r"..\/outside\/secret.png", id="by escapes"),
        pytest.param("..\u200b/outside/secret.png", id="by what cannot be seen"),
        pytest.param("\u200b../outside/secret.png", id="by what cannot be seen, before"),
        pytest.param("li\u00a0nk.png", id="by a link whose name looks so"),
        pytest.param("\u202a{outside}/secret.png", id="behind what Windows puts before"),
        pytest.param("\u200b.hidden.png", id="hidden behind what cannot be seen"),
        pytest.param("\u200b.ssh/key.png", id="in a hidden folder"),
        pytest.param('".hidden.png"', id="hidden, in quotes"),
    ],
)
def test_no_spelling_leads_out_of_the_folder(tmp_path: Path, folder: Path, asked: str) -> None:
    """A prompt-injected agent tries them all."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for path in (outside / "secret.png", folder / ".hidden.png"):
        path.write_text("secret")
    (folder / ".ssh").mkdir()
    (folder / ".ssh" / "key.png").write_text("secret")
    (folder / "li nk.png").symlink_to(outside / "secret.png")

    refusal(asked.format(outside=outside), places(folder))


def test_a_sandboxed_session_learns_nothing_from_names_that_look_the_same(tmp_path: Path, folder: Path) -> None:
    """Whether another file is there, and how it is spelt, is the host's."""
    inbound = tmp_path / "state" / "media" / "inbound"
    inbound.mkdir(parents=True)
    (inbound / nfd("Tür.png")).write_text("mine")
    for name in ("a\u00a0b.png", "a\u202fb.png"):
        (inbound / name).write_text("it")
        (folder / name).write_text("it")
    where = SourcePlaces(roots=(folder,), workspace=folder, inbound=inbound, inbound_only=True)

    assert found("media://inbound/Tür.png", where) == "mine"
    asked = ["media://inbound/a b.png", "media://inbound/no.png", f"{folder}/a\u00a0b.png", '"a b.png"', "tsk_abc123"]
    assert len({refusal(source, where).message for source in asked}) == 1


def test_a_folder_that_cannot_be_listed_has_no_look_alikes(folder: Path) -> None:
    """Its owner allowed to open what is in it, not to look around."""
    (folder / "a\u00a0b.png").write_text("it")
    folder.chmod(0o311)
    try:
        assert found("a\u00a0b.png", places(folder)) == "it"
    finally:
        folder.chmod(0o755)


def test_a_url_of_a_windows_path_is_told_from_one_of_this_system() -> None:
    """Browsers there write files so."""
    assert "In WSL" in advice_for("file:///C:/me/cat.png")
    assert advice_for("file:///srv/C:/cat.png") == CHECK_PATH


def test_a_link_without_its_scheme_is_told_from_a_path() -> None:
    """Pages write links so."""
    assert advice_for("//cdn.example/x.png?a=1") == 'If this is a link, write "https://cdn.example/x.png?a=1".'
    assert advice_for("//x/cat.png") == advice_for("a/www.png") == CHECK_PATH


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (" https://cdn.example/x.png\n", "https://cdn.example/x.png"),
        ('"task:tsk_1"', "task:tsk_1"),
        ("\u2068task:tsk_1\u2069", "task:tsk_1"),
        ("'media://inbound/x.png'", "media://inbound/x.png"),
        ('"cat.png"', '"cat.png"'),
        (" cat.png", " cat.png"),
    ],
)
def test_references_are_read_without_what_surrounds_them(source: str, text: str) -> None:
    """A path keeps its quotes, because a file may have them in its name."""
    assert meant(source) == text


# ---- data: URLs ------------------------------------------------------------------------------------------------------

PICTURE = file_of("PNG")


@pytest.mark.parametrize("name", data_urls(PICTURE))
def test_every_spelling_of_a_data_url_is_the_same_picture(name: str) -> None:
    """Each is what some program writes."""
    url = meant(data_urls(PICTURE)[name])

    assert is_data_url(url)
    assert data_of(url, max_bytes=1_000_000) == PICTURE


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,AA*A", "invalid character at 3"),
        ("data:image/png;base64,AAAAA", "a part is missing"),
        ("data:image/png;base64,Grüße", "invalid character"),
    ],
)
def test_a_broken_data_url_says_where(url: str, said: str) -> None:
    """A long text is cut or changed on its way, and its sender cannot see it."""
    with pytest.raises(DataUrlError, match=said):
        data_of(url, max_bytes=1_000_000)


@pytest.mark.parametrize("url", ["data:;base64," + "A" * 4000, "data:," + "a" * 4000, "data:," + "%41" * 4000])
def test_no_more_than_the_limit_is_decoded(url: str) -> None:
    """It comes from anybody."""
    assert 1000 < len(data_of(url, max_bytes=1000)) <= 1010
