"""Types of the manifest's enums and its settings. Generated from openclaw_plugin.yaml by .ci/generate; do not edit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Tier = Literal[
    "pro",
    "flex",
    "max",
    "klein",
]
AspectRatio = Literal[
    "1:1",
    "4:3",
    "3:4",
    "16:9",
    "9:16",
    "3:2",
    "2:3",
]
RemixAspectRatio = Literal[
    AspectRatio,
    "auto",
]
OutputResolution = Literal[
    "1k",
    "2k",
]
TextToImageModel = Literal[
    "flux-2-pro-text-to-image",
    "flux-2-flex-text-to-image",
    "flux-2-max-text-to-image",
    "flux-2-klein",
]
RemixImageModel = Literal[
    "flux-2-pro-remix-image",
    "flux-2-flex-remix-image",
    "flux-2-max-remix-image",
]
Route = Literal[
    "auto",
    "guide",
    "service",
]
Journal = Literal[
    "required",
    "best_effort",
    "off",
]
Spenders = Literal[
    "owner",
    "everyone",
]
Unattended = Literal[
    "refuse",
    "allow",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, checked and normalised. None means unset; the manifest has the default then.

    A folder is absolute, an address has no trailing slash, and what ends in `_s` is in seconds.
    """

    python: str | None = None
    base_url: str | None = None
    route: Route = "auto"
    home: Path | None = None
    wait_s: float | None = None
    tiers: tuple[Tier, ...] = ("pro", "flex")
    safety_checker: bool | None = None
    mcp_image_kib: int | None = None
    callback_hosts: tuple[str, ...] = ()
    callback_public_url: str | None = None
    callback_secret: str | None = field(default=None, repr=False)
    journal: Journal = "required"
    journal_url: str | None = field(default=None, repr=False)
    repeat_max: int = 4
    repeat_window_s: float = 600.0
    resend_window_s: float = 600.0
    max_creates: int = 8
    late_pictures: bool = True
    save_dir: Path | None = None
    keep_days: float = 30.0
    keep_mb: int = 1000
    source_roots: tuple[Path, ...] = ()
    keep_metadata: bool = False
    max_image_usd: float | None = None
    daily_cap_usd: float = 5.0
    session_cap_usd: float | None = None
    sender_daily_cap_usd: float | None = None
    unknown_price_usd: float = 0.5
    ask_above_usd: float | None = None
    spenders: Spenders = "everyone"
    unattended: Unattended = "refuse"
