"""Text from the service becomes one bounded line that acts on nothing."""

from __future__ import annotations

from flux2_tool.runapi.text import printable


def test_printable_keeps_other_scripts() -> None:
    """Chinese error texts are what half of the users read."""
    assert printable("提示词  不\n合规") == "提示词 不 合规"
    assert printable("x" * 10, 5) == "xxxx…"
