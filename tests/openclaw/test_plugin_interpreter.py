"""The interpreter that the installed plugin names, and why it does not start: real files, real processes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.openclaw.plugin_interpreter import PluginInterpreter, plugins_interpreter, why_it_does_not_start
from flux2_tool.schema.manifest import load_manifest

MANIFEST = load_manifest()


def configured(python: Any) -> dict[str, Any]:
    """Return the section `plugins` with this setting."""
    return {"entries": {MANIFEST.id: {"config": {"python": python}}}}


def test_the_setting_counts_before_what_installed_the_plugin(tmp_path: Path) -> None:
    """Each with the command that gives the plugin one that works."""
    bundle = {"python": "/installed/python"}

    by_setting = plugins_interpreter(bundle, configured("/set/python"), MANIFEST, state=tmp_path)
    by_installer = plugins_interpreter(bundle, configured(7), MANIFEST, state=tmp_path)

    assert by_setting == PluginInterpreter(
        python="/set/python", fix=f"openclaw config set plugins.entries.flux2.config.python {sys.executable}"
    )
    assert by_installer == PluginInterpreter(
        python="/installed/python", fix=f"{sys.executable} -m flux2_tool openclaw install"
    )


def test_a_packed_plugin_has_its_own_once_it_is_made(tmp_path: Path) -> None:
    """It makes the environment itself, at the gateway's start."""
    bundle = {"version": "1.2.3", "wheel": {"sha256": "abcdef0123456789"}}

    before = plugins_interpreter(bundle, {}, MANIFEST, state=tmp_path)
    folder = tmp_path / "flux2-tool" / "python" / "1.2.3-abcdef012345"
    folder.mkdir(parents=True)
    after = plugins_interpreter(bundle, {}, MANIFEST, state=tmp_path)

    assert before is None
    assert after == PluginInterpreter(python=str(folder / "bin" / "python"), fix="openclaw gateway restart")
    assert plugins_interpreter({}, {}, MANIFEST, state=tmp_path) is None


def script(folder: Path, text: str) -> str:
    """Write an executable that stands for an interpreter."""
    path = folder / "python"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(
            "#!/bin/sh\necho 'No module named flux2_tool' >&2\nexit 1\n", "No module named flux2_tool", id="bare"
        ),
        pytest.param("#!/bin/sh\nexit 3\n", "no reason given", id="silent"),
        pytest.param("#!/bin/sh\necho flux2-tool 0.0.9\n", "has flux2-tool 0.0.9, not", id="another version"),
        pytest.param("#!/no/such/interpreter\n", "does not exist any more", id="its own interpreter gone"),
        pytest.param("", "does not start: ", id="no program"),
    ],
)
def test_an_interpreter_that_does_not_serve_says_why(tmp_path: Path, text: str, why: str) -> None:
    """The text completes a sentence of `doctor`."""
    found = why_it_does_not_start(PluginInterpreter(python=script(tmp_path, text), fix=""), MANIFEST)

    assert found is not None
    assert why in found


def test_the_running_interpreter_serves_its_own_version() -> None:
    """And no other."""
    here = PluginInterpreter(python=sys.executable, fix="")

    assert why_it_does_not_start(here, MANIFEST) is None
    assert why_it_does_not_start(here, replace(MANIFEST, version="9.9.9")) == (
        f"has flux2-tool {MANIFEST.version}, not 9.9.9"
    )
