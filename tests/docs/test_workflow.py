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


def test_the_workflow_runs_on_every_supported_system() -> None:
    """What differs between them is tested on Linux by hiding it, and for certain where it is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [job] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    systems = {"Operating System :: MacOS": "macos-latest", "Operating System :: POSIX :: Linux": "ubuntu-latest"}

    assert [systems[name] for name in project["classifiers"] if name in systems] == sorted(
        job["strategy"]["matrix"]["os"]
    )


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_badge_names_the_pythons_that_are_tested(name: str) -> None:
    """Those of the classifiers, which `.ci/run` really runs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    ours = re.findall(r'SUITES="(.*)"', (ROOT / ".ci" / "other-pythons").read_text(encoding="utf-8"))[0]
    [badge] = re.findall(r"badge/python-(.*?)-blue", (ROOT / name).read_text(encoding="utf-8"))

    assert badge.split("%20%7C%20") == claimed
    assert claimed == [project["requires-python"].removeprefix(">="), *re.findall(r"(3\.\d+):", ours)]
