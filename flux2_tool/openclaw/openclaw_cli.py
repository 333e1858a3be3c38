"""Find and run the `openclaw` command.

This package's commands reach OpenClaw only through its own command line; the form of its JSON output
was observed with the version in `npm_package.MINIMUM_OPENCLAW`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flux2_tool._folders import STATE_VARIABLE, state_folder
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.openclaw.npm_package import MINIMUM_OPENCLAW

COMMAND_TIMEOUT_S = 300.0
# A running gateway responds at once; one that hangs must not delay the rest of a report.
GATEWAY_TIMEOUT_S = 30.0
_NO_JSON: Final = object()
# Part of OpenClaw's message for a valid path that its config does not set.
_UNSET: Final = "valid but unset"
_INSTALL = f"npm install -g openclaw@latest (it needs {MINIMUM_OPENCLAW} or newer, and Node 24.16 or newer)"


class OpenClawCommandError(ConfigurationError):
    """An `openclaw` command failed; `output` is the JSON object it printed, empty when there was none."""

    def __init__(self, message: str, *, hint: str = "", output: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.output = output or {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClawCli:
    """One `openclaw` command, its version and the environment it runs in.

    Attributes:
        profile: The value of OpenClaw's own option --profile.
        state_folder: The state folder that its commands use; everything of ours goes there too.
    """

    command: Path
    version: str
    environ: Mapping[str, str]
    state_folder: Path
    profile: str | None = None

    @property
    def name(self) -> str:
        """Return which OpenClaw this is, for people: the version, and the state folder that is addressed."""
        return f"OpenClaw {self.version} (state folder {self.state_folder})"

    def run(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command and return what it printed.

        Raises:
            OpenClawCommandError: It failed; the message is OpenClaw's own.
            ConfigurationError: It cannot be run, or did not end in time.
        """
        profile = ("--profile", self.profile) if self.profile is not None else ()
        done = _run(self.command, (*profile, *arguments), self.environ, timeout_s)
        if done.returncode != 0:
            raise _command_error(arguments, done)
        return done.stdout

    def run_json(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Any:
        """Run a command that prints JSON and return the value.

        Raises:
            OpenClawCommandError: It failed, or printed something else.
            ConfigurationError: It cannot be run, or did not end in time.
        """
        text = self.run(*arguments, timeout_s=timeout_s)
        found = _json_in(text)
        if found is _NO_JSON:
            raise OpenClawCommandError(f"openclaw {' '.join(arguments)} did not print JSON: {text[:200]!r}")
        return found

    def config_value(self, path: str) -> Any:
        """Return a value of OpenClaw's config with its secrets masked, or None when it is unset.

        Raises:
            OpenClawCommandError: The config is invalid or cannot be read: an unknown value is not an unset one.
        """
        try:
            return self.run_json("config", "get", path, "--json")
        except OpenClawCommandError as exc:
            if exc.output.get("issues") or _UNSET not in exc.message:
                raise
            return None


def find_openclaw_cli(command: str | None, environ: Mapping[str, str], *, profile: str | None = None) -> OpenClawCli:
    """Return the `openclaw` command given, or the one on PATH.

    Args:
        command: A path or a name; None for the one on PATH.
        environ: The environment it runs in, which says with the profile what state folder is addressed.
        profile: The value of OpenClaw's own option --profile.

    Raises:
        ConfigurationError: There is none, it does not run, it is too old for the plugin, or no state folder is named.
    """
    path = shutil.which(command or "openclaw", path=environ.get("PATH"))
    if path is None:
        where = f'there is no program at "{command}"' if command else "the openclaw command is not on PATH"
        raise ConfigurationError(where, hint=f"install OpenClaw: {_INSTALL}; or name the command with --openclaw PATH")
    state = _state_folder(environ, profile)
    done = _run(Path(path), ("--version",), environ, COMMAND_TIMEOUT_S)
    found = re.search(r"\b(\d{4}\.\d+\.\d+\S*)", done.stdout)
    if done.returncode != 0 or found is None:
        printed = (done.stderr or done.stdout).strip()[:300]
        raise ConfigurationError(
            f"{path} --version does not print a version: {printed}", hint=f"reinstall it: {_INSTALL}"
        )
    version = found.group(1)
    if version_numbers(version) < version_numbers(MINIMUM_OPENCLAW):
        raise ConfigurationError(
            f"OpenClaw {version} at {path} is too old: the plugin needs {MINIMUM_OPENCLAW} or newer",
            hint=f"upgrade it: {_INSTALL}",
        )
    return OpenClawCli(command=Path(path), version=version, environ=environ, state_folder=state, profile=profile)


def _state_folder(environ: Mapping[str, str], profile: str | None) -> Path:
    try:
        found = state_folder(environ, profile=profile)
    except ValueError as exc:
        raise ConfigurationError(f'the profile "{profile}" {exc}') from exc
    if found is None:
        raise ConfigurationError(
            f"this user has no home folder and {STATE_VARIABLE} is not set",
            hint=f"set {STATE_VARIABLE} to OpenClaw's state folder",
        )
    return found


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the first three numbers of a version, for comparing: "2026.9.6-beta.1" gives (2026, 9, 6)."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _run(
    command: Path, arguments: tuple[str, ...], environ: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - the command is the user's own, the arguments are ours
            [command, *arguments],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except OSError as exc:
        raise ConfigurationError(f"cannot run {command}: {exc.strerror}", hint=f"reinstall it: {_INSTALL}") from exc
    except subprocess.TimeoutExpired as exc:
        raise ConfigurationError(
            f"openclaw {' '.join(arguments)} did not end within {timeout_s:.0f} s",
            hint="run it by itself to see what it waits for",
        ) from exc


def _command_error(arguments: tuple[str, ...], done: subprocess.CompletedProcess[str]) -> OpenClawCommandError:
    output = _json_in(done.stdout)
    output = output if isinstance(output, dict) else {}
    error = output.get("error")
    message = str(error.get("message", "")) if isinstance(error, dict) else ""
    message = message or (done.stderr or done.stdout).strip()[-1000:] or f"exit code {done.returncode}"
    issues = [f"{issue.get('path')}: {issue.get('message')}" for issue in output.get("issues", [])]
    hint = "run: openclaw config validate" if issues else ""
    return OpenClawCommandError(
        f"openclaw {' '.join(arguments)} failed: {'; '.join([message, *issues])}", hint=hint, output=output
    )


def _json_in(text: str) -> Any:
    """Return the JSON value in a command's output, with notices before or after it; _NO_JSON for none."""
    for line in re.finditer(r"^[ \t]*(?=\S)", text, re.MULTILINE):
        try:
            value, end = json.JSONDecoder().raw_decode(text, line.end())
        except ValueError:
            continue
        # A notice may begin like JSON ("[1] …"), but then more text follows on its line.
        if not text[end:].partition("\n")[0].strip():
            return value
    return _NO_JSON
