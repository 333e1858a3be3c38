"""What a call needs only once its image is there: its pictures, its result, and what prints it.

`run.py` imports this module while the image is being made, when nothing waits for this process; before the request is
sent only what it takes to send it is loaded.
"""

from __future__ import annotations

from flux2_tool.cli import output
from flux2_tool.engine import pictures, result_builder, saving

__all__ = ["output", "pictures", "result_builder", "saving"]
