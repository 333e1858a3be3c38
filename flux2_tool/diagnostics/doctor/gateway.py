"""Checks of the running gateway: what the plugin in it reports of its version, its key and its worker.

A key exported in a shell is often missing in the gateway, which is a service with an environment of its own. So the
running plugin is asked, through the gateway method `flux2.doctor` (`index.js`). A plugin of another version may respond
with anything: a value of another form counts as missing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from flux2_tool._net import normalized_base_url
from flux2_tool.credentials import KEY_VARIABLE, Credentials
from flux2_tool.diagnostics.doctor.finding import Finding, failure, ok, warning
from flux2_tool.diagnostics.doctor.runapi import key_from_file
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.openclaw.image_provider import PROVIDER
from flux2_tool.openclaw.openclaw_cli import GATEWAY_TIMEOUT_S, OpenClawCli, OpenClawCommandError
from flux2_tool.openclaw.status import INSTALL, SEEN_FROM_HERE, Status, env_file
from flux2_tool.runapi.text import printable
from flux2_tool.schema.manifest import Manifest

METHOD: Final = "flux2.doctor"
_RESTART: Final = "openclaw gateway restart"


def _or_none(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


_Lenient = WrapValidator(_or_none)
_Text = Annotated[str | None, _Lenient]
KeySource = Literal["environment", "provider"]


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class KeyReport(_Report):
    """The gateway's key: where it comes from and whether it is usable, never the key itself."""

    source: Annotated[KeySource | None, _Lenient] = None
    state: Annotated[Literal["set", "placeholder", "empty", "missing"] | None, _Lenient] = None
    fingerprint: _Text = None


class WorkerError(_Report):
    """Why the worker does not start or is incompatible, in the form of the tool's error object."""

    message: _Text = None
    hint: _Text = None


class WorkerProblem(_Report):
    """A failed call's result."""

    error: WorkerError


class WorkerReport(_Report):
    """The gateway's worker; `problem` is None when it starts and is compatible."""

    problem: Annotated[WorkerProblem | None, _Lenient] = None


class PluginReport(_Report):
    """The response of `flux2.doctor`; `base_url` is the one in use, None for the default."""

    version: _Text = None
    manifest_sha256: _Text = None
    base_url: _Text = None
    key: Annotated[KeyReport | None, _Lenient] = None
    worker: Annotated[WorkerReport | None, _Lenient] = None


def ask_plugin(cli: OpenClawCli) -> PluginReport | str:
    """Return the running plugin's report, or why there is none."""
    try:
        found = cli.run_json("gateway", "call", METHOD, "--json", timeout_s=GATEWAY_TIMEOUT_S)
    except ConfigurationError as exc:
        error = exc.output.get("error") if isinstance(exc, OpenClawCommandError) else None
        message = error.get("message") if isinstance(error, Mapping) else None
        return printable(str(message or exc.message), 200)
    return PluginReport.model_validate(found) if isinstance(found, dict) else "it did not respond with an object"


def base_url_of(report: PluginReport | str) -> str | None:
    """Return the normalized base URL of the running plugin, None when it reports none that is usable."""
    if isinstance(report, PluginReport) and report.base_url is not None:
        with suppress(ValueError):
            return normalized_base_url(report.base_url)
    return None


def check_gateway(
    report: PluginReport | str,
    status: Status,
    manifest: Manifest,
    environ: Mapping[str, str],
    credentials: Credentials | None,
) -> Iterator[Finding]:
    """Check what the running plugin reports.

    Args:
        report: From `ask_plugin`.
        status: The plugin as OpenClaw's files have it.
        manifest: This package's.
        environ: The shell's.
        credentials: The shell's key, to compare the gateway's with.
    """
    if isinstance(report, str):
        yield _without_report(report, status, environ, credentials)
        return
    if report.version is not None and (report.version, report.manifest_sha256) != (manifest.version, manifest.sha256):
        running = printable(report.version, 40)
        message = f"it runs version {running} of the plugin, this package is {manifest.version}"
        yield warning("gateway", message, f"{INSTALL}, then {_RESTART}")
    else:
        yield ok("gateway", "running, and the plugin in it responds")
    yield _check_key(report.key or KeyReport(), environ, credentials)
    if report.worker is not None:
        yield _check_worker(report.worker)


def _without_report(
    reason: str, status: Status, environ: Mapping[str, str], credentials: Credentials | None
) -> Finding:
    """Return the finding when the running plugin cannot be asked."""
    if "unknown method" in reason:
        return warning("gateway", "the running gateway has an older version of the plugin", _RESTART)
    kept = [source for source in status.key_sources if not source.endswith(SEEN_FROM_HERE)]
    message = f"could not ask the gateway ({reason})"
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


def _check_key(key: KeyReport, environ: Mapping[str, str], credentials: Credentials | None) -> Finding:
    facts = {"source": key.source, "state": key.state}
    if key.state == "set":
        where = "its environment" if key.source == "environment" else "OpenClaw's provider runapi"
        if credentials is None or key.fingerprint in (None, credentials.fingerprint):
            return ok("gateway key", f"set, from {where}", **facts)
        message = f"set, from {where}, but it is another key than this shell's"
        fix = f"if this shell's is the right one: {_correct_key(key.source, environ)}"
        return warning("gateway key", message, fix, **facts)
    if key.state in ("placeholder", "empty"):
        in_environment = key.source == "environment"
        unfilled = f"holds ${{{KEY_VARIABLE}}} itself, which nothing filled in"
        problem = unfilled if key.state == "placeholder" else "is empty"
        name = f"{KEY_VARIABLE} of the gateway" if in_environment else "the key of OpenClaw's provider runapi"
        fix = _correct_key(key.source, environ) if in_environment else _add_key(environ, credentials)
        return failure("gateway key", f"{name} {problem}", fix, **facts)
    stored = key_from_file(environ)
    if stored is not None:
        message = f"none in its environment; its worker takes the one in {stored.source}"
        return ok("gateway key", message, **{**facts, "source": stored.source})
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
