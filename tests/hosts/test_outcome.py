"""The hosts' edge: what a call came to, as the object that every host hands on and as an exception."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from flux2_tool.exceptions import Flux2Error, InvalidArgumentsError, RateLimitedError
from flux2_tool.hosts.outcome import outcome_of, result_object


def object_of(error: BaseException) -> dict[str, Any]:
    """Return the result object of a call that raises."""

    async def failing() -> Any:
        raise error

    return asyncio.run(result_object(failing()))


def test_an_error_becomes_the_error_object_with_all_its_facts() -> None:
    """An agent branches on them."""
    error = RateLimitedError("slow down", hint="wait", task_id="tsk_1", request_id="req_1", charged="unknown")

    assert object_of(error) == {
        "error": {
            "code": "rate_limited",
            "message": "slow down",
            "hint": "wait",
            "retryable": True,
            "charged": "unknown",
            "task_ref": "task:tsk_1",
            "request_id": "req_1",
        }
    }


@pytest.mark.parametrize(("violations", "has_member"), [((), False), (("prompt is missing",), True)])
def test_violations_are_a_member_only_when_there_are_some(violations: tuple[str, ...], has_member: bool) -> None:
    """The object's shape is a contract."""
    found = object_of(InvalidArgumentsError("wrong", violations=violations))["error"]

    assert ("violations" in found) == has_member
    assert tuple(found.get("violations", ())) == violations


def test_a_defect_is_logged_and_becomes_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever breaks inside, a host reads an object and an operator a traceback."""
    with caplog.at_level(logging.ERROR):
        found = object_of(ZeroDivisionError("a secret"))["error"]

    assert (found["code"], found["charged"]) == ("internal_error", "unknown")
    assert "ZeroDivisionError" in found["message"]
    assert "a secret" not in found["message"]
    assert "Traceback" in caplog.text


def test_a_cancelled_task_stays_cancelled() -> None:
    """Only the event loop may end a task that way, and it must see it end."""

    async def cancelled() -> Any:
        raise asyncio.CancelledError

    async def main() -> Flux2Error | Any:
        return await outcome_of(cancelled())

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
