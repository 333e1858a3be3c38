"""The parameters of a request, checked in words that its sender can act on.

The SDK checks them too, before any handler of ours, and then says no more than that they are invalid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flux2_tool.hosts.worker.json_rpc import INVALID_PARAMS, ProtocolFaultError

_CALL: Final = '"params" must be an object: {"name": "text_to_image", "arguments": {"prompt": "a red fox"}}'


def without_null_meta(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without a `_meta` or a progress token that is null: some serializers write what is absent so."""
    params = message.get("params")
    if not isinstance(params, dict) or "_meta" not in params:
        return message
    meta = params["_meta"]
    if meta is None:
        return {**message, "params": {name: value for name, value in params.items() if name != "_meta"}}
    if isinstance(meta, dict) and meta.get("progressToken", "") is None:
        rest = {name: value for name, value in meta.items() if name != "progressToken"}
        return {**message, "params": {**params, "_meta": rest}}
    return message


def check_params(message: Mapping[str, Any]) -> None:
    """Check what the SDK would refuse without a reason, but for what is an argument's own.

    Raises:
        ProtocolFaultError: The parameters are wrong; it says which, and what is right.
    """
    params, is_call = message.get("params"), message.get("method") == "tools/call"
    if isinstance(params, dict):
        fault = _meta_fault(params.get("_meta", {})) or (_call_fault(params) if is_call else None)
    else:
        fault = _CALL if is_call else None
    if fault is not None:
        raise ProtocolFaultError(INVALID_PARAMS, f"Invalid request parameters: {fault}")


def _call_fault(params: Mapping[str, Any]) -> str | None:
    if "name" not in params:
        return f'"name" is missing; {_CALL}'
    name, arguments = params["name"], params.get("arguments")
    if not isinstance(name, str):
        return f'"name" is {_kind(name)}; it must be the name of a tool, as tools/list has it'
    if arguments is None or isinstance(arguments, dict):
        return None
    wanted = 'it must be a JSON object, such as {"prompt": "a red fox"}'
    if isinstance(arguments, str) and arguments.lstrip().startswith("{"):
        return f'"arguments" is a text that holds an object; {wanted}, and not its text in quotes'
    return f'"arguments" is {_kind(arguments)}; {wanted}'


def _meta_fault(meta: Any) -> str | None:
    if not isinstance(meta, dict):
        return f'"_meta" is {_kind(meta)}; it must be an object, or be left out'
    token = meta.get("progressToken", "")
    if isinstance(token, bool) or not isinstance(token, str | int):
        return f'"_meta.progressToken" is {_kind(token)}; it must be a text or a whole number, or be left out'
    return None


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    kinds = {str: "a text", int: "a number", float: "no whole number", list: "a list", dict: "an object"}
    return next(kind for type_, kind in kinds.items() if isinstance(value, type_))
