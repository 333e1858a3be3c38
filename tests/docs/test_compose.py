"""The compose file and the commands of docs/postgresql.md, as far as they can be checked without Docker."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flux2_tool._database_url import shown_url
from flux2_tool.journal.postgres_database import POOL_SIZE
from flux2_tool.settings import load_settings
from tests.support.readme import ROOT, blocks, read

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not a checkout")

PAGE = "docs/postgresql.md"


def compose() -> dict[str, Any]:
    [block] = [block for block in blocks(read(PAGE)) if block.language == "yaml"]
    found: dict[str, Any] = yaml.safe_load(block.code)
    return found


def shown(name: str) -> str:
    [block] = [block for block in blocks(read(PAGE)) if block.name == name]
    return block.code


def test_the_compose_file_has_two_gateways_on_one_database() -> None:
    """Each has a state folder and a port of its own; the database's files stay, and only the gateways reach it."""
    file = compose()
    services = file["services"]
    gateways = [services[name] for name in ("gateway-1", "gateway-2")]

    assert set(services) == {"database", "gateway-1", "gateway-2"}
    assert {one["image"] for one in gateways} == {"openclaw-flux2"}
    assert len({tuple(one[key]) for one in gateways for key in ("volumes",)}) == 2
    assert len({port for one in gateways for port in one["ports"]}) == 2
    assert all(port.startswith("127.0.0.1:") for one in gateways for port in one["ports"])
    # Two containers whose host names are alike would look like one machine in `doctor`.
    assert len({one["hostname"] for one in gateways}) == 2
    assert all(one["depends_on"]["database"]["condition"] == "service_healthy" for one in gateways)
    database = services["database"]
    assert re.fullmatch(r"postgres:\d+", database["image"])
    assert int(database["image"].partition(":")[2]) in range(14, 18)  # 18 has its files in another folder
    assert "ports" not in database
    [volume] = database["volumes"]
    assert volume.split(":")[0] in file["volumes"]
    assert "pg_isready" in database["healthcheck"]["test"]
    assert not [name for name in database["environment"] if name.endswith("PASSWORD")]
    [secret] = database["secrets"]
    assert database["environment"]["POSTGRES_PASSWORD_FILE"] == f"/run/secrets/{secret}"
    assert secret in file["secrets"]


def test_the_secrets_shown_are_those_of_the_compose_file(tmp_path: Path) -> None:
    """The address fits the setting and the database; no file but the database's password can be read by others."""
    done = subprocess.run(
        ["/bin/bash", "-euc", shown("compose secrets")],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "RUNAPI_API_KEY": "sk-of-this-test"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    file = compose()
    password = (tmp_path / file["secrets"]["database_password"]["file"]).read_text().strip()

    for name in ("gateway-1", "gateway-2"):
        folder = tmp_path / file["services"][name]["volumes"][0].split(":")[0]
        lines = dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines())
        address = load_settings({"FLUX2_TOOL_JOURNAL_URL": lines["FLUX2_TOOL_JOURNAL_URL"]}).journal_url
        environment = file["services"]["database"]["environment"]
        assert lines["RUNAPI_API_KEY"] == "sk-of-this-test"
        assert (
            address == f"postgresql://{environment['POSTGRES_USER']}:{password}@database/{environment['POSTGRES_DB']}"
        )
        assert shown_url(address).startswith("postgresql://database/")
        assert (folder / ".env").stat().st_mode & 0o077 == 0
        assert (tmp_path / file["services"][name]["env_file"]).stat().st_mode & 0o077 == 0
    assert "OPENCLAW_GATEWAY_TOKEN=" in (tmp_path / "gateway.env").read_text()


def test_each_service_that_the_commands_name_is_in_the_compose_file() -> None:
    """A command that is copied must not fail for a name."""
    named = {
        name
        for block in blocks(read(PAGE))
        for name in re.findall(r"docker compose (?:exec(?: -T)?|stop|start) ([a-z0-9-]+)", block.code)
    }

    assert named == set(compose()["services"])


def test_the_image_can_have_the_extra() -> None:
    """Without it the gateways refuse every image."""
    argument = re.search(r"--build-arg '(\w+)=\[postgres\]'", shown("docker build with the extra"))
    assert argument is not None

    dockerfile = (ROOT / "docs" / "Dockerfile").read_text(encoding="utf-8")

    assert f"ARG {argument[1]}=" in dockerfile.partition("FROM")[2]
    assert f'/usr/local/src/flux2-tool"${{{argument[1]}}}"' in dockerfile


def test_the_page_tells_the_size_of_the_pool() -> None:
    """By it an operator sets `max_connections`."""
    assert f"at most {POOL_SIZE} connections" in read(PAGE)
