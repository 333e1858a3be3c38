"""Whose a task is: the conversation it was made in decides, whatever key, base URL or spelling asks for it.

A task without a record under the caller's account is looked up at RunAPI, which knows no conversations. So before a
lookup, and again after it, everything that is known of the task's id is asked: records of every account, what is kept
of deleted ones, and the tasks that this process has in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from flux2_tool.context import CallContext
from flux2_tool.exceptions import TaskNotFoundError
from flux2_tool.journal import Journal, RecordHandle
from flux2_tool.tasks.task import ImageTask

# What may separate an id from a part that a service ignores, as in "ID.json" or "urn:uuid:ID".
_SEPARATOR = re.compile(r"[^A-Za-z0-9_{}-]")


def spellings_of(task_id: str) -> frozenset[str]:
    """Return the ids that a service may take a given id for: itself, its beginnings, and its parts."""
    ends = [match.start() for match in _SEPARATOR.finditer(task_id)]
    found = {task_id, *(task_id[:end] for end in ends), *_SEPARATOR.split(task_id)}
    return frozenset(filter(None, found))


def task_key(task_id: str) -> str:
    """Return what equal ids share, in any letter case and with or without a UUID's punctuation.

    The journal compares the same, see `journal/task_conversations.py`.
    """
    return task_id.translate({ord(mark): None for mark in "-{}"}).lower()


def ids_of(image_task: ImageTask) -> frozenset[str]:
    """Return every id of a looked-up task: the one that was asked for, and those of RunAPI's responses."""
    named = {image_task.task_id}
    for response in (image_task.final, image_task.log.last_response):
        if response is not None:
            named |= {response.task_id, *response.ids}
    return frozenset(task_id for task_id in named if task_id is not None)


def check_belongs(image_task: ImageTask, caller: CallContext) -> None:
    """Raise TaskNotFoundError if the caller may not use the conversation of a task's record."""
    record = image_task.record
    if record is not None and not caller.may_use(record.session):
        raise other_conversation(record.task_id)


async def check_lookup(
    task_ids: Iterable[str], *, caller: CallContext, journal: Journal, record_handles: Iterable[RecordHandle]
) -> None:
    """Raise TaskNotFoundError if any record, or what is kept of one, gives one of these ids to a conversation that the
    caller may not use."""
    records = [handle.record for handle in record_handles]
    for task_id in task_ids:
        spellings = spellings_of(task_id)
        keys = {task_key(spelling) for spelling in spellings}
        sessions = {one.session for one in records if one.task_id is not None and task_key(one.task_id) in keys}
        for spelling in spellings:
            sessions.update(await journal.conversations_of(spelling))
        if not all(caller.may_use(session) for session in sessions):
            raise other_conversation(task_id)


def other_conversation(task_id: str | None) -> TaskNotFoundError:
    """Return the error for a task of another conversation."""
    return TaskNotFoundError(
        f"Task {task_id} belongs to another conversation.",
        hint="Use a task of this conversation, or ask the owner.",
    )
