"""generate, remix and task as people use them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from flux2_tool.cli.terminal import clean
from flux2_tool.sandbox import Fault, Sandbox
from flux2_tool.schema.manifest import load_manifest
from tests.support.command import Command
from tests.support.keys import KEY
from tests.support.terminal import run_at_terminal
from tests.support.waiting import wait_until


def test_generate_prints_the_url_alone(command: Command, sandbox: Sandbox) -> None:
    """`$(flux2-tool generate …)` must be the URL and nothing else."""
    done = command.run("generate", "a red fox", "--aspect-ratio", "16:9")

    assert done.returncode == 0, done.stderr
    (url,) = done.stdout.splitlines()
    assert url.startswith("http://127.0.0.1")
    assert "billed" in done.stderr
    (create,) = sandbox.ledger.creates
    assert json.loads(create.body) == {
        "model": "flux-2-pro-text-to-image",
        "prompt": "a red fox",
        "aspect_ratio": "16:9",
    }


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("FLUX2_TOOL_DAILY_CAP", "FLUX2_TOOL_DAILY_CAP_USD"), ("FLUX2_TOOL_TIER", "FLUX2_TOOL_TIERS")],
)
def test_a_misspelt_cap_in_the_environment_makes_no_image(
    command: Command, sandbox: Sandbox, name: str, nearest: str
) -> None:
    """It limits nothing; what is free goes on working, and so does a paid image under any other misspelling."""
    made = command.run("generate", "a red fox", FLUX2_TOOL_WAITS="9")
    refused = command.run("generate", "fox", "--json", **{name: "1"})
    free = (("task", "task:last"), ("tasks",), ("estimate", "text_to_image", '{"prompt": "fox"}'))
    fetched = [command.run(*of, **{name: "1"}) for of in free]

    assert made.returncode == 0, made.stderr
    assert refused.returncode == 3
    error = json.loads(refused.stdout)["error"]
    assert (error["code"], error["charged"]) == ("configuration_error", "no")
    assert f"{name} is set but is no setting (nearest: {nearest})" in error["message"]
    assert f"rename {name} to {nearest}, or unset {name}" in error["hint"]
    assert [done.returncode for done in fetched] == [0, 0, 0], [done.stderr for done in fetched]
    assert len(sandbox.ledger.creates) == 1


def test_several_pictures_are_a_line_each(command: Command, sandbox: Sandbox) -> None:
    """Saved under one name they are numbered; the list of tasks says which belong together."""
    done = command.run("generate", "three foxes", "--count", "3", "--output", "fox.png")
    listed = [record["set"] for record in json.loads(command.run("tasks", "--json").stdout)]

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{command.folder}/fox-{number}.png" for number in (1, 2, 3)]
    assert "0.15 USD (billed)" in done.stderr
    assert len(sandbox.ledger.creates) == 3
    assert [(one["number"], one["of"]) for one in listed] == [(1, 3), (2, 3), (3, 3)]
    assert "three-foxes (2 of 3)" in command.run("tasks").stdout


def test_only_some_of_several_made_has_an_exit_code(command: Command, sandbox: Sandbox) -> None:
    """A script must see that one is missing; what came is printed."""
    sandbox.faults.queue(Fault(kind="failed", on="create", value="no idea"))

    done = command.run("generate", "two foxes", "--count", "2")

    assert done.returncode == 8
    assert len(done.stdout.splitlines()) == 1
    assert "warning: not_made: picture" in done.stderr


@pytest.mark.parametrize(("count", "said"), [("5", "pass --count 4"), ("two", "a whole number from 1 to 4")])
def test_a_wrong_count_costs_nothing(command: Command, sandbox: Sandbox, count: str, said: str) -> None:
    """Like every other argument."""
    done = command.run("generate", "foxes", "--count", count)

    assert done.returncode == 2
    assert said in done.stderr
    assert sandbox.ledger.creates == []


def test_klein_from_the_command_line(command: Command, sandbox: Sandbox) -> None:
    """Off like max until somebody enables it; then made, fetched, priced and remembered like the others."""
    off = command.run("generate", "a red fox", "--model", "flux-2-klein")
    on = {"FLUX2_TOOL_TIERS": "pro,klein"}
    prices = json.loads(command.run("prices", "--json", **on).stdout)["prices"]
    cost = command.run("estimate", "text_to_image", '{"prompt": "a red fox", "model": "flux-2-klein"}', **on)
    wrong = command.run("generate", "a red fox", "--model", "flux-2-klein", "--output-resolution", "2k", **on)
    before = list(sandbox.ledger.creates)
    made = command.run("generate", "a red fox", "--model", "flux-2-klein", "--json", **on)
    result = json.loads(made.stdout)
    fetched = json.loads(command.run("task", result["task"]["ref"], "--json").stdout)
    edited = command.run("remix", "at night", result["task"]["ref"], "--json", **on)

    assert (off.returncode, wrong.returncode, before) == (2, 2, [])
    assert "an operator can add klein to tiers" in off.stderr
    assert "flux-2-klein does not take output_resolution" in wrong.stderr
    assert [row["usd"] for row in prices if row["model"] == "flux-2-klein"] == [0.03]
    assert next(row["basis"] for row in prices if row["model"] == "flux-2-klein") == "quote"
    assert cost.stdout.startswith("0.03 USD")
    assert (result["task"]["model"], result["cost"]) == ("flux-2-klein", {"usd": 0.03, "basis": "billed"})
    assert fetched["images"][0]["url"] == result["images"][0]["url"]
    assert json.loads(edited.stdout)["task"]["model"] == "flux-2-pro-remix-image"
    assert [record.path for record in sandbox.ledger.creates] == ["/api/v1/flux/text_to_image", "/v1/remix_image"]
    assert sandbox.ledger.billed_cents == 8


def test_output_saves_the_picture_and_prints_its_path(command: Command) -> None:
    """A path can be opened; a URL ends after some days."""
    done = command.run("generate", "a red fox", "--output", "pictures")

    (path,) = done.stdout.splitlines()
    assert (command.folder / path).read_bytes().startswith(b"\x89PNG")
    assert (command.folder / path).parent == command.folder / "pictures"


def test_pictures_in_a_folder_with_a_line_break_are_printed_one_a_line(command: Command) -> None:
    """A script that reads lines took one path for two; bash reads the word as the path that it is."""
    done = command.run("generate", "two foxes", "--count", "2", "--output", "a\nb/")
    recent = command.run("task")

    words = done.stdout.splitlines()
    assert [word[:2] for word in words] == ["$'", "$'"]
    read = subprocess.run(["bash", "-c", f"printf '%s\\0' {' '.join(words)}"], capture_output=True, check=True).stdout
    assert [Path(os.fsdecode(path)).parent for path in read.split(b"\0")[:-1]] == [command.folder / "a\nb"] * 2
    assert len(recent.stdout.splitlines()) == 2


def test_output_names_a_file(command: Command) -> None:
    """`--output fox.png` made a folder of that name."""
    done = command.run("generate", "a red fox", "--output", "new/fox.png")

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{command.folder}/new/fox.png\n"
    assert (command.folder / "new" / "fox.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("tool", [("generate", "a red fox"), ("call", "text_to_image", '{"prompt": "a red fox"}')])
def test_a_place_that_cannot_be_written_costs_nothing(
    command: Command, sandbox: Sandbox, tool: tuple[str, ...]
) -> None:
    """It is told before anything is paid."""
    done = command.run(*tool, "--output", "/proc/nope")

    assert done.returncode == 2
    assert 'error: the picture could not be saved to "/proc/nope"' in done.stderr
    assert not sandbox.ledger.creates


def test_a_picture_that_was_not_saved_has_an_exit_code_of_its_own(command: Command, sandbox: Sandbox) -> None:
    """A script must not go on without the file; the command that fetches it later is named."""
    sandbox.faults.queue(Fault(kind="status", on="storage", status=410))

    done = command.run("generate", "a red fox", "--output", "fox.png")

    assert done.returncode == 7
    assert done.stdout.startswith("http://127.0.0.1")
    task_id = sandbox.ledger.creates[0].task_id
    later = f"flux2-tool task task:{task_id} --output {command.folder}/fox.png"
    assert later in done.stderr
    assert command.run(*later.split()[1:]).returncode == 0
    assert (command.folder / "fox.png").is_file()


def test_json_prints_the_result_object(command: Command) -> None:
    """For scripts that want the cost, too."""
    done = command.run("generate", "a red fox", "--json", "--output-resolution", "2k")

    found = json.loads(done.stdout)
    assert found["task"]["state"] == "completed"
    assert found["cost"] == {"usd": 0.07, "basis": "billed"}


def test_remix_takes_urls_and_earlier_tasks(command: Command, sandbox: Sandbox) -> None:
    """A picture made a minute ago is the commonest source."""
    first = json.loads(command.run("generate", "a red fox", "--json").stdout)

    done = command.run("remix", "make it blue", first["task"]["ref"], "https://example.com/a.png")

    assert done.returncode == 0, done.stderr
    assert json.loads(sandbox.ledger.creates[1].body)["source_image_urls"] == [
        first["images"][0]["url"],
        "https://example.com/a.png",
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_a_number_leaves_the_longest_name_possible(command: Command, count: int) -> None:
    """The name was checked before the pictures were paid, and what tells them apart comes after it."""
    saved = []
    for prompt in ("a red fox", "a grey cat"):
        done = command.run("generate", prompt, "--count", str(count), "--output", f"{'x' * 251}.png")
        assert done.returncode == 0, done.stderr
        saved.append([Path(line).read_bytes() for line in done.stdout.splitlines()])

    assert {len(path.name) for path in command.folder.glob("x*.png")} == {255}
    assert [len(pictures) for pictures in saved] == [count, count]
    assert not set(saved[0]) & set(saved[1])


def test_a_link_that_leads_nowhere_is_not_in_a_pictures_way(command: Command) -> None:
    (command.folder / "fox.png").symlink_to(command.folder / "nowhere")

    done = command.run("generate", "a red fox", "--output", "fox.png")

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{command.folder}/fox-2.png\n"


@pytest.mark.parametrize("place", [f"{'x' * 300}/fox.png", f"new/{'x' * 300}/", "d/" * 1500, f"{'d/' * 2200}fox.png"])
def test_a_folder_that_cannot_be_made_is_refused_before_it_is_paid(
    command: Command, sandbox: Sandbox, place: str
) -> None:
    done = command.run("generate", "a red fox", "--output", place)

    assert done.returncode == 2
    assert "could not be saved" in done.stderr
    assert not re.search("Error|None", done.stderr)
    assert sandbox.ledger.creates == []


def test_a_wait_that_ends_first_names_the_command_that_fetches_the_image(command: Command, sandbox: Sandbox) -> None:
    """The image is paid for; it must be one command away."""
    sandbox.change({"duration_s": 3600})

    done = command.run("generate", "a red fox", "--wait", "0")

    assert done.returncode == 6
    assert done.stdout == ""
    task_id = sandbox.ledger.creates[0].task_id
    assert f"flux2-tool task {task_id}" in done.stderr


def test_task_fetches_an_earlier_image(command: Command) -> None:
    """In another process, from the id alone."""
    first = json.loads(command.run("generate", "a red fox", "--json").stdout)

    done = command.run("task", first["task"]["id"], "--output", ".")

    assert done.returncode == 0, done.stderr
    assert (command.folder / done.stdout.strip()).is_file()


def test_a_wrong_value_says_what_is_nearest_and_which_option_to_pass(command: Command, sandbox: Sandbox) -> None:
    """Two lines, and nothing was sent."""
    done = command.run("generate", "a red fox", "--aspect-ratio", "2:1")

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f'error: aspect_ratio "2:1" is not one of {", ".join(load_manifest().aspect_ratios)} (nearest: 16:9)\n'
        "hint:  pass --aspect-ratio 16:9\n"
    )
    assert not sandbox.ledger.creates


def test_every_wrong_value_gets_its_own_line(command: Command) -> None:
    """One round of mending."""
    done = command.run("generate", " ", "--aspect-ratio", "2:1", "--output-resolution", "8k")

    assert done.stderr.count("error: ") == 3
    assert "hint:  pass --aspect-ratio 16:9 --output-resolution 2k" in done.stderr


def test_wrong_arguments_are_named_before_a_key_is_asked_for(bare: Command) -> None:
    """The nearer fault first."""
    assert bare.run("generate", "a fox", "--aspect-ratio", "2:1").returncode == 2


def test_a_missing_key_is_a_fault_of_the_set_up(bare: Command) -> None:
    """And the hint names the variable."""
    done = bare.run("generate", "a fox")

    assert done.returncode == 3
    assert "RUNAPI_API_KEY" in done.stderr


def test_a_wrong_setting_names_its_variable(command: Command) -> None:
    """Before anything is sent."""
    done = command.run("generate", "a fox", FLUX2_TOOL_TIERS="pro,ultra")

    assert done.returncode == 3
    assert 'FLUX2_TOOL_TIERS: "ultra" is not one of pro, flex, max' in done.stderr


@pytest.mark.parametrize(
    ("prompt", "fault", "code"),
    [
        pytest.param("a fox [fail]", None, 4, id="the task failed"),
        pytest.param("a fox [moderated]", None, 4, id="the content was refused"),
        pytest.param("a fox", Fault(kind="status", on="create", status=401), 3, id="the key was refused"),
        pytest.param("a fox", Fault(kind="status", on="create", status=402), 4, id="no credits"),
        pytest.param(
            "a fox", Fault(kind="status", on="create", status=429, retry_after=900, times=50), 5, id="a long rate limit"
        ),
    ],
)
def test_each_failure_has_the_exit_code_scripts_rely_on(
    command: Command, sandbox: Sandbox, prompt: str, fault: Fault | None, code: int
) -> None:
    """4 means do not repeat, 5 means try later."""
    if fault is not None:
        sandbox.faults.queue(fault)

    done = command.run("generate", prompt, "--wait", "20")

    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert KEY not in done.stderr


def test_ctrl_c_says_how_to_fetch_the_image_later(command: Command, sandbox: Sandbox) -> None:
    """The task goes on at RunAPI and is paid for."""
    sandbox.change({"duration_s": 3600})

    with command.start("generate", "a red fox") as process:
        assert process.stderr is not None
        assert process.stdout is not None
        seen = ""
        while "(task " not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        out = process.stdout.read()

    assert process.returncode == 130
    assert out == ""
    assert f"flux2-tool task {sandbox.ledger.creates[0].task_id}" in rest
    assert "Traceback" not in rest


def test_terminal_escapes_from_the_service_do_not_reach_the_terminal(command: Command, sandbox: Sandbox) -> None:
    """A picture service must not be able to rewrite the screen or the window title."""
    sandbox.faults.queue(Fault(kind="failed", on="create", value="bad \x1b]0;owned\x07\x1b[31m\x9b31m prompt\u202e"))

    done = command.run("generate", "a red fox")

    assert done.returncode == 4
    assert not set("\x1b\x07\x9b\u202e") & set(done.stderr)


def test_text_is_cleaned_to_one_harmless_line() -> None:
    """The last gate before the terminal."""
    assert clean("a\x1b[2Jb\nc\u202ed\x00") == "a[2Jb cd"


def test_on_a_terminal_a_spinner_runs_on_stderr_and_stdout_stays_clean(command: Command) -> None:
    """rich is for people; a pipe gets plain lines."""
    shown = run_at_terminal(command, "generate", "a red fox")

    assert shown.returncode == 0
    assert "\x1b[" in shown.screen
    assert shown.stdout.startswith("http://127.0.0.1")
    assert len(shown.stdout.splitlines()) == 1


def test_the_viewer_that_shows_an_image_gets_no_key(command: Command, sandbox: Sandbox) -> None:
    """It needs none, and lives on where others may list its environment."""
    folder = command.folder / "bin"
    folder.mkdir()
    viewer, listed = folder / "xdg-open", command.folder / "listed"
    viewer.write_text(
        f'#!/bin/sh\nenv > "{listed}.part"\necho "$1" >> "{listed}.part"\nmv "{listed}.part" "{listed}"\n'
    )
    viewer.chmod(0o755)

    done = command.run("generate", "a red fox", "--open", PATH=f"{folder}:/usr/bin:/bin")
    wait_until(listed.exists)

    assert done.returncode == 0
    assert "HOME=" in listed.read_text()
    assert done.stdout.strip() in listed.read_text()
    assert KEY not in listed.read_text()


def test_a_machine_without_a_viewer_says_so_and_the_image_counts(command: Command) -> None:
    """A server has none; the image is made, saved and paid for."""
    nothing = command.folder / "bin"
    nothing.mkdir()

    done = command.run("generate", "a red fox", "--open", "--output", "pictures", PATH=str(nothing))

    assert done.returncode == 0
    assert "this machine has no viewer for it" in done.stderr
    assert (command.folder / done.stdout.strip()).is_file()
