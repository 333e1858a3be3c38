"""A sandbox over real sockets, whose time tests move, and a scratch environment for the server."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux2_tool.sandbox import Sandbox
from tests.support.environ import base_environ
from tests.support.keys import KEY
from tests.support.services import clock, sandbox, service

__all__ = ["clock", "environ", "sandbox", "service"]


@pytest.fixture
def environ(tmp_path: Path, service: tuple[str, Sandbox]) -> dict[str, str]:
    """What a host gives the server: a key, the sandbox's address, and nothing of this machine's settings."""
    return {
        **base_environ(),
        "HOME": str(tmp_path),
        "FLUX2_TOOL_HOME": str(tmp_path / "data"),
        "RUNAPI_API_KEY": KEY,
        "RUNAPI_BASE_URL": f"{service[0]}/v1",
    }


@pytest.fixture
def collected() -> Iterator[None]:
    """Let what a test has left behind be noticed in that test, and not in whichever comes later."""
    yield
    gc.collect()
