"""Parameters of a call that are wrong, and what the refusal says of each, over stdio and HTTP alike."""

from __future__ import annotations

from typing import Final

import pytest

WRONG_PARAMS: Final = [
    pytest.param(b"null", '"params" must be an object', id="no parameters"),
    pytest.param(b'{"arguments":{}}', '"name" is missing', id="no name"),
    pytest.param(b'{"name":null}', '"name" is null', id="a null name"),
    pytest.param(b'{"name":true}', '"name" is true', id="a name that is true"),
    pytest.param(
        rb'{"name":"text_to_image","arguments":"{\"prompt\":\"a fox\"}"}',
        "a text that holds an object",
        id="encoded twice",
    ),
    pytest.param(b'{"name":"text_to_image","arguments":"a fox"}', '"arguments" is a text;', id="a text of arguments"),
    pytest.param(b'{"name":"text_to_image","arguments":["a fox"]}', "is a list; it must be a JSON object", id="a list"),
    pytest.param(b'{"name":"text_to_image","_meta":7}', '"_meta" is a number', id="a number for the host's facts"),
    pytest.param(
        b'{"name":"text_to_image","_meta":{"progressToken":1.5}}', "progressToken", id="a fraction as a progress token"
    ),
]
