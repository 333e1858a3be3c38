"""call: what an agent developer scripts against. Exactly one JSON object on stdout, whatever happens."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flux2_tool.cli.call import parse_arguments
from flux2_tool.cli.options import typed_text
from flux2_tool.sandbox import Fault, Sandbox
from flux2_tool.schema.manifest import load_manifest
from tests.support.command import Command
from tests.support.keys import KEY
from tests.support.pictures import picture

RESULT = Draft202012Validator(load_manifest().tools["text_to_image"].output_schema)


def _only_object(stdout: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stdout)
    assert len(stdout.splitlines()) == 1
    RESULT.validate(found)
    return found


def test_a_call_prints_the_result_object(command: Command) -> None:
    """The same object that every host returns."""
    done = command.run("call", "text_to_image", '{"prompt": "a red fox in the snow"}')

    found = _only_object(done.stdout)
    assert done.returncode == 0
    assert found["task"]["tool"] == "text_to_image"
    assert found["images"][0]["url"].startswith("http")


def test_arguments_may_come_from_stdin_and_a_session_be_named(command: Command) -> None:
    """Quoting JSON in a shell is no fun."""
    done = command.run(
        "call", "--session", "s1", "text_to_image", "-", "--output", "out", stdin='{"prompt": "雪中的狐狸"}'
    )

    found = _only_object(done.stdout)
    assert found["images"][0]["path"].startswith(str(command.folder))
    assert "雪中的狐狸" in found["images"][0]["path"]


def test_a_task_that_goes_on_is_a_result_with_its_own_exit_code(command: Command, sandbox: Sandbox) -> None:
    """Not a failure: an agent must not generate again."""
    sandbox.change({"duration_s": 3600})

    done = command.run("call", "text_to_image", '{"prompt": "a red fox"}', "--wait", "0")

    assert done.returncode == 6
    assert _only_object(done.stdout)["task"]["state"] == "processing"


def test_arguments_that_are_no_utf8_are_an_error_object(bare: Command) -> None:
    """A file in another encoding; a wrong letter in a prompt would be paid for."""
    done = subprocess.run(
        [sys.executable, "-m", "flux2_tool", "call", "text_to_image", "-"],
        env=dict(bare.environ),
        input='{"prompt": "Füchse"}'.encode("latin-1"),
        capture_output=True,
        check=False,
    )

    error = _only_object(done.stdout.decode())["error"]
    assert done.returncode == 2
    assert error["code"] == "invalid_arguments"
    assert "not UTF-8 (byte 13)" in error["message"]


def test_a_wrong_setting_is_an_error_object_too(bare: Command) -> None:
    """The program that reads stdout must learn it, not only the person who reads stderr."""
    done = bare.run("call", "text_to_image", '{"prompt": "a fox"}', FLUX2_TOOL_TIERS="ultra")

    error = _only_object(done.stdout)["error"]
    assert done.returncode == 3
    assert error["code"] == "configuration_error"
    assert "FLUX2_TOOL_TIERS" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(["text_to_image", "{"], "invalid_arguments", "not JSON", id="broken JSON"),
        pytest.param(
            ["text_to_image", '{"prompt":"a\nb"}'],
            "invalid_arguments",
            "the arguments are not JSON: Invalid control character at character 13",
            id="a line break in a text",
        ),
        pytest.param(["text_to_image", "[]"], "invalid_arguments", "must be an object", id="a list"),
        pytest.param(["text_to_image", "NaN"], "invalid_arguments", "must be an object", id="no JSON value"),
        pytest.param(
            ["text_to_image", '{"prompt":"a","count":1,"count":2}'],
            "invalid_arguments",
            'the arguments give the key "count" twice',
            id="a doubled key",
        ),
        pytest.param(["text_to_image", "[" * 100_000], "invalid_arguments", "arguments", id="very deep JSON"),
        pytest.param(
            ["text_to_image", '{"prompt":"a","count":' + "9" * 5000 + "}"],
            "invalid_arguments",
            "count is a number that is too large; it must be a whole number from 1 to 4",
            id="a number of 5000 digits",
        ),
        pytest.param(["text_to_image", '{"seed":1}'], "invalid_arguments", "there is no seed", id="wrong arguments"),
        pytest.param(["paint", "{}"], "invalid_arguments", "there is no tool", id="an unknown tool"),
        pytest.param(["text_to_image"], "invalid_arguments", "Missing argument", id="no arguments"),
        pytest.param(["text_to_image", "{}", "--nope"], "invalid_arguments", "No such option", id="an unknown option"),
        pytest.param(["text_to_image", "{}", "--wait", "soon"], "invalid_arguments", "--wait", id="a wrong option"),
    ],
)
def test_a_wrong_call_prints_one_error_object(bare: Command, arguments: list[str], code: str, said: str) -> None:
    """A program reads stdout; it must never find a usage text there, or nothing."""
    done = bare.run("call", *arguments)

    error = _only_object(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (2, code)
    assert said in error["message"]
    assert "error: " in done.stderr


def test_stdin_that_is_not_text_or_too_long_is_an_error_object(bare: Command) -> None:
    """A pipe can bring anything."""
    done = bare.run("call", "text_to_image", "-", stdin="x" * (1024 * 1024 + 1))

    assert "longer than" in _only_object(done.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        pytest.param({}, "missing_api_key", id="no key"),
        pytest.param({"RUNAPI_API_KEY": "${RUNAPI_API_KEY}"}, "missing_api_key", id="a placeholder for a key"),
        pytest.param({"RUNAPI_API_KEY": KEY, "RUNAPI_BASE_URL": "http://a.example"}, "configuration_error", id="http"),
        pytest.param({"FLUX2_TOOL_WAIT_S": "soon"}, "configuration_error", id="a wrong setting"),
    ],
)
def test_a_wrong_set_up_is_an_error_object_too(bare: Command, environ: dict[str, str], code: str) -> None:
    """Exit code 3: nothing an agent could change."""
    done = bare.run("call", "text_to_image", '{"prompt": "a red fox"}', **environ)

    assert done.returncode == 3
    assert _only_object(done.stdout)["error"]["code"] == code
    assert KEY not in done.stdout + done.stderr


def test_a_refusal_of_the_service_is_an_error_object(command: Command, sandbox: Sandbox) -> None:
    """With what to do next, and no key in it."""
    sandbox.faults.queue(Fault(kind="status", on="create", status=402))

    done = command.run("call", "text_to_image", '{"prompt": "a red fox"}')

    error = _only_object(done.stdout)["error"]
    assert (done.returncode, error["code"], error["charged"]) == (4, "insufficient_credits", "no")
    assert error["hint"]
    assert KEY not in done.stdout + done.stderr


def test_a_call_has_the_rules_of_an_agents_host(command: Command, sandbox: Sandbox) -> None:
    """It answers what somebody's model asks for; one that was talked into it must not reach further than elsewhere."""
    fox = '{"prompt": "a red fox"}'
    (command.folder / "secret.png").write_bytes(picture())
    secret = {"prompt": "make it blue", "source_image_urls": ["secret.png"]}
    hook = {"prompt": "an owl", "callback_url": "https://evil.example/hook"}
    limit = {"FLUX2_TOOL_REPEAT_MAX": "1"}

    made = [command.run("call", "--session", "one", "text_to_image", fox, **limit) for _ in range(2)]
    elsewhere = command.run("call", "--session", "two", "text_to_image", fox, **limit)
    refused = [
        command.run("call", "text_to_image", '{"prompt": "an owl", "enable_safety_checker": false}'),
        command.run("call", "text_to_image", json.dumps(hook)),
        command.run("call", "remix_image", json.dumps(secret), HOME=str(command.folder)),
    ]
    allowed = command.run("call", "remix_image", json.dumps(secret), HOME="/home/ada")

    assert "task" in _only_object(made[0].stdout)
    assert "task" in _only_object(elsewhere.stdout)
    codes = [_only_object(done.stdout)["error"]["code"] for done in (made[1], *refused)]
    assert codes == ["repeated_request", "invalid_arguments", "invalid_arguments", "source_refused"]
    assert _only_object(allowed.stdout)["task"]["tool"] == "remix_image"
    assert len(sandbox.ledger.creates) == 3


def test_an_interrupted_call_still_prints_its_object(command: Command, sandbox: Sandbox) -> None:
    """With the reference of the task, which goes on."""
    sandbox.change({"duration_s": 3600})

    with command.start("call", "text_to_image", '{"prompt": "a red fox"}') as process:
        assert process.stderr is not None
        assert process.stdout is not None
        seen = ""
        while "(task " not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        out = process.stdout.read()

    error = _only_object(out)["error"]
    assert process.returncode == 130
    assert (error["code"], error["task_ref"]) == ("cancelled", f"task:{sandbox.ledger.creates[0].task_id}")
    assert "flux2-tool task" in rest


def test_escapes_in_the_json_are_harmless_and_the_same_text(command: Command, sandbox: Sandbox) -> None:
    """JSON on a terminal must not steer it, and a program must read what was said."""
    sandbox.faults.queue(Fault(kind="failed", on="create", value="bad \x9b31m\x1b[2J prompt"))

    done = command.run("call", "text_to_image", '{"prompt": "a red fox"}')

    assert not set("\x1b\x9b") & set(done.stdout)
    assert _only_object(done.stdout)["error"]["code"] == "generation_failed"


@pytest.mark.parametrize("text", ['\ufeff{"prompt": "a red fox"}', '\ufeff{"prompt": "a red fox"}\r\n'])
@pytest.mark.parametrize("source", ["argument", "stdin"])
def test_a_byte_order_mark_before_the_arguments_is_no_part_of_them(
    monkeypatch: pytest.MonkeyPatch, text: str, source: str
) -> None:
    """PowerShell's pipe puts one before what it passes on."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    assert parse_arguments("-" if source == "stdin" else text) == {"prompt": "a red fox"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_arguments_may_come_as_powershell_writes_them(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """Its ">" and its pipes write UTF-16."""
    given = '{"prompt": "雪の中"}\r\n'.encode(encoding)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))

    assert parse_arguments("-") == {"prompt": "雪の中"}


def test_an_argument_is_utf8_also_where_the_locale_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """With LC_ALL=C Python hands on each byte of it as half a character."""
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("ascii", "surrogateescape"))
    given = '{"prompt": "雪の中"}'.encode().decode("ascii", "surrogateescape")

    assert parse_arguments(given) == {"prompt": "雪の中"}
    assert typed_text("caf\udce9") == "caf\udce9"
