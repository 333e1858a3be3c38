"""The gateway's side: OpenClaw, the plugin in it, and what the running plugin says of its own key and worker.

A key exported in a shell is often missing in the gateway, which is a service with an environment of its own. So the
running plugin is asked, through the gateway method `flux2.doctor`. Its answer, in which everything may be missing:

    version, manifest_sha256        of the plugin that is running
    key {source, state, fingerprint}  environment | provider | null; set | placeholder | empty | missing
    base_url                        that the plugin would use, null for the default
    worker {problem}                null when the worker starts and fits, else the tool's error object
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

from flux2_tool._net import normalized_base_url
from flux2_tool.credentials import DEFAULT_BASE_URL, KEY_VARIABLE, Credentials, resolve_credentials
from flux2_tool.diagnostics.doctor import journal
from flux2_tool.diagnostics.doctor.finding import Finding, failure, ok, warning
from flux2_tool.exceptions import ConfigurationError, Flux2Error
from flux2_tool.openclaw.image_provider import PROVIDER
from flux2_tool.openclaw.openclaw_cli import GATEWAY_TIMEOUT_S, Host, HostRefusedError, find_host
from flux2_tool.openclaw.status import INSTALL, Status, env_file, examine
from flux2_tool.runapi.text import printable
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import Settings, load_settings

METHOD: Final = "flux2.doctor"
_RESTART: Final = "openclaw gateway restart"
# Instead of a secret that is masked; base64, as a webhook secret is.
_STAND_IN: Final = "bWFza2Vk"


def openclaw(
    command: str | None,
    manifest: Manifest,
    environ: Mapping[str, str],
    credentials: Credentials | None,
    *,
    now: float,
) -> list[Finding]:
    """Return what is to say of OpenClaw and the plugin in it.

    Args:
        command: The openclaw command; None for the one on PATH.
        manifest: This package's.
        environ: The shell's.
        credentials: The shell's key, to compare the gateway's with.
        now: The wall clock, in seconds since 1970.
    """
    try:
        host = find_host(command, environ)
    except ConfigurationError as exc:
        if command is None and "not on PATH" in exc.message:
            return [warning("openclaw", f"{exc.message}: its side was not looked at", exc.hint)]
        return [failure("openclaw", exc.message, exc.hint)]
    findings = [ok("openclaw", f"{host.version} at {host.command}", version=host.version)]
    with ThreadPoolExecutor(max_workers=3) as pool:
        looking = pool.submit(examine, host, manifest, environ)
        asking = pool.submit(_asked, host)
        reading = pool.submit(host.setting, f"plugins.entries.{manifest.id}.config")
    try:
        status, config = looking.result(), reading.result()
    except ConfigurationError as exc:
        return [*findings, failure("openclaw", exc.message, exc.hint or "openclaw config validate")]
    said = asking.result()
    findings += _plugin(status)
    if status.plugin_version is None:
        return findings
    settings, of_settings = _settings(config, manifest)
    findings.append(of_settings)
    if settings is not None:
        findings += _books(settings, said, manifest, now=now)
    if isinstance(said, str):
        return [*findings, _not_asked(said, status, environ, credentials)]
    return [*findings, *_running(said, manifest, environ, credentials)]


def _asked(host: Host) -> Mapping[str, Any] | str:
    """Return the running plugin's answer, or why there is none."""
    try:
        found = host.run_json("gateway", "call", METHOD, "--json", timeout_s=GATEWAY_TIMEOUT_S)
    except ConfigurationError as exc:
        error = exc.answer.get("error") if isinstance(exc, HostRefusedError) else None
        said = error.get("message") if isinstance(error, Mapping) else None
        return printable(str(said or exc.message), 200)
    return found if isinstance(found, Mapping) else "it answered no object"


def _plugin(status: Status) -> Iterator[Finding]:
    if status.plugin_version is not None:
        said = f"{status.plugin_version}, {'enabled' if status.plugin_enabled else 'disabled'}"
        yield ok("plugin", f"{said}, tools {', '.join(status.tools) or 'none'}", version=status.plugin_version)
    for problem in status.problems:
        # What the running plugin says of the key is better than what its absence in this shell tells.
        if KEY_VARIABLE not in problem.mend or status.plugin_version is None:
            yield failure("plugin", problem.what, problem.mend)
    for item in status.hidden:
        said = f"{', '.join(item.tools)} hidden by {item.where}: {item.why}"
        yield (warning if item.is_partial else failure)("tools", said, item.mend)


def _settings(config: Any, manifest: Manifest) -> tuple[Settings | None, Finding]:
    """Return the plugin's own settings, None for wrong ones, and what is to say of them.

    Its secrets are masked, so that they are set is all there is to see of them.
    """
    hints, properties = manifest.config_hints, manifest.config_schema["properties"]
    # OpenClaw fills in the defaults, which nobody set.
    entries = {
        key: value
        for key, value in (config.items() if isinstance(config, Mapping) else ())
        if key not in properties or "default" not in properties[key] or value != properties[key]["default"]
    }
    shown = {key: _STAND_IN if key in hints and hints[key].sensitive else value for key, value in entries.items()}
    where = f"plugins.entries.{manifest.id}.config"
    try:
        settings = load_settings({}, config=shown, manifest=manifest)
    except ConfigurationError as exc:
        mend = f"openclaw config get {where}   (correct it with: openclaw config set)"
        return None, failure("plugin", exc.message, mend)
    said = f"{where} sets {', '.join(sorted(entries))}" if entries else f"{where} sets nothing"
    return settings, ok("plugin", said, given=sorted(entries))


def _books(settings: Settings, said: Mapping[str, Any] | str, manifest: Manifest, *, now: float) -> Iterator[Finding]:
    """Yield where the plugin's own journal and cap stand: a setting of this shell is none of the gateway's."""
    base_url = settings.base_url or DEFAULT_BASE_URL
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        base_url = normalized_base_url(said["base_url"])  # type: ignore[index]
    yield replace(journal.journal(settings, now=now), area="gateway journal")
    yield replace(journal.budget(settings, manifest, base_url=base_url, now=now), area="gateway budget")


def _not_asked(said: str, status: Status, environ: Mapping[str, str], credentials: Credentials | None) -> Finding:
    """Return what can be told of the gateway's key while the plugin cannot be asked."""
    if "unknown method" in said:
        return warning("gateway", "the running gateway has an older version of the plugin", _RESTART)
    kept = [source for source in status.key_sources if not source.endswith("seen from here")]
    if not kept and credentials is not None:
        told = f"the key is in {credentials.source} of this shell; a gateway that runs as a service does not see it"
        return warning("gateway", f"could not ask the gateway ({said}); {told}", _env_line(environ, credentials))
    return warning("gateway", f"could not ask the gateway: {said}", "openclaw gateway status")


def _running(
    said: Mapping[str, Any], manifest: Manifest, environ: Mapping[str, str], credentials: Credentials | None
) -> Iterator[Finding]:
    version, sha256 = said.get("version"), said.get("manifest_sha256")
    if version is not None and (version, sha256) != (manifest.version, manifest.sha256):
        told = f"it runs version {printable(str(version), 40)} of the plugin, this package is {manifest.version}"
        yield warning("gateway", told, f"{INSTALL}, then {_RESTART}")
    else:
        yield ok("gateway", "running, and the plugin in it answers")
    key = said.get("key")
    yield _key(key if isinstance(key, Mapping) else {}, environ, credentials)
    worker = said.get("worker")
    problem = worker.get("problem") if isinstance(worker, Mapping) else None
    error = problem.get("error", problem) if isinstance(problem, Mapping) else None
    if isinstance(error, Mapping):
        # The hint is worded for a chat: what is to be run stands at its end.
        hint = printable(str(error.get("hint") or INSTALL), 300).rpartition("run: ")[2]
        yield failure("worker", printable(str(error.get("message")), 400), hint)
    elif isinstance(worker, Mapping):
        yield ok("worker", "starts in the gateway, and fits the plugin")


def _key(key: Mapping[str, Any], environ: Mapping[str, str], credentials: Credentials | None) -> Finding:
    state, source = key.get("state"), key.get("source")
    facts = {"source": source, "state": state}
    if state == "set":
        where = "its environment" if source == "environment" else "OpenClaw's provider runapi"
        same = credentials is None or key.get("fingerprint") in (None, credentials.fingerprint)
        if same:
            return ok("gateway key", f"set, from {where}", **facts)
        said = f"set, from {where}, but it is another key than this shell's"
        return warning("gateway key", said, f"if this shell's is the right one: {_correct(source, environ)}", **facts)
    if state in ("placeholder", "empty"):
        what = f"holds ${{{KEY_VARIABLE}}} itself, which nothing filled in" if state == "placeholder" else "is empty"
        whose = f"{KEY_VARIABLE} of the gateway" if source == "environment" else "the key of OpenClaw's provider runapi"
        mend = _correct(source, environ) if source == "environment" else _env_line(environ, credentials)
        return failure("gateway key", f"{whose} {what}", mend, **facts)
    of_file = _in_file(environ)
    if of_file is not None:
        said = f"none in its environment; its worker takes the one in {of_file.source}"
        return ok("gateway key", said, **{**facts, "source": of_file.source})
    here = f"{credentials.source} has one here, but the" if credentials is not None else "the"
    mend = _env_line(environ, credentials)
    return failure("gateway key", f"{here} gateway's environment has no {KEY_VARIABLE}", mend, **facts)


def _in_file(environ: Mapping[str, str]) -> Credentials | None:
    """Return the key of the vendor's file, which the worker of a gateway without one reads."""
    try:
        return resolve_credentials(environ={name: text for name, text in environ.items() if name != KEY_VARIABLE})
    except Flux2Error:
        return None


def _correct(source: Any, environ: Mapping[str, str]) -> str:
    """Return where a key that the gateway has already is to be corrected."""
    if source != "environment":
        return f"correct models.providers.{PROVIDER}.apiKey in OpenClaw's config, then: {_RESTART}"
    # A variable that a process was started with is not replaced by a line of the file.
    return (
        f"correct {KEY_VARIABLE} where the gateway gets it (its service's unit, the shell that starts it, or "
        f"{env_file(environ)}), then: {_RESTART}"
    )


def _env_line(environ: Mapping[str, str], credentials: Credentials | None) -> str:
    """Return what gives the gateway this shell's key, by the variable's name and never by its value."""
    path = "~/.openclaw/.env" if not environ.get("OPENCLAW_STATE_DIR") else shlex.quote(str(env_file(environ)))
    if credentials is not None and credentials.source == KEY_VARIABLE:
        return f'echo "{KEY_VARIABLE}=${KEY_VARIABLE}" >> {path} && {_RESTART}'
    # No command: whoever runs one with a placeholder in it has a wrong key instead of none.
    return f"add a line {KEY_VARIABLE}=… with your key to {path}, then: {_RESTART}"
