"""probe: asks before it pays, pays for one image, and writes down nothing that is secret."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from flux2_tool.sandbox import Fault, Sandbox
from tests.support.command import Command, SandboxClock
from tests.support.keys import KEY
from tests.support.terminal import run_at_terminal
from tests.support.waiting import wait_until


def _rows(transcript: str) -> dict[str, list[tuple[str, str]]]:
    """Return what was seen and the verdict, by what the row is about."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in transcript.splitlines():
        if line.startswith("| ") and not line.startswith(("| what", "| ---")):
            what, _, seen, verdict = (part.strip() for part in line.strip("| \n").rsplit("|", 3) if part)
            found.setdefault(what.partition("|")[0].strip(), []).append((seen, verdict))
    return found


def _probed(command: Command, code: int = 0) -> str:
    done = command.run("probe", "--yes", "--output", "probe.md")
    assert done.returncode == code, done.stderr
    assert done.stdout == "probe.md\n"
    return (command.folder / "probe.md").read_text(encoding="utf-8")


def test_probe_pays_nothing_under_a_misspelt_cap(command: Command, sandbox: Sandbox) -> None:
    """It is told before anybody is asked to pay."""
    done = command.run("probe", "--yes", "--output", "probe.md", FLUX2_TOOL_DAYLY_CAP_USD="0.01")

    assert done.returncode == 3
    assert "FLUX2_TOOL_DAYLY_CAP_USD is set but is no setting (nearest: FLUX2_TOOL_DAILY_CAP_USD)" in done.stderr
    assert not (command.folder / "probe.md").exists()
    assert sandbox.ledger.creates == []


def test_probe_sends_nothing_before_consent(command: Command, sandbox: Sandbox) -> None:
    """It costs money: the price stands before the question."""
    done = command.run("probe")

    assert done.returncode == 3
    assert "It costs 0.05 USD (quote of " in done.stderr
    assert "flux2-tool probe --yes" in done.stderr
    assert sandbox.ledger.creates == []
    assert list(command.folder.glob("flux2-probe-*")) == []


@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [(b"n\n", 3, "nothing was sent"), (b"\n", 3, "nothing was sent"), (b"\x04", 130, "interrupted")],
)
def test_a_person_who_does_not_agree_pays_nothing(
    command: Command, sandbox: Sandbox, keys: bytes, code: int, said: str
) -> None:
    """The answer that needs no thought is no."""
    shown = run_at_terminal(command, "probe", keys=keys)

    assert shown.returncode == code
    assert "Pay for it? [y/N]" in shown.screen
    assert said in shown.screen
    assert sandbox.ledger.creates == []


def test_a_transcript_that_cannot_be_kept_goes_to_stdout(
    command: Command, sandbox: Sandbox, clock: SandboxClock
) -> None:
    """It was paid for. Here its folder is deleted while the image is made."""
    folder = command.folder / "reports"
    folder.mkdir()
    sandbox.change({"duration_s": 3600})

    with command.start("probe", "--yes", "--output", "reports/probe.md") as process:
        wait_until(lambda: len(sandbox.ledger.creates) == 1)
        folder.rmdir()
        clock.offset_s += 3600
        stdout, stderr = process.communicate(timeout=120)

    assert process.returncode == 3
    assert "| create, guide route |" in stdout
    assert "cannot write reports/probe.md: No such file or directory" in stderr
    assert "the transcript is on stdout" in stderr


def test_probe_pays_for_one_image_and_judges_every_row(command: Command, sandbox: Sandbox) -> None:
    """The table was never tried against the live service; this is the trial."""
    transcript = _probed(command)
    found = _rows(transcript)

    assert command.billed() == 1
    assert b"flux-2-pro-text-to-image" in sandbox.ledger.creates[0].body
    assert found["create, guide route"] == [("HTTP 200", "right")]
    assert found["create, service route"] == [("not tried", "not seen")]
    assert len(found["poll"]) == 5
    assert {verdict for rows in found.values() for _, verdict in rows} == {"right", "not seen"}
    assert command.tasks()[0]["state"] == "completed"


def test_a_deviation_from_the_contract_is_named(command: Command, sandbox: Sandbox) -> None:
    """Each row by itself, so that the correction is one line."""
    sandbox.change({"guide_route": False, "poll_paths": ["api_tasks"], "result_field": "outputs", "cost_field": "none"})
    found = _rows(_probed(command))

    assert found["create, guide route"] == [("HTTP 404", "wrong")]
    assert found["create, service route"] == [("HTTP 200", "right")]
    assert [verdict for _, verdict in found["poll"]] == ["wrong", "wrong", "wrong", "right", "wrong"]
    assert found["field of the pictures"] == [("outputs", "wrong")]
    assert found["field of the cost"] == [("none of them", "wrong")]


def test_the_transcript_has_no_key_signature_or_task_id(command: Command, sandbox: Sandbox) -> None:
    """It is meant to be attached to a report that everybody reads."""
    sandbox.change({"status_link": "location"})
    transcript = _probed(command)
    task = sandbox.ledger.creates[0].task_id

    assert task
    assert task not in transcript
    assert KEY not in transcript
    for secret in ("Bearer", "X-Amz-Signature=", "a red fox", "127.0.0.1"):
        assert secret not in transcript
    assert "X-Amz-Signature" in transcript
    assert "authorization" in transcript


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (Fault(kind="status", on="create", status=402), 4, "insufficient_credits"),
        (Fault(kind="status", on="create", status=404, times=2), 5, "unexpected_answer"),
        (Fault(kind="failed", on="create", value="the words of the service"), 4, "generation_failed"),
    ],
)
def test_a_failed_call_is_in_the_transcript(
    command: Command, sandbox: Sandbox, fault: Fault, code: int, said: str
) -> None:
    """That is when somebody probes."""
    sandbox.faults.queue(fault)

    transcript = _probed(command, code)

    assert f"The call failed: {said}. Charged: no." in transcript
    assert "POST /v1/text_to_image" in transcript
    # Its head promises names and types only.
    assert "the words of the service" not in transcript


def test_an_interrupted_probe_keeps_its_transcript(command: Command, sandbox: Sandbox) -> None:
    """The image may be paid for by then."""
    sandbox.change({"duration_s": 3600})

    with command.start("probe", "--yes", "--output", "probe.md") as process:
        assert process.stderr is not None
        while "queue" not in (line := process.stderr.readline()) and "being made" not in line:
            assert line
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert process.returncode == 130
    assert "The call failed: cancelled" in (command.folder / "probe.md").read_text(encoding="utf-8")


def test_an_unwritable_transcript_fails_before_paying(command: Command, sandbox: Sandbox) -> None:
    """It is looked at before the image is paid for."""
    (command.folder / "probe.md").write_text("an earlier one")
    exists = command.run("probe", "--yes", "--output", "probe.md")
    nowhere = command.run("probe", "--yes", "--output", str(Path("nowhere") / "probe.md"))

    assert (exists.returncode, nowhere.returncode) == (3, 3)
    assert "exists already" in exists.stderr
    assert (command.folder / "probe.md").read_text() == "an earlier one"
    assert sandbox.ledger.creates == []


def test_an_unexpected_response_suggests_probe(command: Command, sandbox: Sandbox) -> None:
    """Whoever meets one is the one who can find out."""
    sandbox.faults.queue(Fault(kind="status", on="create", status=404, times=2))

    done = command.run("call", "text_to_image", '{"prompt": "a red fox"}')

    assert "`flux2-tool probe` (costs one image)" in done.stdout
