"""The made-up key of tests that need only one."""

from __future__ import annotations

from typing import Final

KEY: Final = "sk-test-0123456789"
