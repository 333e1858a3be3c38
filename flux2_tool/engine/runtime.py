"""The replaceable dependencies of an engine: time, randomness, ids, network, journal file and task owner."""

from __future__ import annotations

import random as random_module
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from flux2_tool._clock import Clock, SystemClock
from flux2_tool.images.decoder import Decoder, shared_decoder
from flux2_tool.journal import OpenJournal, Owner, ThisProcess, open_threaded_journal
from flux2_tool.runapi.http_client import HttpTimeouts


def _uuid() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Dependencies that tests and benchmarks replace; the defaults are this machine's.

    Attributes:
        clock: Time.
        random: Jitter.
        new_id: Makes idempotency keys, record and request ids.
        owner: The owner of new tasks; by default this process.
        opener: Opens the task journal; by default the SQLite file in the data folder.
        transport: Replaces the network.
        timeouts: Limits of one HTTP attempt.
        decoder: Decodes pictures; by default this process's only one, whose budget all engines share.
    """

    clock: Clock = field(default_factory=SystemClock)
    random: random_module.Random = field(default_factory=random_module.Random)
    new_id: Callable[[], str] = _uuid
    owner: Owner = field(default_factory=ThisProcess)
    opener: OpenJournal = open_threaded_journal
    transport: httpx.AsyncBaseTransport | None = None
    timeouts: HttpTimeouts = field(default_factory=HttpTimeouts)
    decoder: Decoder = field(default_factory=shared_decoder)
