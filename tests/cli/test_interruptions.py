"""Killed, interrupted, lost and racing commands: one request is paid once, and its image can be had.

What was billed is read from the sandbox's own ledger.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.sandbox import Fault, Sandbox
from tests.support.command import Command, SandboxClock, read_until
from tests.support.waiting import wait_until

HOUR_S = 3600.0


@pytest.fixture
def slow(sandbox: Sandbox) -> Sandbox:
    """The sandbox with images that take an hour of its clock."""
    sandbox.change({"duration_s": HOUR_S})
    return sandbox


def _kill_in_mid_generation(command: Command, *arguments: str) -> str:
    """Kill a command that waits for an accepted task; return the task's id."""
    with command.start(*arguments) as process:
        seen = read_until(process, "(task ")
        process.kill()
    assert process.returncode == -signal.SIGKILL
    found = re.search(r"\(task ([^)]+)\)", seen)
    assert found is not None
    return found[1]


def _kill_before_the_answer(command: Command, sandbox: Sandbox, *arguments: str) -> None:
    """Kill a command whose request was accepted, but not answered."""
    sandbox.faults.queue(Fault(kind="latency", on="create", accepted=True, delay_s=60))
    with command.start(*arguments) as process:
        wait_until(lambda: command.ledger()["summary"]["tasks"] == 1)
        process.kill()


def _kill_while_saving(command: Command, sandbox: Sandbox, *arguments: str) -> None:
    """Kill a command whose image is made and on its way to disk."""
    sandbox.faults.queue(Fault(kind="latency", on="storage", delay_s=60))
    with command.start(*arguments, "--output", "pictures") as process:
        wait_until(lambda: [record["state"] for record in command.tasks()] == ["completed"])
        process.kill()


def _interrupt(process: subprocess.Popen[str]) -> tuple[str, str]:
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=60)


def _object(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_killed_generate_is_listed_and_finished_by_resume(
    command: Command, slow: Sandbox, clock: SandboxClock
) -> None:
    """The machine may lose power at any moment; the picture is paid for."""
    task_id = _kill_in_mid_generation(command, "generate", "a red fox")
    (listed,) = command.tasks()
    shown = command.run("tasks")
    clock.offset_s = 2 * HOUR_S

    done = command.run("resume")

    assert "hint:  flux2-tool resume" in shown.stderr
    assert (listed["ref"], listed["state"]) == (f"task:{task_id}", "processing")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http://127.0.0.1")
    assert "1 to finish" in done.stderr
    assert f"task:{task_id}" in done.stderr
    assert command.billed() == 1
    assert len(slow.ledger.creates) == 1


def test_what_resume_has_printed_is_over(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """Twice resumed is not twice made, and an equal call afterwards is a new image."""
    _kill_in_mid_generation(command, "generate", "a red fox")
    clock.offset_s = 2 * HOUR_S
    slow.change({"duration_s": 0.1})
    command.run("resume")

    again = command.run("resume")
    later = command.run("generate", "a red fox", "--json")

    assert (again.returncode, again.stdout, again.stderr) == (0, "", "nothing was interrupted\n")
    assert _object(later)["task"]["joined"] is False
    assert command.billed() == 2


def test_an_equal_call_without_a_session_joins_a_killed_one(
    command: Command, slow: Sandbox, clock: SandboxClock
) -> None:
    """People press the up arrow and Enter; that must not cost a second picture."""
    task_id = _kill_in_mid_generation(command, "generate", "a red fox")
    clock.offset_s = 2 * HOUR_S

    done = command.run("generate", "a red fox", "--json")

    assert done.returncode == 0, done.stderr
    assert (_object(done)["task"]["id"], _object(done)["task"]["joined"]) == (task_id, True)
    assert "interrupted" in done.stderr
    assert "--new makes another" in done.stderr
    assert command.billed() == 1


def test_another_prompt_never_joins(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """Distinct wishes are distinct pictures."""
    _kill_in_mid_generation(command, "generate", "a red fox")
    clock.offset_s = 2 * HOUR_S
    slow.change({"duration_s": 0.1})

    done = command.run("generate", "a blue fox", "--json")

    assert _object(done)["task"]["joined"] is False


def test_new_makes_another_image_whatever_was_interrupted(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """Who says --new knows what it costs."""
    _kill_in_mid_generation(command, "generate", "a red fox")
    clock.offset_s = 2 * HOUR_S
    slow.change({"duration_s": 0.1})

    done = command.run("generate", "a red fox", "--new", "--json")

    assert _object(done)["task"]["joined"] is False
    assert command.billed() == 2


@pytest.mark.parametrize("then", [("resume", "--json"), ("generate", "a red fox", "--json")], ids=["resume", "again"])
def test_a_request_killed_before_its_answer_is_sent_again_under_its_key(
    command: Command, sandbox: Sandbox, then: tuple[str, ...]
) -> None:
    """Nobody here knows the task's id yet, and RunAPI makes and bills it all the same."""
    _kill_before_the_answer(command, sandbox, "generate", "a red fox")
    (listed,) = command.tasks()

    done = command.run(*then)

    assert (listed["state"], listed["task_id"]) == ("sending", None)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    result = found[0] if isinstance(found, list) else found
    first, second = sandbox.ledger.creates
    assert (second.outcome, second.body, second.idempotency_key) == ("replayed", first.body, first.idempotency_key)
    assert result["task"]["id"] == second.task_id
    assert command.billed() == 1


def test_a_resumed_task_that_failed_is_in_the_list_and_on_stderr(command: Command, sandbox: Sandbox) -> None:
    """A script reads the list, its log the line; the exit code is that of the worst."""
    _kill_before_the_answer(command, sandbox, "generate", "a red fox [fail]")

    done = command.run("resume", "--json")

    (found,) = json.loads(done.stdout)
    assert done.returncode == 4
    assert found["error"]["code"] == "generation_failed"
    assert "error: " in done.stderr


@pytest.mark.parametrize("session", [(), ("--session", "s1")], ids=["without a session", "with one"])
def test_an_image_that_was_made_but_never_printed_is_not_paid_again(
    command: Command, sandbox: Sandbox, session: tuple[str, ...]
) -> None:
    """Killed in the last moment, while the picture was on its way to disk."""
    _kill_while_saving(command, sandbox, "generate", "a red fox", *session)
    listed = command.run("tasks").stdout

    joined = command.run("generate", "a red fox", *session, "--output", "pictures")
    again = command.run("generate", "a red fox", *session, "--json")

    assert "(not shown yet)" in listed
    assert joined.returncode == 0, joined.stderr
    assert Path(joined.stdout.strip()).is_file()
    assert "never shown" in joined.stderr
    assert _object(again)["task"]["joined"] is False
    assert command.billed() == 2


def test_an_image_whose_reader_had_left_is_not_paid_again(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """The host that started the command died while it waited: nobody has read the link."""
    call = ("call", "--session", "s1", "text_to_image", '{"prompt": "a red fox"}')
    with command.start(*call) as process:
        read_until(process, "(task ")
        assert process.stdout is not None
        process.stdout.close()
        clock.offset_s = 2 * HOUR_S
    (listed,) = command.tasks()

    again = command.run(*call)

    assert (listed["state"], listed["delivered_at"]) == ("completed", None)
    assert _object(again)["task"]["id"] == listed["task_id"]
    assert command.billed() == 1


def test_a_session_joins_what_is_still_running(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """An agent's host that timed out calls again while the first call still waits."""
    with command.start("generate", "a red fox", "--session", "s1") as process:
        read_until(process, "(task ")
        second = command.run("generate", "a red fox", "--session", "s1", "--wait", "0", "--json")
        other = command.run("generate", "a red fox", "--session", "s2", "--wait", "0", "--json")
        alone = command.run("generate", "a red fox", "--wait", "0", "--json")
        clock.offset_s = 2 * HOUR_S
        stdout, stderr = process.communicate(timeout=60)

    assert process.returncode == 0, stderr
    assert stdout.startswith("http")
    joined = {name: _object(done)["task"]["joined"] for name, done in
              {"same": second, "other": other, "none": alone}.items()}  # fmt: skip
    assert joined == {"same": True, "other": False, "none": False}
    assert command.billed() == 3


def test_a_session_joins_what_it_was_never_shown_once(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """Completed while nobody of the session looked: the next equal call gets it, the one after makes a new one."""
    session = ("generate", "a red fox", "--session", "s1", "--json")
    task_id = _object(command.run(*session, "--wait", "0"))["task"]["id"]
    clock.offset_s = 2 * HOUR_S
    slow.change({"duration_s": 0.1})
    seen_elsewhere = command.run("task", task_id)

    shown = command.run(*session)
    next_one = command.run(*session)

    assert seen_elsewhere.returncode == 0
    assert (_object(shown)["task"]["id"], _object(shown)["task"]["joined"]) == (task_id, True)
    assert _object(next_one)["task"]["joined"] is False
    assert command.billed() == 2


def test_new_makes_another_image_in_a_session_too(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """The one way to ask for two equal pictures at once."""
    session = ("generate", "a red fox", "--session", "s1", "--json")
    command.run(*session, "--wait", "0")

    done = command.run(*session, "--wait", "0", "--new")

    assert _object(done)["task"]["joined"] is False
    assert command.ledger()["summary"]["tasks"] == 2


@pytest.mark.parametrize("count", [2, 4])
def test_racing_calls_of_one_session_are_billed_once(
    command: Command, slow: Sandbox, clock: SandboxClock, count: int
) -> None:
    """Several processes read the same journal in the same moment; only one may pay."""
    call = ("call", "--session", "s1", "text_to_image", '{"prompt": "a red fox"}')
    processes = [command.start(*call) for _ in range(count)]
    for process in processes:
        read_until(process, "(task ")
    clock.offset_s = 2 * HOUR_S

    ends = [process.communicate(timeout=120) for process in processes]

    assert [process.returncode for process in processes] == [0] * count, ends
    tasks = [json.loads(stdout)["task"] for stdout, _ in ends]
    assert len({task["id"] for task in tasks}) == 1
    assert sorted(task["joined"] for task in tasks) == [False, *[True] * (count - 1)]
    assert command.billed() == 1
    assert len(slow.ledger.creates) == 1


def test_who_joined_goes_on_when_the_first_is_killed(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """The second call must not wait for a process that is gone."""
    call = ("call", "--session", "s1", "text_to_image", '{"prompt": "a red fox"}')
    with command.start(*call) as first:
        read_until(first, "(task ")
        with command.start(*call) as second:
            read_until(second, "(task ")
            first.kill()
            clock.offset_s = 2 * HOUR_S
            stdout, stderr = second.communicate(timeout=60)

    assert second.returncode == 0, stderr
    assert json.loads(stdout)["task"]["joined"] is True
    assert command.billed() == 1


def test_ctrl_c_prints_the_command_that_fetches_the_image_and_it_does(
    command: Command, slow: Sandbox, clock: SandboxClock
) -> None:
    """Copy, paste, Enter, picture."""
    with command.start("generate", "a red fox") as process:
        read_until(process, "(task ")
        stdout, stderr = _interrupt(process)
    printed = re.search(r"^hint: .*: flux2-tool (.+)$", stderr, flags=re.MULTILINE)
    assert printed is not None, stderr
    clock.offset_s = 2 * HOUR_S

    fetched = command.run(*shlex.split(printed[1]))

    assert (process.returncode, stdout) == (130, "")
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stdout.startswith("http")
    assert command.billed() == 1


def test_ctrl_c_on_a_set_prints_how_to_fetch_each_picture(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """Those with a task by its own command, and one without an answer by the command that finishes it."""
    slow.faults.queue(Fault(kind="latency", on="create", accepted=True, delay_s=60))
    with command.start("generate", "a red fox", "--count", "3") as process:
        wait_until(lambda: sum(record["task_id"] is not None for record in command.tasks()) == 2)
        stdout, stderr = _interrupt(process)
    printed = re.findall(r"^hint: .*: flux2-tool (task .+)$", stderr, flags=re.MULTILINE)
    clock.offset_s = 2 * HOUR_S

    fetched = [command.run(*shlex.split(one)) for one in printed]
    resumed = command.run("resume")

    assert (process.returncode, stdout) == (130, "")
    assert [done.returncode for done in fetched] == [0, 0], stderr
    assert "hint:  what has no task id yet, flux2-tool resume finishes" in stderr
    assert resumed.stdout.startswith("http")
    assert command.billed() == 3


def test_ctrl_c_before_the_answer_prints_how_to_fetch_the_image(command: Command, sandbox: Sandbox) -> None:
    """There is no task id to print yet; the request may be paid for all the same."""
    sandbox.faults.queue(Fault(kind="latency", on="create", accepted=True, delay_s=60))
    with command.start("generate", "a red fox") as process:
        wait_until(lambda: command.ledger()["summary"]["tasks"] == 1)
        stdout, stderr = _interrupt(process)

    fetched = command.run("resume")

    assert (process.returncode, stdout) == (130, "")
    assert stderr.count("error: ") == 1
    assert "flux2-tool resume\n" in stderr
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stdout.startswith("http")
    assert command.billed() == 1


def test_ctrl_c_during_resume_loses_nothing(command: Command, slow: Sandbox, clock: SandboxClock) -> None:
    """Impatience is no reason to lose a picture either."""
    task_id = _kill_in_mid_generation(command, "generate", "a red fox")
    with command.start("resume") as process:
        read_until(process, "1 to finish")
        _, stderr = _interrupt(process)
    clock.offset_s = 2 * HOUR_S

    done = command.run("resume")

    assert process.returncode == 130
    assert f"flux2-tool task {task_id}" in stderr
    assert done.stdout.startswith("http")
    assert command.billed() == 1


def test_resume_waits_no_longer_than_it_is_told(command: Command, slow: Sandbox) -> None:
    """A cron job wants its turn to end; the task stays and is named."""
    task_id = _kill_in_mid_generation(command, "generate", "a red fox")

    done = command.run("resume", "--wait", "0")

    assert (done.returncode, done.stdout) == (6, "")
    assert f"flux2-tool task {task_id}" in done.stderr
    assert [record["state"] for record in command.tasks()] == ["processing"]


def test_resume_takes_up_several_and_leaves_another_accounts_alone(
    command: Command, slow: Sandbox, clock: SandboxClock
) -> None:
    """Each key pays for its own, and one result does not hide another."""
    for prompt in ("a red fox", "a blue fox [fail]"):
        _kill_in_mid_generation(command, "generate", prompt)
    command.run("generate", "a fox of somebody else", "--wait", "0", RUNAPI_API_KEY="sk-test-somebody-else")
    clock.offset_s = 2 * HOUR_S

    done = command.run("resume")

    assert done.returncode == 4
    assert len(done.stdout.splitlines()) == 1
    assert "2 to finish" in done.stderr
    assert "error: " in done.stderr
    assert [record["state"] for record in command.tasks()] == ["completed", "failed", "processing"]


# ---- answers that were lost too long ago -----------------------------------------------------------------------------


def _lose_the_answer(command: Command, sandbox: Sandbox) -> str:
    """Leave a request that RunAPI accepted and whose answer never came; return how it is listed."""
    sandbox.faults.queue(Fault(kind="drop_after", on="create", times=50))
    done = command.run("generate", "a lost fox", "--wait", "0")
    sandbox.faults.clear()
    assert done.returncode == 5
    assert "whether this image is charged is not known" in done.stderr
    (record,) = command.tasks("--state", "unknown")
    reference: str = record["ref"]
    return reference


def test_a_request_lost_too_long_ago_is_sent_again_only_when_told(command: Command, sandbox: Sandbox) -> None:
    """RunAPI may have forgotten the key by then, so sending it again may cost: that is the owner's decision."""
    reference = _lose_the_answer(command, sandbox)
    late = {"FLUX2_TOOL_RESEND_WINDOW_S": "0"}
    sent = len(sandbox.ledger.creates)

    listed = command.run("tasks")
    resumed = command.run("resume", **late)
    repeated = command.run("generate", "a lost fox", **late)
    untouched = len(sandbox.ledger.creates)
    resent = command.run("resume", "--resend", reference, **late)

    assert resumed.stderr.splitlines() == [
        "nothing was interrupted",
        "hint:  a request of unknown outcome: "
        f"flux2-tool resume --resend {reference.removeprefix('record:')} sends it once more",
        f"hint:  flux2-tool tasks forget {reference.removeprefix('record:')} settles it, "
        "once the RunAPI dashboard has shown its outcome",
    ]
    assert resumed.stderr.splitlines()[1] in listed.stderr
    assert repeated.returncode == 5
    assert f"flux2-tool resume --resend {reference.removeprefix('record:')}" in repeated.stderr
    assert untouched == sent
    assert resent.returncode == 0, resent.stderr
    assert resent.stdout.startswith("http")
    assert sandbox.ledger.creates[-1].outcome == "replayed"
    assert command.billed() == 1
    assert [record["state"] for record in command.tasks()] == ["completed"]


def test_a_request_lost_a_moment_ago_is_sent_again_by_itself(command: Command, sandbox: Sandbox) -> None:
    """Within the window RunAPI surely knows the key."""
    _lose_the_answer(command, sandbox)

    done = command.run("resume")

    assert done.returncode == 0, done.stderr
    assert sandbox.ledger.creates[-1].outcome == "replayed"
    assert command.billed() == 1


def test_resend_makes_a_new_image_where_the_service_forgot_the_key(command: Command, sandbox: Sandbox) -> None:
    """The help says so; here it is seen."""
    reference = _lose_the_answer(command, sandbox)
    sandbox.change({"idempotency_life_s": 0})

    done = command.run("resume", "--resend", reference)

    assert done.returncode == 0, done.stderr
    assert command.billed() == 2


@pytest.mark.parametrize(
    ("record", "code", "said"),
    [
        pytest.param("record:00000000", 4, "flux2-tool tasks --state unknown", id="nobody's"),
        pytest.param("", 2, "no record id", id="nothing, which every id begins with"),
        pytest.param("a", 2, "no record id", id="a letter, which may mean several"),
        pytest.param("tsk_abc123", 2, "no record id", id="a task"),
    ],
)
def test_a_wrong_record_is_not_sent(command: Command, sandbox: Sandbox, record: str, code: int, said: str) -> None:
    """The wrong one sent again could be the wrong picture paid for."""
    _lose_the_answer(command, sandbox)
    sent = len(sandbox.ledger.creates)

    done = command.run("resume", "--resend", record)

    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(sandbox.ledger.creates) == sent


# ---- a journal that cannot be used -----------------------------------------------------------------------------------


_UNUSABLE = (
    ("cannot be opened", "make room on the disk, fix the permissions, or run flux2-tool doctor"),
    ("is a folder", "move away what is at "),
)


def _break(command: Command, how: str) -> None:
    data = command.folder / "data"
    data.mkdir()
    if how == "corrupt":
        (data / "journal.db").write_bytes(b"this is no journal " * 1000)
    elif how == "a folder":
        (data / "journal.db").mkdir()
    else:
        data.rmdir()
        data.write_text("a file where the data folder should be", encoding="utf-8")


@pytest.mark.parametrize(
    ("how", "arguments"),
    [
        ("corrupt", ["generate", "a red fox"]),
        ("a folder", ["generate", "a red fox"]),
        ("no data folder", ["generate", "a red fox"]),
        ("corrupt", ["remix", "blue", "https://example.com/a.png"]),
        ("corrupt", ["tasks"]),
        ("a folder", ["tasks", "prune"]),
        ("corrupt", ["resume"]),
        ("no data folder", ["resume", "--resend", "record:1a2b3c4d"]),
    ],
)
def test_without_a_usable_journal_nothing_is_sent(command: Command, how: str, arguments: list[str]) -> None:
    """Money must not be spent on what could be forgotten, and "nothing was interrupted" must not be a guess."""
    _break(command, how)

    done = command.run(*arguments)

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines()[-2].startswith("error: ")
    said, advice = _UNUSABLE[how == "a folder"]
    assert f"journal.db {said}" in done.stderr
    assert f"hint:  {advice}" in done.stderr.replace("hint:  Move", "hint:  move")
    assert command.ledger()["creates"] == []


def test_a_call_without_a_usable_journal_is_an_error_object(command: Command) -> None:
    """Programs branch on the code."""
    _break(command, "corrupt")

    done = command.run("call", "text_to_image", '{"prompt": "a red fox"}')

    error = _object(done)["error"]
    assert done.returncode == 3
    assert (error["code"], error["charged"], error["retryable"]) == ("journal_unavailable", "no", False)


@pytest.mark.parametrize("journal", ["off", "best_effort"])
def test_who_goes_on_without_a_journal_is_warned(command: Command, journal: str) -> None:
    """The image comes, and so does the price of not keeping books."""
    _break(command, "corrupt")

    done = command.run("generate", "a red fox", FLUX2_TOOL_JOURNAL=journal)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http")
    assert "warning: journal_unavailable: " in done.stderr


def test_a_journal_that_is_off_is_not_written(command: Command) -> None:
    """Off means off."""
    command.run("generate", "a red fox", FLUX2_TOOL_JOURNAL="off")

    assert not (command.folder / "data" / "journal.db").exists()


def test_resume_without_a_journal_says_why_it_cannot(command: Command) -> None:
    """Nothing is remembered, so there is nothing to take up."""
    done = command.run("resume", FLUX2_TOOL_JOURNAL="off")

    assert (done.returncode, done.stdout) == (3, "")
    assert "the task journal is off" in done.stderr
    assert "hint:  unset FLUX2_TOOL_JOURNAL" in done.stderr


def test_the_journal_is_for_its_owner_alone(command: Command) -> None:
    """It holds prompts and signed links."""
    command.run("generate", "a red fox")

    data = command.folder / "data"
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / "journal.db").stat().st_mode & 0o777 == 0o600
