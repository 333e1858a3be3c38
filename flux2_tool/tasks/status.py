"""The status of an image task: its state, the table of transitions, and its known data.

No I/O: filled by `task.py` and by polling, read by the result builder and by progress messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from flux2_tool._files import is_file
from flux2_tool._redaction import redact
from flux2_tool.exceptions import Flux2Error, error_from_code
from flux2_tool.journal import Failure, Outcome, Record, RecordHandle, RecordState, SavedCopy
from flux2_tool.runapi import contract
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.image_links import ImageLink, url_expiry
from flux2_tool.runapi.responses import TaskResponse
from flux2_tool.runapi.text import printable
from flux2_tool.tasks.dependencies import TaskDependencies
from flux2_tool.tasks.poll import PollLog
from flux2_tool.tasks.poll_scheduler import TaskKind, kind_of

TRANSITIONS: Final[Mapping[RecordState, frozenset[RecordState]]] = {
    "sending": frozenset({"processing", "completed", "failed", "not_created", "unknown"}),
    "processing": frozenset({"completed", "failed", "unknown"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "not_created": frozenset(),
    "unknown": frozenset(),
}
"""The states of an image task, which are the journal's, and the states that may follow each.

    sending ──> processing ──> completed     the response has images
       │            ├────────> failed        the response says so
       │            └────────> unknown       "completed" without an image, a task that cannot be found, a key that stays
       │                                     refused, a defect
       ├──────────────────────> not_created  nothing was sent, or RunAPI certainly created nothing
       ├──────────────────────> unknown      the response to the POST was lost, or proves nothing
       └──────────────────────> completed, failed
                                             read from the record: another process submitted and followed it

A new request begins at `sending`, a lookup at `processing`. A state without a successor is final for this object; an
`unknown` request is resumed by a new object for the same record, under the same idempotency key.
"""

TITLE_CHARS: Final = 60

ProgressState = Literal["submitting", "processing", "completed", "failed"]
_PROGRESS_STATES: Final[Mapping[RecordState, ProgressState]] = {
    "sending": "submitting",
    "processing": "processing",
    "completed": "completed",
    "failed": "failed",
    "not_created": "failed",
    "unknown": "failed",
}


def title_of(body: bytes) -> str | None:
    """Return the beginning of a request's prompt on one line, cut at a word; None where there is none.

    It is shown to people, so that nothing in it may turn, hide or colour the text around it.
    """
    try:
        prompt = json.loads(body)["prompt"]
    except (KeyError, TypeError, ValueError):
        return None
    words = printable(str(prompt), 2 * TITLE_CHARS)
    if len(words) <= TITLE_CHARS:
        return words or None
    head = words[:TITLE_CHARS]
    return (head.rpartition(" ")[0] or head) + "…"


class TaskStatus:
    """The state and known data of an image task.

    Args:
        client: The account's client.
        dependencies: Shared by all image tasks of the process.
        state: The first state.
        record_handle: Its record in the journal; None for a task that was created elsewhere.
        task_id: The task's id; None until RunAPI returns one.

    Attributes:
        log: The results of polling.
        final: The response that ended it.
        error: The reason why it ended without an image.
        attempt: The number of POSTs this process has sent.
        submitted_at: When RunAPI accepted it, on the wall clock, if known.
        finished_at: When its end was detected, on the wall clock.
    """

    def __init__(
        self,
        client: RunapiClient,
        *,
        dependencies: TaskDependencies,
        state: RecordState,
        record_handle: RecordHandle | None,
        task_id: str | None,
    ) -> None:
        self.client = client
        self.record_handle = record_handle
        self.task_id = task_id
        self.log = PollLog()
        self.final: TaskResponse | None = None
        self.error: Flux2Error | None = None
        self.attempt = 0
        self.submitted_at: float | None = None
        self.finished_at: float | None = None
        self._deps = dependencies
        self._state: RecordState = state

    @property
    def state(self) -> RecordState:
        """The current state; see TRANSITIONS."""
        return self._state

    @property
    def is_poll_held(self) -> bool:
        """Whether its status would be asked for now, but RunAPI limits the account's rate."""
        return self.log.polls > self.log.responses and self.client.is_held

    @property
    def progress_state(self) -> ProgressState:
        """The state's name in progress messages of the worker protocol."""
        return _PROGRESS_STATES[self._state]

    @property
    def is_over(self) -> bool:
        """Whether it has ended, with or without an image."""
        return not TRANSITIONS[self._state]

    @property
    def record(self) -> Record | None:
        """Its record as last read; None for a task that was created elsewhere."""
        return None if self.record_handle is None else self.record_handle.record

    @property
    def tool(self) -> contract.Action | None:
        """The tool that made it, when known."""
        return self.log.action if self.record is None else self.record.tool

    @property
    def model(self) -> str | None:
        """The model that made it, when known."""
        return self.log.model if self.record is None else self.record.model

    @property
    def kind(self) -> TaskKind | None:
        """The kind of task that it is, for its poll schedule; None when it is not known."""
        return kind_of(self.client.base_url, self.model, self.resolution)

    @property
    def resolution(self) -> str | None:
        """The requested output resolution, when known; prices depend on it."""
        return None if self.record is None else self.record.resolution

    @property
    def label(self) -> str:
        """A short text for file names."""
        return "" if self.record is None else self.record.label

    @property
    def title(self) -> str | None:
        """The beginning of the prompt for people, on one line; None when it is not known."""
        return None if self.record is None else title_of(self.record.body)

    @property
    def left_s(self) -> float | None:
        """The estimated remaining time, in seconds; None when it cannot be estimated."""
        record, submitted_at = self.record, self.submitted_at
        if record is None or submitted_at is None:
            return None
        schedule = self._deps.poll_schedule(self.kind, record.body)
        age_s = max(0.0, self._deps.clock.now() - submitted_at)
        return None if schedule.expectation is None else schedule.expectation.left_s(age_s)

    def expires_at(self, link: ImageLink) -> str | None:
        """Return when a link of this image task expires, in UTC; None when unknown."""
        if self.finished_at is None:
            return link.expires_at
        return link.expires_at or url_expiry(link.url, self.finished_at)

    @property
    def saved(self) -> tuple[SavedCopy, ...]:
        """Copies of its images that are still on this machine."""
        copies = () if self.record is None else self.record.saved
        return tuple(copy for copy in copies if is_file(Path(copy.path)))

    @property
    def raw_response(self) -> str | None:
        """RunAPI's last response about the task as redacted JSON text, if there was one."""
        if self.log.last_raw is not None:
            return redact(self.log.last_raw, secrets=self.client.secrets)
        return None if self.record is None else self.record.raw

    # ---- changes -----------------------------------------------------------------------------------------------------

    def _enter(self, state: RecordState) -> None:
        """Change the state; every change goes through here."""
        if state not in TRANSITIONS[self._state]:
            raise RuntimeError(f"an image task cannot go from {self._state} to {state}")
        self._state = state

    def _restore_from_record(self, record: Record) -> None:
        """Set this image task's state and data from its record."""
        links = tuple(ImageLink(url=url, expires_at=expires_at) for url, expires_at in record.images)
        if record.state == "completed":
            self.final = TaskResponse(phase="completed", task_id=record.task_id, images=links, cost_usd=record.cost_usd)
            self._enter("completed")
        elif record.state in ("failed", "not_created") and record.error is not None:
            self.error = error_from_code(*record.error, task_id=record.task_id, request_id=record.request_id)
            self.error.charged = "yes" if record.cost_usd else "no"
            self._enter(record.state)
        elif record.task_id is not None and self.task_id is None:
            self._enter("processing")
        self.task_id = record.task_id or self.task_id
        self.submitted_at = record.accepted_at
        self.finished_at = record.finished_at
        self.log.polls = max(self.log.polls, record.polls)
        self.log.request_id = record.request_id
        if record.task_id is not None and self.log.last_response is None:
            self.log.last_response = TaskResponse(phase="active", task_id=record.task_id)

    def _outcome(self, *, conflict: bool, abandoned: bool, duration_s: float | None) -> Outcome:
        """Return its outcome for the journal."""
        images = () if self.final is None else self.final.images
        return Outcome(
            state=self._state,
            images=tuple((link.url, self.expires_at(link)) for link in images),
            cost_usd=None if self.final is None else self.final.cost_usd,
            error=None if self.error is None else Failure(self.error.code, self.error.message),
            conflict=conflict,
            abandoned=abandoned,
            raw=self.raw_response,
            request_id=self.log.request_id,
            polls=self.log.polls,
            duration_s=duration_s,
        )
