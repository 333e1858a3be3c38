"""The journal for an event loop: SQLite in a thread of its own, so that the loop never waits for the disk or a lock.

One thread carries out everything in order. While another process holds the lock, an operation is tried again in short
attempts, so that reads and the operations of other calls go on in between. `now` is the wall clock when the call was
made; the monotonic clock of the leases (`Owner.moment`) is read in the thread, within the transaction that it decides.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from flux2_tool._clock import Clock, SystemClock
from flux2_tool.journal.account_pace import AccountPace, CreateLimit, News, Turn
from flux2_tool.journal.claiming import Claiming
from flux2_tool.journal.errors import JournalError
from flux2_tool.journal.model import (
    Cap,
    Claim,
    ClaimRules,
    Conversation,
    Intent,
    Outcome,
    Record,
    RecordState,
    SavedCopy,
    Spending,
)
from flux2_tool.journal.news_channel import NewsChannel
from flux2_tool.journal.opening import open_journal
from flux2_tool.journal.place import DatabaseUrl, JournalPlace
from flux2_tool.journal.process_id import Owner
from flux2_tool.journal.protocol import LOCK_PATIENCE_S
from flux2_tool.journal.store import SqlJournal
from flux2_tool.journal.store_threads import StoreThreads
from flux2_tool.journal.worker_threads import guarded
from flux2_tool.runapi import contract
from flux2_tool.runapi.rate_limit import PaceChange

if TYPE_CHECKING:
    from flux2_tool.journal.postgres_listener import PostgresListener

T = TypeVar("T")

# One attempt at a locked file occupies the thread.
_ATTEMPT_S: Final = 0.03


async def open_threaded_journal(
    place: JournalPlace | None, *, owner: Owner, now: float, clock: Clock | None = None
) -> ThreadedJournal:
    """Open the journal of a data folder or a database, or one in memory for `None`; create it if missing.

    Raises:
        JournalError: The folder, the file or the server cannot be used; nothing was changed.
    """
    threads, listener = 1, None
    if isinstance(place, DatabaseUrl):
        # Imported here because most journals are files.
        from flux2_tool.journal.postgres_database import POOL_SIZE, listener_of

        threads, listener = POOL_SIZE, listener_of(place.url, schema=place.schema)
    executor = ThreadPoolExecutor(threads, thread_name_prefix="flux2-tool-journal")
    loop = asyncio.get_running_loop()
    try:
        opening = loop.run_in_executor(executor, lambda: guarded(lambda: _open(place, owner=owner, now=now)))
    except RuntimeError as exc:  # no thread can be started, for instance because Python ends
        raise JournalError(f"the journal cannot be opened: {exc}") from exc
    try:
        store = await asyncio.shield(opening)
    except BaseException:
        opening.add_done_callback(lambda done: _drop(done, executor))
        raise
    return ThreadedJournal(store, executor, clock=clock or SystemClock(), listener=listener)


def _open(place: JournalPlace | None, *, owner: Owner, now: float) -> SqlJournal:
    store = open_journal(place, owner=owner, now=now)
    store.set_lock_timeout(_ATTEMPT_S)
    return store


def _drop(opening: asyncio.Future[SqlJournal], executor: ThreadPoolExecutor) -> None:
    """Close what was opened for a call that does not wait for it any more."""
    if not opening.cancelled() and opening.exception() is None:
        store = opening.result()
        executor.submit(guarded, lambda: store.close(release=False))
    executor.shutdown(wait=False)


class ThreadedJournal(StoreThreads):
    """`Journal` over a `SqlJournal` in threads: one for SQLite, several for a server.

    Args:
        store: The open journal; used in the threads only.
        executor: The threads.
        clock: Measures the waits for a lock.
        listener: Hears what other processes say, where the store can tell.
    """

    def __init__(
        self,
        store: SqlJournal,
        executor: ThreadPoolExecutor,
        *,
        clock: Clock,
        listener: PostgresListener | None = None,
    ) -> None:
        super().__init__(store, executor, clock=clock)
        self._news = NewsChannel(listener)

    # ---- what must be written before something is done ---------------------------------------------------------------

    async def claim(
        self,
        intents: Sequence[Intent],
        rules: ClaimRules,
        *,
        now: float,
        within_s: float = LOCK_PATIENCE_S,
        creates: CreateLimit | None = None,
    ) -> Claim:
        claiming = Claiming(self._store, intents, rules, now=now, creates=creates)
        try:
            claim = await self._run(claiming, within_s=within_s)
        except (asyncio.CancelledError, JournalError):
            # It may be recorded all the same, a moment later; nobody would ever send it.
            claiming.abandon(self._threads.submit)
            raise
        self._news.hear([] if claim.pace is None else [claim.pace])
        return claim

    async def end_unsent(self, record_ids: Sequence[str], *, now: float, within_s: float = LOCK_PATIENCE_S) -> None:
        await self._run(lambda: self._store.end_unsent(record_ids, now=now), within_s=within_s)

    async def take_over(self, record_id: str, *, now: float) -> Record | None:
        return await self._run(lambda: self._store.take_over(record_id, now=now))

    async def note_route(
        self, record_id: str, route: contract.Route, *, now: float, creates: CreateLimit | None = None
    ) -> tuple[Turn, Record | None]:
        turn, pace, record = await self._finish(
            lambda: self._store.note_route(record_id, route, now=now, creates=creates)
        )
        self._news.hear([] if pace is None else [pace])
        return turn, record

    # ---- what has happened, and is written whatever becomes of the call ----------------------------------------------

    async def release(self, record_id: str, *, abandoned: bool = False) -> Record | None:
        return await self._noted(record_id, lambda: self._store.release(record_id, abandoned=abandoned))

    async def note_orphaned(self, record_id: str) -> Record | None:
        return await self._noted(record_id, lambda: self._store.note_orphaned(record_id))

    async def note_accepted(
        self, record_id: str, *, now: float, task_id: str | None, status_url: str | None, request_id: str | None
    ) -> Record | None:
        return await self._noted(
            record_id,
            lambda: self._store.note_accepted(
                record_id, now=now, task_id=task_id, status_url=status_url, request_id=request_id
            ),
        )

    async def note_end(self, record_id: str, outcome: Outcome, *, now: float) -> Record | None:
        return await self._noted(record_id, lambda: self._store.note_end(record_id, outcome, now=now))

    async def note_delivered(self, record_id: str, *, now: float, elsewhere: str | None = None) -> Record | None:
        return await self._noted(record_id, lambda: self._store.note_delivered(record_id, now=now, elsewhere=elsewhere))

    async def note_ancestors(self, session: str, ancestors: Sequence[str]) -> None:
        await self._finish(lambda: self._store.note_ancestors(session, ancestors))

    async def note_told(self, record_id: str, state: RecordState) -> Record | None:
        return await self._noted(record_id, lambda: self._store.note_told(record_id, state))

    async def note_saved(self, record_id: str, copies: Sequence[SavedCopy]) -> Record | None:
        return await self._noted(record_id, lambda: self._store.note_saved(record_id, copies))

    async def carry_over(self, records: Sequence[Record]) -> None:
        await self._finish(lambda: self._store.carry_over(records))

    async def give_back_slot(self, record_id: str) -> Record | None:
        return await self._noted(record_id, lambda: self._store.give_back_slot(record_id))

    async def note_pace(self, change: PaceChange, *, base_url: str, fingerprint: str) -> AccountPace:
        return await self._finish(lambda: self._store.note_pace(change, base_url=base_url, fingerprint=fingerprint))

    async def heartbeat(self, *, now: float) -> None:
        self._news.hear(await self._run(lambda: self._store.heartbeat(now=now)))

    async def mark_unconfirmed(self, *, sent_before: float, now: float) -> None:
        await self._run(lambda: self._store.mark_unconfirmed(sent_before=sent_before, now=now))

    # ---- what other processes say ------------------------------------------------------------------------------------

    async def listen(self, hear: Callable[[Sequence[News]], None]) -> None:
        self._news.begin(hear, read=lambda: self._run(self._store.paces))
        hear(await self._run(self._store.paces))

    # ---- reads -------------------------------------------------------------------------------------------------------

    async def get(self, record_id: str) -> Record | None:
        return await self._run(lambda: self._store.get(record_id))

    async def find_task(self, task_id: str, *, fingerprint: str, base_url: str) -> Record | None:
        return await self._run(lambda: self._store.find_task(task_id, fingerprint=fingerprint, base_url=base_url))

    async def has_other(self, task_id: str, *, base_url: str, than: str) -> bool:
        return await self._run(lambda: self._store.has_other(task_id, base_url=base_url, than=than))

    async def conversations_of(self, task_id: str) -> list[str | None]:
        return await self._run(lambda: self._store.conversations_of(task_id))

    async def descendants_of(self, session: str) -> list[str]:
        return await self._run(lambda: self._in_place(lambda: self._store.descendants_of(session)))

    async def not_given(
        self, session: str, *, since: float, now: float, known: Sequence[str] = ()
    ) -> tuple[list[str], list[Record]]:
        def read() -> tuple[list[str], list[Record]]:
            sessions = [session, *sorted(self._store.descendants_of(session))]
            return sessions, self._store.not_given(sessions, since=since, now=now, known=known)

        return await self._run(lambda: self._in_place(read))

    async def newest(
        self,
        *,
        fingerprint: str,
        base_url: str,
        session: str | None,
        delivered_first: bool = False,
        inherited_session_prefix: str | None = None,
    ) -> Record | None:
        return await self._run(
            lambda: self._store.newest(
                fingerprint=fingerprint,
                base_url=base_url,
                session=session,
                delivered_first=delivered_first,
                inherited_session_prefix=inherited_session_prefix,
            )
        )

    async def recent(self, wanted: Conversation, *, limit: int) -> list[Record]:
        return await self._run(lambda: self._store.recent(wanted, limit=limit))

    async def spending(self, cap: Cap) -> Spending:
        return await self._run(lambda: self._store.spending(cap))

    async def unowned(
        self, *, fingerprint: str, base_url: str, now: float, resend_since: float, include_abandoned: bool = False
    ) -> list[Record]:
        return await self._run(
            lambda: self._store.unowned(
                fingerprint=fingerprint,
                base_url=base_url,
                now=now,
                resend_since=resend_since,
                include_abandoned=include_abandoned,
            )
        )

    async def records(
        self, *, states: Sequence[RecordState] = (), since: float | None = None, ended_since: float | None = None
    ) -> list[Record]:
        return await self._run(lambda: self._store.records(states=states, since=since, ended_since=ended_since))

    async def completed(self, *, since: float, most: int) -> list[Record]:
        return await self._run(lambda: self._store.completed(since=since, most=most))

    async def durations(self, *, base_url: str, model: str, resolution: str, limit: int) -> list[float]:
        return await self._run(
            lambda: self._store.durations(base_url=base_url, model=model, resolution=resolution, limit=limit)
        )

    async def is_in_place(self) -> bool:
        return await self._run(self._store.is_in_place)

    async def is_moved(self) -> bool:
        return await self._run(self._store.is_moved)

    async def salvage(self) -> list[Record]:
        return await self._finish(self._store.salvage)

    async def close(self, *, release: bool = True) -> None:
        try:
            await self._finish(lambda: self._close_store(release=release))
        finally:
            self._is_closed = True
            self._news.end()
            self._threads.end(wait=False)

    def close_now(self) -> None:
        """Close the store without an event loop; the records stay owned, as after a crash."""
        with contextlib.suppress(RuntimeError):  # it is closed already
            self._threads.submit(lambda: self._close_store(release=False)).result()
        self._is_closed = True
        self._news.end()
        self._threads.end(wait=True)

    async def _noted(self, record_id: str, note: Callable[[], Record | None]) -> Record | None:
        """Write something of a record, and return the record: one way to the thread and back for both."""

        def note_and_read() -> Record | None:
            return note() or self._record(record_id)

        return await self._finish(note_and_read)

    def _in_place(self, read: Callable[[], T]) -> T:
        """Read, unless nobody else can read what is there; a transaction looks for that by itself."""
        if not self._store.is_in_place():
            raise JournalError("the journal's files were replaced", reason="replaced")
        return read()

    def _record(self, record_id: str) -> Record | None:
        """Return a record that was just written, in the thread; None where it cannot be read, which undoes nothing."""
        with contextlib.suppress(JournalError):
            return self._store.get(record_id)
        return None

    def _after_write(self) -> None:
        self._news.hear(self._store.take_woken())
