"""Everything one end-to-end test meets: an OpenClaw whose chat model is scripted, and the sandbox as RunAPI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.e2e.openclaw_host import TOKEN, Gateway, OpenClaw, scripted_provider
from tests.e2e.scripted_model import ScriptedModel, running_model
from tests.support.keys import KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything one test meets."""

    openclaw: OpenClaw
    model: ScriptedModel
    sandbox: Sandbox
    sandbox_url: str


def configure(openclaw: OpenClaw, model: ScriptedModel, *, providers: dict[str, Any] | None = None) -> None:
    """Write an OpenClaw's config: the scripted model for chat, a gateway on loopback, a workspace of its own."""
    openclaw.configure(
        models={"providers": {"chat": scripted_provider(model.base_url, api_key="no-key-needed"), **(providers or {})}},
        agents={
            "defaults": {
                "workspace": str(openclaw.home / "workspace"),
                "skipBootstrap": True,
                "model": {"primary": "chat/scripted"},
            }
        },
        gateway={
            "mode": "local",
            "bind": "loopback",
            "port": openclaw.port,
            "auth": {"mode": "token", "token": TOKEN},
        },
    )


def quick_sandbox() -> SandboxOptions:
    """Return the options of a sandbox where only one key is good and a picture takes a second."""
    return SandboxOptions(api_keys=frozenset({KEY}), duration_s=1.0, drawn_images=False)


@contextmanager
def running_world(
    make_openclaw: Callable[..., OpenClaw], home: Path, sections: Mapping[str, Any]
) -> Iterator[tuple[World, Gateway]]:
    """Run a gateway with the plugin, the key in its environment and these sections of config, until the block ends."""
    with running_model() as model, running_sandbox(quick_sandbox()) as (base_url, sandbox):
        openclaw = make_openclaw(home, RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=base_url)
        configure(openclaw, model)
        openclaw.configure(**sections)
        openclaw.add_plugin()
        with openclaw.gateway() as gateway:
            yield World(openclaw=openclaw, model=model, sandbox=sandbox, sandbox_url=base_url), gateway
