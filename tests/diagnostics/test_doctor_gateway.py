"""doctor's look at the gateway, with an `openclaw` command that answers what a test wants."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.cli import main
from flux2_tool.credentials import key_fingerprint
from flux2_tool.diagnostics.doctor.finding import Finding
from flux2_tool.diagnostics.doctor.openclaw import check_openclaw
from flux2_tool.diagnostics.doctor.runapi import check_key
from flux2_tool.journal import ClaimRules, ThisProcess, open_journal
from flux2_tool.openclaw.gateway_report import METHOD, PluginReport, base_url_of
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.settings import load_settings
from tests.openclaw.conftest import FakeOpenClaw
from tests.support.journal import Machine

KEY = "sk-secret-0123456789"
MANIFEST = load_manifest()
RUNNING: dict[str, Any] = {
    "version": MANIFEST.version,
    "manifest_sha256": MANIFEST.sha256,
    "key": {"source": "environment", "state": "set", "fingerprint": key_fingerprint(KEY)},
    "base_url": None,
    "worker": {"problem": None},
    "settings": {},
    "kept": [],
    "needs_reload": [],
    "account": {
        "source": "explicit",
        "fingerprint": key_fingerprint(KEY),
        "service": {"base_url": "https://runapi.test", "status": 200, "skew_s": 1.0, "balance_usd": 4.0},
        "spending": {"spent_usd": 0.1, "reserved_usd": 0.05, "cap_usd": 5.0, "until": 1795392000.0},
    },
}

KEYLESS = {**RUNNING, "key": {"source": None, "state": "missing", "fingerprint": None}, "account": None}


def _look(openclaw: FakeOpenClaw, **environ: str) -> list[Finding]:
    """Examine the gateway's side from a shell with these variables."""
    shell = {"HOME": str(openclaw.command.parent), "PATH": f"{openclaw.command.parent}:/usr/bin:/bin", **environ}
    credentials, _ = check_key(load_settings({}, overrides={"home": shell["HOME"]}), shell)
    return check_openclaw(None, MANIFEST, shell, credentials, now=time.time()).findings


def _installed(openclaw: FakeOpenClaw, said: Any = None, **state: Any) -> None:
    main(["openclaw", "install", "--yes"])
    openclaw.change(gateway={} if said is None else {METHOD: said, "tools.catalog": {"groups": []}}, **state)


def _only(findings: list[Finding], area: str) -> Finding:
    (found,) = [finding for finding in findings if finding.area == area]
    return found


def test_a_healthy_gateway_is_all_ok(openclaw: FakeOpenClaw) -> None:
    """Version, plugin, settings, key and worker, each looked at where it counts."""
    _installed(openclaw, RUNNING)

    findings = _look(openclaw, RUNAPI_API_KEY=KEY)

    assert {finding.state for finding in findings} == {"ok"}
    assert {finding.area for finding in findings} == {
        "openclaw",
        "plugin",
        "gateway journal",
        "gateway pictures",
        "budget",
        "gateway",
        "gateway key",
        "runapi",
        "balance",
        "clock",
        "shell key",
        "worker",
    }
    assert KEY not in repr(findings)


def test_a_key_in_the_shell_alone_is_a_failure_with_its_fix(openclaw: FakeOpenClaw) -> None:
    """The commonest fault: exported in a terminal, never seen by the service. The line names the variable only."""
    _installed(openclaw, {**KEYLESS})

    found = _only(_look(openclaw, RUNAPI_API_KEY=KEY), "gateway key")

    assert found.state == "failure"
    assert "RUNAPI_API_KEY has one here, but the gateway's environment has no RUNAPI_API_KEY" in found.message
    assert found.fix == ('echo "RUNAPI_API_KEY=$RUNAPI_API_KEY" >> ~/.openclaw/.env && openclaw gateway restart')


@pytest.mark.parametrize(
    ("key", "state", "said"),
    [
        ({"source": "environment", "state": "placeholder"}, "failure", "nothing filled in"),
        ({"source": "environment", "state": "empty"}, "failure", "is empty"),
        ({"source": "provider", "state": "set", "fingerprint": key_fingerprint(KEY)}, "ok", "provider runapi"),
        ({"source": "environment", "state": "set", "fingerprint": "0" * 16}, "ok", "its environment"),
        ({"source": "environment", "state": "set"}, "ok", "its environment"),
        ({}, "failure", "has no RUNAPI_API_KEY"),
        ({"state": ["odd"], "source": 7, "fingerprint": {}}, "failure", "has no RUNAPI_API_KEY"),
    ],
)
def test_the_state_of_the_gateways_key_is_reported(
    openclaw: FakeOpenClaw,
    key: dict[str, Any],
    state: str,
    said: str,
) -> None:
    """A placeholder, an empty value and another account each look like "the key is refused" from the chat."""
    _installed(openclaw, {**RUNNING, "key": key, "account": None})

    found = _only(_look(openclaw, RUNAPI_API_KEY=KEY), "gateway key")

    assert found.state == state
    assert said in found.message
    assert (found.fix == "") == (state == "ok")


@pytest.mark.parametrize(
    "key",
    [
        {"source": "environment", "state": "placeholder"},
        {"source": "environment", "state": "empty"},
    ],
)
def test_a_wrong_key_in_the_environment_is_fixed_at_its_source(
    openclaw: FakeOpenClaw,
    key: dict[str, Any],
) -> None:
    """A line in `.env` never replaces a variable that is set already: who adds one has changed nothing."""
    _installed(openclaw, {**RUNNING, "key": key})

    found = _only(_look(openclaw, RUNAPI_API_KEY=KEY), "gateway key")

    assert "correct RUNAPI_API_KEY where the gateway gets it" in found.fix
    assert "echo" not in found.fix


def test_another_key_in_the_shell_is_a_note(openclaw: FakeOpenClaw) -> None:
    """The gateway's makes the images. That of OpenClaw's config takes precedence over every variable."""
    _installed(
        openclaw, {**RUNNING, "key": {"source": "provider", "state": "set", "fingerprint": "0" * 16}, "account": None}
    )

    findings = _look(openclaw, RUNAPI_API_KEY=KEY)
    found = _only(findings, "shell key")

    assert _only(findings, "gateway key").state == "ok"
    assert found.state == "note"
    assert "another key than the gateway's" in found.message
    assert found.fix.endswith(
        "correct models.providers.runapi.apiKey in OpenClaw's config, then: openclaw gateway restart"
    )


@pytest.mark.parametrize(
    ("reported", "base_url"),
    [
        pytest.param("https://runapi.test/v1/", "https://runapi.test", id="normalized"),
        pytest.param("http://runapi.test", None, id="unencrypted"),
        pytest.param("nonsense", None, id="no address"),
        pytest.param(None, None, id="the default"),
    ],
)
def test_the_cap_is_checked_for_the_address_the_gateway_uses(reported: str | None, base_url: str | None) -> None:
    """What a sandbox cost counts for no cap; an address that the worker would refuse is not asked about."""
    assert base_url_of(PluginReport(base_url=reported)) == base_url


def test_an_invalid_openclaw_config_is_a_failure_with_its_fix(openclaw: FakeOpenClaw) -> None:
    """OpenClaw itself starts no gateway with it; nothing else about the plugin can be known."""
    _installed(openclaw, RUNNING)
    openclaw.change(invalid=True)

    version, found = _look(openclaw, RUNAPI_API_KEY=KEY)

    assert (version.area, version.state) == ("openclaw", "ok")
    assert (found.area, found.state) == ("openclaw", "failure")
    assert "must be a list" in found.message
    assert "openclaw config validate" in found.fix


def test_without_a_key_the_fix_is_no_command_with_a_placeholder(openclaw: FakeOpenClaw) -> None:
    """People run what they are given; then a placeholder is the key, and RunAPI refuses it."""
    _installed(openclaw, {**KEYLESS})

    fixes = [finding.fix for finding in _look(openclaw) if "RUNAPI_API_KEY" in finding.fix]

    assert fixes == ["add a line RUNAPI_API_KEY=… with your key to ~/.openclaw/.env, then: openclaw gateway restart"]


def test_a_key_in_the_vendors_file_is_enough_for_the_gateway(openclaw: FakeOpenClaw) -> None:
    """Its environment needs none then; a failure would send people to break a working set-up."""
    _installed(openclaw, {**KEYLESS})
    path = openclaw.command.parent / ".config" / "runapi" / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"api_key": KEY}))

    found = _only(_look(openclaw), "gateway key")

    assert (found.state, found.message) == ("ok", f"none in its environment; its worker takes the one in {path}")


def test_a_hung_gateway_loses_only_its_own_findings(
    openclaw: FakeOpenClaw,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is known of everything else is worth the more when it does."""
    _installed(openclaw, RUNNING)
    openclaw.change(hangs=True, log=[])
    monkeypatch.setattr("flux2_tool.openclaw.gateway_report.GATEWAY_TIMEOUT_S", 0.5)

    findings = _look(openclaw, RUNAPI_API_KEY=KEY)

    assert "did not end within" in _only(findings, "gateway").message
    assert len([arguments for arguments in openclaw.state["log"] if arguments[0] == "gateway"]) == 1
    assert {finding.area for finding in findings} >= {"openclaw", "plugin"}


def test_a_failing_worker_is_reported_with_its_own_hint(
    openclaw: FakeOpenClaw,
) -> None:
    """It may start in this shell and not there."""
    problem = {
        "error": {
            "code": "configuration_error",
            "message": "no such file\x1b[2J",
            "hint": "Nothing was sent. To fix it, run: this",
        }
    }
    _installed(openclaw, {**RUNNING, "worker": {"problem": problem}})

    found = _only(_look(openclaw), "worker")

    assert (found.state, found.message, found.fix) == ("failure", "no such file[2J", "this")


def test_an_older_plugin_in_the_gateway_is_a_warning(openclaw: FakeOpenClaw) -> None:
    """Nothing changed after an upgrade: because the gateway was not restarted."""
    _installed(openclaw, {**RUNNING, "version": "0.0.1"})

    found = _only(_look(openclaw), "gateway")

    assert (found.state, found.fix) == ("warning", "flux2-tool openclaw install, then openclaw gateway restart")


def test_a_plugin_without_the_doctor_method_is_older(openclaw: FakeOpenClaw) -> None:
    """It cannot be asked; a restart loads the one that can."""
    _installed(openclaw)

    found = _only(_look(openclaw), "gateway")

    assert (found.state, found.fix) == ("warning", "openclaw gateway restart")


def test_an_unreachable_gateway_still_leaves_the_key_findings(openclaw: FakeOpenClaw) -> None:
    """A key in this shell alone is worth a word even then."""
    main(["openclaw", "install", "--yes"])

    shell_only = _only(_look(openclaw, RUNAPI_API_KEY=KEY), "gateway")
    (openclaw.command.parent / ".openclaw").mkdir(exist_ok=True)
    (openclaw.command.parent / ".openclaw" / ".env").write_text(f"RUNAPI_API_KEY={KEY}\n")
    kept = _only(_look(openclaw, RUNAPI_API_KEY=KEY), "gateway")

    assert shell_only.state == kept.state == "warning"
    assert "Gateway not reachable" in shell_only.message
    assert '"RUNAPI_API_KEY=$RUNAPI_API_KEY" >> ~/.openclaw/.env' in shell_only.fix
    assert kept.fix == "openclaw gateway status"


@pytest.mark.parametrize("said", [[], 7, None, {}, {"key": 1, "worker": 2, "version": {"a": 1}}])
def test_a_malformed_report_of_the_plugin_crashes_nothing(openclaw: FakeOpenClaw, said: Any) -> None:
    """Another version may answer anything."""
    main(["openclaw", "install", "--yes"])
    openclaw.change(gateway={METHOD: said})

    assert all(finding.message for finding in _look(openclaw))


def test_a_missing_plugin_and_hidden_tools_have_their_fixes(openclaw: FakeOpenClaw) -> None:
    """As `openclaw status` tells them."""
    missing = _only(_look(openclaw, RUNAPI_API_KEY=KEY), "plugin")
    _installed(openclaw, RUNNING, config={"tools": {"allow": ["read"]}})
    hidden = _only(_look(openclaw), "tools")

    assert (missing.state, missing.fix) == ("failure", "flux2-tool openclaw install")
    assert hidden.state == "failure"
    assert hidden.fix.startswith("openclaw config set tools.allow")


def test_a_wrong_setting_of_the_plugin_is_a_failure(openclaw: FakeOpenClaw) -> None:
    """The worker refuses every call because of it, and only says so in the chat."""
    _installed(openclaw, RUNNING, config={"plugins.entries.flux2.config": {"wait_s": -1}})

    findings = [finding for finding in _look(openclaw) if finding.area == "plugin" and finding.state == "failure"]

    assert "plugins.entries.flux2.config.wait_s" in findings[0].message


def test_a_masked_webhook_secret_is_ok(openclaw: FakeOpenClaw) -> None:
    """OpenClaw shows no secret; that it is set must be enough, or every gateway with webhooks looks broken."""
    config = {"callback_public_url": "https://agent.example.com", "callback_secret": "__OPENCLAW_REDACTED__"}
    in_force = {**RUNNING, "settings": {**config, "callback_secret": "…"}}
    _installed(openclaw, in_force, config={"plugins.entries.flux2.config": config})

    whole = [finding.state for finding in _look(openclaw, RUNAPI_API_KEY=KEY)]
    del config["callback_secret"]
    openclaw.change(gateway={METHOD: {**RUNNING, "settings": config}, "tools.catalog": {"groups": []}})
    openclaw.change(config={"plugins.entries.flux2.config": config})
    half = [finding.message for finding in _look(openclaw, RUNAPI_API_KEY=KEY) if finding.state == "failure"]

    assert set(whole) == {"ok"}
    assert half == ["callback_public_url and callback_secret belong together: one is set, the other is not"]


def test_only_settings_other_than_defaults_are_listed(openclaw: FakeOpenClaw) -> None:
    """OpenClaw answers with every default filled in."""
    config = {"journal": "required", "tiers": ["pro"]}
    _installed(openclaw, RUNNING, config={"plugins.entries.flux2.config": config})

    said = [finding.message for finding in _look(openclaw) if finding.area == "plugin"]

    assert "plugins.entries.flux2.config sets tiers" in said


def test_the_gateways_own_cap_and_journal_are_checked(openclaw: FakeOpenClaw, tmp_path: Path) -> None:
    """This shell's settings are none of the gateway's: its cap may be reached while the shell's is not."""
    home = tmp_path / "of the gateway"
    journal = open_journal(home, owner=ThisProcess(), now=time.time())
    with closing(journal):
        journal.claim([Machine(home).intent(reserved_usd=0.05)], ClaimRules(join="never"), now=time.time())
    config = {"home": str(home), "daily_cap_usd": 0.08}
    silent = {**RUNNING, "account": None, "settings": config}
    _installed(openclaw, silent, config={"plugins.entries.flux2.config": config})

    findings = _look(openclaw, RUNAPI_API_KEY=KEY)

    assert f"{home}/journal.db, 1 tasks" in _only(findings, "gateway journal").message
    budget = _only(findings, "budget")
    assert budget.state == "warning"
    assert "0.05 reserved of 0.08 today: not enough for one image" in budget.message


def test_an_old_openclaw_is_a_failure_and_a_missing_one_a_warning(openclaw: FakeOpenClaw, tmp_path: Path) -> None:
    """Missing may be meant; too old is not."""
    openclaw.change(version="2025.1.1")
    (too_old,) = _look(openclaw)
    openclaw.command.rename(tmp_path / "elsewhere")
    (missing,) = _look(openclaw)

    assert (too_old.state, missing.state) == ("failure", "warning")
    assert "too old" in too_old.message


def test_the_command_includes_the_gateways_findings(openclaw: FakeOpenClaw, capsys: pytest.CaptureFixture[str]) -> None:
    """One object for scripts, with the gateway's side in it."""
    _installed(openclaw, RUNNING)
    capsys.readouterr()

    code = main(["doctor", "--json"])

    found = json.loads(capsys.readouterr().out)
    # RunAPI itself is out of reach here, and only asked by the gateway.
    assert code == 0
    assert {"gateway key", "worker", "python", "journal"} <= {finding["area"] for finding in found["findings"]}
    assert KEY not in json.dumps(found)
    assert any(sys.executable in finding["message"] for finding in found["findings"])


def test_a_setting_that_is_not_in_force_is_named_with_its_fix(openclaw: FakeOpenClaw) -> None:
    """OpenClaw saves a change that it does not apply; whoever lowered a cap believes that it binds."""
    saved = {"daily_cap_usd": 1, "spenders": "owner", "max_image_usd": 0.1}
    report = {**RUNNING, "settings": {"daily_cap_usd": 3, "max_image_usd": 0.05}, "kept": ["max_image_usd"]}
    _installed(openclaw, report, config={"plugins.entries.flux2.config": saved})

    found = {one.message: one.fix for one in _look(openclaw, RUNAPI_API_KEY=KEY) if one.state == "failure"}

    where, reload = "plugins.entries.flux2.config", "openclaw plugins reload flux2 --accept-capabilities"
    assert found[f"{where}.daily_cap_usd is 1, but 3 is in force in the gateway"] == reload
    assert found[f"{where}.spenders is owner, but everyone is in force in the gateway"] == reload
    kept = found[f"{where}.max_image_usd is gone from the config; 0.05 stays in force, as it was last"]
    assert kept.startswith(f"openclaw config set {where}.max_image_usd '0.05'")
    assert len(found) == 3


@pytest.mark.parametrize(
    ("key", "said", "fix"),
    [
        pytest.param("dayly_cap_usd", "(nearest: daily_cap_usd); it may be meant to guard money", True, id="a cap"),
        pytest.param("colour", "is not a setting; it has no effect", False, id="another"),
    ],
)
def test_a_key_that_is_no_setting_is_named(openclaw: FakeOpenClaw, key: str, said: str, fix: bool) -> None:
    """A misspelt cap limits nothing, and OpenClaw takes it."""
    config = {key: 1}
    _installed(openclaw, {**RUNNING, "settings": config}, config={"plugins.entries.flux2.config": config})

    [found] = [one for one in _look(openclaw, RUNAPI_API_KEY=KEY) if one.state == "failure"]

    assert said in found.message
    assert found.fix.endswith(f"openclaw config unset plugins.entries.flux2.config.{key}")
    assert ("openclaw config set plugins.entries.flux2.config.daily_cap_usd VALUE" in found.fix) == fix


def test_the_gateways_account_is_judged_and_not_the_shells(openclaw: FakeOpenClaw) -> None:
    """A refused key is corrected where the gateway has it; a shell without one is no failure."""
    service = {"base_url": "https://other.test", "status": 401, "error": "refused", "is_refused": True}
    _installed(openclaw, {**RUNNING, "account": {**RUNNING["account"], "service": service}})

    findings = _look(openclaw)

    balance, shell = _only(findings, "balance"), _only(findings, "shell key")
    assert (balance.state, balance.message) == ("failure", "refused")
    assert "correct RUNAPI_API_KEY where the gateway gets it" in balance.fix
    assert "https://other.test responds (HTTP 401)" in _only(findings, "runapi").message
    assert (shell.state, shell.fix) == ("note", "")
