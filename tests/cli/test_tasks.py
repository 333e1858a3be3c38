"""tasks, tasks prune and task --raw: what people find when they ask what became of their money."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flux2_tool._redaction import redact
from flux2_tool.cli.output import print_raw
from flux2_tool.cli.tasks import record_object
from flux2_tool.images.kept_files import kept_copy
from flux2_tool.sandbox import Fault, Sandbox
from flux2_tool.schema.manifest import load_manifest
from tests.support.command import Command, SandboxClock
from tests.support.journal import Machine, begun
from tests.support.keys import KEY
from tests.support.pictures import picture
from tests.support.waiting import wait_until

WEEK_S = 7 * 24 * 3600.0


def _age(command: Command, label: str, days: float) -> None:
    """Make a record older than a test can wait; there is no other way to let weeks pass in the user's own journal."""
    with sqlite3.connect(command.folder / "data" / "journal.db") as journal:
        changed = journal.execute(
            "UPDATE records SET created_at = created_at - :s, created_at_s = created_at_s - :s WHERE label = :label",
            {"s": days * 86400, "label": label},
        ).rowcount
    journal.close()
    assert changed == 1


def _fill(command: Command, sandbox: Sandbox) -> None:
    """Leave one task of each end: completed, failed, still processing, of unknown outcome, surely not created."""
    command.run("generate", "a red fox")
    command.run("generate", "a bad fox [fail]")
    sandbox.change({"duration_s": 3600})
    command.run("generate", "a slow fox", "--wait", "0")
    sandbox.faults.queue(Fault(kind="drop_after", on="create", times=20))
    command.run("generate", "a lost fox", "--wait", "0")
    sandbox.faults.clear()
    sandbox.faults.queue(Fault(kind="status", on="create", status=402))
    command.run("generate", "a poor fox")


def test_without_tasks_stdout_is_empty_and_stderr_says_so(bare: Command) -> None:
    """A new user sees an answer, a script sees no lines; no key is needed to look."""
    done = bare.run("tasks")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"no tasks in {bare.folder / 'data'}\n")
    assert bare.tasks() == []


def test_a_filter_that_leaves_nothing_is_not_an_empty_journal(command: Command) -> None:
    """Whoever asks for unknown outcomes must not read that nothing was ever requested."""
    command.run("generate", "a red fox")

    unknown = command.run("tasks", "--state", "unknown", "--state", "failed")
    newer = command.run("tasks", "--since", "2999-01-01")

    assert "no tasks of the state unknown or failed in " in unknown.stderr
    assert newer.stderr.endswith(" since then\n")
    assert (unknown.stdout, newer.stdout) == ("", "")


def test_the_list_says_of_each_task_what_became_of_it_and_what_it_cost(command: Command, sandbox: Sandbox) -> None:
    """One line a task, oldest first, made to be read and to be cut by a script."""
    _fill(command, sandbox)

    done = command.run("tasks")

    assert done.returncode == 0, done.stderr
    columns = [re.split(r"\s{2,}", line) for line in done.stdout.splitlines()]
    assert [(state, cost, label) for _, state, _, cost, label in columns] == [
        ("completed", "0.05 USD (billed)", "a-red-fox"),
        ("failed", "0.00 USD (billed)", "a-bad-fox-fail"),
        ("processing", "0.05 USD (list price)", "a-slow-fox"),
        ("unknown", "0.05 USD (list price)", "a-lost-fox"),
        ("not_created", "0.00 USD", "a-poor-fox"),
    ]
    made = [task["id"] for task in command.ledger()["tasks"]]
    references = [reference for _, _, reference, _, _ in columns]
    assert references[:3] == [f"task:{task_id}" for task_id in made[:3]]
    assert all(re.fullmatch(r"record:[0-9a-f]{8}", reference) for reference in references[3:])
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", at) for at, *_ in columns)


def test_the_json_list_holds_all_that_a_script_may_want(command: Command) -> None:
    """Fields are added later, never renamed."""
    result = json.loads(command.run("call", "--session", "s1", "text_to_image", '{"prompt": "a red fox"}').stdout)

    (record,) = command.tasks()

    times = {name: record.pop(name) for name in ("created_at", "accepted_at", "finished_at", "delivered_at")}
    assert all(datetime.fromisoformat(at).tzinfo is not None for at in times.values())
    assert sorted(times.values()) == [*times.values()]
    assert re.fullmatch(r"[0-9a-f-]{36}", record.pop("record_id"))
    assert record == {
        "ref": result["task"]["ref"],
        "task_id": result["task"]["id"],
        "state": "completed",
        "tool": "text_to_image",
        "model": "flux-2-pro-text-to-image",
        "resolution": "1k",
        "label": "a-red-fox",
        "session": "s1",
        "base_url": command.environ["RUNAPI_BASE_URL"].removesuffix("/v1"),
        "cost": {"usd": 0.05, "basis": "billed"},
        "images": [
            {"url": result["images"][0]["url"], "expires_at": result["images"][0]["expires_at"], "expired": False}
        ],
        "set": None,
        "error": None,
    }


def test_what_failed_keeps_its_reason_and_costs_nothing(command: Command) -> None:
    """Sums over the list must be right."""
    command.run("generate", "a bad fox [fail]")

    (record,) = command.tasks()

    assert record["error"]["code"] == "generation_failed"
    assert record["error"]["message"]
    assert record["cost"] == {"usd": 0.0, "basis": "billed"}
    assert record["images"] == []


def test_since_leaves_the_older_ones_out(command: Command) -> None:
    """A length as people say it, or a date on this machine's calendar."""
    command.run("generate", "an old fox")
    command.run("generate", "a new fox")
    _age(command, "an-old-fox", 2.5)
    yesterday = (datetime.now().astimezone() - timedelta(days=1)).date().isoformat()

    listed = {
        since: [record["label"] for record in command.tasks("--since", since)]
        for since in ("30m", "1.5h", "3d", yesterday, "2020-01-01T10:00+02:00", "9999-12-31")
    }

    assert listed == {
        "30m": ["a-new-fox"],
        "1.5h": ["a-new-fox"],
        "3d": ["an-old-fox", "a-new-fox"],
        yesterday: ["a-new-fox"],
        "2020-01-01T10:00+02:00": ["an-old-fox", "a-new-fox"],
        "9999-12-31": [],
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(
            ["--since", "yesterday"], '"yesterday" is neither a length such as 30m, 2h or 7d nor a date', id="w"
        ),
        pytest.param(["--since", "-2h"], "neither a length", id="a negative length"),
        pytest.param(["--since", ""], "neither a length", id="nothing"),
        pytest.param(["--state", "done"], "'completed'", id="an unknown state"),
        pytest.param(["prune", "--older-than", "-1"], "--older-than", id="days below 0"),
        pytest.param(["prune", "--older-than", "nan"], "not a number", id="no number"),
        pytest.param(["prune", "--older-than", "inf"], "0<=x<=36500", id="days without end"),
        pytest.param(["prune", "--older-than", "9" * 20], "0<=x<=36500", id="more days than a journal can have"),
        pytest.param(["prine"], "prine", id="an unknown command"),
    ],
)
def test_a_wrong_filter_is_named_with_what_is_allowed(bare: Command, arguments: list[str], said: str) -> None:
    """Exit code 2, and nothing on stdout."""
    done = bare.run("tasks", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "hint:  flux2-tool tasks" in done.stderr


def test_states_filter_the_list_and_prune_keeps_what_is_open_or_unknown(command: Command, sandbox: Sandbox) -> None:
    """What is unknown is what somebody must decide about; forgetting an open task would lose a paid picture."""
    _fill(command, sandbox)
    unknown = command.tasks("--state", "unknown")
    over = command.tasks("--state", "failed", "--state", "completed")
    sending = command.tasks("--state", "sending")

    same_day = command.run("tasks", "prune", "--older-than", "0")
    for label in ("a-red-fox", "a-bad-fox-fail", "a-slow-fox", "a-lost-fox", "a-poor-fox"):
        _age(command, label, 1)
    done = command.run("tasks", "prune", "--older-than", "0")

    # Today's spending and what the guard counts are still needed.
    assert same_day.stderr == "forgot 0 tasks older than 0 days\n"
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "forgot 3 tasks older than 0 days\n"
    assert [record["state"] for record in command.tasks()] == ["processing", "unknown"]
    assert [record["label"] for record in unknown] == ["a-lost-fox"]
    assert [record["state"] for record in over] == ["completed", "failed"]
    assert sending == []


def test_a_request_of_unknown_outcome_can_be_forgotten_by_its_id(command: Command, sandbox: Sandbox) -> None:
    """Somebody has looked at the dashboard: the reservation is free again, and the prompt makes an image again."""
    sandbox.faults.queue(
        Fault(kind="drop_after", on="create"),
        Fault(kind="status", on="create", status=409, times=9, value="the input differs"),
    )
    command.run("generate", "a lost fox")
    (lost,) = command.tasks()
    again = command.run("generate", "a lost fox")
    sandbox.faults.clear()
    listed = command.run("tasks")

    forgotten = command.run("tasks", "forget", lost["ref"])
    twice = command.run("tasks", "forget", lost["ref"])
    made = command.run("generate", "a lost fox", "--json")

    assert lost["state"] == "unknown"
    assert f"tasks forget {lost['record_id'][:8]}" in listed.stderr
    assert again.returncode != 0
    assert (forgotten.returncode, forgotten.stderr) == (0, f"forgot {lost['ref']}, a-lost-fox\n")
    assert twice.returncode == 4
    assert "tasks --state unknown" in twice.stderr
    assert json.loads(made.stdout)["task"]["joined"] is False


def test_what_nobody_may_send_again_is_listed_as_unknown(command: Command, sandbox: Sandbox) -> None:
    """A command that was killed in the middle of its POST, and never typed again."""
    sandbox.faults.queue(Fault(kind="latency", on="create", accepted=True, delay_s=60))
    with command.start("generate", "a lost fox") as process:
        wait_until(lambda: command.ledger()["summary"]["tasks"] == 1)
        process.kill()
    before = command.tasks()
    _age(command, "a-lost-fox", 1)

    listed = command.run("tasks", "--state", "unknown")

    assert [record["state"] for record in before] == ["sending"]
    assert "a-lost-fox" in listed.stdout
    assert "resume --resend" in listed.stderr


def test_a_picture_without_a_tasks_id_is_listed_with_its_link(command: Command, sandbox: Sandbox) -> None:
    """It was paid for, and there is no other way to it."""
    made = command.run("generate", "a red fox", "--json")
    url = json.loads(made.stdout)["images"][0]["url"]
    with_id = command.run("tasks")
    with contextlib.closing(sqlite3.connect(command.folder / "data" / "journal.db")) as raw, raw:
        raw.execute("UPDATE records SET task_id = NULL")

    assert url not in with_id.stdout
    assert url in command.run("tasks").stdout


def test_a_spoilt_record_says_what_to_do_about_the_journal(command: Command) -> None:
    """A traceback helps nobody."""
    command.run("generate", "a red fox")
    with contextlib.closing(sqlite3.connect(command.folder / "data" / "journal.db")) as raw, raw:
        raw.execute("UPDATE records SET images = 'x'")

    done = command.run("tasks")

    assert (done.returncode, done.stdout) == (3, "")
    assert "flux2-tool doctor" in done.stderr


def test_prune_keeps_a_month_unless_told_otherwise(command: Command) -> None:
    """Nobody loses last week's pictures by tidying up."""
    command.run("generate", "an old fox")
    command.run("generate", "a new fox")
    _age(command, "an-old-fox", 31)
    _age(command, "a-new-fox", 29)

    done = command.run("tasks", "prune")

    assert done.stderr == "forgot 1 task older than 30 days\n"
    assert [record["label"] for record in command.tasks()] == ["a-new-fox"]


def test_prune_removes_the_copies_of_forgotten_tasks(command: Command) -> None:
    """OpenClaw's plugin keeps them in the same data folder. Those of other tasks stay, and so do others' files."""
    command.run("generate", "a fox")
    folder = command.folder / "data" / "pictures"
    source = command.folder / "source.png"
    source.write_bytes(picture())
    old, named = (kept_copy(source, folder, f"20200101-120000-a-fox-tsk_{number}") for number in (1, 2))
    (folder / "mine.png").write_bytes(picture())
    with sqlite3.connect(command.folder / "data" / "journal.db") as journal:
        saved = json.dumps([{"path": str(named), "width_px": 1, "height_px": 1}])
        journal.execute("UPDATE records SET saved = ?", (saved,))
    journal.close()

    done = command.run("tasks", "prune")

    assert done.stderr == "forgot 0 tasks older than 30 days, and removed 1 kept picture\n"
    assert sorted(path.name for path in folder.iterdir()) == sorted([named.name, "mine.png"])
    assert not old.exists()


def test_an_expired_link_says_so(command: Command, clock: SandboxClock) -> None:
    """A dead link that looks alive costs its reader time."""
    clock.offset_s = -WEEK_S - 60
    made = command.run("generate", "a red fox")
    task_id = command.ledger()["tasks"][0]["id"]

    listed = command.run("tasks")
    (record,) = command.tasks()
    fetched = command.run("task", task_id)

    assert "expired_url" in made.stderr
    assert "(link expired)" in listed.stdout
    assert record["images"][0]["expired"] is True
    assert fetched.returncode == 0
    assert "warning: expired_url: " in fetched.stderr


def test_a_link_that_lives_says_nothing(command: Command) -> None:
    """The warning must mean something."""
    made = command.run("generate", "a red fox")

    assert "expired" not in made.stderr
    assert "expired" not in command.run("tasks").stdout


def _raw(done_stdout: str) -> dict[str, Any]:
    (line,) = done_stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_raw_prints_the_services_answer_without_keys_and_signatures(command: Command) -> None:
    """It goes into bug reports, so it must be safe to paste."""
    made = json.loads(command.run("generate", "a red fox", "--json").stdout)
    signature = re.search(r"X-Amz-Signature=([0-9a-f]+)", made["images"][0]["url"])
    assert signature is not None

    done = command.run("task", made["task"]["id"], "--raw")

    assert done.returncode == 0, done.stderr
    answer = _raw(done.stdout)
    assert answer["status"] == "completed"
    assert answer["usage"]["cost"] == 0.05
    assert "X-Amz-Signature=…" in answer["images"][0]["url"]
    assert signature[1] not in done.stdout + done.stderr


def test_raw_hides_a_key_that_the_service_repeats(command: Command, sandbox: Sandbox) -> None:
    """Some services quote the request in their errors."""
    sandbox.faults.queue(Fault(kind="failed", on="create", value=f"the key {KEY} \x1b[31mmade this\u202e"))
    command.run("generate", "a red fox")
    task_id = command.ledger()["tasks"][0]["id"]

    done = command.run("task", f"task:{task_id}", "--raw")

    assert done.returncode == 0, done.stderr
    assert _raw(done.stdout)["status"] == "failed"
    assert "the key [key]" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert not set("\x1b\u202e") & set(done.stdout)


def test_raw_of_a_running_task_is_the_answer_of_this_moment(command: Command, sandbox: Sandbox) -> None:
    """It does not wait for the image."""
    sandbox.change({"duration_s": 3600})
    command.run("generate", "a red fox", "--wait", "0")

    done = command.run("task", command.ledger()["tasks"][0]["id"], "--raw")

    assert done.returncode == 0, done.stderr
    assert _raw(done.stdout)["status"] in ("pending", "processing")


def test_raw_of_another_machines_task_asks_the_service(command: Command) -> None:
    """The journal knows only what was begun here."""
    command.run("generate", "a red fox")
    task_id = command.ledger()["tasks"][0]["id"]

    done = command.run("task", task_id, "--raw", FLUX2_TOOL_HOME=str(command.folder / "elsewhere"))

    assert _raw(done.stdout)["status"] == "completed"


@pytest.mark.parametrize(
    ("task_id", "code", "said"),
    [
        pytest.param("tsk_nobody", 4, "tsk_nobody", id="a task nobody knows"),
        pytest.param("a b", 2, "task_id", id="no task id at all"),
    ],
)
def test_raw_without_an_answer_is_an_error(command: Command, task_id: str, code: int, said: str) -> None:
    """stdout stays empty, so that a script does not read prose."""
    done = command.run("task", task_id, "--raw")

    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


@pytest.mark.parametrize(("price_usd", "basis"), [(0.05, "list price"), (0.06, "expected"), (None, "unknown")])
def test_a_price_that_was_quoted_is_not_called_the_list_price(
    tmp_path: Path, price_usd: float | None, basis: str
) -> None:
    """Whoever compares it with the list would look for an error that is none."""
    machine = Machine(tmp_path)

    record = begun(machine.begin(machine.open(), price_usd=price_usd))
    machine.close()

    assert record_object(record)["cost"] == {"usd": price_usd, "basis": basis}


def test_raw_text_that_is_no_whole_json_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A very long response is cut, and its beginning is worth more than an error."""
    cut = redact({"images": ["x" * 100] * 200})

    assert print_raw(cut, tool=load_manifest().tools["get_image_task"]) == 0

    assert capsys.readouterr().out == f"{cut}\n"
