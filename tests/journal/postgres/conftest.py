"""A server of the tests of this folder, which run whatever `--journal` says, and are skipped where there is none.

`FLUX2_TEST_REQUIRE_POSTGRES=1` has them fail instead.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from flux2_tool.journal import DatabaseUrl
from tests.support.postgres import PostgresServer, running_postgres, why_not
from tests.support.postgres_proxy import PostgresProxy, running_proxy


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A server of this process's own, which a test may kill and has to start again."""
    reason = why_not()
    if reason is not None and os.environ.get("FLUX2_TEST_REQUIRE_POSTGRES") == "1":
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)
    with running_postgres() as server:
        yield server


@pytest.fixture
def place(server: PostgresServer) -> DatabaseUrl:
    """A schema that nobody has made yet."""
    return DatabaseUrl(server.url(), schema=f"s_{secrets.token_hex(6)}")


@pytest.fixture
def database(server: PostgresServer) -> str:
    """The name of a new database."""
    name = f"d_{secrets.token_hex(6)}"
    server.query(f"CREATE DATABASE {name}")
    return name


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[PostgresProxy]:
    """A line to the server."""
    with running_proxy(server.port) as proxy:
        yield proxy
