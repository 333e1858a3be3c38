"""Python's regular expressions in JavaScript: the same matches, or none at all."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from flux2_tool.openclaw.portable_pattern import PYTHON_SPACE, portable_pattern

TEXTS = [
    "",
    "a",
    "a\n",
    "a\nb",
    "a\r",
    "\u2028",
    "\ufeff",
    "\x1c",
    "\x85",
    "7",
    "٣",
    "-",
    "狐",
    "🦊",
    "🦊🦊",
    "]",
    "[",
    "a b",
]


@pytest.mark.parametrize(
    "pattern",
    [
        r"^a$",
        r"^.$",
        r"^.+$",
        r"\S",
        r"^\s*$",
        r"^[\s\S]$",
        r"^[^\s]{1,2}$",
        r"^\d$",
        r"^[\d\-]+$",
        r"\-",
        r"^(?!a)[^a]?$",
        r"(?<=a)b|(?:b)",
        r"[\]\[]",
        r"^[!-~]*?$",
        r"[\x00-\x1f]",
        r"^🦊{2}$",
        r"^[🦊狐]$",
    ],
)
def test_a_pattern_matches_the_same(node: str, pattern: str) -> None:
    """White space, digits, line breaks and characters outside the first plane differ between the two."""
    script = "const [p, texts] = JSON.parse(process.argv[1]); const r = new RegExp(p, 'u');"
    script += "console.log(JSON.stringify(texts.map((text) => r.test(text))))"
    given = json.dumps([portable_pattern(pattern), TEXTS])

    done = subprocess.run([node, "-e", script, given], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == [re.search(pattern, text) is not None for text in TEXTS]


@pytest.mark.parametrize(
    "pattern",
    [
        r"\w",
        r"\bx",
        r"\Aa\Z",
        r"(?i)a",
        r"(?P<x>a)(?P=x)",
        r"(a)\1",
        r"a++",
        r"a{,3}",
        r"x{",
        r"[]a]",
        r"[\S]",
        r"[\w]",
        r"\N{DIGIT ONE}",
        "[a",
        "(?>a)",
    ],
)
def test_what_has_no_equal_is_left_to_python(pattern: str) -> None:
    """A pattern that reads otherwise would refuse what the worker accepts."""
    assert portable_pattern(pattern) is None


def test_white_space_is_pythons() -> None:
    """JavaScript has the byte order mark more, and the separators of ASCII less."""
    every = re.compile(f"[{PYTHON_SPACE}]")

    assert [c for c in map(chr, range(0x110000)) if bool(every.match(c)) != c.isspace()] == []
