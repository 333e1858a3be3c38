"""The kinds of pictures that are measured: two tiers at two resolutions, as slow as the sandbox makes them."""

from __future__ import annotations

from dataclasses import dataclass

from flux2_tool.sandbox.catalog import TIERS, median_duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One model at one resolution; its durations are log-normal, drawn by the sandbox."""

    tier: str
    resolution: str
    median_s: float
    sigma: float

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.tier} {self.resolution}"

    @property
    def model(self) -> str:
        """The model's name on the wire."""
        return f"flux-2-{self.tier}-text-to-image"


def _kind(tier: str, resolution: str) -> Kind:
    known = TIERS[tier]
    return Kind(tier=tier, resolution=resolution, median_s=median_duration_s(known, resolution), sigma=known.sigma)


KINDS = tuple(_kind(tier, resolution) for tier in ("pro", "flex") for resolution in ("1k", "2k"))
# Ten seconds in the median: what the runs with many pictures in flight make.
TEN_SECONDS = _kind("flex", "1k")
FASTEST = _kind("pro", "1k")
# How many durations of each kind a history has.
LEARNING_TASKS = 40
