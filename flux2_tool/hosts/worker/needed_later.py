"""What some call needs sooner or later: sources, results, copies, the lists of `get_image_task`, `/flux2`, the gallery.

The worker imports this module soon after its start. The package may be replaced by an upgrade, or removed, while a
picture is being made; a module that is first loaded then is missing, or does not fit the others.
"""

from __future__ import annotations

from flux2_tool.engine import (
    budget_left,
    looking_back,
    pictures,
    refusals,
    result_builder,
    saving,
    source_resolver,
)
from flux2_tool.hosts.worker import calls, gallery, overview
from flux2_tool.runapi import uploads
from flux2_tool.schema import install_text, installation, recent, results

__all__ = [
    "budget_left",
    "calls",
    "gallery",
    "install_text",
    "installation",
    "looking_back",
    "overview",
    "pictures",
    "recent",
    "refusals",
    "result_builder",
    "results",
    "saving",
    "source_resolver",
    "uploads",
]
