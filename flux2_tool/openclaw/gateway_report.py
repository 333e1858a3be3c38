"""What the running plugin reports of itself, through the gateway method `flux2.doctor` (`plugin/diagnosis.js`).

Only it knows which settings are in force and which key it has: a gateway run as a service has its own environment.
A plugin of another version may respond with anything: a value of another form counts as missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from flux2_tool._net import normalized_base_url
from flux2_tool.engine.journal_report import JournalReport
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.openclaw.openclaw_cli import GATEWAY_TIMEOUT_S, OpenClawCli, OpenClawCommandError
from flux2_tool.runapi.account_check import ServiceFacts
from flux2_tool.runapi.text import printable

METHOD: Final = "flux2.doctor"
# The type of OpenClaw's error when it cannot connect.
_UNREACHABLE: Final = "gateway_transport"


def _or_none(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


def _facts(value: Any) -> ServiceFacts | None:
    """Return the facts of a message, whose texts are shown at a terminal."""
    given = value if isinstance(value, dict) else {}
    shown = {name: printable(item, 400) if isinstance(item, str) else item for name, item in given.items()}
    try:
        return _FACTS.validate_python(shown)
    except ValidationError:
        return None


def _journal(value: Any) -> JournalReport | None:
    """Return what a message says of a shared journal; its texts and names are shown at a terminal."""
    if not isinstance(value, dict):
        return None
    shown = {name: printable(item, 400) if isinstance(item, str) else item for name, item in value.items()}
    try:
        found = _JOURNAL.validate_python(shown)
    except ValidationError:
        return None
    return replace(found, others={printable(name, 60): count for name, count in found.others.items()})


_FACTS: Final = TypeAdapter(ServiceFacts)
_JOURNAL: Final = TypeAdapter(JournalReport)
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


class SpendingReport(_Report):
    """The use of the daily cap, by the gateway's journal; `until` is when the day ends."""

    spent_usd: float
    reserved_usd: float
    cap_usd: float
    until: float


class AccountReport(_Report):
    """The gateway's account, as its worker found it; see `engine/account_report.py`.

    Attributes:
        home: The worker's data folder.
        journal: Its journal, where that is in PostgreSQL.
        error: Why no key can be used.
    """

    source: _Text = None
    fingerprint: _Text = None
    service: Annotated[ServiceFacts | None, BeforeValidator(_facts)] = None
    spending: Annotated[SpendingReport | None, _Lenient] = None
    home: _Text = None
    journal: Annotated[JournalReport | None, BeforeValidator(_journal)] = None
    error: Annotated[WorkerError | None, _Lenient] = None


class PluginReport(_Report):
    """The response of `flux2.doctor`.

    Attributes:
        base_url: The address in use; None for the default.
        settings: Those in force, secrets masked; None of a plugin that does not say.
        kept: Settings that its record keeps in force, because the config has no guard any more.
        needs_reload: Settings whose change takes effect when the plugin is loaded anew.
    """

    version: _Text = None
    manifest_sha256: _Text = None
    base_url: _Text = None
    key: Annotated[KeyReport | None, _Lenient] = None
    worker: Annotated[WorkerReport | None, _Lenient] = None
    settings: Annotated[dict[str, Any] | None, _Lenient] = None
    kept: Annotated[list[str] | None, _Lenient] = None
    needs_reload: Annotated[list[str] | None, _Lenient] = None
    account: Annotated[AccountReport | None, _Lenient] = None

    @property
    def has_key(self) -> bool:
        """Whether the gateway, or its worker in the vendor's own file, has a key."""
        found = None if self.account is None else self.account.source
        return found is not None or (self.key is not None and self.key.state == "set")

    @property
    def address(self) -> str | None:
        """The address that the gateway's worker asked, else the one it was given; None where neither is known."""
        service = None if self.account is None else self.account.service
        return base_url_of(self) if service is None else service.base_url


class NoGateway(str):
    """Why no gateway responds."""

    __slots__ = ()


def ask_plugin(cli: OpenClawCli) -> PluginReport | str:
    """Return the running plugin's report, or why there is none: a `NoGateway` where no other method responds either."""
    try:
        found = cli.run_json("gateway", "call", METHOD, "--json", timeout_s=GATEWAY_TIMEOUT_S)
    except ConfigurationError as exc:
        # Without an error of OpenClaw's own its command has not ended in time.
        error = exc.output.get("error") if isinstance(exc, OpenClawCommandError) else {"type": _UNREACHABLE}
        told = error if isinstance(error, Mapping) else {}
        text = printable(str(told.get("message") or exc.message), 200)
        return NoGateway(text) if told.get("type") == _UNREACHABLE else text
    return PluginReport.model_validate(found) if isinstance(found, dict) else "it did not respond with an object"


def base_url_of(report: PluginReport | str) -> str | None:
    """Return the normalized base URL of the running plugin, None when it reports none that is usable."""
    if isinstance(report, PluginReport) and report.base_url is not None:
        with suppress(ValueError):
            return normalized_base_url(report.base_url)
    return None
