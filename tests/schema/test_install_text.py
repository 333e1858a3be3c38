"""How to install the package again: one wording, for each way in which it may have been installed, never from PyPI."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import flux2_tool
from flux2_tool.schema.install_text import any_install_version_text, install_extra_text, install_version_text
from flux2_tool.schema.installation import Installation

PACKAGE = Path(flux2_tool.__file__).parent
VENV = Installation(kind="environment", python="/venv/bin/python")


def test_the_extra_comes_with_where_its_package_came_from() -> None:
    """`pip install flux2-tool` would find nothing where the package is in no index."""
    text = install_extra_text("mcp", replace(VENV, source="file:///w.whl", is_from_file=True), command=["mcp"])

    assert text == (
        "install it again with the extra: /venv/bin/python -m pip install 'flux2-tool[mcp] @ file:///w.whl'"
    )


def test_a_source_that_is_gone_is_asked_for() -> None:
    """The command would fail where it stands."""
    text = install_extra_text("mcp", replace(VENV, is_from_file=True), command=["mcp"])

    assert text == "install it again from its checkout with the extra: /venv/bin/python -m pip install '.[mcp]'"


def test_a_temporary_environment_gets_a_command_to_run() -> None:
    """What is installed into it vanishes with it."""
    text = install_extra_text("sandbox", replace(VENV, kind="uvx"), command=["demo"])

    assert text == "run it with the extra: uvx --from 'flux2-tool[sandbox]' flux2-tool demo"


def test_the_version_is_named() -> None:
    """An old checkout would install the old version again."""
    from_checkout = install_version_text("1.2.3", replace(VENV, is_from_file=True, extras=("mcp",)))
    from_index = install_version_text("1.2.3", replace(VENV, kind="pipx"))

    assert from_checkout == (
        "in an updated checkout, install flux2-tool 1.2.3 again: /venv/bin/python -m pip install '.[mcp]'"
    )
    assert from_index == "install flux2-tool 1.2.3: pipx install --force flux2-tool==1.2.3"


def test_whoever_cannot_know_names_every_way() -> None:
    """The plugin's JavaScript runs with a Python that it has not looked into."""
    text = any_install_version_text("1.2.3", pip="pip")

    assert text.endswith("uv tool install --reinstall ., pipx install --force ., or pip install .")


def test_nothing_else_words_how_to_install_the_package() -> None:
    """A second wording would be forgotten when the first one learns something."""
    sources = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".js", ".md")]
    worded = re.compile(r"uv tool install|pipx install|pip install|flux2-tool\[\w+\]|uvx --from")

    found = [path.name for path in sources if worded.search(path.read_text(encoding="utf-8"))]

    assert found == ["install_text.py"]
