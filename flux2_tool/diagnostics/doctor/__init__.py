"""Check everything an image needs, on this machine, at RunAPI by free calls, and in OpenClaw; make no image.

`run_checks` returns the findings, each with the command that fixes it. Nothing here creates a task or shows a key.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping

from flux2_tool.credentials import DEFAULT_BASE_URL, Credentials
from flux2_tool.diagnostics.doctor import environment, journal, openclaw, runapi, worker
from flux2_tool.diagnostics.doctor.finding import Finding, failure, report
from flux2_tool.diagnostics.doctor.openclaw import OpenClawChecks
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.http_client import HttpTimeouts, open_http
from flux2_tool.schema.manifest import Manifest

__all__ = ["Finding", "report", "run_checks"]

_TIMEOUTS = HttpTimeouts(connect_s=5.0, read_s=10.0, attempt_s=15.0)


def run_checks(
    manifest: Manifest, environ: Mapping[str, str], *, command: str | None = None, with_openclaw: bool = True
) -> list[Finding]:
    """Run every check and return the findings, in the order in which things depend on one another.

    Args:
        manifest: This package's.
        environ: The shell's environment.
        command: The openclaw command; None for the one on PATH.
        with_openclaw: Whether to check OpenClaw, which takes some seconds.
    """
    now = time.time()
    settings, findings = environment.check_settings(manifest, environ)
    findings = [environment.check_python(), environment.check_packages(), *findings]
    credentials, key_findings = runapi.check_key(settings, environ)
    base_url = settings.base_url or DEFAULT_BASE_URL if credentials is None else credentials.base_url
    checks = OpenClawChecks(findings=[])
    if with_openclaw:
        checks = openclaw.check_openclaw(command, manifest, environ, credentials, now=now)
    if not checks.judges_account:
        findings += key_findings
        if credentials is not None:
            lowest_usd = environment.lowest_price_usd(manifest, settings.tiers)
            findings += asyncio.run(_check_service(base_url, credentials, manifest, environ, lowest_usd))
    findings.append(environment.check_routes(settings, base_url))
    findings.append(journal.other_than_the_plugins(settings, environ) or journal.check_journal(settings, now=now))
    if not checks.judges_budget:
        findings.append(journal.check_budget(settings, manifest, base_url=base_url, now=now))
    findings.append(environment.check_disk(settings))
    findings += environment.check_folders(settings)
    findings.append(worker.check_worker(sys.executable, manifest, environ))
    return findings + checks.findings


async def _check_service(
    base_url: str, credentials: Credentials, manifest: Manifest, environ: Mapping[str, str], lowest_usd: float
) -> list[Finding]:
    try:
        http = open_http(base_url, timeouts=_TIMEOUTS)
    except ConfigurationError as exc:
        return [failure("runapi", exc.message, exc.hint)]
    async with http:
        client = RunapiClient(
            http,
            base_url=base_url,
            api_key=credentials.api_key,
            user_agent=f"flux2-tool/{manifest.version}",
            attempt_timeout_s=_TIMEOUTS.attempt_s,
        )
        return await runapi.check_service(client, lowest_usd, environ, with_key=True, now=time.time())
