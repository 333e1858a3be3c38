"""Changes that let a conversation, an account or a model see what is not theirs."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutant import edits

ISOLATION: Final = (
    *edits(
        "flux2_tool/journal/session_table.py",
        (
            "a session of any key is inherited",
            "AS place FROM records WHERE fingerprint = ? AND base_url = ?",
            "AS place FROM records WHERE ? != '' AND base_url = ?",
        ),
        (
            "a session of any base URL is inherited",
            "AS place FROM records WHERE fingerprint = ? AND base_url = ?",
            "AS place FROM records WHERE fingerprint = ? AND ? != ''",
        ),
        (
            "a session of a living process is inherited",
            'if self._owner.liveness(session.removeprefix(prefix)) == "dead":',
            "if True:",
        ),
        (
            "the last pictures are those of any key",
            'wanted = f"fingerprint = ? AND base_url = ? AND {condition}"',
            "wanted = f\"? != '' AND base_url = ? AND {condition}\"",
        ),
        (
            "the last pictures are those of any base URL",
            'wanted = f"fingerprint = ? AND base_url = ? AND {condition}"',
            "wanted = f\"fingerprint = ? AND ? != '' AND {condition}\"",
        ),
        (
            "the last pictures are those of any conversation",
            '("session IS NULL", ()) if session is None else ("session = ?", (session,))',
            '("1 = 1", ())',
        ),
        (
            "everybody has spawned everything",
            '"SELECT session FROM session_ancestors WHERE ancestor = ?"',
            "\"SELECT session FROM session_ancestors WHERE ? != ''\"",
        ),
        (
            "a subagent may use what its parent may",
            '"INSERT INTO session_ancestors (session, ancestor) VALUES',
            '"INSERT INTO session_ancestors (ancestor, session) VALUES',
        ),
    ),
    *edits(
        "flux2_tool/journal/store.py",
        (
            "a task is found for any key",
            '"task_id = ? AND fingerprint = ? AND base_url = ?"',
            "\"task_id = ? AND ? != '' AND base_url = ?\"",
        ),
        (
            "a task is found for any base URL",
            '"task_id = ? AND fingerprint = ? AND base_url = ?"',
            "\"task_id = ? AND fingerprint = ? AND ? != ''\"",
        ),
        (
            "tasks of any key are resumed",
            "\"fingerprint = ? AND base_url = ? AND state IN ('sending', 'processing', 'unknown') AND abandoned <= ?\"",
            "\"? != '' AND base_url = ? AND state IN ('sending', 'processing', 'unknown') AND abandoned <= ?\"",
        ),
        (
            "what is pruned belongs to nobody",
            "            keep_conversations(self._database, _PRUNABLE, (before, before))\n",
            "",
        ),
        (
            "what is forgotten belongs to nobody",
            '            keep_conversations(self._database, "record_id = ?", (record_id,))\n',
            "",
        ),
    ),
    *edits(
        "flux2_tool/journal/task_conversations.py",
        (
            "a task of another spelling belongs to nobody",
            "replace(replace(replace({}, '-', ''), '{{', ''), '}}', '')",
            "replace(replace({}, '{{', ''), '}}', '')",
        ),
        (
            "a task in other letters belongs to nobody",
            '_KEY: Final = "lower(replace(',
            '_KEY: Final = "ifnull(null, replace(',
        ),
    ),
    *edits(
        "flux2_tool/tasks/registry.py",
        (
            "a recorded task is anybody's",
            "                    image_task = await self._adopt(account, journal, record)\n"
            "                    check_belongs(image_task, caller)\n",
            "                    image_task = await self._adopt(account, journal, record)\n",
        ),
        (
            "a live task is anybody's",
            "        if image_task is not None and image_task.record is not None:\n"
            "            check_belongs(image_task, caller)\n",
            "        if image_task is not None and image_task.record is not None:\n",
        ),
        (
            "a looked-up task is anybody's",
            "        await self.check_lookup(image_task, caller)\n",
            "",
        ),
    ),
    *edits(
        "flux2_tool/tasks/conversations.py",
        (
            "parts of an id are not looked for",
            "        spellings = spellings_of(task_id)\n",
            "        spellings = frozenset({task_id})\n",
        ),
        (
            "what this process has in memory is not asked",
            "for one in records if one.task_id is not None and task_key(one.task_id) in keys}",
            "for one in records if one.task_id is not None and one.task_id in ()}",
        ),
        (
            "one conversation of several is enough",
            "        if not all(caller.may_use(session) for session in sessions):",
            "        if sessions and not any(caller.may_use(session) for session in sessions):",
        ),
        (
            "the ids of a lookup's responses are not checked",
            "            named |= {response.task_id, *response.ids}\n",
            "            pass\n",
        ),
    ),
    *edits(
        "flux2_tool/tasks/live_tasks.py",
        (
            "a live task of any account is found",
            "if image_task.task_id == task_id and is_same_account and image_task.error is None:",
            "if image_task.task_id == task_id and image_task.error is None:",
        ),
        (
            "a live task of any key is found",
            "(image_task.client.base_url, image_task.account) == (base_url, fingerprint)",
            "image_task.client.base_url == base_url",
        ),
        (
            "a live task of any base URL is found",
            "(image_task.client.base_url, image_task.account) == (base_url, fingerprint)",
            "image_task.account == fingerprint",
        ),
    ),
    *edits(
        "flux2_tool/tasks/resume.py",
        (
            "a request of any base URL is sent again",
            "(record.fingerprint, record.base_url) == (account.fingerprint, account.base_url)",
            "record.fingerprint == account.fingerprint",
        ),
        (
            "a request of any key is sent again",
            "(record.fingerprint, record.base_url) == (account.fingerprint, account.base_url)",
            "record.base_url == account.base_url",
        ),
    ),
    *edits(
        "flux2_tool/tasks/deduplication.py",
        (
            "equal requests of two conversations are one",
            "json.dumps([session, fingerprint, base_url, tool, arguments]",
            "json.dumps([fingerprint, base_url, tool, arguments]",
        ),
        (
            "equal requests of two keys are one",
            "json.dumps([session, fingerprint, base_url, tool, arguments]",
            "json.dumps([session, base_url, tool, arguments]",
        ),
        (
            "any session inherits",
            "return CONNECTION if session is not None and session.startswith(CONNECTION) else None",
            "return CONNECTION",
        ),
    ),
    *edits(
        "flux2_tool/context.py",
        (
            "a call without a session may use every task without one shared",
            "return session is not None and (session == self.shared_session or",
            "return (session == self.shared_session or",
        ),
    ),
    *edits(
        "flux2_tool/runapi/uploads.py",
        (
            "accounts share uploads",
            "key = (fingerprint, client.base_url, picture.facts.sha256)",
            'key = ("", client.base_url, picture.facts.sha256)',
        ),
        (
            "base URLs share uploads",
            "key = (fingerprint, client.base_url, picture.facts.sha256)",
            'key = (fingerprint, "", picture.facts.sha256)',
        ),
    ),
    *edits(
        "flux2_tool/images/safe_open.py",
        (
            "an allowed folder that is a link to / allows every file",
            " and (resolved != Path(resolved.anchor) or resolved == folder)",
            "",
        ),
        (
            "hidden files are read",
            '    if any(part.startswith(".") for part in below.parts):\n        raise _HiddenError\n',
            "",
        ),
        (
            "links are followed by the system",
            "inner = os.open(part, _FILE if is_last else OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=folder)",
            "inner = os.open(part, (_FILE & ~os.O_NOFOLLOW) if is_last else OPEN_FOLDER, dir_fd=folder)",
        ),
        (
            "a sandboxed session reads the workspace",
            "(*(() if places.inbound_only else places.roots or ()), places.inbound)",
            "(*(places.roots or ()), places.inbound)",
        ),
        (
            "a link may lead out of the allowed folders",
            "        target = found\n    raise OSError(errno.ELOOP",
            "        return os.open(found, _FILE)\n    raise OSError(errno.ELOOP",
        ),
        (
            "a pipe or device is read",
            "        if not stat.S_ISREG(status.st_mode):\n",
            "        if False:\n",
        ),
        (
            "a sandboxed session is told why a link cannot be opened",
            "        if places.inbound_only:\n            raise outside(where, places) from None\n",
            "",
        ),
    ),
    *edits(
        "flux2_tool/images/source_refusals.py",
        (
            "a sandboxed session is told what a link became",
            "return outside(where, places) if places.inbound_only else refused(where, rule, hint)",
            "return refused(where, rule, hint)",
        ),
    ),
    *edits(
        "flux2_tool/images/source_paths.py",
        (
            "media:// reads the copy in the workspace",
            "has_copies = not is_url and places.workspace is not None and is_folder(places.workspace)",
            "has_copies = places.workspace is not None and is_folder(places.workspace)",
        ),
    ),
    *edits(
        "flux2_tool/engine/source_checks.py",
        (
            "a private link is given to RunAPI",
            "    if is_private_url(source, loopback_allowed=False):\n",
            "    if False:\n",
        ),
        (
            "a sandboxed session may use every allowed folder",
            "        inbound_only=caller.sandboxed,\n",
            "        inbound_only=False,\n",
        ),
    ),
    *edits(
        "flux2_tool/engine/accounts.py",
        (
            "keys share a rate limit",
            "rate_limiter=self.paces.limiter(chosen.base_url, chosen.fingerprint)",
            'rate_limiter=self.paces.limiter(chosen.base_url, "")',
        ),
    ),
)
