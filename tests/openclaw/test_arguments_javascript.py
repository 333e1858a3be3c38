"""The plugin judges arguments before OpenClaw does: the same verdict and the same words as the worker's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.openclaw.conftest import PluginHost
from tests.schema.argument_cases import CASES, SETTINGS, Case, refusal

MakePlugin = Callable[..., Path]


@pytest.fixture
def judge(host: PluginHost, make_plugin: MakePlugin) -> Callable[[Sequence[Case]], list[dict[str, Any]]]:
    """Have the plugin judge calls; each answer has what it `threw`, or `prepared`, and what the worker would `read`."""
    folder = make_plugin()
    for name, config in SETTINGS.items():
        host.register(folder, name=name, config=config)

    def judged(cases: Sequence[Case]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        for case in cases:
            answers += host.ask("judged", plugin=case.settings, calls=[{"tool": case.tool, "text": case.text}])
        return answers

    return judged


def explained(host: PluginHost, results: Iterable[dict[str, Any]]) -> list[str]:
    """Return what the model reads of the worker's failures."""
    found: list[str] = host.ask("explained", plugin="default", results=list(results))
    return found


@pytest.mark.parametrize("group", range(5))
def test_the_plugin_says_what_the_worker_would_say(host: PluginHost, judge: Any, group: int) -> None:
    """One table for both: a model that is refused reads our list, our nearest value, and everything at once."""
    cases = CASES[group::5]
    answers = judge(cases)

    found = {case.id: answer.get("threw") for case, answer in zip(cases, answers, strict=True)}

    refusals = {case.id: refusal(case.tool, answer["read"], case.settings) for case, answer in zip(cases, answers, strict=True)}
    texts = iter(explained(host, filter(None, refusals.values())))
    assert found == {name: result and next(texts) for name, result in refusals.items()}
    assert {name for name, text in found.items() if text is None} == {case.id for case in cases if case.said is None}
