"""What a PNG says of its pixels before they begin. Source: PNG, third edition (W3C), section 11.2.1."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What IHDR says."""

    width_px: int
    height_px: int
    depth: int
    colour: int
    is_interlaced: bool
