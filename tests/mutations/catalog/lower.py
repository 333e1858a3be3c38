"""Changes that cost time, memory or a clear error, and neither money nor a secret."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutant import edits

LOWER: Final = (
    *edits(
        "flux2_tool/_redaction.py",
        (
            "JSON within JSON is not looked into",
            "return masked_text(value, key) if inner is None else json.dumps(_masked_json(inner, key, depth + 1))",
            "return masked_text(value, key)",
        ),
        (
            "lists are not looked into",
            "        return [_masked_json(item, key, depth + 1) for item in value]\n",
            "        return value\n",
        ),
        (
            "an object's names are not looked into",
            "{masked_text(name, key): _masked_json(item, key, depth + 1) for name, item in value.items()}",
            "{name: _masked_json(item, key, depth + 1) for name, item in value.items()}",
        ),
        (
            "an object's values are not looked into",
            "{masked_text(name, key): _masked_json(item, key, depth + 1) for name, item in value.items()}",
            "{masked_text(name, key): item for name, item in value.items()}",
        ),
        (
            "deep nesting is not cut off",
            "    if depth > MAX_DEPTH:  # deeper than any field that is read\n        return None\n",
            "",
        ),
    ),
    *edits(
        "flux2_tool/runapi/uploads.py",
        (
            "an upload whose URL is about to end is used",
            "known.expires_at - contract.SOURCE_SPARE_LIFE_S > self._clock.now()",
            "known.expires_at > self._clock.now()",
        ),
        (
            "an upload is never used again",
            "    if known is not None and known.expires_at",
            "    if known is None and known.expires_at",
        ),
        (
            "an upload's named end is ignored",
            "        return min(limit, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())\n",
            "        return limit\n",
        ),
        (
            "an upload's named end has no limit",
            "        return min(limit, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())\n",
            "        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()\n",
        ),
        (
            "an upload without headers is refused",
            "    if headers is None:\n        return True\n",
            "    if headers is None:\n        return False\n",
        ),
        (
            "a refused upload is blamed on the service",
            "                refused=SourceRefusedError,\n",
            "",
        ),
    ),
    *edits(
        "flux2_tool/runapi/error_mapping.py",
        (
            "a refused key is no error of the key",
            "    if is_key_refused(response):\n        error = key_refused(status)\n    elif code",
            "    if code",
        ),
        (
            "a refused source is an unexpected answer",
            "    elif refused is SourceRefusedError and code in contract.REFUSED_CODES:\n",
            "    elif False:\n",
        ),
    ),
    *edits(
        "flux2_tool/tasks/follow.py",
        ("the first webhook frees no other task", "was_webhook_unproven and can_be_woken", "False and can_be_woken"),
        ("a freed task is never polled", "pause(overdue_in_s)", "pause(10 * overdue_in_s)"),
        (
            "durations are learned from tasks that were submitted elsewhere",
            "        if not self._task.is_submitted_here:\n            return None\n        latest_s",
            "        latest_s",
        ),
        (
            "durations are learned from whatever was polled",
            "        if gap_s >= 2.0 * MAX_GAP_S:\n            return None\n",
            "",
        ),
        (
            "a duration is the middle of the last pause",
            "(earliest_s + latest_s) / 2.0 if expectation is None else",
            "(earliest_s + latest_s) / 2.0 if True else",
        ),
        (
            "nobody is told of a contradiction",
            "            self._is_replanned = True\n            self._waiters.wake()\n",
            "            self._is_replanned = True\n",
        ),
        (
            "a task that outlives the estimate contradicts nothing",
            "                self._note_outlived()\n",
            "",
        ),
    ),
    *edits(
        "flux2_tool/tasks/poll_schedule.py",
        ("a webhook is trusted before one has arrived", 'if self._webhook != "proven":', 'if self._webhook == "none":'),
        ("a proven webhook is not trusted in doubt", "overdue_s = WEBHOOK_PROVEN_DELAY_S", "overdue_s = 0.0"),
    ),
    *edits(
        "flux2_tool/tasks/duration_estimator.py",
        ("a rare straggler contradicts", "abs(z) > CONTRADICTION_Z", "abs(z) > OUTLIER_Z"),
        ("a restart is not counted", "            self.restarts += 1\n", ""),
        ("two outliers do not restart the estimate", "if self._outliers >= OUTLIERS_TO_RESTART:", "if False:"),
        (
            "a contradiction is doubted for ever",
            "self._is_contradicted = abs(z)",
            "self._is_contradicted = self._is_contradicted or abs(z)",
        ),
    ),
    *edits(
        "flux2_tool/tasks/poll_scheduler.py",
        (
            "a process does not learn from its own tasks",
            "            learned.estimator.learn(duration_s)\n            self._tell",
            "            self._tell",
        ),
        (
            "a plan is never made anew",
            "            or estimator.samples - learned.planned_at > learned.planned_at // 10\n",
            "",
        ),
        (
            "a plan is kept when the estimate is disabled",
            "            or estimator.is_fixed != (schedule.expectation is None)\n",
            "",
        ),
        (
            "a task in flight is planned anew by each result",
            "            return plan if is_believed",
            "            return self.schedule(kind) if is_believed",
        ),
        ("a plan in doubt is followed", "not estimator.is_fixed and estimator.restarts", "estimator.restarts"),
        ("a plan from a wrong estimate is used again", " and estimator.restarts == restarts", ""),
        (
            "durations of before the process are not learned",
            "            self._learned(kind).estimator.learn(duration_s)\n\n    def _learned",
            "            pass\n\n    def _learned",
        ),
    ),
    *edits(
        "flux2_tool/tasks/registry.py",
        (
            "a joined record keeps its old session",
            "            await shared.refresh()  # the claim has just moved the record to this session\n",
            "",
        ),
    ),
    *edits(
        "flux2_tool/tasks/live_tasks.py",
        (
            "ended tasks are kept for ever",
            "        if len(self._recorded) > MAX_RECORDED:\n",
            "        if False:\n",
        ),
        (
            "running tasks are dropped",
            "for key, task in self._recorded.items() if task.is_over]",
            "for key, task in self._recorded.items()]",
        ),
    ),
    *edits(
        "flux2_tool/images/safe_open.py",
        (
            "a refused file stays open",
            "    except BaseException:\n        os.close(descriptor)\n        raise\n",
            "    except BaseException:\n        raise\n",
        ),
        (
            "a folder on the way stays open",
            "            os.close(folder)\n            folder = inner\n",
            "            folder = inner\n",
        ),
    ),
    *edits(
        "flux2_tool/journal/session_table.py",
        (
            "only this process's connection is inherited",
            "            if not found and inherited_session_prefix is not None:\n",
            "            if False:\n",
        ),
        (
            "sessions are inherited oldest first",
            "ORDER BY max(place) DESC",
            "ORDER BY max(place)",
        ),
    ),
    *edits(
        "flux2_tool/journal/claim_table.py",
        (
            "what a dead connection left is not inherited",
            "            if (is_dead or is_released or record.orphaned) and not (\n",
            "            if (is_released or record.orphaned) and not (\n",
        ),
        (
            "what a closed connection left is not inherited",
            "            if (is_dead or is_released or record.orphaned) and not (\n",
            "            if (is_dead or record.orphaned) and not (\n",
        ),
    ),
)
