"""Changes that pay what nobody has agreed to, or ask about what needs no consent."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutant import edits

_APPROVALS: Final = edits(
    "flux2_tool/engine/approvals.py",
    (
        "no cost needs consent",
        "cost.usd > limit_usd + CENT_FRACTION\n",
        "cost.usd > limit_usd + 1e9\n",
    ),
    (
        "the pictures of a call count as one",
        "usd=each_usd * images,",
        "usd=each_usd,",
    ),
    (
        "an unknown price needs no consent",
        "each_usd = settings.unknown_price_usd if price.usd is None else price.usd",
        "each_usd = 0.0 if price.usd is None else price.usd",
    ),
    (
        "consent is for any arguments",
        "if approval.request_key != request_key:",
        "if False:",
    ),
    (
        "consent is for any price",
        "if not (isfinite(approval.usd) and cost.usd <= approval.usd + CENT_FRACTION):",
        "if False:",
    ),
    (
        "consent is for any number of images",
        "            self._used.add(approval.approval_id)",
        "            pass",
    ),
    (
        "consent that bought nothing is used up",
        "            self._used.discard(approval.approval_id)",
        "            pass",
    ),
)
_STARTER: Final = edits(
    "flux2_tool/engine/task_starter.py",
    (
        "a call without consent is claimed like any other",
        "replace(rules, needs_approval=refusal is not None)",
        "rules",
    ),
    (
        "sources are uploaded before there is consent",
        "            await self._check_consent(call, caller, rules)\n",
        "",
    ),
    (
        "a question uploads the sources",
        "await self._sources().check(call,",
        "await self._sources().resolve(call,",
    ),
    (
        "a question is asked about what will join",
        "            await self._try(call, caller, self._rules(call, caller, new=False), price)\n        except",
        "            raise NotApprovedError('')\n        except",
    ),
)
_CLAIMS: Final = edits(
    "flux2_tool/journal/claim_table.py",
    (
        "the claim does not ask for consent",
        '            if rules.needs_approval:\n                return Claim(outcome="unapproved")\n',
        "",
    ),
    (
        "a trial moves what it would inherit",
        "                if rules.is_trial:\n                    return record\n",
        "",
    ),
)
_HOSTS: Final = edits(
    "flux2_tool/hosts/mcp_server.py",
    (
        "an MCP host's user who declines has agreed",
        'if answer.action != "accept":',
        "if False:",
    ),
)

CONSENT: Final = (*_APPROVALS, *_STARTER, *_CLAIMS, *_HOSTS)
