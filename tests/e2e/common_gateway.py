"""One gateway for all tests that leave it as it is: import `gateway` and `world`, and name the module.

A gateway and the installation of the plugin take 20 s of a processor. Everything in it has default settings, the key is
in its environment, and it logs what the worker does, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.openclaw_host import Gateway, OpenClaw
from tests.e2e.world import World, running_world

__all__ = ["SHARING_MODULES", "common_gateway", "gateway", "world"]

SHARING_MODULES = ("test_skill", "test_sources", "test_turns")
"""They run on the same worker."""


@pytest.fixture(scope="session")
def common_gateway(
    make_openclaw: Callable[..., OpenClaw], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, Gateway]]:
    """The gateway, and what it meets."""
    sections = {"logging": {"level": "debug", "consoleLevel": "debug"}}
    with running_world(make_openclaw, tmp_path_factory.mktemp("common"), sections) as running:
        yield running


@pytest.fixture(scope="module")
def world(common_gateway: tuple[World, Gateway]) -> World:
    return common_gateway[0]


@pytest.fixture(scope="module")
def gateway(common_gateway: tuple[World, Gateway]) -> Gateway:
    return common_gateway[1]
