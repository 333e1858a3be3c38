"""What the status asks: the gateway, as far as that can answer, and else OpenClaw's commands, with the same outcome."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.cli import main
from flux2_tool.openclaw.gateway_report import METHOD
from flux2_tool.openclaw.openclaw_cli import find_openclaw_cli
from flux2_tool.openclaw.status import Status, get_status
from flux2_tool.schema.manifest import load_manifest
from tests.openclaw.conftest import FakeOpenClaw

MANIFEST = load_manifest()
REPORT = {"version": MANIFEST.version, "manifest_sha256": MANIFEST.sha256, "settings": {}}
CONFIG = {
    "gateway": {"mode": "local"},
    "tools": {"deny": ["remix_image"]},
    "models": {"providers": {"runapi": {"apiKey": "__OPENCLAW_REDACTED__"}}},
    "channels": {"telegram": {"enabled": True}},
    "plugins": {"entries": {"flux2": {"enabled": True, "config": {"wait_s": 9}}}},
}


@pytest.fixture
def running(openclaw: FakeOpenClaw, tmp_path: Path) -> FakeOpenClaw:
    """An OpenClaw whose gateway runs, has the plugin loaded, and reads the config of its state folder."""
    main(["openclaw", "install", "--yes"])
    saved = tmp_path / ".openclaw" / "openclaw.json"
    saved.write_text(json.dumps(CONFIG))
    catalog = {"groups": [{"tools": [{"id": name, "pluginId": MANIFEST.id} for name in MANIFEST.tools]}]}
    read = {"path": str(saved), "valid": True, "config": CONFIG}
    openclaw.change(config=CONFIG, gateway={METHOD: REPORT, "tools.catalog": catalog, "config.get": read}, log=[])
    return openclaw


def _status(**environ: str) -> Status:
    return get_status(find_openclaw_cli(None, {**os.environ, **environ}), MANIFEST, os.environ)


def _asked(openclaw: FakeOpenClaw) -> set[str]:
    return {" ".join(arguments[:2]) for arguments in openclaw.state["log"]}


def _answers(openclaw: FakeOpenClaw, method: str, **changes: Any) -> None:
    answers = openclaw.state["gateway"]
    openclaw.change(gateway={**answers, method: {**answers[method], **changes}})


def test_a_running_gateway_says_what_slower_commands_would(running: FakeOpenClaw) -> None:
    """Loading the plugin in a command takes seconds, and so does each section of the config."""
    found = _status()
    asked = _asked(running)
    slowly = _status(OPENCLAW_GATEWAY_URL="ws://elsewhere:1")

    assert asked == {"--version", "plugins list", "gateway call"}
    assert {"plugins inspect", "config get"} < _asked(running)
    assert found == slowly
    assert found.tools == tuple(MANIFEST.tools)
    assert [block.where for block in found.hidden] == ["tools.deny"]
    assert found.config == {"wait_s": 9}
    assert "models.providers.runapi.apiKey in OpenClaw's config" in found.key_sources


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"valid": False}, id="which OpenClaw's command tells better"),
        pytest.param({"path": "/elsewhere/openclaw.json"}, id="another state folder's gateway"),
        pytest.param({"path": None}, id="no path"),
        pytest.param({"config": "none"}, id="no config"),
    ],
)
def test_a_config_that_may_be_another_one_is_read_by_commands(running: FakeOpenClaw, change: dict[str, Any]) -> None:
    _answers(running, "config.get", **change)

    assert _status().config == {"wait_s": 9}
    assert {"plugins inspect", "config get"} < _asked(running)


@pytest.mark.parametrize(
    "saved",
    [
        pytest.param('{"gateway": {"mode": "remote"}}', id="its gateway is elsewhere"),
        pytest.param('{gateway: {mode: "local"}}', id="no plain JSON"),
        pytest.param("[]", id="no object"),
    ],
)
def test_a_gateway_that_may_be_elsewhere_is_not_asked_for_it(running: FakeOpenClaw, tmp_path: Path, saved: str) -> None:
    (tmp_path / ".openclaw" / "openclaw.json").write_text(saved)

    assert _status().config == {"wait_s": 9}
    assert "config.get" not in {argument for arguments in running.state["log"] for argument in arguments}


@pytest.mark.parametrize(
    ("method", "change"),
    [
        pytest.param(METHOD, {"manifest_sha256": "0" * 64}, id="another build than the installed one"),
        pytest.param(METHOD, {"version": None}, id="a version that it does not tell"),
        pytest.param("tools.catalog", {"groups": []}, id="tools that it does not have"),
    ],
)
def test_a_plugin_that_the_gateway_may_not_have_as_it_is_is_inspected(
    running: FakeOpenClaw, method: str, change: dict[str, Any]
) -> None:
    _answers(running, method, **change)

    _status()

    assert "plugins inspect" in _asked(running)
    assert "config get" not in _asked(running)


@pytest.mark.parametrize("change", [{"status": "error", "error": "it threw"}, {"enabled": False}])
def test_a_plugin_that_does_not_load_is_inspected(running: FakeOpenClaw, change: dict[str, Any]) -> None:
    running.change(plugin={**running.state["plugin"], **change})

    _status()

    assert "plugins inspect" in _asked(running)


def test_without_a_gateway_nothing_more_is_asked_of_it(openclaw: FakeOpenClaw) -> None:
    main(["openclaw", "install", "--yes"])
    openclaw.change(log=[])

    assert _status().gateway == "no running gateway responded"
    assert [arguments for arguments in openclaw.state["log"] if arguments[:2] == ["gateway", "call"]] == [
        ["gateway", "call", METHOD, "--json"]
    ]
