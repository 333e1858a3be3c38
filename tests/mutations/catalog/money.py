"""Changes that pay twice, lose a paid image, or let a cap be exceeded."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutant import edits

_SENDING: Final = edits(
    "flux2_tool/runapi/sending.py",
    (
        "a request that has begun counts as unsent",
        "return self._is_connecting and not self._has_begun",
        "return self._is_connecting",
    ),
    (
        "a proxy's own request passes for ours",
        ' and info["request"].method != b"CONNECT"',
        "",
    ),
    (
        "a request of which nothing is known counts as unsent",
        "return self._is_connecting and not self._has_begun",
        "return not self._has_begun",
    ),
)

_SUBMIT: Final = edits(
    "flux2_tool/tasks/submit.py",
    (
        "a 409 to the first POST says that nothing was created",
        "        self._maybe_sent = True\n        if code == contract.CONFLICT_CODE:",
        "        self._maybe_sent = self._maybe_sent or code != contract.CONFLICT_CODE\n"
        "        if code == contract.CONFLICT_CODE:",
    ),
    (
        "a POST that was cancelled on its way counts as not sent",
        "                self._maybe_sent = self._maybe_sent or not sending.is_unsent\n",
        "",
    ),
    (
        "a POST on its way counts as not sent",
        "return not self._maybe_sent and (self._sending is None or self._sending.is_unsent)",
        "return not self._maybe_sent",
    ),
    (
        "a call that leaves while an acceptance is checked counts as not sent",
        "            self._maybe_sent = True\n            accepted = await self._accepted(response, route, wait_s)",
        "            accepted = await self._accepted(response, route, wait_s)\n"
        "            self._maybe_sent = self._maybe_sent or accepted is None",
    ),
    (
        "the journal's refusal before a POST says nothing of the charge",
        "                exc.charged = self._charged\n",
        "",
    ),
    (
        "a success without a task is asked for without limit",
        "        if self._unreadable >= MAX_UNREADABLE:\n            raise self._failed(error)\n",
        "",
    ),
    (
        "Retry-After has no ceiling in a submission",
        "        delay_s = min(delay_s, RETRY_AFTER_CEILING_S)\n",
        "",
    ),
    (
        "a POST whose response was lost counts as not sent",
        "            except MaybeSentError as exc:\n                self._maybe_sent = True\n",
        "            except MaybeSentError as exc:\n",
    ),
    (
        "after a lost response the other route is tried",
        "                if self._maybe_sent:\n                    after",
        "                if False:\n                    after",
    ),
    (
        "a POST that was redirected counts as not sent",
        "self._maybe_sent = self._maybe_sent or response.was_redirected",
        "self._maybe_sent = self._maybe_sent",
    ),
    (
        "each attempt has an idempotency key of its own",
        "                    headers=self._headers,\n",
        "                    headers={\n"
        "                        **self._headers,\n"
        "                        contract.IDEMPOTENCY_HEADER: f'{self._request.idempotency_key}-{self._attempts}',\n"
        "                    },\n",
    ),
    (
        "another request's task is accepted",
        "        if not await self._callbacks.take_task(task_id):",
        "        if False and not await self._callbacks.take_task(task_id):",
    ),
    (
        "a refusal after a lost response says that nothing was created",
        'return SubmissionError(error, "unknown" if self._maybe_sent else "not_created"',
        'return SubmissionError(error, "not_created"',
    ),
    (
        "a lost response is charged for certain not",
        'return "unknown" if self._maybe_sent else "no"',
        'return "no"',
    ),
    (
        "the intent is not recorded before a POST",
        "                queued = await self._callbacks.before_attempt(self._attempts, route)\n",
        "                queued = None\n",
    ),
    (
        "a 409 about other input is asked again",
        "            if self._conflict:\n                raise self._failed(self._refused(response, path))\n",
        "",
    ),
    (
        "a refusal is repeated",
        "            raise self._failed(self._refused(response, path))\n        self._maybe_sent = True\n",
        "            await self._pause(self._refused(response, path), wait_s)\n            return None\n"
        "        self._maybe_sent = True\n",
    ),
    (
        "a failing service is asked again without limit",
        "        if self._failures >= MAX_FAILURES:\n            raise self._failed(error)\n",
        "",
    ),
    (
        "a refused key on the way to a task is doubted for ever",
        "if accepted.names_another_request and task_id != doubted_before:",
        "if accepted.names_another_request:",
    ),
)

_ACCEPTANCE: Final = edits(
    "flux2_tool/tasks/acceptance.py",
    (
        "a Location that ends with a slash names no task",
        'rest.rstrip("/").split("/")',
        'rest.split("/")',
    ),
    (
        "a task id in a status URL is not read",
        " or _task_id_in(own_link)",
        "",
    ),
    (
        "a Location of any page names a task",
        "    if not collections or not is_task_id(segment) or segment in contract.ACTIONS:\n",
        "    if not is_task_id(segment):\n",
    ),
    (
        "a Location in a collection of other things names a task",
        "return segment if is_of_tasks or any(character.isdigit() for character in segment) else None",
        "return segment",
    ),
    (
        "an error's id is a task",
        '    if task.phase == "absent" and isinstance(body, Mapping) and body.get("error"):\n        return None\n',
        "",
    ),
    (
        "a task id in a header is not read",
        " or read_task_id({}, response.headers.get(contract.TASK_ID_HEADER))",
        "",
    ),
)

_DELIVERY: Final = edits(
    "flux2_tool/tasks/delivery.py",
    (
        "a call of another session delivers the image",
        "if record_handle is None or record_handle.record.session not in (None, caller.session, *caller.descendants):",
        "if record_handle is None:",
    ),
    (
        "a call that was cancelled at its end has delivered the image",
        "        finally:\n            self._returning = [one for one in self._returning if one is not image_tasks]\n"
        "        for image_task in image_tasks:\n            self._add(image_task.record_handle, caller)",
        "        finally:\n            self._returning = [one for one in self._returning if one is not image_tasks]\n"
        "            for image_task in image_tasks:\n                self._add(image_task.record_handle, caller)",
    ),
    (
        "what did not reach the caller is marked as delivered",
        "        if not delivered:\n            self._pending.clear()\n",
        "",
    ),
    (
        "an image is marked as delivered at once",
        "                await self._clock.sleep(DELIVERY_DELAY_S)\n",
        "                await self._clock.sleep(0.0)\n",
    ),
    (
        "images are never marked as delivered by themselves",
        "            self._confirmation = asyncio.get_running_loop().create_task(self._confirm_later())",
        "            pass",
    ),
    (
        "another session's result counts as received",
        "if is_meant and dedup_key in (None, record.dedup_key) and session in (None, elsewhere or record.session):",
        "if is_meant and dedup_key in (None, record.dedup_key):",
    ),
    (
        "a result counts as received when another task is asked for",
        "            is_meant = task_ids is None or record.task_id in task_ids\n",
        "            is_meant = True\n",
    ),
)

_REGISTRY: Final = edits(
    "flux2_tool/tasks/registry.py",
    (
        "resume does not follow abandoned tasks when asked to",
        "at_most_every_s=at_most_every_s, include_abandoned=include_abandoned",
        "at_most_every_s=at_most_every_s",
    ),
    (
        "two equal calls of one process claim at once",
        "                await self._claiming.acquire()\n        except TimeoutError:",
        "                pass\n        except TimeoutError:",
    ),
    (
        "closing keeps the records",
        "        self._deliveries.confirm()\n        await asyncio.gather(*(handle.settled(within_s=LOCK_PATIENCE_S)",
        "        await asyncio.gather(*(handle.settled(within_s=LOCK_PATIENCE_S)",
    ),
    (
        "a forced resend obeys the window",
        "        image_task.force_resend()\n",
        "",
    ),
)

_FIRST_TURN: Final = (
    *edits(
        "flux2_tool/tasks/heartbeat.py",
        (
            "leases are not renewed",
            "            await self._journals.heartbeat()",
            "            pass",
        ),
    ),
    *edits(
        "flux2_tool/tasks/registry.py",
        (
            "what a call that leaves has claimed may still be sent",
            "            begun.drop()\n",
            "            pass\n",
        ),
    ),
    *edits(
        "flux2_tool/tasks/first_turn.py",
        (
            "a slot is kept by a call that makes nothing new",
            "            turn.slot.give_back()",
            "            pass",
        ),
        (
            "the slot of a claim counts as another one's",
            "slots.taken - 1",
            "slots.taken",
        ),
    ),
    *edits(
        "flux2_tool/tasks/task.py",
        (
            "the slot of a request that is not sent is lost",
            "            self.slot.give_back()",
            "            pass",
        ),
    ),
    *edits(
        "flux2_tool/engine/task_starter.py",
        (
            "what was claimed for a call that is cancelled is sent by the next process",
            "call.cancel, drop=TaskHandle.drop)",
            "call.cancel)",
        ),
    ),
    *edits(
        "flux2_tool/journal/handle.py",
        (
            "a claim stands for each POST",
            "claimed, self._claimed = self._claimed, None",
            "claimed = self._claimed",
        ),
        (
            "a claim stands for a POST in another journal",
            "claimed[0] is not self._journal or ",
            "",
        ),
        (
            "a claim stands for a POST whatever came between",
            " or claimed[1] is not self.record:",
            ":",
        ),
        (
            "a claim stands for a POST on any route",
            "return self.record.route == route and is_just_leased",
            "return is_just_leased",
        ),
        (
            "a claim stands for a POST however long ago it was",
            "return self.record.route == route and is_just_leased(self.record, self._moment())",
            "return self.record.route == route",
        ),
    ),
    *edits(
        "flux2_tool/journal/claim_table.py",
        (
            "a refused claim keeps its slot",
            "                    self._free_slot(record_id, self._ask_waiting(record_id))\n",
            "",
        ),
    ),
    *edits(
        "flux2_tool/journal/model.py",
        (
            "a claim in the queue may send at once",
            "return self.turn is not None and self.turn.is_free",
            "return self.turn is not None",
        ),
    ),
)

_RESUME: Final = edits(
    "flux2_tool/tasks/resume.py",
    (
        "a request that has a task id is sent again",
        "if is_same_account and record.task_id is None and record.record_id.startswith(record_id):",
        "if is_same_account and record.record_id.startswith(record_id):",
    ),
    (
        "a forgotten request is sent whatever its account",
        "if is_same_account and record.task_id is None",
        "if record.task_id is None",
    ),
    (
        "resume follows abandoned tasks by itself",
        "                include_abandoned=include_abandoned,\n",
        "                include_abandoned=True,\n",
    ),
    (
        "old requests stay sendable",
        "            await journal.mark_unconfirmed(sent_before=resend_since, now=now)\n",
        "",
    ),
)

_TASK: Final = edits(
    "flux2_tool/tasks/task.py",
    (
        "every end abandons the task",
        "outcome(conflict=conflict, abandoned=abandoned, duration_s=duration_s)",
        "outcome(conflict=conflict, abandoned=True, duration_s=duration_s)",
    ),
    (
        "an abandoned end is not recorded as one",
        "outcome(conflict=conflict, abandoned=abandoned, duration_s=duration_s)",
        "outcome(conflict=conflict, abandoned=False, duration_s=duration_s)",
    ),
    (
        "a completed task without an image is not abandoned",
        '            self._end("unknown", error=error, abandoned=True)',
        '            self._end("unknown", error=error)',
    ),
    (
        "the resend window is not checked before a POST",
        "        if record.conflict or self._is_resend_window_over():\n",
        "        if record.conflict:\n",
    ),
    (
        "a request in conflict is sent again",
        "        if record.conflict or self._is_resend_window_over():\n",
        "        if self._is_resend_window_over():\n",
    ),
    (
        "a long pause does not count for the resend window",
        "handle.age_s() + in_s >= self._deps.resend_window_s",
        "handle.age_s() >= self._deps.resend_window_s",
    ),
    (
        "a task of another process's journal is followed without a look",
        "if handle is not None and not handle.is_ours and not await self._watch(handle):",
        "if False:",
    ),
    (
        "a request that was taken over counts as not sent",
        "replace(request, maybe_sent=True)",
        "replace(request, maybe_sent=False)",
    ),
    (
        "a call may cancel a task that was sent",
        "        if is_unattended and self.is_unsent and self._runner is not None:",
        "        if is_unattended and self._runner is not None:",
    ),
    (
        "the acceptance is not recorded",
        "            self.record_handle.accepted(self.task_id, status_url=response.status_url,"
        " request_id=accepted.request_id)\n",
        "",
    ),
    (
        "an unattended task stays owned",
        "            self.record_handle.release(abandoned=True)",
        "            self.record_handle.release()",
    ),
)

_TAKEN_IDS: Final = edits(
    "flux2_tool/tasks/taken_ids.py",
    (
        "answers that arrive together are all accepted with one task",
        "return holder.record.record_id == handle.record.record_id",
        "return holder is not None",
    ),
)

_POLL: Final = edits(
    "flux2_tool/tasks/poll.py",
    (
        "another page's failure ends the task",
        "return is_guess and is_end and not names_task and len(polled) < len(self._paths)",
        "return False",
    ),
    (
        "a response about another task counts",
        "        if self._task_id is not None and ids and self._task_id.lower() not in {one.lower() for one in ids}:",
        "        if False:",
    ),
    (
        "completed without an image ends at once",
        "return now_s - self._empty_since_s >= EMPTY_PATIENCE_S",
        "return True",
    ),
)

_POLL_ENDS: Final = edits(
    "flux2_tool/tasks/poll_ends.py",
    (
        "a refused look says that nothing was charged",
        'error.task_id, error.charged = task_id, "unknown"',
        'error.task_id, error.charged = task_id, "no"',
    ),
    (
        "one refusal ends the polling",
        "if self._refusals >= REFUSALS_BEFORE_END and",
        "if self._refusals >= 1 and",
    ),
    (
        "one denial ends the polling",
        "if self._denials >= DENIALS_BEFORE_END and",
        "if self._denials >= 1 and",
    ),
    (
        "a task that vanished was not charged",
        '                    request_id=outcome.request_id,\n                    charged="unknown",',
        '                    request_id=outcome.request_id,\n                    charged="no",',
    ),
)

_STATUS: Final = edits(
    "flux2_tool/tasks/status.py",
    (
        "a presigned link's end is not recorded",
        "images=tuple((link.url, self.expires_at(link)) for link in images),",
        "images=tuple((link.url, link.expires_at) for link in images),",
    ),
    (
        "the billed cost is not recorded",
        "cost_usd=None if self.final is None else self.final.cost_usd,\n            error",
        "cost_usd=None,\n            error",
    ),
    (
        "a recorded failure was not charged",
        'self.error.charged = "yes" if record.cost_usd else "no"',
        'self.error.charged = "no"',
    ),
)

_JOURNAL: Final = (
    *edits(
        "flux2_tool/journal/store.py",
        (
            "one task is accepted for the requests of two processes",
            "is_taken = any(other.base_url == record.base_url for other in others())",
            "is_taken = False",
        ),
        (
            "the flag of an abandoned task is lost",
            "self._update(record_id, **row_of(outcome), **values)",
            "self._update(record_id, **{**row_of(outcome), 'abandoned': 0}, **values)",
        ),
        (
            "a record in use can be forgotten",
            'if record is None or record.state != "unknown" or self._is_held(record, now):',
            'if record is None or record.state != "unknown":',
        ),
        (
            "carry-over overwrites another owner's record",
            "known.owner in (None, self._name, record.owner) and _progress(known) <= _progress(record)",
            "_progress(known) <= _progress(record)",
        ),
        (
            "carry-over overwrites what is further along",
            "known.owner in (None, self._name, record.owner) and _progress(known) <= _progress(record)",
            "known.owner in (None, self._name, record.owner)",
        ),
        (
            "a heartbeat renews everyone's leases",
            "f\"UPDATE records SET {', '.join(f'{name} = ?' for name in lease)} WHERE owner = ?\",  # noqa: S608\n"
            "                (*lease.values(), self._name),",
            "f\"UPDATE records SET {', '.join(f'{name} = ?' for name in lease if name != 'owner')}\"  # noqa: S608\n"
            "                ' WHERE owner IS NOT NULL',\n"
            "                tuple(value for name, value in lease.items() if name != 'owner'),",
        ),
        (
            "a late end replaces a newer one",
            "        if record.owner not in (None, self._name):\n            return False\n        if record.state in",
            "        if record.state in",
        ),
        (
            "a late failure replaces an image",
            '            return state == "completed"\n',
            "            return True\n",
        ),
        (
            "the intent to send is not synced",
            "        with self._transaction(synced=True, timed=True):\n"
            "            asked = self._ask_locked(record_id)\n",
            "        with self._transaction(timed=True):\n            asked = self._ask_locked(record_id)\n",
        ),
        (
            "carry-over is not synced",
            "carry_over(self, records: Sequence[Record]) -> None:\n        with self._transaction(synced=True):",
            "carry_over(self, records: Sequence[Record]) -> None:\n        with self._transaction():",
        ),
        (
            "an acceptance is not synced",
            "        with self._transaction(synced=True, timed=True):\n            asked, waiting",
            "        with self._transaction(timed=True):\n            asked, waiting",
        ),
        (
            "who lost a record may send",
            "            record = self._check_owned(record_id, asked)\n",
            "            record = self._known(record_id, asked)\n",
        ),
        (
            "a record that another process owns is taken over",
            "if record is None or record.is_over or self._is_held_by_another(record, now):",
            "if record is None or record.is_over:",
        ),
        (
            "a part of a set is pruned",
            "set_id IS NULL OR set_id NOT IN",
            "set_id IS NULL OR set_id != '' OR set_id NOT IN",
        ),
        (
            "undelivered images are pruned",
            "(state = 'completed' AND delivered_at IS NOT NULL)",
            "state = 'completed'",
        ),
        (
            "requests of unknown outcome are pruned",
            "(state IN ('failed', 'not_created') OR",
            "(state IN ('failed', 'not_created', 'unknown') OR",
        ),
        (
            "a request in conflict is resumed",
            " and not record.conflict)",
            ")",
        ),
    ),
    *edits(
        "flux2_tool/journal/fallback.py",
        (
            "what a refused claim has recorded stays until the next claim",
            "                        await self._refused.end_in(journal, now=self._now())\n",
            "                        pass\n",
        ),
        (
            "an equal request joins what a refused claim has recorded",
            "await self._refused.end_in(journal, now=self._now(), within_s=patience.left_s)",
            "pass",
        ),
    ),
    *edits(
        "flux2_tool/journal/postgres_database.py",
        (
            "claims are made under the server's isolation level",
            '"BEGIN ISOLATION LEVEL READ COMMITTED"',
            '"BEGIN"',
        ),
        (
            "an asynchronous default holds for claims",
            "connection.execute(_SYNCED if synced else _NOT_SYNCED)",
            "connection.execute('SELECT 1' if synced else _NOT_SYNCED)",
        ),
    ),
    *edits(
        "flux2_tool/journal/claim_table.py",
        (
            "the intent is not synced",
            "with self._transaction(synced=True, alone=True, timed=True):",
            "with self._transaction(alone=True, timed=True):",
        ),
        (
            "the price of the new image does not count for a cap",
            "spending.has_room_for(intent.reserved_usd, images=len(intents))",
            "spending.has_room_for(0.0)",
        ),
        (
            "a set counts against the caps as one picture",
            "spending.has_room_for(intent.reserved_usd, images=len(intents))",
            "spending.has_room_for(intent.reserved_usd)",
        ),
        (
            "a picture joins a set",
            'f"dedup_key = ? AND set_size = ? AND {IS_OPEN}"',
            'f"dedup_key = ? AND ? > 0 AND {IS_OPEN}"',
        ),
        (
            "a call joins only the picture of a set that it found",
            'return Claim(outcome="joined", records=self._set_of(joined))',
            'return Claim(outcome="joined", records=(joined,))',
        ),
        (
            "one cap with room is enough",
            "if not all(spending.has_room_for",
            "if not any(spending.has_room_for",
        ),
        (
            "one more repeat than allowed",
            "if len(intents) > repeats_left(equal, rules.repeat_max):",
            "if len(intents) > repeats_left(equal, rules.repeat_max + 1):",
        ),
        (
            "the guard against repeats counts a set as one picture",
            "if len(intents) > repeats_left(equal, rules.repeat_max):",
            "if repeats_left(equal, rules.repeat_max) < 1:",
        ),
        (
            "an abandoned record is inherited from a living owner",
            'record.state != "unknown" and not record.abandoned and not self._is_held(record, now)',
            'record.state != "unknown" and not self._is_held(record, now)',
        ),
        (
            "an inherited record stays joinable by other sessions",
            "owned = {} if is_done or self._is_held(record, now) else self._lease(now)",
            "owned = {}",
        ),
    ),
    *edits(
        "flux2_tool/journal/sqlite_schema.py",
        (
            "a request of unknown outcome is paid again",
            "IS_OPEN: Final = \"(state IN ('sending', 'processing', 'unknown') OR",
            "IS_OPEN: Final = \"(state IN ('sending', 'processing') OR",
        ),
    ),
    *edits(
        "flux2_tool/journal/lease_table.py",
        (
            "a living owner in mid-POST loses its record with its lease",
            '        if liveness == "alive" and record.task_id is None:\n'
            "            return True  # it may be stopped in the middle of a POST, however long\n",
            "",
        ),
        (
            "a dead owner keeps its record until the lease ends",
            '        if liveness == "dead":\n            return False\n',
            "",
        ),
        (
            "a lease that was not watched is over",
            "return self._was_unrenewed(record) and _is_over_by_wall_clock(record, now)",
            "return _is_over_by_wall_clock(record, now)",
        ),
    ),
    *edits(
        "flux2_tool/journal/spending_sums.py",
        (
            "what failed tasks cost does not count",
            "f\" WHEN 'failed' THEN {_nano(f'coalesce({row}.cost_usd, 0)')} ELSE 0 END\"",
            '" ELSE 0 END"',
        ),
        (
            "requests of unknown outcome reserve nothing",
            "state IN ('sending', 'processing', 'unknown') THEN",
            "state IN ('sending', 'processing') THEN",
        ),
        (
            "what is inherited counts in no sum",
            'when=f"NOT ({_IS_IN_PLACE})",',
            'when="0",',
        ),
        (
            "what is billed beside an equal reservation is not counted",
            "{_IS_IN_PLACE} AND ({_spent('NEW')} != {_spent('OLD')} OR ",
            "{_IS_IN_PLACE} AND (",
        ),
        (
            "what is pruned does not count any more",
            '(_add("OLD", scope, "0", f"-({_reserved(\'OLD\')})", _spent("OLD")) for scope in _SCOPES)',
            '(_add("OLD", scope, f"-({_spent(\'OLD\')})", f"-({_reserved(\'OLD\')})") for scope in _SCOPES)',
        ),
    ),
)

_BUDGET_ERRORS: Final = (
    *edits(
        "flux2_tool/tasks/budget_errors.py",
        (
            "the reset is named for the wrong day",
            "local_day(now)[1]",
            "local_day(now)[0]",
        ),
        (
            "what can never fit is worded as what is spent",
            "    if is_never:  # as",
            "    if False:  # as",
        ),
        (
            "a daily cap is not named to reset",
            "    if helps_to_wait:\n        said",
            "    if False:\n        said",
        ),
        (
            "what fits one cap is offered",
            "fitting = [one for one in others if all(",
            "fitting = [one for one in others if any(",
        ),
        (
            "what a cap never holds is promised after the reset",
            "    return spending.can_ever_hold(choice.counted_usd, images=images)\n",
            "    return True\n",
        ),
        (
            "a call for several is promised what one of them gets",
            "        if fit_later < count:\n",
            "        if False:\n",
        ),
    ),
    *edits(
        "flux2_tool/journal/model.py",
        (
            "a loop of failing calls never ends",
            "return 0 if counted + failed_calls >= repeat_max else",
            "return 0 if counted >= repeat_max else",
        ),
        (
            "a picture that failed and was billed does not count as a repeat",
            'return self.state == "failed" and not self.cost_usd',
            'return self.state == "failed"',
        ),
        (
            "what is reserved does not count for a cap",
            "return self.spent_usd + self.reserved_usd + self._counted_usd(usd, images) <=",
            "return self.spent_usd + self._counted_usd(usd, images) <=",
        ),
        (
            "what is spent does not count for a cap",
            "return self.spent_usd + self.reserved_usd + self._counted_usd(usd, images) <=",
            "return self.reserved_usd + self._counted_usd(usd, images) <=",
        ),
        (
            "what is left leaves out what is reserved",
            "self.cap.limit_usd - self.spent_usd - self.reserved_usd",
            "self.cap.limit_usd - self.spent_usd",
        ),
        (
            "what is left leaves out what is spent",
            "self.cap.limit_usd - self.spent_usd - self.reserved_usd",
            "self.cap.limit_usd - self.reserved_usd",
        ),
    ),
    *edits(
        "flux2_tool/engine/refusals.py",
        (
            "a balance that is slow holds up the call",
            "async with asyncio.timeout(BALANCE_TIMEOUT_S):",
            "async with asyncio.timeout(None):",
        ),
        (
            "a disabled tier is offered instead",
            ".enabled_models(self._settings.tiers)",
            ".models",
        ),
        (
            "what the balance cannot pay is offered",
            "if one.is_known and one.counted_usd <= balance_usd and one",
            "if one.is_known and one",
        ),
    ),
)

_BUDGET: Final = edits(
    "flux2_tool/tasks/budget.py",
    (
        "anybody may spend where only the owner may",
        '    if settings.spenders == "owner" and not is_owner:\n',
        "    if False:\n",
    ),
    (
        "the daily cap counts all days",
        'kind="day", limit_usd=settings.daily_cap_usd, since=start, until=end',
        'kind="day", limit_usd=settings.daily_cap_usd, since=None, until=end',
    ),
    (
        "the daily cap is left out",
        "    return (*caps, day)\n",
        "    return tuple(caps)\n",
    ),
)

_REQUEST: Final = (
    *edits(
        "flux2_tool/tasks/create_request.py",
        ("a resumed request counts as not sent", "            maybe_sent=True,\n", "            maybe_sent=False,\n"),
        (
            "a resumed request goes to the first service",
            "service=service_of(record.model)",
            "service=contract.FLUX_2",
        ),
    ),
    *edits(
        "flux2_tool/tasks/follow.py",
        (
            "a task is polled at the first service's paths alone",
            "contract.SERVICES if task.record is None else (service_of(task.record.model),)",
            "(contract.FLUX_2,)",
        ),
    ),
    *edits(
        "flux2_tool/runapi/services.py",
        (
            "every model is the first service's",
            "next((service for service in contract.SERVICES if model in service.models), contract.SERVICES[0])",
            "contract.SERVICES[0]",
        ),
        (
            "an older spelling of a model is another model",
            "            return name.removesuffix(old) + new\n",
            "            return name\n",
        ),
    ),
    *edits(
        "flux2_tool/runapi/cache.py",
        (
            "the services share what is remembered of routes",
            'return base_url if service == _FIRST else f"{base_url} {service}"',
            "return base_url",
        ),
    ),
)

_BILLING: Final = (
    *edits(
        "flux2_tool/runapi/billing.py",
        (
            "cents are read as dollars",
            "(contract.COST_CENTS_FIELDS, 100.0)",
            "(contract.COST_CENTS_FIELDS, 1.0)",
        ),
        (
            "a refund is not read",
            "return any(dig(body, path) for path in contract.REFUND_FIELDS)",
            "return False",
        ),
    ),
    *edits(
        "flux2_tool/runapi/error_mapping.py",
        (
            "a billed failure says that nothing was charged",
            'charged: Charged = "yes" if task.cost_usd else "no"',
            'charged: Charged = "no"',
        ),
        (
            "every 409 says that the input differs",
            "        part in text for part in contract.IN_PROGRESS_TEXTS\n",
            "        part in text for part in ()\n",
        ),
    ),
    *edits(
        "flux2_tool/runapi/client.py",
        (
            "a timeout counts as not sent",
            '            raise MaybeSentError(f"no complete response within',
            '            raise NotSentError(f"no complete response within',
        ),
        (
            "a task in a header is lost with the body",
            "(not response.is_success or contract.TASK_ID_HEADER in response.headers)",
            "not response.is_success",
        ),
        (
            "a refusal is lost with its body",
            "(not response.is_success or contract.TASK_ID_HEADER in response.headers)",
            "(response.is_success and contract.TASK_ID_HEADER in response.headers)",
        ),
        (
            "a refused connection after a redirect counts as not sent",
            "                if redirects:\n"
            '                    raise MaybeSentError(f"it was redirected, and then {exc}") from exc\n',
            "",
        ),
    ),
    *edits(
        "flux2_tool/runapi/contract.py",
        (
            "a 409 proves that nothing was created",
            "NOT_CREATED_CODES: Final = frozenset({400, 401, 402, 403, 413, 415, 422, 429})",
            "NOT_CREATED_CODES: Final = frozenset({400, 401, 402, 403, 409, 413, 415, 422, 429})",
        ),
        (
            "a 500 proves that nothing was created",
            "NOT_CREATED_CODES: Final = frozenset({400, 401, 402, 403, 413, 415, 422, 429})",
            "NOT_CREATED_CODES: Final = frozenset({400, 401, 402, 403, 413, 415, 422, 429, 500})",
        ),
    ),
    *edits(
        "flux2_tool/engine/task_starter.py",
        (
            "a new image joins an old one",
            'join="never" if new else',
            "join=",
        ),
        (
            "a model may repeat a call without limit",
            "repeat_max=self._settings.repeat_max if caller.by_model and caller.session is not None else None",
            "repeat_max=None",
        ),
    ),
)

MONEY: Final = (
    *_SENDING,
    *_SUBMIT,
    *_ACCEPTANCE,
    *_DELIVERY,
    *_REGISTRY,
    *_FIRST_TURN,
    *_RESUME,
    *_TASK,
    *_TAKEN_IDS,
    *_POLL,
    *_POLL_ENDS,
    *_STATUS,
    *_JOURNAL,
    *_BUDGET_ERRORS,
    *_BUDGET,
    *_REQUEST,
    *_BILLING,
)
