"""Which of the environment's variables are misspelt, and which of those may be meant to guard money."""

from __future__ import annotations

import pytest

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.variables import TOKEN_VARIABLE, check_variables, unknown_variables

SETTINGS = load_manifest().settings


@pytest.mark.parametrize(
    ("name", "nearest", "guards_money"),
    [
        ("FLUX2_TOOL_DAYLY_CAP_USD", "FLUX2_TOOL_DAILY_CAP_USD", True),
        ("FLUX2_TOOL_DAILY_CAP", "FLUX2_TOOL_DAILY_CAP_USD", True),
        ("FLUX2_TOOL_daily_cap_usd", "FLUX2_TOOL_DAILY_CAP_USD", True),
        ("FLUX2_TOOL_ASK_ABOVE", "FLUX2_TOOL_ASK_ABOVE_USD", True),
        ("FLUX2_TOOL_BASE_URL", "RUNAPI_BASE_URL", True),
        ("FLUX2_TOOL_BUDGET", None, True),
        ("FLUX2_TOOL_WAITS", "FLUX2_TOOL_WAIT_S", False),
        ("FLUX2_TOOL_MCP_TOKENS", TOKEN_VARIABLE, False),
        ("FLUX2_TOOL_PYTHON", None, False),
        ("FLUX2_TOOL_", None, False),
    ],
)
def test_a_misspelt_variable_has_its_nearest_name(name: str, nearest: str | None, guards_money: bool) -> None:
    """The prefix, which all have in common, makes no two names similar."""
    [found] = unknown_variables({name: "1"}, SETTINGS)

    assert (found.nearest, found.guards_money) == (nearest, guards_money)


def test_what_is_read_empty_or_of_others_is_not_misspelt() -> None:
    """An empty variable counts as not set, as one of a setting does."""
    read = {str(setting.env): "1" for setting in SETTINGS.values() if setting.env}
    others = {TOKEN_VARIABLE: "t", "FLUX2_TOOL_DAYLY_CAP_USD": " ", "FLUX2_CAP_USD": "1", "PATH": "/bin"}

    assert unknown_variables(read | others, SETTINGS) == ()


def test_only_what_may_guard_money_stops_an_image() -> None:
    """All such variables are named at once, each with what to do."""
    check_variables(unknown_variables({"FLUX2_TOOL_WAITS": "1"}, SETTINGS))
    environ = {"FLUX2_TOOL_WAITS": "1", "FLUX2_TOOL_BUDGET": "1", "FLUX2_TOOL_TIER": "pro"}
    with pytest.raises(ConfigurationError) as caught:
        check_variables(unknown_variables(environ, SETTINGS))

    assert "FLUX2_TOOL_WAITS" not in str(caught.value) + caught.value.hint
    assert "FLUX2_TOOL_TIER is set but is no setting (nearest: FLUX2_TOOL_TIERS)" in str(caught.value)
    assert "unset FLUX2_TOOL_BUDGET; rename FLUX2_TOOL_TIER to FLUX2_TOOL_TIERS, or unset" in caught.value.hint
