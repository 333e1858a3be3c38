"""Checks of the running gateway, by what the plugin in it reports: its key, RunAPI as it sees it, and its worker.

It makes the images, so its key counts; that of the shell is a note.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Final

from flux2_tool.credentials import KEY_VARIABLE, Credentials
from flux2_tool.diagnostics.doctor.environment import lowest_price_usd
from flux2_tool.diagnostics.doctor.finding import Finding, failure, note, ok, warning
from flux2_tool.diagnostics.doctor.runapi import key_from_file, service_findings
from flux2_tool.openclaw.gateway_report import AccountReport, KeyReport, KeySource, WorkerReport
from flux2_tool.openclaw.image_provider import PROVIDER
from flux2_tool.openclaw.status import INSTALL, SEEN_FROM_HERE, Status, env_file
from flux2_tool.runapi.text import printable
from flux2_tool.schema.manifest import Manifest

_RESTART: Final = "openclaw gateway restart"


def check_gateway(
    status: Status, manifest: Manifest, environ: Mapping[str, str], credentials: Credentials | None, *, now: float
) -> Iterator[Finding]:
    """Check what the running plugin reports.

    Args:
        status: The plugin as OpenClaw's files and its gateway have it.
        manifest: This package's.
        environ: The shell's.
        credentials: The shell's key, to compare the gateway's with.
        now: The wall clock, in seconds since 1970.
    """
    report = status.running
    if isinstance(report, str):
        yield _without_report(report, status, environ, credentials)
        return
    if report.version is not None and (report.version, report.manifest_sha256) != (manifest.version, manifest.sha256):
        running = printable(report.version, 40)
        message = f"it runs version {running} of the plugin, this package is {manifest.version}"
        yield warning("gateway", message, f"{INSTALL}, then {_RESTART}")
    else:
        yield ok("gateway", "running, and the plugin in it responds")
    key, account = report.key or KeyReport(), report.account or AccountReport()
    yield _check_key(key, account, environ, credentials)
    lowest_usd = lowest_price_usd(manifest, (report.settings or {}).get("tiers"))
    yield from _check_account(key, account, lowest_usd, environ, now=now)
    yield _shell_key(key, account, environ, credentials)
    if report.worker is not None:
        yield _check_worker(report.worker)


def _check_account(
    key: KeyReport, account: AccountReport, lowest_usd: float, environ: Mapping[str, str], *, now: float
) -> Iterator[Finding]:
    """Check RunAPI and the account as the gateway's worker found them."""
    if account.error is not None and key.state == "set":
        message = printable(account.error.message or "its worker cannot use it", 400)
        yield failure("gateway key", message, _correct_key(key.source, environ))
    if account.service is None:
        return
    for finding in service_findings(account.service, lowest_usd, environ, now=now):
        if finding.area == "balance" and account.service.is_refused:
            yield failure("balance", finding.message, _correct_key(key.source, environ))
        else:
            yield finding


def _shell_key(
    key: KeyReport, account: AccountReport, environ: Mapping[str, str], credentials: Credentials | None
) -> Finding:
    """Return the note about this shell's key, which only the commands of this shell use."""
    if credentials is None:
        return note("shell key", "none in this shell; only its own commands would need one")
    theirs = account.fingerprint or key.fingerprint
    if theirs is None or theirs == credentials.fingerprint:
        return ok("shell key", f"from {credentials.source}, for the commands of this shell")
    message = f"from {credentials.source}, another key than the gateway's; the commands of this shell use it"
    return note("shell key", message, f"if this shell's is the right one: {_correct_key(key.source, environ)}")


def _without_report(
    reason: str, status: Status, environ: Mapping[str, str], credentials: Credentials | None
) -> Finding:
    """Return the finding when the running plugin cannot be asked."""
    if "unknown method" in reason:
        return warning("gateway", "the running gateway has an older version of the plugin", _RESTART)
    kept = [source for source in status.key_sources if not source.endswith(SEEN_FROM_HERE)]
    message = f"could not ask the gateway ({reason}); key and account are those of this shell"
    if not kept and credentials is not None:
        where = f"the key is in {credentials.source} of this shell; a gateway that runs as a service does not see it"
        return warning("gateway", f"{message}; {where}", _add_key(environ, credentials))
    return warning("gateway", message, "openclaw gateway status")


def _check_worker(worker: WorkerReport) -> Finding:
    if worker.problem is None:
        return ok("worker", "starts in the gateway, and fits the plugin")
    error = worker.problem.error
    # The hint is worded for a chat: the command is at its end.
    fix = printable(error.hint or INSTALL, 300).rpartition("run: ")[2]
    return failure("worker", printable(error.message or "no reason given", 400), fix)


def _check_key(
    key: KeyReport, account: AccountReport, environ: Mapping[str, str], credentials: Credentials | None
) -> Finding:
    facts = {"source": key.source, "state": key.state}
    if key.state == "set":
        where = "its environment" if key.source == "environment" else "OpenClaw's provider runapi"
        return ok("gateway key", f"set, from {where}", **facts)
    if key.state in ("placeholder", "empty"):
        in_environment = key.source == "environment"
        unfilled = f"holds ${{{KEY_VARIABLE}}} itself, which nothing filled in"
        problem = unfilled if key.state == "placeholder" else "is empty"
        name = f"{KEY_VARIABLE} of the gateway" if in_environment else "the key of OpenClaw's provider runapi"
        fix = _correct_key(key.source, environ) if in_environment else _add_key(environ, credentials)
        return failure("gateway key", f"{name} {problem}", fix, **facts)
    stored = key_from_file(environ)
    source = account.source or (None if stored is None or account.error is not None else stored.source)
    if source is not None:
        message = f"none in its environment; its worker takes the one in {printable(source, 300)}"
        return ok("gateway key", message, **{**facts, "source": source})
    here = f"{credentials.source} has one here, but the" if credentials is not None else "the"
    message = f"{here} gateway's environment has no {KEY_VARIABLE}"
    return failure("gateway key", message, _add_key(environ, credentials), **facts)


def _correct_key(source: KeySource | None, environ: Mapping[str, str]) -> str:
    """Return where to correct a key that the gateway already has."""
    if source != "environment":
        return f"correct models.providers.{PROVIDER}.apiKey in OpenClaw's config, then: {_RESTART}"
    # A variable that the process was started with takes precedence over the file.
    return (
        f"correct {KEY_VARIABLE} where the gateway gets it (its service's unit, the shell that starts it, or "
        f"{env_file(environ)}), then: {_RESTART}"
    )


def _add_key(environ: Mapping[str, str], credentials: Credentials | None) -> str:
    """Return how to give the gateway this shell's key, by the variable's name and never by its value."""
    path = "~/.openclaw/.env" if not environ.get("OPENCLAW_STATE_DIR") else shlex.quote(str(env_file(environ)))
    if credentials is not None and credentials.source == KEY_VARIABLE:
        return f'echo "{KEY_VARIABLE}=${KEY_VARIABLE}" >> {path} && {_RESTART}'
    # No command: run with its placeholder unchanged, it would set a wrong key.
    return f"add a line {KEY_VARIABLE}=… with your key to {path}, then: {_RESTART}"
