"""Checks of OpenClaw and the installed plugin: version, tools, the plugin's settings, its journal and cap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from flux2_tool._folders import state_folder
from flux2_tool.credentials import DEFAULT_BASE_URL, KEY_VARIABLE, Credentials
from flux2_tool.diagnostics.doctor import gateway, journal
from flux2_tool.diagnostics.doctor.environment import not_writable
from flux2_tool.diagnostics.doctor.finding import Finding, failure, ok, warning
from flux2_tool.diagnostics.doctor.shared_journal import judge
from flux2_tool.engine.kept_report import kept_report
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.images.kept_files import FOLDER
from flux2_tool.openclaw.gateway_report import AccountReport, PluginReport
from flux2_tool.openclaw.openclaw_cli import find_openclaw_cli
from flux2_tool.openclaw.status import Status, get_status
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import Settings, load_settings

# Take the place of a masked secret: base64, as a webhook secret is, and what is valid for settings of other kinds.
_PLACEHOLDER: Final = "bWFza2Vk"
_PLACEHOLDERS: Final = {"journal_url": "postgresql://masked/masked"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClawChecks:
    """The findings about OpenClaw.

    Attributes:
        judges_account: Whether key, RunAPI and balance among them are the gateway's, which makes the images.
        judges_budget: Whether the budget among them is the plugin's.
    """

    findings: list[Finding]
    judges_account: bool = False
    judges_budget: bool = False


def check_openclaw(
    command: str | None,
    manifest: Manifest,
    environ: Mapping[str, str],
    credentials: Credentials | None,
    *,
    now: float,
) -> OpenClawChecks:
    """Check OpenClaw, the plugin in it, and the gateway where the plugin runs.

    Args:
        command: The openclaw command; None for the one on PATH.
        manifest: This package's.
        environ: The shell's.
        credentials: The shell's key, to compare the gateway's with.
        now: The wall clock, in seconds since 1970.
    """
    try:
        cli = find_openclaw_cli(command, environ)
    except ConfigurationError as exc:
        if command is None and "not on PATH" in exc.message:
            return OpenClawChecks(findings=[warning("openclaw", f"{exc.message}: its side was not checked", exc.hint)])
        return OpenClawChecks(findings=[failure("openclaw", exc.message, exc.hint)])
    findings = [ok("openclaw", f"{cli.version} at {cli.command}", version=cli.version)]
    try:
        status = get_status(cli, manifest, environ)
    except ConfigurationError as exc:
        findings.append(failure("openclaw", exc.message, exc.hint or "openclaw config validate"))
        return OpenClawChecks(findings=findings)
    findings += _check_plugin(status)
    if status.plugin_version is None:
        return OpenClawChecks(findings=findings)
    report = status.running if isinstance(status.running, PluginReport) else None
    settings, settings_finding = _check_settings(status.config, manifest, environ)
    findings.append(settings_finding)
    if settings is not None:
        findings += _check_journal(settings, report, manifest, now=now)
    findings += gateway.check_gateway(status, manifest, environ, credentials, now=now)
    return OpenClawChecks(
        findings=findings,
        judges_account=report is not None and report.key is not None,
        judges_budget=settings is not None,
    )


def _check_plugin(status: Status) -> Iterator[Finding]:
    if status.plugin_version is not None:
        message = f"{status.plugin_version}, {'enabled' if status.plugin_enabled else 'disabled'}"
        yield ok("plugin", f"{message}, tools {', '.join(status.tools) or 'none'}", version=status.plugin_version)
    for problem in status.problems:
        # The running plugin's report of its key takes precedence over this shell's missing one.
        if KEY_VARIABLE not in problem.fix or status.plugin_version is None:
            yield failure("plugin", problem.message, problem.fix)
    for block in status.hidden:
        message = f"{', '.join(block.tools)} hidden by {block.where}: {block.reason}"
        yield (warning if block.is_partial else failure)("tools", message, block.fix)


def _check_settings(config: Any, manifest: Manifest, environ: Mapping[str, str]) -> tuple[Settings | None, Finding]:
    """Check the plugin's own settings; return them too, or None when one is wrong.

    Its secrets are masked: only whether they are set is visible.
    """
    hints, properties = manifest.settings, manifest.config_schema["properties"]
    # OpenClaw fills in the defaults, which nobody set.
    entries = {
        key: value
        for key, value in (config.items() if isinstance(config, Mapping) else ())
        # A key that is no setting is one of the status's problems.
        if key in properties and ("default" not in properties[key] or value != properties[key]["default"])
    }
    shown = {
        key: _PLACEHOLDERS.get(key, _PLACEHOLDER) if key in hints and hints[key].sensitive else value
        for key, value in entries.items()
    }
    where = f"plugins.entries.{manifest.id}.config"
    try:
        settings = load_settings({}, config=shown, manifest=manifest, state=state_folder(environ))
    except ConfigurationError as exc:
        fix = f"openclaw config get {where}   (correct it with: openclaw config set)"
        return None, failure("plugin", exc.message, fix)
    message = f"{where} sets {', '.join(sorted(entries))}" if entries else f"{where} sets nothing"
    return settings, ok("plugin", message, given=sorted(entries))


def _check_kept(settings: Settings) -> Finding:
    """Check the copies that the plugin keeps of finished pictures."""
    found = kept_report(settings)
    blocked = None if settings.home is None else not_writable(settings.home / FOLDER)
    problem = found.problem or ("" if blocked is None else f"{blocked} cannot be written to")
    facts = {"count": found.count, "size_bytes": found.size_bytes}
    if not problem:
        return ok("gateway pictures", found.text, **facts)
    fix = "free space or fix the permissions there, or set keep_days to 0"
    return warning("gateway pictures", f"{found.text}: {problem}", fix, **facts)


def _check_journal(
    settings: Settings, report: PluginReport | None, manifest: Manifest, *, now: float
) -> Iterator[Finding]:
    """Check the plugin's own journal and cap: this shell's settings are not the gateway's."""
    account = None if report is None else report.account
    if account is not None and account.home is not None:
        settings = replace(settings, home=Path(account.home))
    yield _gateway_journal(settings, account, now=now)
    yield _check_kept(settings)
    if account is not None and account.spending is not None:
        said, in_force = account.spending, (report.settings or {}) if report else {}
        yield journal.budget_finding(
            manifest,
            spent_usd=said.spent_usd,
            reserved_usd=said.reserved_usd,
            cap_usd=said.cap_usd,
            ends=said.until,
            spenders=str(in_force.get("spenders", settings.spenders)),
            tiers=in_force.get("tiers", settings.tiers),
        )
    elif settings.journal_url is None or settings.journal == "off":
        base_url = (report and report.address) or settings.base_url or DEFAULT_BASE_URL
        yield journal.check_budget(settings, manifest, base_url=base_url, now=now)


def _gateway_journal(settings: Settings, account: AccountReport | None, *, now: float) -> Finding:
    """Return the finding about the plugin's journal; only the gateway's worker knows the address of a shared one."""
    if settings.journal_url is None or settings.journal == "off":
        return replace(journal.check_journal(settings, now=now), area="gateway journal")
    if account is not None and account.journal is not None:
        return replace(judge(account.journal), area="gateway journal")
    message = "in PostgreSQL, by the setting journal_url; only the gateway knows its address, and does not tell"
    return warning("gateway journal", message, "openclaw gateway restart")
