"""What keeps a tool from a model, read from OpenClaw's config, and the command that fixes it."""

from __future__ import annotations

from typing import Any

import pytest

from flux2_tool.openclaw.tool_policy import OpenClawConfig, find_conflicts, find_policy_blocks

TOOLS = ("text_to_image", "remix_image", "get_image_task")
ALSO = """openclaw config set tools.alsoAllow '["flux2"]'"""
SANDBOX = """openclaw config set tools.sandbox.tools.alsoAllow '["flux2"]'"""


def hiding(**sections: Any) -> list[tuple[str, tuple[str, ...], str]]:
    """Return where, which tools and the fixing command of everything that hides tools."""
    config = OpenClawConfig(**{"tools": {}, "agents": {}, "plugins": {}, **sections})
    return [(item.where, item.tools, item.fix) for item in find_policy_blocks(config, plugin="flux2", tools=TOOLS)]


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param({}, id="nothing set"),
        pytest.param({"tools": {"profile": "coding"}}, id="the plugin declares the coding profile"),
        pytest.param({"tools": {"profile": "messaging"}}, id="and the messaging profile"),
        pytest.param({"tools": {"profile": "minimal", "alsoAllow": ["Flux2"]}}, id="added to a small profile"),
        pytest.param({"tools": {"allow": ["read", "*_image", "get_*"]}}, id="allowed by patterns"),
        pytest.param({"tools": {"allow": ["group:plugins"]}}, id="allowed as a plugin"),
        pytest.param({"tools": {"deny": ["exec", "image_generate"]}}, id="others are forbidden"),
        pytest.param({"tools": {"toolsBySender": {"id:boss": {"alsoAllow": ["exec"]}}}}, id="one sender may more"),
        pytest.param({"plugins": {"allow": ["flux2"], "entries": {"flux2": {"enabled": True}}}}, id="on the list"),
        pytest.param(
            {
                "agents": {"defaults": {"sandbox": {"mode": "all"}}},
                "tools": {"sandbox": {"tools": {"alsoAllow": ["flux2"]}}},
            },
            id="let through the sandbox's gate",
        ),
        pytest.param(
            {"agents": {"defaults": {"sandbox": {"mode": "all"}}}, "tools": {"sandbox": {"tools": {"allow": []}}}},
            id="an empty list at the gate lets all through",
        ),
    ],
)
def test_a_permissive_config_hides_nothing(sections: dict[str, Any]) -> None:
    """A false alarm sends people to break a working set-up."""
    assert hiding(**sections) == []


@pytest.mark.parametrize(
    ("sections", "where", "fix"),
    [
        pytest.param(
            {"plugins": {"enabled": False}},
            "plugins.enabled",
            "openclaw config set plugins.enabled true",
            id="all plugins off",
        ),
        pytest.param(
            {"plugins": {"entries": {"flux2": {"enabled": False}}}},
            "plugins.entries.flux2.enabled",
            "openclaw plugins enable flux2",
            id="a disabled entry",
        ),
        pytest.param(
            {"plugins": {"allow": ["browser"]}},
            "plugins.allow",
            """openclaw config set plugins.allow '["browser", "flux2"]'""",
            id="a list of plugins without this one",
        ),
        pytest.param(
            {"plugins": {"deny": ["flux2", "x"]}},
            "plugins.deny",
            """openclaw config set plugins.deny '["x"]'""",
            id="a forbidden plugin",
        ),
        pytest.param({"tools": {"profile": "minimal"}}, "tools.profile", ALSO, id="the minimal profile"),
        pytest.param(
            {"tools": {"allow": ["read"]}},
            "tools.allow",
            """openclaw config set tools.allow '["read", "flux2"]'""",
            id="a list of tools without these",
        ),
        pytest.param(
            {"tools": {"deny": ["group:plugins", "exec"]}},
            "tools.deny",
            """openclaw config set tools.deny '["exec"]'""",
            id="all plugins' tools forbidden",
        ),
        pytest.param(
            {"tools": {"byProvider": {"openai/gpt-5.4": {"allow": ["read"]}}}},
            'tools.byProvider["openai/gpt-5.4"].allow',
            """openclaw config set 'tools.byProvider["openai/gpt-5.4"].allow' '["read", "flux2"]'""",
            id="for one model",
        ),
        pytest.param(
            {"agents": {"entries": {"ops": {"tools": {"allow": ["exec"]}}}}},
            "agents.entries.ops.tools.allow",
            """openclaw config set agents.entries.ops.tools.allow '["exec", "flux2"]'""",
            id="for one agent",
        ),
        pytest.param(
            {"tools": {"toolsBySender": {"*": {"deny": ["group:plugins", "exec"]}}}},
            'tools.toolsBySender["*"].deny',
            """openclaw config set 'tools.toolsBySender["*"].deny' '["exec"]'""",
            id="for every sender not named",
        ),
        pytest.param(
            {"agents": {"entries": {"ops": {"tools": {"toolsBySender": {"id:guest": {"allow": ["read"]}}}}}}},
            'agents.entries.ops.tools.toolsBySender["id:guest"].allow',
            """openclaw config set 'agents.entries.ops.tools.toolsBySender["id:guest"].allow' '["read", "flux2"]'""",
            id="for one sender with one agent",
        ),
        pytest.param(
            {"agents": {"defaults": {"sandbox": {"mode": "non-main"}}}},
            "tools.sandbox.tools",
            SANDBOX,
            id="the gate of sandboxed sessions",
        ),
        pytest.param(
            {"agents": {"entries": {"ops": {"sandbox": {"mode": "all"}}}}},
            "tools.sandbox.tools",
            SANDBOX,
            id="one sandboxed agent",
        ),
        pytest.param(
            {
                "agents": {"defaults": {"sandbox": {"mode": "all"}}},
                "tools": {"sandbox": {"tools": {"allow": ["read"]}}},
            },
            "tools.sandbox.tools",
            """openclaw config set tools.sandbox.tools.allow '["read", "flux2"]'""",
            id="a list of its own at the gate",
        ),
    ],
)
def test_each_setting_that_hides_all_tools_has_its_fix(sections: dict[str, Any], where: str, fix: str) -> None:
    """ "The agent says it has no such tool" has a dozen causes; one command must fix each."""
    assert hiding(**sections) == [(where, TOOLS, fix)]


def test_a_single_denied_tool_is_named_alone() -> None:
    """The other tools still work, and the report must say so."""
    assert hiding(tools={"deny": ["remix*"]}) == [
        ("tools.deny", ("remix_image",), "openclaw config set tools.deny '[]'")
    ]


def test_another_plugin_with_the_same_tool_name_is_a_conflict() -> None:
    """OpenClaw offers only one of the two and reports nothing."""
    others = [
        {"id": "flux2", "enabled": True, "toolNames": list(TOOLS)},
        {"id": "painter", "enabled": True, "contracts": {"tools": ["text_to_image"]}},
        {"id": "asleep", "enabled": False, "toolNames": ["text_to_image"]},
    ]

    [found] = find_conflicts(others, plugin="flux2", tools=TOOLS)

    assert (found.where, found.tools) == ("plugins.entries.painter", ("text_to_image",))
    assert found.fix == "openclaw plugins disable painter"
