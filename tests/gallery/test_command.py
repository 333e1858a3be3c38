"""`flux2-tool gallery`: where the page goes, who may read it, and what stands in its way."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux2_tool.gallery.page import MARK
from flux2_tool.sandbox import SandboxOptions, running_sandbox
from tests.gallery.played import Album
from tests.support.command import Command
from tests.support.environ import base_environ
from tests.support.keys import KEY


@pytest.fixture
def command(home: Path, tmp_path: Path) -> Command:
    """The command, in a scratch folder with a data folder of its own."""
    folder = tmp_path / "shell"
    folder.mkdir()
    return Command(folder=folder, environ={**base_environ(), "HOME": str(folder), "FLUX2_TOOL_HOME": str(home)})


@pytest.fixture
def album(home: Path, tmp_path: Path) -> Album:
    """A journal with one picture."""
    made = Album(home, tmp_path / "saved")
    made.add()
    made.close()
    return made


def test_the_page_is_its_owners_alone(command: Command, album: Album, home: Path) -> None:
    """It holds prompts and pictures; its path is all that stdout has."""
    done = command.run("gallery", "--offline")

    path = Path(done.stdout.strip())
    assert (done.returncode, path) == (0, home / "gallery" / "gallery.html")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert "a red fox in the snow" in path.read_text()


@pytest.mark.parametrize(("output", "written"), [("my page.html", "my page.html"), ("out/", "out/gallery.html")])
def test_the_page_goes_where_it_is_asked(command: Command, album: Album, output: str, written: str) -> None:
    """A folder gets a page of the usual name. An earlier page is replaced."""
    for _ in range(2):
        done = command.run("gallery", "--offline", "--output", output)

        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip()) == command.folder / written
    assert not [path for path in (command.folder / written).parent.iterdir() if path.name.startswith(".flux2")]


def test_another_file_is_not_replaced(command: Command, album: Album) -> None:
    """Nor what is behind a link."""
    (command.folder / "notes.html").write_text("mine")
    (command.folder / "link.html").symlink_to("notes.html")

    for name in ("notes.html", "link.html"):
        done = command.run("gallery", "--offline", "--output", name)

        assert done.returncode == 3
        assert "is no page of flux2-tool gallery; nothing was written" in done.stderr
    assert (command.folder / "notes.html").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(command: Command, album: Album) -> None:
    """With another way."""
    (command.folder / "file").touch()

    done = command.run("gallery", "--offline", "--output", "file/page.html")

    assert done.returncode == 3
    assert "error: the page cannot be written to" in done.stderr
    assert "--output FILE" in done.stderr or "name another file" in done.stderr
    assert done.stdout == ""


def test_stdout_can_have_it_in_any_locale(command: Command, home: Path, tmp_path: Path) -> None:
    """A pipe has no encoding that anybody could rely on."""
    album = Album(home, tmp_path / "saved")
    album.add("雪の中の狐 🦊")
    album.close()

    done = command.run("gallery", "--offline", "--output", "-", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")

    assert done.returncode == 0
    assert done.stdout.isascii()
    assert MARK in done.stdout
    assert "&#38634;" in done.stdout


def test_open_without_a_display_says_what_to_do(command: Command, album: Album) -> None:
    """A server has none; the page is written all the same."""
    environ = dict.fromkeys(("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"), "")

    done = command.run("gallery", "--offline", "--open", **environ)

    assert done.returncode == 0
    assert Path(done.stdout.strip()).is_file()
    assert "this machine has no display" in done.stderr


def test_open_and_stdout_exclude_each_other(command: Command, album: Album) -> None:
    """There would be nothing to open."""
    assert command.run("gallery", "--open", "--output", "-").returncode == 2


def test_before_the_first_picture_there_is_an_empty_page(command: Command, home: Path) -> None:
    """And no journal is made for it."""
    done = command.run("gallery", "--output", "page.html")

    assert done.returncode == 0
    assert f"no tasks in {home} yet" in done.stderr
    assert "No pictures yet" in (command.folder / "page.html").read_text()
    assert not (home / "journal.db").exists()


def test_a_journal_that_cannot_be_read_is_an_error(command: Command, album: Album) -> None:
    """With what the doctor would say."""
    album.change("INSERT INTO migrations VALUES ('9999_of_the_future', 0)")

    done = command.run("gallery", "--output", "page.html")

    assert done.returncode == 3
    assert "newer version of flux2-tool" in done.stderr
    assert not (command.folder / "page.html").exists()


def test_pictures_without_a_copy_are_fetched_once(command: Command, home: Path) -> None:
    """While their links work; the next page has them from its cache, and one that cannot be fetched is named."""
    with running_sandbox(SandboxOptions(duration_s=0.0, drawn_images=False)) as (url, sandbox):
        environ = {"RUNAPI_API_KEY": KEY, "RUNAPI_BASE_URL": url}
        assert command.run("generate", "a red fox", **environ).returncode == 0
        first = command.run("gallery", "--output", "page.html", **environ)
        assert command.run("generate", "a green parrot", **environ).returncode == 0
        before = len(sandbox.ledger.tasks)
    later = command.run("gallery", "--output", "page.html", **environ)

    assert first.returncode == later.returncode == 0
    assert first.stderr.count("note:") == 0
    assert "note:  1 picture is without a thumbnail: it did not arrive (ConnectError)." in later.stderr
    page = (command.folder / "page.html").read_text()
    assert page.count("data:image/") == 1
    assert "a green parrot" in page
    assert before == 2  # looking pays for nothing
    assert oct((home / "gallery" / "thumbnails").stat().st_mode & 0o777) == "0o700"
