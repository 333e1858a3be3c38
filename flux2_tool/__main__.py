"""`python -m flux2_tool` is the command `flux2-tool`."""

from __future__ import annotations

import sys

from flux2_tool.cli import main

if __name__ == "__main__":
    sys.exit(main())
