"""An OpenClaw plugin of the tests; see `index.js`."""

from pathlib import Path

FOLDER = Path(__file__).parent
