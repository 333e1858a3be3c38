"""Look at everything a picture needs, on this machine, at RunAPI by free calls, and in OpenClaw; make none.

`examine` returns one finding a line, each with the command that mends it. Nothing here creates a task or shows a key.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping

from flux2_tool.credentials import DEFAULT_BASE_URL, Credentials
from flux2_tool.diagnostics.doctor import environment, gateway, journal, runapi, worker
from flux2_tool.diagnostics.doctor.finding import Finding, failure, report
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.runapi.client import HttpTimeouts, RunapiClient, open_http
from flux2_tool.schema.manifest import Manifest

__all__ = ["Finding", "examine", "report"]

_TIMEOUTS = HttpTimeouts(connect_s=5.0, read_s=10.0, attempt_s=15.0)


def examine(
    manifest: Manifest, environ: Mapping[str, str], *, openclaw: str | None = None, with_openclaw: bool = True
) -> list[Finding]:
    """Return all there is to find, in the order in which things depend on one another.

    Args:
        manifest: This package's.
        environ: The shell's environment.
        openclaw: The openclaw command; None for the one on PATH.
        with_openclaw: Whether to look at OpenClaw, which takes some seconds.
    """
    now = time.time()
    settings, findings = environment.settings_of(manifest, environ)
    findings = [environment.python(), environment.packages(), *findings]
    credentials, of_key = runapi.key(settings, environ)
    base_url = settings.base_url or DEFAULT_BASE_URL if credentials is None else credentials.base_url
    findings += of_key
    findings += asyncio.run(_asked(base_url, credentials, manifest, environ))
    findings.append(environment.routes(settings, base_url))
    findings.append(journal.journal(settings, now=now))
    findings.append(journal.budget(settings, manifest, base_url=base_url, now=now))
    findings.append(environment.disk(settings))
    findings += environment.folders(settings)
    findings.append(worker.worker(sys.executable, manifest, environ))
    if with_openclaw:
        findings += gateway.openclaw(openclaw, manifest, environ, credentials, now=now)
    return findings


async def _asked(
    base_url: str, credentials: Credentials | None, manifest: Manifest, environ: Mapping[str, str]
) -> list[Finding]:
    try:
        http = open_http(base_url, timeouts=_TIMEOUTS)
    except ConfigurationError as exc:
        return [failure("runapi", exc.message, exc.hint)]
    async with http:
        client = RunapiClient(
            http,
            base_url=base_url,
            api_key=None if credentials is None else credentials.api_key,
            user_agent=f"flux2-tool/{manifest.version}",
            attempt_timeout_s=_TIMEOUTS.attempt_s,
        )
        return await runapi.runapi(client, manifest, environ, with_key=credentials is not None, now=time.time())
