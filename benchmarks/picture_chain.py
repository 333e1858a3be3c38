"""What the journal does for one picture: it claims it, and notes its route, its acceptance, its end and its delivery.

As in production: with a conversation's and a day's cap, and with the guard against repeats.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

from benchmarks.journal_rows import ACCOUNT, BASE_URL, BODY, IMAGES, MODEL, PROMPT, RAW, RESOLUTION
from flux2_tool.journal import Cap, ClaimRules, Intent, Outcome

DAY_S = 86_400.0
PRICE_USD = 0.05
# Never reached: a claim that is refused costs less.
LIMIT_USD = 1e9
STEPS = ("claim", "note_route", "note_accepted", "note_end", "note_delivered")


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture to be made in a conversation."""

    session: str
    record_id: str
    dedup_key: str

    @classmethod
    def of(cls, session: str, *, dedup_key: str | None = None) -> Picture:
        """Return a new one; by default unlike any other."""
        record_id = str(uuid.uuid4())
        return cls(session, record_id, dedup_key or record_id.replace("-", "") * 2)

    @property
    def intent(self) -> Intent:
        """What a claim of it records."""
        return Intent(
            record_id=self.record_id,
            session=self.session,
            dedup_key=self.dedup_key,
            cross_session_dedup_key=self.dedup_key,
            fingerprint=ACCOUNT,
            base_url=BASE_URL,
            tool="text_to_image",
            model=MODEL,
            resolution=RESOLUTION,
            label=PROMPT[:80],
            body=BODY,
            idempotency_key=f"key-{self.record_id}",
            client_request_id=f"request-{self.record_id}",
            route="guide",
            price_usd=PRICE_USD,
            reserved_usd=PRICE_USD,
        )

    def accepted(self) -> dict[str, str]:
        """What is noted when RunAPI has accepted it."""
        return {
            "task_id": f"task-{self.record_id}",
            "status_url": f"{BASE_URL}/api/v1/tasks/{self.record_id}",
            "request_id": f"answer-{self.record_id}",
        }

    def outcome(self) -> Outcome:
        """What is noted when it is ready."""
        images = tuple((url, expires_at) for url, expires_at in json.loads(IMAGES))
        return Outcome(state="completed", images=images, cost_usd=PRICE_USD, raw=RAW, polls=5, duration_s=12.0)


def rules_of(session: str, *, now: float, repeat_window_s: float = 600.0) -> ClaimRules:
    """Return the rules of a conversation in a chat."""
    midnight = now - now % DAY_S
    caps = (
        Cap(kind="session", limit_usd=LIMIT_USD, session=session),
        Cap(kind="day", limit_usd=LIMIT_USD, since=midnight, until=midnight + DAY_S),
    )
    return ClaimRules(join="session", repeat_max=3, repeat_window_s=repeat_window_s, caps=caps)
