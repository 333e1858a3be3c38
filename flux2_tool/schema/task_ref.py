"""How agents and people name a task: "task:ID", where "task:last" is the session's newest picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from flux2_tool._characters import shell_word

_PREFIX: Final = "task:"
_LAST: Final = "last"


@dataclass(frozen=True, slots=True)
class TaskRef:
    """The name of one task; as text it is "task:ID".

    Attributes:
        task_id: RunAPI's id, without the prefix, or "last".
    """

    task_id: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the task that an id or a reference names; any text is accepted."""
        return cls(text.removeprefix(_PREFIX))

    @classmethod
    def parse_source(cls, text: str) -> Self | None:
        """Return the task that a source picture names, None for a source of another kind."""
        return cls.parse(text) if text.startswith(_PREFIX) else None

    @classmethod
    def text_of(cls, task_id: str | None) -> str | None:
        """Return the reference of a task's id, None for no id."""
        return None if task_id is None else str(cls(task_id))

    @classmethod
    def command_word(cls, task_id: str) -> str:
        """Return what names a task on a command line, as one word of it.

        RunAPI chooses an id's characters, and a person pastes the line into a shell.
        """
        is_plain = not task_id.startswith(("-", _PREFIX))
        return shell_word(task_id if is_plain else str(cls(task_id)))

    @property
    def is_last(self) -> bool:
        """Whether this is the newest picture of the calling session."""
        return self.task_id == _LAST

    def __str__(self) -> str:
        """Return "task:ID"."""
        return f"{_PREFIX}{self.task_id}"
