"""How much is kept of finished pictures, and whether more can be, for those who check an installation."""

from __future__ import annotations

from dataclasses import dataclass

from flux2_tool.engine.host_profile import OPENCLAW
from flux2_tool.engine.keeping import MB, RESERVE_BYTES, KeepRules
from flux2_tool.images.kept_files import DAY_S, FOLDER, free_bytes, usage_of
from flux2_tool.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReport:
    """What is kept, in words.

    Attributes:
        problem: Why no copy is being kept although one should be; "" if nothing prevents it.
    """

    text: str
    count: int = 0
    size_bytes: int = 0
    problem: str = ""


def kept_report(settings: Settings) -> KeptReport:
    """Return what OpenClaw's plugin keeps under these settings. Only looks."""
    rules = KeepRules.of(settings, OPENCLAW)
    if rules is None:
        if settings.save_dir is not None:
            text = f"no copies for a while: every picture is saved for good in {settings.save_dir}"
        else:
            why = "keep_days is 0" if settings.home is not None else "there is no data folder"
            text = f"no copies are kept: {why}"
        return _of_before(settings, text)
    usage = usage_of(rules.folder)
    pictures = "1 picture" if usage.count == 1 else f"{usage.count} pictures"
    bounds = f"at most {rules.life_s / DAY_S:g} days and {rules.most_bytes / MB:g} MB"
    text = f"{pictures}, {usage.size_bytes / MB:.1f} MB, kept in {rules.folder} ({bounds})"
    try:
        is_scarce = free_bytes(rules.folder) < RESERVE_BYTES
    except OSError as exc:
        return KeptReport(text=text, problem=f"its disk cannot be examined: {exc.strerror}")
    problem = f"its disk has less than {RESERVE_BYTES // MB} MB left, so that no more are kept" if is_scarce else ""
    return KeptReport(text=text, count=usage.count, size_bytes=usage.size_bytes, problem=problem)


def _of_before(settings: Settings, text: str) -> KeptReport:
    """Return the report where none are kept any more, with those that are still there."""
    usage = None if settings.home is None else usage_of(settings.home / FOLDER)
    if settings.home is None or usage is None or not usage.count:
        return KeptReport(text=text)
    left = (
        f"{usage.count} from before, {usage.size_bytes / MB:.1f} MB, stay in {settings.home / FOLDER} until you delete"
    )
    return KeptReport(text=f"{text}; {left} them", count=usage.count, size_bytes=usage.size_bytes)
