"""The CI workflow runs .ci/run with every Python that the package says it supports."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from tests.support.readme import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"

pytestmark = pytest.mark.skipif(not WORKFLOW.is_file(), reason="the workflow is not part of an installed package")


def test_the_workflow_runs_what_developers_run() -> None:
    """A check that only CI makes surprises whoever pushed."""
    [job] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()

    assert [step["run"] for step in job["steps"] if "run" in step and "if" not in step] == [".ci/run"]


def test_the_workflow_covers_every_supported_python() -> None:
    """The lowest one is where a newer syntax or library call breaks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [job] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    tested = job["strategy"]["matrix"]["python"]
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))

    assert tested[0] == project["requires-python"].removeprefix(">=")
    assert set(claimed) <= set(tested)
