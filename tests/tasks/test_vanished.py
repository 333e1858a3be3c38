"""A record that goes while another process's task is watched: forgotten, or lost in a file that was put back."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flux2_tool._folders import JOURNAL_NAME
from tests.support.harness import MockService, Seen, opened_tool
from tests.support.virtual_time import run_virtual

FOX = {"prompt": "a fox"}
DONE = {"id": "tsk_abc123", "status": "completed", "images": [{"url": "https://cdn.example/a.png"}]}


def _change(home: Path, statement: str) -> None:
    with closing(sqlite3.connect(home / JOURNAL_NAME)) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.mark.sqlite_only("its rows are deleted with SQLite")
@pytest.mark.parametrize("is_accepted", [True, False])
def test_what_nobody_else_follows_any_more_is_not_watched_for_ever(home: Path, is_accepted: bool) -> None:
    """With its id it is fetched; without one, nobody knows what became of it."""

    def owners(request: Seen) -> Any:
        if request.method == "POST":
            return (200, {"task_id": "tsk_abc123", "status": "pending"}) if is_accepted else (503, {})
        return 200, {"status": "processing"}

    async def main() -> dict[str, Any]:
        service = MockService(lambda request: (200, DONE))
        async with opened_tool(home, MockService(owners)) as old, opened_tool(home, service) as new:
            first = asyncio.create_task(old.call("text_to_image", FOX, session="s"))
            await asyncio.sleep(1.0)
            second = asyncio.create_task(new.call("text_to_image", FOX, session="s"))
            await asyncio.sleep(1.0)
            _change(home, "DELETE FROM records")
            result = await second
            assert service.posts == []
            first.cancel()
            return result

    result = run_virtual(main())

    if is_accepted:
        assert (result["task"]["id"], result["task"]["state"]) == ("tsk_abc123", "completed")
    else:
        assert (result["error"]["code"], result["error"]["charged"]) == ("unexpected_answer", "unknown")
        assert "not in the task journal any more" in result["error"]["message"]
