"""`flux2-tool task` without an id, in real processes: the last pictures and what is left, for people and scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import Command


def test_people_read_a_line_a_picture_and_what_is_left(command: Command) -> None:
    """Newest first, each with the reference that other commands take and the link or file to open."""
    for prompt in ("a red fox", "a blue door"):
        command.run("generate", prompt)
    command.run("generate", "another conversation's", "--session", "chat")

    done = command.run("task")

    assert done.returncode == 0, done.stderr
    newest, oldest = done.stdout.splitlines()
    assert "a blue door" in newest
    assert newest.startswith("task:tsk_")
    assert "completed" in newest
    assert "0.05 USD" in newest
    assert "http" in newest
    assert "a red fox" in oldest
    assert "left today: 4.85 USD of 5.00 USD" in done.stderr
    assert "balance: " in done.stderr
    assert "that pays for one of: pro 1k, pro 2k, flex 1k, flex 2k" in done.stderr


def test_the_path_of_a_picture_leads_to_it_in_every_locale(command: Command) -> None:
    """With LC_ALL=C a letter of a folder's name is bytes; without them the line names another place."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command.run("generate", "a red fox", "--output", str(command.folder / "写真"), **plain)

    for environ in (plain, {}):
        done = command.run("task", **environ)

        assert done.returncode == 0, done.stderr
        path = Path(done.stdout.splitlines()[0].rpartition("  ")[2])
        assert path.parent == command.folder / "写真"
        assert path.is_file()


def test_a_session_has_pictures_of_its_own(command: Command) -> None:
    """As scripts name their conversations."""
    command.run("generate", "a red fox", "--session", "chat", "--output", "fox.png")

    done = command.run("task", "--session", "chat")

    assert "a red fox" in done.stdout
    assert done.stdout.strip().endswith("fox.png")


def test_scripts_read_the_whole_object(command: Command) -> None:
    """The same that an agent gets by `call`."""
    command.run("generate", "a red fox", "--session", "chat")

    listed = json.loads(command.run("task", "--session", "chat", "--json").stdout)
    called = json.loads(command.run("call", "get_image_task", "{}", "--session", "chat").stdout)

    assert set(listed) == {"recent", "budget", "warnings", "next"}
    assert called["recent"] == listed["recent"]


def test_without_pictures_stderr_says_so(command: Command) -> None:
    """Nothing on stdout, and no failure."""
    done = command.run("task", "--session", "nobody")

    assert (done.returncode, done.stdout) == (0, "")
    assert "no pictures; flux2-tool tasks lists those of every conversation" in done.stderr


def test_raw_needs_a_task(bare: Command) -> None:
    """There is no one answer of the service to print."""
    done = bare.run("task", "--raw")

    assert done.returncode == 2
    assert "--raw needs the ID of a task" in done.stderr


@pytest.mark.parametrize("zone", ["UTC+24", "UTC-24", "UTC+24:59:59", "", ":/dev/null", "Nowhere/City", "<+14>-14"])
def test_every_list_is_shown_whatever_the_zone_is(command: Command, zone: str) -> None:
    """Python has no time 24 hours away from UTC; TZ can ask for it."""
    command.run("generate", "a red fox")

    shown = {
        words: command.run(*words.split(), TZ=zone)
        for words in ("task", "task --json", "tasks --since 2020-01-01", "gallery", "doctor --no-openclaw")
    }
    made = json.loads(shown["task --json"].stdout)["recent"][0]["made_at"]

    assert {words: done.returncode for words, done in shown.items()} == dict.fromkeys(shown, 0), shown
    assert made.endswith("+14:00" if zone == "<+14>-14" else "+00:00")
    assert "a red fox" in shown["task"].stdout + shown["tasks --since 2020-01-01"].stdout


def test_a_date_is_of_utc_where_the_zone_is_none(command: Command) -> None:
    """As every time that is shown there."""
    command.run("generate", "a red fox")
    [record] = command.tasks()

    later = command.run("tasks", "--json", "--since", record["created_at"].removesuffix("Z"), TZ="UTC+24")
    none = command.run("tasks", "--json", "--since", "2999-01-01", TZ="UTC-24")

    assert [one["ref"] for one in json.loads(later.stdout)] == [record["ref"]]
    assert json.loads(none.stdout) == []
