"""What hosts add to a call's arguments and how they write them, before anything is checked."""

from __future__ import annotations

from typing import Any

import pytest

from flux2_tool.schema.given_arguments import as_meant, dropped_text, with_json_values, without_host_names
from flux2_tool.schema.manifest import load_manifest

MANIFEST = load_manifest()
NESTED = "[" * 100_000


@pytest.mark.parametrize(
    "added",
    [
        pytest.param({"toolCallId": "call_0BC", "tool": "text_to_image"}, id="n8n"),
        pytest.param({"sessionId": "bea3", "action": "sendMessage", "chatInput": "a fox"}, id="n8n's chat trigger"),
        pytest.param({"tool_call_id": "c", "runtime": {"state": {"messages": []}}, "run_manager": 1}, id="LangChain"),
        pytest.param({"_meta": {"progressToken": 1}, "_anything": 2}, id="names that begin with an underscore"),
        pytest.param({"session_id": 1, "THREAD-ID": 2, "conversationId": 3, "user id": 4}, id="any spelling"),
    ],
)
def test_what_a_host_adds_is_dropped(added: dict[str, Any]) -> None:
    """The model did not write it and cannot leave it out."""
    kept, dropped = without_host_names(MANIFEST, "text_to_image", {"prompt": "a fox", **added})

    assert kept == {"prompt": "a fox"}
    assert dropped == list(added)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"stlye": "noir"}, id="a misspelt name"),
        pytest.param({"seed": 7, "n": 2, "size": "1:1"}, id="another tool's names"),
        pytest.param({"id": "tsk_1", "task": "tsk_1"}, id="what a model may mean by task_id"),
        pytest.param({"input": {"prompt": "a"}, "parameters": {}, "arguments": {}}, id="arguments in arguments"),
        pytest.param({"action": "edit"}, id="a value that may be meant"),
        pytest.param({"config": {"aspect_ratio": "16:9"}}, id="a host's name with what was asked for in it"),
    ],
)
def test_what_may_have_been_asked_for_is_never_dropped(given: dict[str, Any]) -> None:
    """Else a picture is paid for that nobody wanted; it is refused by name instead."""
    assert without_host_names(MANIFEST, "text_to_image", {"prompt": "a", **given}) == ({"prompt": "a", **given}, [])


def test_the_warning_names_what_was_dropped() -> None:
    """An operator can tell the host; a hundred names would hide the picture."""
    assert "the host added toolCallId, _meta, which" in dropped_text(["toolCallId", "_meta"])
    assert dropped_text([f"_{number}" for number in range(100)]).count("_") == 10 + len(["argument_ignored"])


@pytest.mark.parametrize(
    ("tool", "name", "text", "value"),
    [
        ("remix_image", "source_image_urls", '["task:tsk_1"]', ["task:tsk_1"]),
        ("remix_image", "source_image_urls", ' [ "a.png",\n"狐.png" ] ', ["a.png", "狐.png"]),
        ("remix_image", "source_image_urls", "[]", []),
        ("remix_image", "source_image_urls", "[1]", [1]),
        ("get_image_task", "timeoutSeconds", "30", 30),
        ("get_image_task", "timeoutSeconds", "0.5", 0.5),
        ("text_to_image", "enable_safety_checker", "true", True),
    ],
)
def test_the_json_of_what_is_wanted_is_that_value(tool: str, name: str, text: str, value: Any) -> None:
    """Hosts write lists as text, and a model that is refused writes the same again."""
    found = with_json_values(MANIFEST, tool, {"prompt": "a", name: text})

    assert found == {"prompt": "a", name: value}
    assert type(found[name]) is type(value)


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("remix_image", {"source_image_urls": "task:last"}),
        ("remix_image", {"source_image_urls": '"task:last"'}),
        ("remix_image", {"source_image_urls": '{"url": "a.png"}'}),
        ("remix_image", {"source_image_urls": '["a.png"'}),
        ("remix_image", {"source_image_urls": '["a.png"] and more'}),
        ("remix_image", {"source_image_urls": NESTED}),
        ("remix_image", {"source_image_urls": ['["a.png"]']}),
        ("text_to_image", {"prompt": '["a fox"]', "model": "1", "aspect_ratio": "true"}),
        ("text_to_image", {"enable_safety_checker": "False"}),
        ("get_image_task", {"timeoutSeconds": "true", "task_id": "7"}),
        ("get_image_task", {"timeoutSeconds": "NaN"}),
        ("get_image_task", {"timeoutSeconds": "30 s"}),
        ("get_image_task", {"timeoutSeconds": "9" * 5000}),
        ("no_such_tool", {"source_image_urls": "[]"}),
    ],
)
def test_any_other_text_stays_as_it_is(tool: str, given: dict[str, Any]) -> None:
    """It is refused with what is allowed, rather than guessed at; a prompt is always the text that it is."""
    assert with_json_values(MANIFEST, tool, given) == given


@pytest.mark.parametrize("arguments", [None, "text", ["a"], 7])
def test_what_are_no_arguments_are_left_to_the_check(arguments: Any) -> None:
    """It says what they should be."""
    assert with_json_values(MANIFEST, "text_to_image", arguments) == arguments
    assert without_host_names(MANIFEST, "text_to_image", arguments) == (arguments, [])


@pytest.mark.parametrize("with_host", [True, False])
def test_only_hosts_that_add_arguments_have_them_dropped(with_host: bool) -> None:
    """A person's mistake is told to the person; values as JSON text are read for all."""
    given = {"prompt": "a", "toolCallId": "1", "source_image_urls": '["a.png"]'}

    found, warnings = as_meant(MANIFEST, "remix_image", given, with_host=with_host)

    assert found["source_image_urls"] == ["a.png"]
    assert ("toolCallId" in found, len(warnings)) == ((False, 1) if with_host else (True, 0))
