"""Let the schedules be imported under the name they have on the command line, `tests.chaos`."""

from __future__ import annotations

import sys
from pathlib import Path

# Last, so that an installed flux2_tool is still the one under test.
sys.path.append(str(Path(__file__).resolve().parents[2]))
