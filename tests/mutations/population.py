"""Which mutants there are: the chosen ones, and a seeded choice of the random ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.mutations.catalog import CATALOG
from tests.mutations.equivalents import reason_to_leave_out
from tests.mutations.mutant import Mutant
from tests.mutations.operators import mutants_of, rank

# Of random mutants, the share of each area, and its modules.
AREAS: Final[dict[str, tuple[float, tuple[str, ...]]]] = {
    "money": (
        0.5,
        (
            "flux2_tool/tasks/*.py",
            "flux2_tool/journal/*.py",
            "flux2_tool/runapi/backoff.py",
            "flux2_tool/runapi/billing.py",
            "flux2_tool/runapi/client.py",
            "flux2_tool/runapi/error_mapping.py",
            "flux2_tool/runapi/price_responses.py",
            "flux2_tool/runapi/prices.py",
            "flux2_tool/runapi/rate_limit.py",
            "flux2_tool/runapi/responses.py",
            "flux2_tool/engine/request_builder.py",
            "flux2_tool/engine/task_starter.py",
        ),
    ),
    "isolation": (
        0.25,
        (
            "flux2_tool/_net.py",
            "flux2_tool/context.py",
            "flux2_tool/engine/accounts.py",
            "flux2_tool/engine/source_checks.py",
            "flux2_tool/images/safe_open.py",
            "flux2_tool/images/source_paths.py",
            "flux2_tool/journal/task_conversations.py",
            "flux2_tool/runapi/image_links.py",
            "flux2_tool/tasks/conversations.py",
            "flux2_tool/tasks/live_tasks.py",
            "flux2_tool/tasks/registry.py",
        ),
    ),
    "keys": (
        0.25,
        (
            "flux2_tool/_redaction.py",
            "flux2_tool/credentials.py",
            "flux2_tool/runapi/uploads.py",
            "flux2_tool/runapi/webhooks.py",
        ),
    ),
}


def chosen_mutants(root: Path) -> list[Mutant]:
    """Return the mutants of the catalog.

    Raises:
        MutantError: An entry does not fit the code any more.
    """
    return [edit.mutant(root, area) for area, edits in CATALOG.items() for edit in edits]


def all_mutants(root: Path) -> Iterator[tuple[str, Mutant]]:
    """Yield every random mutant with its identity, also those that are left out."""
    area_of: dict[str, str] = {}
    for area, (_, patterns) in AREAS.items():
        # A module of two areas belongs to the later, the narrower one.
        area_of |= {path.relative_to(root).as_posix(): area for one in patterns for path in root.glob(one)}
    for path, area in sorted(area_of.items()):
        yield from mutants_of(path, (root / path).read_text(encoding="utf-8"), area)


def random_mutants(root: Path, *, count: int, seed: int) -> list[Mutant]:
    """Return a seeded choice of the random mutants; the same ones as long as their functions are the same."""
    ranked: defaultdict[str, list[tuple[str, Mutant]]] = defaultdict(list)
    for identity, mutant in all_mutants(root):
        if reason_to_leave_out(identity) is None:
            ranked[mutant.area].append((rank(identity, seed), mutant))
    chosen: list[Mutant] = []
    for area, (share, _) in AREAS.items():
        chosen += [mutant for _, mutant in sorted(ranked[area], key=lambda one: one[0])[: round(count * share)]]
    return chosen
