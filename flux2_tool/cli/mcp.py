"""`mcp`: serve the tools to any MCP host; `mcp config`: the exact command or file that registers them there."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from flux2_tool.cli.exit_codes import DONE
from flux2_tool.cli.interpreter import this_python
from flux2_tool.cli.mcp_hosts import FIXED_LIMITS_S, HOSTS
from flux2_tool.cli.mcp_launch import HOST_TIMEOUT_S, Launch
from flux2_tool.cli.terminal import note, write_line
from flux2_tool.engine.host_profile import MCP
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.hosts.mcp_sdk import VERSIONS_TEXT, sdk
from flux2_tool.schema.install_text import install_extra_text
from flux2_tool.schema.installation import Installation, this_installation
from flux2_tool.schema.manifest import Manifest, load_manifest
from flux2_tool.settings import load_settings

HOST_MARGIN_S: Final = 30
# What a host with a limit of its own leaves us of it.
ANSWER_MARGIN_S: Final = 10

# Hosts start servers with an environment of their own; without these variables a server cannot use the proxy, or opens
# another journal.
_ALSO: Final = ["XDG_DATA_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "NO_PROXY", "no_proxy"]
_PROXIES: Final = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]


@click.group(invoke_without_command=True)
@click.option(
    "--http",
    "address",
    metavar="[HOST:]PORT",
    help="Serve many clients over HTTP instead, at this address; other than on this machine only with a token.",
)
@click.pass_context
def mcp(ctx: click.Context, address: str | None) -> int:
    """Serve the tools over MCP on stdin and stdout, for Claude Code, Codex, Cursor, OpenClaw and others.

    The key and the settings come from the environment. It ends with its client; with --http it serves until it is
    stopped, and clients send the token in FLUX2_TOOL_MCP_TOKEN, where that is set.
    """
    if ctx.invoked_subcommand is not None:
        if address is not None:
            raise click.UsageError("--http belongs to `mcp` alone", ctx)
        return DONE
    _refuse_other_journal()
    server = _server_module("mcp_server" if address is None else "mcp_http.server")
    if address is not None:
        server.main(address, on_ready=write_line)
        return DONE
    if sys.stdin.isatty():
        note("This waits for an MCP host to speak on stdin. To register it: flux2-tool mcp config --host HOST")
    server.main()
    return DONE


@mcp.command(short_help="Print what registers the server in a host.")
@click.option("--host", type=click.Choice(list(HOSTS)), required=True, help="Who starts it.")
def config(host: str) -> int:
    """Print the command or the file that registers the server in HOST; it includes this environment's settings."""
    manifest = load_manifest()
    [key] = [name for name, variable in manifest.environment.items() if variable.secret]
    wait_s = MCP.longest_wait_s(load_settings(os.environ, manifest=manifest))
    variables, left_out = _variables(manifest, os.environ)
    limit_s = FIXED_LIMITS_S.get(host)
    if limit_s is not None and wait_s > limit_s - ANSWER_MARGIN_S:
        variables["FLUX2_TOOL_WAIT_S"] = str(limit_s - ANSWER_MARGIN_S)
        note(f"{host} ends a call after {limit_s} s, so FLUX2_TOOL_WAIT_S is {limit_s - ANSWER_MARGIN_S} there.")
    installation = this_installation()
    command, *arguments = _server_command(installation)
    launch = Launch(
        name=manifest.id,
        command=command,
        arguments=arguments,
        key=key,
        variables=variables,
        timeout_s=max(HOST_TIMEOUT_S, math.ceil(wait_s) + HOST_MARGIN_S),
    )
    text, instructions = HOSTS[host](launch, os.environ)
    for line in text.splitlines():
        write_line(line)
    note(instructions)
    if left_out:
        note(f"Left out, because of a password: {', '.join(left_out)}. Set it where the host starts servers.")
    if importlib.util.find_spec("mcp") is None and not installation.is_temporary:
        note(f"The server needs {VERSIONS_TEXT}, which is not installed: {_how_to_install()}")
    return DONE


def _refuse_other_journal() -> None:
    from flux2_tool.cli.open_journal import refuse_other_journal

    try:
        settings = load_settings(os.environ)
    except ConfigurationError:
        return  # each call says what is wrong
    refuse_other_journal(settings, os.environ)


def _server_command(installation: Installation) -> list[str]:
    """Return the command that starts the server, which still works when a cache has been cleaned."""
    if installation.is_temporary:
        return installation.run_command(installation.requirement("mcp"), ["mcp"], environ=os.environ)
    # -P because a host may start it in an untrusted folder.
    return [this_python(), "-P", "-m", "flux2_tool", "mcp"]


def _variables(manifest: Manifest, environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return this environment's variables for the server, and the names of those that must not be printed."""
    names = [hint.env for hint in manifest.settings.values() if hint.env and not hint.sensitive]
    found = {name: environ[name] for name in [*names, *_ALSO, *_PROXIES] if environ.get(name, "").strip()}
    secrets = [hint.env for hint in manifest.settings.values() if hint.env and hint.kind == "database_url"]
    left_out = [name for name in _PROXIES if "@" in found.get(name, "")]
    left_out += [name for name in secrets if environ.get(name, "").strip()]
    return {name: text for name, text in found.items() if name not in left_out}, left_out


def _how_to_install() -> str:
    return install_extra_text("mcp", this_installation(), command=["mcp"])


def _server_module(name: str) -> Any:
    try:
        module = importlib.import_module(f"flux2_tool.hosts.{name}")
        sdk()
    except ConfigurationError as exc:
        raise ConfigurationError(exc.message, hint=_how_to_install()) from exc
    except ImportError as exc:
        if not (exc.name or "").startswith("mcp"):
            raise
        raise ConfigurationError(
            f"the MCP server needs {VERSIONS_TEXT}, which is not installed",
            hint=_how_to_install(),
        ) from exc
    return module
