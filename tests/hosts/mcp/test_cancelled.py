"""A request that its client cancels at the very end: no result goes out, so an equal call must not pay again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from io import FileIO

import pytest

from flux2_tool.hosts.mcp_answers import ReadAnswers
from flux2_tool.hosts.mcp_http.running import RunningIds
from flux2_tool.hosts.mcp_requests import ToolRequest
from flux2_tool.hosts.pipes import LineWriter
from flux2_tool.hosts.worker.json_rpc import RequestId
from tests.hosts.mcp.test_http_bounds import END, Told, answers_of, exchange


async def unheard(_value: float, _message: str | None) -> None:
    """Report to nobody."""


def request(request_id: RequestId) -> ToolRequest:
    """Return a call with an id."""
    return ToolRequest(request_id=request_id, name="text_to_image", arguments={}, report_progress=unheard)


@pytest.fixture
def answers() -> Iterator[ReadAnswers]:
    """Answers over a pipe that nobody reads, which tell `Told`."""
    reading, writing = os.pipe()
    with FileIO(writing, "wb") as output, FileIO(reading, "rb"):
        writer = LineWriter(output)
        found = ReadAnswers(writer)
        found.delivery = Told()
        yield found
        writer.close(timeout_s=1.0)


def lost_by(answers: ReadAnswers) -> list[str]:
    """Return what was told as lost."""
    assert isinstance(answers.delivery, Told)
    return answers.delivery.lost_ids


@pytest.mark.parametrize("request_id", [7, "seven"])
@pytest.mark.parametrize("is_result_first", [True, False])
def test_a_result_whose_request_is_cancelled_before_it_is_written_is_lost(
    answers: ReadAnswers, request_id: RequestId, is_result_first: bool
) -> None:
    """Over stdio, whichever of the two is there first: the result, or the cancellation."""
    answers.opened(request_id)
    if is_result_first:
        answers.expect(request(request_id), ["tsk_1", "tsk_2"])

    answers.cancelled(request_id)

    if not is_result_first:
        answers.expect(request(request_id), ["tsk_1", "tsk_2"])
    assert lost_by(answers) == ["tsk_1", "tsk_2"]


def test_an_id_that_was_cancelled_may_be_used_again(answers: ReadAnswers) -> None:
    """What was said of the request before does not hold for the next one."""
    answers.opened(7)
    answers.cancelled(7)
    answers.opened(7)
    answers.expect(request(7), ["tsk_1"])

    assert lost_by(answers) == []


def test_a_written_result_is_not_lost_by_a_late_cancellation(answers: ReadAnswers) -> None:
    """It is on its way, and whether it was read tells the pipe."""

    async def main() -> None:
        answers.opened(7)
        answers.expect(request(7), ["tsk_1"])
        answers.written(7)
        answers.cancelled(7)

    asyncio.run(main())

    assert lost_by(answers) == []


def test_what_is_sent_after_a_cancellation_over_http_brings_no_result() -> None:
    """The stream ends with an error, or with nothing, also where the result was there already."""
    told, running = Told(), RunningIds()

    async def main() -> None:
        one = exchange(answers_of(told))
        assert await running.take(2, one.cancelled)
        one.expect(["tsk_1"])
        running.cancel(3)
        running.cancel("2")
        await one.send(dict(END))
        running.release(2)
        running.cancel(2)
        await one.end()

    asyncio.run(main())

    assert (told.received_ids, told.lost_ids) == ([], ["tsk_1"])
