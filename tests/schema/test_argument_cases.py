"""Python's side of the table of arguments that the plugin's JavaScript is held to, too."""

from __future__ import annotations

import pytest

from tests.schema.argument_cases import CASES, MANIFEST, Case, refusal


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_call_is_judged_as_the_table_says(case: Case) -> None:
    """What the JavaScript is compared with must itself be right."""
    found = refusal(case.tool, case.text, case.settings)

    if case.said is None:
        assert found is None
    else:
        assert found is not None
        assert case.said in found["error"]["message"]


def test_the_table_has_every_tool_and_argument() -> None:
    """An argument that is added to the manifest needs a case."""
    for name, tool in MANIFEST.tools.items():
        said = " ".join(case.said or "" for case in CASES if case.tool == name)
        texts = " ".join(case.text for case in CASES if case.tool == name)
        assert said
        assert [argument for argument in tool.input_schema["properties"] if f'"{argument}"' not in texts] == []
