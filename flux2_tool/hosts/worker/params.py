"""Models of the worker's message params, which are validated once, on receipt.

Members that are not named here are ignored, so that a newer plugin may send more. OpenClaw may not know the sender or
the conversation: a value of another type counts as unknown, and only `true` itself is true.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from flux2_tool.hosts.worker.json_rpc import INVALID_PARAMS, ProtocolFaultError

LONGEST_WAIT_S: Final = 86400.0
MAX_NAMED: Final = 3


def _sendable(value: Any) -> Any:
    """Return text with lone surrogates replaced, which JSON can carry and UTF-8 cannot."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def _text_or_none(value: Any) -> Any:
    return _sendable(value) if isinstance(value, str) and value else None


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("must be base64 text")  # noqa: TRY004 - pydantic reports no TypeError
    return base64.b64decode(value, validate=True)


Text = Annotated[str, BeforeValidator(_sendable)]
KnownText = Annotated[str | None, BeforeValidator(_text_or_none)]
Flag = Annotated[bool, BeforeValidator(lambda value: value is True)]


class _Params(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class AgentSession(_Params):
    """A conversation as OpenClaw identifies it; it may know only one of the two."""

    agent_id: KnownText = None
    session_key: KnownText = None

    @property
    def name(self) -> str | None:
        """One name from both, None if neither is known."""
        if self.agent_id is None and self.session_key is None:
            return None
        return f"{self.agent_id or ''}/{self.session_key or ''}"


def _session(value: Any) -> Any:
    return AgentSession.model_validate(value) if isinstance(value, dict) else _text_or_none(value)


class ApprovalParams(_Params):
    """A person's consent to a call, as `question` returned it."""

    approval_id: Text
    request_key: Text
    usd: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class AccountParams(_Params):
    """The params of `account`: those of a call that name the account."""

    api_key: Text | None = Field(default=None, repr=False)
    base_url: Text | None = None


class CallParams(AccountParams):
    """The params of `call` and `question`: the tool, its arguments, which are validated later, and the caller.

    Attributes:
        wait_s: How long this call waits, in seconds.
        unattended: What kind of run it is, where nobody is known for whom it works.
        spends_as_owner: Whether it works for the owner, whose own call it is not, as a subagent's run does.
        ancestors: The conversations that spawned this one, by OpenClaw's own records.
        handed_over: Whether one of them shows the image, because nobody sees this conversation.
        unattributed: Whether OpenClaw names neither the conversation nor the sender.
        private: Whether nobody but the owner reads this conversation.
        source_dirs: Folders in which the host has put this call's source files.
        watching: Whether the plugin waits for the image by itself; what it gets does not count as delivered.
        approval: A person's consent to this call, if one was asked.
    """

    tool: Text
    arguments: Any = None
    session: Annotated[str | AgentSession | None, BeforeValidator(_session)] = None
    sender: KnownText = None
    is_owner: Flag = False
    unattended: KnownText = None
    spends_as_owner: Flag = False
    ancestors: list[AgentSession] | None = None
    handed_over: Flag = False
    unattributed: Flag = False
    private: Flag = False
    sandboxed: Flag = False
    watching: Flag = False
    workspace_dir: Text | None = None
    state_dir: Text | None = None
    output_dir: Text | None = None
    source_dirs: list[Annotated[Text, Field(min_length=1)]] | None = None
    approval: ApprovalParams | None = None
    wait_s: Annotated[float, Field(ge=0, le=LONGEST_WAIT_S, allow_inf_nan=False)] | None = None


class OverviewParams(CallParams):
    """The params of `overview`: the conversation and the account, as those of a call.

    Attributes:
        is_operator: Whether the account's balance may be told.
    """

    tool: Text = ""
    is_operator: Flag = False


class PictureParams(_Params):
    """The params of `gallery_picture`: the picture's key on the page."""

    key: Text


class WebhookParams(_Params):
    """The params of `webhook`: a request to the gateway's route."""

    headers: dict[str, Text]
    body: Annotated[bytes, BeforeValidator(_decoded)] = Field(alias="body_base64")


Params = TypeVar("Params", bound=_Params)


def parsed(kind: type[Params], params: dict[str, Any]) -> Params:
    """Return a message's params as a model.

    Raises:
        ProtocolFaultError: A member has the wrong type; the message names it and never quotes its value.
    """
    try:
        return kind.model_validate(params)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False, include_context=False)
        details = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"[:200] for one in found[:MAX_NAMED]]
        raise ProtocolFaultError(INVALID_PARAMS, "; ".join(details)) from None
