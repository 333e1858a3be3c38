"""The chosen mutants: one for each behaviour that costs money, isolation or a key when it is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.mutations.catalog.consent import CONSENT
from tests.mutations.catalog.isolation import ISOLATION
from tests.mutations.catalog.keys import KEYS
from tests.mutations.catalog.lower import LOWER
from tests.mutations.catalog.money import MONEY
from tests.mutations.mutant import Edit

CATALOG: Final[Mapping[str, tuple[Edit, ...]]] = {
    "money": (*MONEY, *CONSENT),
    "isolation": ISOLATION,
    "keys": KEYS,
    "lower": LOWER,
}
