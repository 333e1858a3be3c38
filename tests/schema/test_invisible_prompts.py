"""A prompt must have something to see: a picture of nothing is billed like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flux2_tool.exceptions import InvalidArgumentsError
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.validation import validate_arguments

MANIFEST = load_manifest()


def violations(tool: str, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the violations of a call."""
    try:
        validate_arguments(MANIFEST, tool, arguments, tiers=MANIFEST.default_tiers, agent_host=True)
    except InvalidArgumentsError as exc:
        return exc.violations
    return ()


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param("\u200b\u200c\u200d\u2060", id="zero width"),
        pytest.param("\ufeff\u00ad", id="a byte order mark and a soft hyphen"),
        pytest.param("\u2800\u2800", id="blank Braille"),
        pytest.param("\u3164\u115f\u1160\uffa0", id="Hangul fillers"),
        pytest.param("\u202a\u202e\u2066\u061c", id="directions"),
        pytest.param("\ufe0f\ufe00\U000e0100\u180b", id="variation selectors"),
        pytest.param("\U000e0041\U000e0042\U000e007f", id="tags"),
        pytest.param("\u034f\u0301", id="a joiner and a mark without a letter"),
        pytest.param("\u17b4\u17b5", id="inherent vowels of Khmer"),
        pytest.param("\x01\x07\x1b\x7f\x85\x9b", id="control characters"),
        pytest.param("\ue000\U000f0000", id="private use"),
        pytest.param("\ufdd0\uffff\U0001fffe", id="noncharacters"),
        pytest.param("\ufff0\u2065\U000e0fff", id="unassigned and ignorable"),
        pytest.param("\U0001d159\U0001d173\U0001bca0", id="empty notes and shorthand formats"),
        pytest.param("\ufffc", id="an object that is not there"),
        pytest.param(" \u3000\n\u200b\t", id="between white space"),
    ],
)
@pytest.mark.parametrize("tool", ["text_to_image", "remix_image"])
def test_a_prompt_without_a_visible_character_is_refused(tool: str, prompt: str) -> None:
    """The schema promises it, and a chat shows such a message as empty."""
    sources = {"source_image_urls": ["task:a"]} if tool == "remix_image" else {}

    [text] = violations(tool, {"prompt": prompt, **sources})

    assert text.startswith("prompt has only invisible characters (U+")
    assert text.endswith("it must be text with at least one visible character")


@pytest.mark.parametrize(
    "prompt",
    [
        *("狐", "ㄱ", "ᄀ", "ก", "م", "é", "e\u0301", "7", "?", "€", "⠁"),
        pytest.param("🦊\ufe0f", id="an emoji with a selector"),
        pytest.param("👩\u200d🚀", id="two emojis that are joined"),
        pytest.param("🏴\U000e0067\U000e0062\U000e007f", id="a flag of tags"),
        pytest.param("\U0001fae9", id="an emoji that this Python may not know"),
        pytest.param("\u200b\u200ba", id="one letter after invisible ones"),
    ],
)
def test_one_visible_character_is_enough(prompt: str) -> None:
    """In every script: a false refusal is a picture nobody gets."""
    assert violations("text_to_image", {"prompt": prompt}) == ()


@pytest.mark.parametrize(
    ("tool", "arguments", "where"),
    [
        pytest.param("text_to_image", {"prompt": "a fox\0"}, "prompt", id="a prompt"),
        pytest.param("text_to_image", {"prompt": "\0\0"}, "prompt", id="nothing else"),
        pytest.param(
            "remix_image", {"prompt": "a", "source_image_urls": ["a\0.png"]}, "source_image_urls[0]", id="a source"
        ),
        pytest.param("get_image_task", {"task_id": "tsk\0"}, "task_id", id="an id"),
        pytest.param("text_to_image", {"prompt": "a", "aspect_ratio": "1:1\0"}, "aspect_ratio", id="a choice"),
    ],
)
def test_a_nul_is_named_with_its_place(tool: str, arguments: dict[str, Any], where: str) -> None:
    """C programs end a text there, so that what is made would differ from what was asked for."""
    [text] = violations(tool, arguments)

    assert text.startswith(f"{where} has a NUL character (U+0000) at position ")
