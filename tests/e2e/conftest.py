"""The real OpenClaw, a scripted chat model and the sandbox as RunAPI, one set for each module of tests."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.sandbox import Sandbox, running_sandbox
from tests.e2e import common_gateway as of_default_settings
from tests.e2e import group_gateway as of_a_group
from tests.e2e.common_gateway import common_gateway
from tests.e2e.group_gateway import group_gateway
from tests.e2e.openclaw_host import Gateway, OpenClaw
from tests.e2e.scripted_model import ScriptedModel, running_model
from tests.e2e.telegram import Telegram, running_telegram
from tests.e2e.world import World, configure, quick_sandbox
from tests.support.keys import KEY

INSTALL = 'install it with: eval "$(.ci/install-openclaw)"'
SHARED = {
    "common_gateway": of_default_settings.SHARING_MODULES,
    "group_gateway": of_a_group.SHARING_MODULES,
}
"""The modules that share a gateway, by the fixture that runs it."""
LONGEST_FIRST = (
    "group_gateway", "test_installation", "test_in_force", "common_gateway", "test_readme", "test_mcp",
    "test_image_generate", "test_never_twice", "test_home",
)  # fmt: skip
"""The modules that take a minute and more, so that they begin first."""
__all__ = ["KEY", "World", "common_gateway", "group_gateway"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            shares = [name for name in SHARED if name in getattr(item, "fixturenames", ())]
            named = [name for name, modules in SHARED.items() if item.path.stem in modules]
            assert shares == named, f"{item.path.name}: see SHARING_MODULES"


@pytest.hookimpl(optionalhook=True)  # where pytest-xdist is not installed, or not used
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return what gives a worker whole modules, those that share a gateway to the same one, and long ones first."""
    from xdist.scheduler import LoadFileScheduling

    class LongestFirst(OrderedDict[str, Any]):
        def popitem(self, last: bool = True) -> tuple[str, Any]:
            scope = min(self, key=_rank)
            return scope, self.pop(scope)

    class ByGateway(LoadFileScheduling):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.workqueue = LongestFirst()

        def _split_scope(self, nodeid: str) -> str:
            path: str = super()._split_scope(nodeid)
            return next((name for name, modules in SHARED.items() if Path(path).stem in modules), path)

    return ByGateway(config, log) if config.getoption("dist") == "loadfile" else None


def _rank(scope: str) -> int:
    """Return a module's place among those that are run: at the end no worker should have a long one left to do."""
    stem = Path(scope).stem
    if stem in LONGEST_FIRST:
        return LONGEST_FIRST.index(stem)
    return len(LONGEST_FIRST) + (0 if "e2e" in Path(scope).parts else 1)


@pytest.fixture(scope="session")
def make_openclaw() -> Callable[..., OpenClaw]:
    """Return what makes an OpenClaw in a scratch folder; skips where none is installed."""
    found = {name: os.environ.get(name, "") for name in ("FLUX2_TEST_NODE", "FLUX2_TEST_OPENCLAW")}
    missing = [name for name, path in found.items() if not Path(path).is_file()]
    if missing:
        message = f"{' and '.join(missing)} name no file; {INSTALL}"
        if os.environ.get("FLUX2_TEST_REQUIRE_OPENCLAW") == "1":
            pytest.fail(message)
        pytest.skip(message)

    def make(home: Path, **environ: str) -> OpenClaw:
        node, script = Path(found["FLUX2_TEST_NODE"]), Path(found["FLUX2_TEST_OPENCLAW"])
        return OpenClaw(node=node, script=script, home=home, environ=environ)

    return make


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with running_model() as running:
        yield running


@pytest.fixture(scope="module")
def telegram() -> Iterator[Telegram]:
    """A Telegram with two groups."""
    with running_telegram() as running:
        yield running


@pytest.fixture(scope="module")
def sandbox() -> Iterator[tuple[str, Sandbox]]:
    """A sandbox where only one key is good and a picture takes a second."""
    with running_sandbox(quick_sandbox()) as (base_url, running):
        yield base_url, running


@pytest.fixture(scope="module")
def make_world(
    make_openclaw: Callable[..., OpenClaw],
    model: ScriptedModel,
    sandbox: tuple[str, Sandbox],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., World]:
    """Return what sets up an OpenClaw whose chat model is the scripted one; providers and config can be added."""
    base_url, running = sandbox

    def make(*, providers: dict[str, Any] | None = None, config: dict[str, Any] | None = None, **environ: str) -> World:
        openclaw = make_openclaw(tmp_path_factory.mktemp("openclaw"), **environ)
        configure(openclaw, model, providers=providers)
        if config is not None:
            openclaw.configure(plugins={"entries": {"flux2": {"config": config}}})
        return World(openclaw=openclaw, model=model, sandbox=running, sandbox_url=base_url)

    return make


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], sandbox: tuple[str, Sandbox]) -> World:
    """A world with the plugin installed, the key and RunAPI's address in the gateway's environment."""
    made = make_world(RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=sandbox[0])
    made.openclaw.add_plugin()
    return made


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[Gateway]:
    with world.openclaw.gateway() as running:
        yield running
