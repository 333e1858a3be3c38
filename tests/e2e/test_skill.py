"""The plugin's skill in the real OpenClaw."""

from __future__ import annotations

import json

from tests.e2e.common_gateway import world
from tests.e2e.conftest import World
from tests.e2e.scripted_model import Say

__all__ = ["world"]


def test_an_agent_is_offered_the_skill(world: World) -> None:
    """A skill that OpenClaw does not list is read by nobody."""
    skills = json.loads(world.openclaw.run("skills", "list", "--json").stdout)["skills"]
    [skill] = [skill for skill in skills if skill["name"] == "flux2"]
    marker = world.model.script("skill", [Say(text="I have read of it.")])

    turn = world.openclaw.turn(f"What can you do? {marker}", session="skill")

    assert skill["eligible"], skill
    prompt = turn.meta["systemPromptReport"]["skills"]
    assert "flux2" in [entry["name"] for entry in prompt["entries"]]
