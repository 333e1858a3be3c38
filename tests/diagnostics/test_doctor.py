"""doctor: every fault by name, with the command that fixes it, and never an image."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool._redaction import SecretStr
from flux2_tool.cli.sandbox import EXAMPLE_KEY
from flux2_tool.diagnostics.doctor.environment import check_packages, check_python, check_settings
from flux2_tool.diagnostics.doctor.finding import Finding
from flux2_tool.diagnostics.doctor.journal import explain_unusable
from flux2_tool.diagnostics.doctor.runapi import check_clock, check_service
from flux2_tool.diagnostics.doctor.worker import check_worker
from flux2_tool.journal import JournalError, ThisProcess, failure_reason, open_journal
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.http_client import open_http
from flux2_tool.sandbox import Fault, Sandbox
from flux2_tool.schema.install_text import install_version_text
from flux2_tool.schema.installation import installation_of
from flux2_tool.schema.manifest import load_manifest
from tests.support.command import Command, SandboxClock
from tests.support.harness import BASE_URL, MockService
from tests.support.keys import KEY


def _examined(command: Command, code: int = 0, **environ: str) -> dict[str, Mapping[str, Any]]:
    done = command.run("doctor", "--json", "--no-openclaw", **environ)
    assert done.returncode == code, done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] == (code == 0)
    worst = {"failure": 2, "warning": 1, "ok": 0}
    by_area: dict[str, Mapping[str, Any]] = {}
    for finding in found["findings"]:
        known = by_area.get(finding["area"])
        if known is None or worst[finding["state"]] > worst[known["state"]]:
            by_area[finding["area"]] = finding
    return by_area


def test_a_healthy_set_up_is_all_ok_and_spends_nothing(command: Command, sandbox: Sandbox) -> None:
    """The first thing to run when something is wrong must not be what costs money."""
    found = _examined(command)

    assert {finding["state"] for finding in found.values()} == {"ok"}
    assert set(found) >= {"python", "packages", "settings", "key", "runapi", "balance", "clock", "routes", "journal"}
    assert found["balance"]["facts"]["balance_usd"] == 100.0
    assert sandbox.ledger.creates == []
    assert not (Path(command.environ["FLUX2_TOOL_HOME"]) / "journal.db").exists()


def test_the_text_report_has_a_line_per_finding_and_a_count(command: Command) -> None:
    """Also the fix, where there is a problem."""
    fine = command.run("doctor", "--no-openclaw")
    broken = command.run("doctor", "--no-openclaw", RUNAPI_API_KEY="")

    assert fine.returncode == 0
    assert fine.stdout.splitlines()[-1] == "no problems found"
    assert "sk-… (18 characters) from RUNAPI_API_KEY" in fine.stdout
    assert broken.returncode == 3
    assert "failure  key" in broken.stdout
    assert "fix: set RUNAPI_API_KEY to a key from https://runapi.ai" in broken.stdout
    assert broken.stdout.splitlines()[-1] == "1 failure"


@pytest.mark.parametrize(
    ("environ", "area", "state", "said"),
    [
        ({"RUNAPI_API_KEY": "${RUNAPI_API_KEY}"}, "key", "failure", "placeholder"),
        ({"RUNAPI_API_KEY": '"sk-quoted-0123456"'}, "key", "failure", "quotes"),
        ({"RUNAPI_API_KEY": "wrong-key-0123456"}, "balance", "failure", "refused the key"),
        ({"RUNAPI_API_KEY": "sk-short"}, "key", "warning", "short for a key"),
        ({"RUNAPI_BASE_URL": "http://127.0.0.1:9"}, "runapi", "failure", "cannot be reached"),
        ({"RUNAPI_BASE_URL": "http://runapi.ai"}, "settings", "failure", "unencrypted"),
        ({"FLUX2_TOOL_WAIT_S": "soon"}, "settings", "failure", "FLUX2_TOOL_WAIT_S"),
        ({"TZ": "Nowhere/City"}, "settings", "warning", '"Nowhere/City", which this machine does not know'),
        ({"TZ": ":/dev/null"}, "settings", "warning", "which this machine does not know"),
        ({"TZ": "UTC+24"}, "settings", "warning", "which is 24 hours or more away from UTC"),
        ({"FLUX2_TOOL_WAITS": "3"}, "settings", "warning", "nearest: FLUX2_TOOL_WAIT_S"),
        ({"FLUX2_TOOL_JOURNAL": "off"}, "journal", "warning", "off"),
        ({"FLUX2_TOOL_HOME": "/proc/nowhere"}, "journal", "failure", "cannot be written to"),
        ({"FLUX2_TOOL_SOURCE_ROOTS": "/nowhere/at/all"}, "sources", "warning", "/nowhere/at/all"),
        ({"FLUX2_TOOL_SAVE_DIR": "/proc/nowhere"}, "pictures", "warning", "cannot be written to"),
        ({"RUNAPI_BASE_URL": "https://r.test", "HTTPS_PROXY": "ftp://p"}, "runapi", "failure", "HTTPS_PROXY has"),
    ],
)
def test_each_fault_is_named_with_its_fix(
    command: Command, environ: dict[str, str], area: str, state: str, said: str
) -> None:
    """A line that only says "failed" sends people to a forum."""
    done = command.run("doctor", "--json", "--no-openclaw", **environ)

    findings = [finding for finding in json.loads(done.stdout)["findings"] if finding["area"] == area]
    found = next(finding for finding in findings if finding["state"] == state)
    assert said in found["message"]
    assert found["fix"]
    assert done.returncode == (3 if state == "failure" else done.returncode)


@pytest.mark.parametrize(
    "zone", ["", "UTC", "Asia/Tokyo", ":Asia/Tokyo", "EST5EDT", "<+14>-14", "CET-1CEST,M3.5.0,M10.5.0/3"]
)
def test_a_zone_that_is_known_is_no_finding(command: Command, zone: str) -> None:
    """Nor one that says itself how far it is from UTC."""
    done = command.run("doctor", "--json", "--no-openclaw", TZ=zone)

    assert [one for one in json.loads(done.stdout)["findings"] if "TZ is" in one["message"]] == []


def test_a_variable_that_is_no_setting_has_its_nearest_as_fix(command: Command) -> None:
    """Whoever misspelt a cap wants the cap, not an unset variable; the token of `mcp --http` is no misspelling."""
    done = command.run(
        "doctor",
        "--json",
        "--no-openclaw",
        **dict.fromkeys(("FLUX2_TOOL_MCP_TOKEN", "FLUX2_TOOL_DAILY_CAP", "FLUX2_TOOL_WAITS", "FLUX2_TOOL_XYZ"), "3"),
    )

    said = {
        one["message"]: one["fix"] for one in json.loads(done.stdout)["findings"] if "is no setting" in one["message"]
    }
    assert said == {
        "FLUX2_TOOL_DAILY_CAP is set but is no setting (nearest: FLUX2_TOOL_DAILY_CAP_USD); it may be meant to limit "
        "what images cost, so none is made": "rename FLUX2_TOOL_DAILY_CAP to FLUX2_TOOL_DAILY_CAP_USD, or unset "
        "FLUX2_TOOL_DAILY_CAP",
        "FLUX2_TOOL_WAITS is set but is no setting (nearest: FLUX2_TOOL_WAIT_S)": "rename FLUX2_TOOL_WAITS to "
        "FLUX2_TOOL_WAIT_S, or unset FLUX2_TOOL_WAITS",
        "FLUX2_TOOL_XYZ is set but is no setting": "unset FLUX2_TOOL_XYZ",
    }


def test_a_misspelt_cap_is_a_failure_because_no_image_is_made(command: Command) -> None:
    """Whoever starts a service after `flux2-tool doctor` goes by its exit code; what only sets nothing is a warning."""
    misspelt = command.run("doctor", "--json", "--no-openclaw", FLUX2_TOOL_DAILY_CAP="3")
    unknown = command.run("doctor", "--json", "--no-openclaw", FLUX2_TOOL_XYZ="3")

    states = [
        [one["state"] for one in json.loads(done.stdout)["findings"] if "is no setting" in one["message"]]
        for done in (misspelt, unknown)
    ]
    assert states == [["failure"], ["warning"]]
    assert misspelt.returncode == 3


def test_what_is_set_well_is_reported_too(command: Command) -> None:
    """Who looks for the pictures, or wonders about the route, reads it here."""
    found = _examined(command, FLUX2_TOOL_SAVE_DIR=str(command.folder), FLUX2_TOOL_ROUTE="service")

    assert found["pictures"]["message"] == f"saved in {command.folder}"
    assert found["routes"]["message"] == "service, as the setting route says"


def test_an_old_python_is_a_failure() -> None:
    """An interpreter that was named by hand need not be one that pip would install this for."""
    assert [check_python(version).state for version in ((3, 10, 14), (3, 11, 0), (3, 15, 1))] == ["failure", "ok", "ok"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation ahead of all others on the path, without packages; the folder it stands in."""
    folder = tmp_path / "site-packages"
    (folder / "flux2_tool-9.9.9.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


def test_packages_that_are_missing_or_too_old_are_named(installed: Path) -> None:
    """An upgrade of something else in the same environment may have changed them."""
    for name, version, requires in (
        ("flux2_tool", "9.9.9", "httpx>=0.27.0\nRequires-Dist: PyYAML>=6.0.1\nRequires-Dist: click>=8.1.7"),
        ("httpx", "0.26.9", "anyio"),
        ("click", "8.10.0", "colorama"),
    ):
        metadata = installed / f"{name}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(exist_ok=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {requires}\n")

    found = check_packages()

    assert found.state == "failure"
    assert found.message == "httpx is 0.26.9, at least 0.27.0 is needed; PyYAML is missing"
    assert "install flux2-tool 9.9.9" in found.fix


def test_a_package_that_is_only_imported_is_a_warning(installed: Path) -> None:
    """Then nobody has seen to what it needs."""
    (installed / "flux2_tool-9.9.9.dist-info").rmdir()

    assert check_packages().state == "warning"


def test_a_service_that_redirects_elsewhere_is_a_failure_of_its_address() -> None:
    """A proxy's login page; the key must not go there, and the balance would be unknown."""
    elsewhere = MockService(lambda _: httpx.Response(302, headers={"location": "https://login.example/"}))

    async def main() -> list[Finding]:
        async with open_http(BASE_URL, transport=elsewhere) as http:
            client = RunapiClient(http, base_url=BASE_URL, api_key=SecretStr(KEY), user_agent="test/1")
            return await check_service(client, load_manifest(), {}, with_key=True, now=0.0)

    [found] = asyncio.run(main())

    assert (found.area, found.state) == ("runapi", "failure")
    assert "the key was not sent there" in found.message
    assert "RUNAPI_BASE_URL" in found.fix
    assert [request.url for request in elsewhere.seen if "runapi.test" not in request.url] == []


@pytest.mark.parametrize(
    ("environ", "wrong"),
    [
        pytest.param(
            {"FLUX2_TOOL_WAIT_S": "20", "FLUX2_TOOL_ROUTE": "gide", "FLUX2_TOOL_TIERS": "pro"},
            ["FLUX2_TOOL_ROUTE"],
            id="one of several",
        ),
        pytest.param(
            {"FLUX2_TOOL_ROUTE": "FLUX2_TOOL_TIERS", "FLUX2_TOOL_TIERS": "pro"},
            ["FLUX2_TOOL_ROUTE"],
            id="its value is another's name",
        ),
        pytest.param(
            {"FLUX2_TOOL_TIERS": "pro,huge,large", "FLUX2_TOOL_ROUTE": "auto", "FLUX2_TOOL_MAX_CREATES": "0"},
            ["FLUX2_TOOL_TIERS", "FLUX2_TOOL_MAX_CREATES"],
            id="two, one of them twice",
        ),
    ],
)
def test_the_fix_names_only_the_settings_that_are_wrong(environ: dict[str, str], wrong: list[str]) -> None:
    """Whoever unsets what it names must not lose a setting that is right."""
    _, [finding] = check_settings(load_manifest(), environ)

    assert finding.state == "failure"
    assert finding.fix == f"correct or unset {', '.join(wrong)}"


def test_the_sandboxs_example_key_is_a_whole_key(command: Command) -> None:
    """The first thing a newcomer sees of `doctor` must not be a warning about our own key."""
    assert _examined(command, RUNAPI_API_KEY=EXAMPLE_KEY)["key"]["state"] == "ok"


def test_an_account_without_money_is_a_failure(command: Command, sandbox: Sandbox) -> None:
    """Every image would be refused; the cheapest one says how much is missing."""
    sandbox.change({"balance_cents": 4})

    found = _examined(command, 3)["balance"]

    assert "not enough for one image (0.05 USD)" in found["message"]
    assert "top up" in found["fix"]
    # The cheapest of the tiers that may be used.
    assert _examined(command, FLUX2_TOOL_TIERS="pro,klein")["balance"]["state"] == "ok"


@pytest.mark.parametrize("status", [404, 429, 500])
def test_an_unknown_balance_is_a_warning(command: Command, sandbox: Sandbox, status: int) -> None:
    """Images may still be made."""
    sandbox.faults.queue(Fault(kind="status", on="account", status=status))

    assert _examined(command)["balance"]["state"] == "warning"


@pytest.mark.parametrize(
    ("date", "state"),
    [
        ("Mon, 23 Nov 2026 00:00:30 GMT", "ok"),
        ("Mon, 23 Nov 2026 00:01:40 GMT", "warning"),
        ("Sun, 22 Nov 2026 23:40:00 GMT", "failure"),
    ],
)
def test_clock_skew_is_reported(date: str, state: str) -> None:
    """Signatures and expiry dates depend on it."""
    (found,) = check_clock(date, 1_795_392_000.0)

    assert found.state == state
    assert (found.fix == "") == (state == "ok")


@pytest.mark.parametrize("date", ["", "soon", "Mon, 99 Foo 2026 00:00:30 GMT", "0"])
def test_an_unreadable_date_gives_no_clock_finding(date: str) -> None:
    """A header is data, too."""
    assert check_clock(date, 1_795_392_000.0) == []


def test_open_and_unknown_tasks_are_counted(command: Command, sandbox: Sandbox, clock: SandboxClock) -> None:
    """A request of unknown outcome may have been paid for."""
    command.run("generate", "a red fox")
    sandbox.faults.queue(Fault(kind="drop_after", on="create", times=20))
    command.run("generate", "a blue fox", "--wait", "0")

    found = _examined(command)["journal"]

    assert found["facts"]["tasks"] == 2
    assert found["facts"]["open"] + found["facts"]["unknown"] == 1
    assert (found["state"] == "warning") == (found["facts"]["unknown"] == 1)


def test_the_rest_of_the_daily_cap_is_reported(command: Command, sandbox: Sandbox) -> None:
    """Before an agent is refused in mid-chat."""
    command.run("generate", "a red fox")

    fine = _examined(command)["budget"]
    spent = _examined(command, FLUX2_TOOL_DAILY_CAP_USD="0.07")["budget"]

    assert (fine["state"], fine["facts"]) == ("ok", {"spent_usd": 0.05, "reserved_usd": 0.0, "cap_usd": 5.0})
    assert spent["state"] == "warning"
    assert "not enough for one image until " in spent["message"]
    assert "FLUX2_TOOL_DAILY_CAP_USD" in spent["fix"]


def test_known_routes_are_reported_and_none_is_tried(command: Command, sandbox: Sandbox) -> None:
    """Finding out would cost an image."""
    sandbox.change({"guide_route": False})
    before = _examined(command)["routes"]
    command.run("generate", "a red fox")
    command.run("generate", "a red fox", "--model", "flux-2-klein", FLUX2_TOOL_TIERS="klein")
    made = len(sandbox.ledger.creates)
    after = _examined(command)["routes"]

    assert "not known yet" in before["message"]
    assert after["facts"]["create"] == "service"
    assert "poll of the service flux" in after["message"]
    assert len(sandbox.ledger.creates) == made


def _examined_without_rights(command: Command, extra: dict[str, str]) -> dict[str, Any]:
    """Return the finding about the journal as a user without root's rights to every file has it."""
    rights = "-dac_override,-dac_read_search"
    own = [sys.executable, "-m", "flux2_tool", "doctor", "--json", "--no-openclaw"]
    done = subprocess.run(
        ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", *own],
        env={**command.environ, **extra},
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, Any] = {one["area"]: one for one in json.loads(done.stdout)["findings"]}["journal"]
    return found


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xaa" * (len(data) - 4096)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(_damage, id="damaged pages"),
        pytest.param(lambda path: path.write_bytes(b"no database at all" * 300), id="another file"),
    ],
)
def test_an_unusable_journal_is_a_failure(command: Command, harm: Any) -> None:
    """It lists what was paid for: the advice moves it away and keeps it."""
    command.run("generate", "a red fox")
    path = Path(command.environ["FLUX2_TOOL_HOME"]) / "journal.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for beside in path.parent.glob("journal.db-*"):
        beside.unlink()
    harm(path)

    found = _examined(command, 3)["journal"]

    assert "it is damaged" in found["message"]
    assert found["fix"].startswith(f"mkdir {path.parent}/journal-broken-")


def test_the_fix_for_a_damaged_journal_loses_no_record(command: Command, tmp_path: Path) -> None:
    """The newest records stand in the file beside it, which SQLite deletes as soon as the journal itself is gone."""
    folder = Path(command.environ["FLUX2_TOOL_HOME"])
    command.run("generate", "a red fox")
    opened = open_journal(folder, owner=ThisProcess(), now=1.0)
    opened.note_orphaned(command.tasks()[0]["record_id"])
    assert (folder / "journal.db-wal").stat().st_size > 0
    before = {file.name: file.read_bytes() for file in folder.glob("journal.db*")}
    _, fix = explain_unusable(JournalError("damaged", reason="damaged"), folder / "journal.db", now=1_795_392_000.0)

    subprocess.run(["/bin/sh", "-c", fix.partition("   ")[0]], check=True)
    command.run("generate", "a blue fox")

    (kept,) = folder.glob("journal-broken-*")
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == before
    assert [task["label"] for task in command.tasks()] == ["a-blue-fox"]
    opened.close()


def _busy(path: Path) -> None:
    with closing(sqlite3.connect(path)) as holder, closing(sqlite3.connect(path, timeout=0)) as late:
        holder.execute("BEGIN IMMEDIATE")
        late.execute("BEGIN IMMEDIATE")


def _read_only(path: Path) -> None:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("CREATE TABLE more (a)")


def _full(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("CREATE TABLE more AS SELECT zeroblob(100000)")


def _out_of_files(path: Path) -> None:
    raise OSError(errno.EMFILE, "Too many open files", str(path))


def _out_of_memory(path: Path) -> None:
    raise MemoryError


def _stale(path: Path) -> None:
    raise OSError(errno.ESTALE, "Stale file handle", str(path))


def _blocked(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    path.with_name("journal.db-wal").mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("SELECT * FROM records")


def _forbidden(path: Path) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


@pytest.mark.parametrize(
    ("harm", "said", "fix"),
    [
        pytest.param(_busy, "another process holds it", "lsof ", id="locked"),
        pytest.param(_read_only, "permissions", "chmod ", id="read-only"),
        pytest.param(_blocked, "permissions", "chmod ", id="there and not to be opened"),
        pytest.param(_forbidden, "permissions", "chmod ", id="another user's"),
        pytest.param(_full, "disk is full", "df ", id="full"),
        pytest.param(_out_of_files, "nothing says that the file", "ulimit -n", id="too many open files"),
        pytest.param(_out_of_memory, "nothing says that the file", "ulimit -v", id="no memory"),
        pytest.param(_stale, "nothing says that the file", "correct what", id="anything else"),
    ],
)
def test_the_fix_never_moves_an_intact_journal_away(tmp_path: Path, harm: Any, said: str, fix: str) -> None:
    """Who follows that advice forgets what was paid for, because of a file that was only in use."""
    path = tmp_path / "journal.db"
    sqlite3.connect(path).execute("CREATE TABLE records (a)").connection.close()
    with pytest.raises((sqlite3.Error, OSError, MemoryError)) as caught:
        harm(path)
    error = JournalError(str(caught.value), reason=failure_reason(caught.value, path))
    error.__cause__ = caught.value

    for exc in (caught.value, error):
        why, line = explain_unusable(exc, path, now=0.0)

        assert said in why
        assert line.startswith(fix)


@pytest.mark.skipif(shutil.which("setpriv") is None or os.geteuid() != 0, reason="only root can give up the right")
def test_a_journal_that_may_only_be_read_is_a_failure(command: Command) -> None:
    """Every call is refused then, with the advice to ask doctor."""
    command.run("generate", "a red fox")
    path = Path(command.environ["FLUX2_TOOL_HOME"]) / "journal.db"
    path.chmod(0o400)

    found = _examined_without_rights(command, {})

    assert found["state"] == "failure"
    assert "attempt to write a readonly database" in found["message"]
    assert found["fix"].startswith("chmod u+rwx ")


_REMOUNTED = """\
mount -t tmpfs none "$FLUX2_TOOL_HOME" && "$0" -m flux2_tool generate "a red fox" >&2 &&
mount -o remount,ro "$FLUX2_TOOL_HOME" && exec "$0" -m flux2_tool doctor --json --no-openclaw
"""
_UNSHARED = ["unshare", "--map-root-user", "--mount"]


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*_UNSHARED, "true"], check=False, capture_output=True).returncode,
    reason="needs a mount namespace",
)
def test_a_journal_on_a_read_only_disk_needs_no_chmod(command: Command) -> None:
    """Linux mounts a disk anew that has errors; no right of a file's helps then."""
    Path(command.environ["FLUX2_TOOL_HOME"]).mkdir()

    done = subprocess.run(
        [*_UNSHARED, "sh", "-c", _REMOUNTED, sys.executable],
        cwd=command.folder,
        env=dict(command.environ),
        capture_output=True,
        text=True,
        check=False,
    )

    found = {one["area"]: one for one in json.loads(done.stdout)["findings"]}["journal"]
    assert found["state"] == "failure"
    assert "mounted read-only" in found["message"]
    assert found["fix"].startswith("findmnt -T ")


def test_a_journal_that_others_can_read_is_a_warning(command: Command) -> None:
    """It holds prompts and links."""
    command.environ["FLUX2_TOOL_HOME"] += "/Application Support"
    command.run("generate", "a red fox")
    path = Path(command.environ["FLUX2_TOOL_HOME"]) / "journal.db"
    path.chmod(0o644)

    found = _examined(command)["journal"]

    assert (found["state"], found["fix"]) == ("warning", f"chmod 600 '{path}'")


def test_the_command_that_makes_a_missing_folder_is_one_for_a_shell(command: Command) -> None:
    """A folder's name may have blanks in it."""
    command.environ["FLUX2_TOOL_SOURCE_ROOTS"] = "/nowhere/my pictures"

    fix = _examined(command)["sources"]["fix"]

    assert fix == "mkdir -p '/nowhere/my pictures', or correct source_roots"


def test_wrong_sums_of_spending_are_a_warning_until_they_are_counted_anew(command: Command) -> None:
    """The caps would count a wrong amount."""
    command.run("generate", "a red fox")
    path = Path(command.environ["FLUX2_TOOL_HOME"]) / "journal.db"
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE spending SET spent = 0")
    before = _examined(command)["journal"]
    command.run("tasks", "prune")
    after = _examined(command)["journal"]

    assert (before["state"], after["state"]) == ("warning", "ok")
    assert "sums of spending differ" in before["message"]
    assert before["fix"].startswith("flux2-tool tasks prune")


def test_two_different_keys_are_a_warning(command: Command) -> None:
    """Which of them pays?"""
    config = command.folder / ".config" / "runapi" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"api_key": "sk-another-0123456789"}))

    found = _examined(command)["key"]

    assert found["state"] == "warning"
    assert "another key; RUNAPI_API_KEY wins" in found["message"]


def test_the_worker_is_started_without_the_key(tmp_path: Path) -> None:
    """It needs none to say its version, so it gets none: other users may list a process's environment."""
    program, listed = tmp_path / "python", tmp_path / "environment"
    program.write_text(f"#!/bin/sh\nenv > {listed}\necho 'No module named flux2_tool' >&2\nexit 1\n")
    program.chmod(0o755)

    found = check_worker(
        str(program), load_manifest(), {"HOME": str(tmp_path), "RUNAPI_API_KEY": KEY, "PATH": "/usr/bin:/bin"}
    )

    assert KEY not in listed.read_text()
    assert f"HOME={tmp_path}" in listed.read_text()
    assert found.state == "failure"
    assert "No module named flux2_tool" in found.message
    assert found.fix == install_version_text(load_manifest().version, installation_of(str(program)))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('echo \'{"jsonrpc":"2.0","id":1,"result":{"version":"0.0.1"}}\'', "has flux2-tool 0.0.1"),
        ("echo not json; echo '[]'; echo '{\"id\":1,\"result\":7}'", "it printed nothing"),
    ],
)
def test_another_worker_version_differs_from_no_worker(tmp_path: Path, script: str, said: str) -> None:
    """The one is fixed by an upgrade of that interpreter, the other may need another one."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)

    found = check_worker(str(program), load_manifest(), {"HOME": str(tmp_path)})

    assert found.state == "failure"
    assert said in found.message


def test_a_worker_that_hangs_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin would wait for it in the middle of a chat; the report must not."""
    monkeypatch.setattr("flux2_tool.diagnostics.doctor.worker.START_S", 0.2)
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)

    found = check_worker(str(program), load_manifest(), {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})

    assert found.state == "failure"
    assert "does not start the worker within" in found.message


def test_a_missing_interpreter_is_a_failure(tmp_path: Path) -> None:
    """After a Python upgrade the plugin names one that no longer exists."""
    found = check_worker(str(tmp_path / "gone"), load_manifest(), {})

    assert (found.state, found.fix) == ("failure", "flux2-tool openclaw install")


def test_a_missing_openclaw_is_only_a_warning(command: Command) -> None:
    """Who uses the command line alone needs none."""
    done = command.run("doctor", PATH="/usr/bin:/bin")

    assert done.returncode == 0
    assert "warning  openclaw" in done.stdout
    assert "npm install -g openclaw" in done.stdout


def test_a_data_folder_whose_name_is_too_long_is_a_failure(command: Command) -> None:
    """It has to explain what stops every other command."""
    found = _examined(command, 3, FLUX2_TOOL_HOME=str(command.folder / ("x" * 300)))["journal"]

    assert found["state"] == "failure"
    assert "File name too long" in found["message"]
    assert "FLUX2_TOOL_HOME" in found["fix"]


@pytest.mark.skipif(shutil.which("setpriv") is None or os.geteuid() != 0, reason="only root can give up the right")
@pytest.mark.parametrize("below", ["", "data"])
def test_a_data_folder_of_another_user_is_a_failure(command: Command, below: str) -> None:
    """Of a system service, for example; nothing in it may be looked at, not even whether it is there."""
    folder = command.folder / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)

    found = _examined_without_rights(command, {"FLUX2_TOOL_HOME": str(folder / below)})

    assert found["state"] == "failure"
    assert "permissions" in found["message"]
