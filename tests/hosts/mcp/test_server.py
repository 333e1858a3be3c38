"""The tools over MCP, as the SDK's own client meets them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from flux2_tool.engine.host_profile import MCP
from flux2_tool.hosts.mcp_icon import ICONS
from flux2_tool.sandbox import Fault, Sandbox
from flux2_tool.schema.export import export
from flux2_tool.schema.manifest import load_manifest
from tests.hosts.mcp.host import FOX, connected, result_of, talk
from tests.hosts.mcp.sdk_client import MAJOR, PROTOCOL_ERROR, is_progress, named
from tests.support.command import SandboxClock
from tests.support.keys import KEY


async def offered(client: Any) -> list[dict[str, Any]]:
    """Return the tools that are offered, without the icons that each of them has."""
    found = [
        tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in (await client.list_tools()).tools
    ]
    assert [tool.pop("icons") for tool in found] == [ICONS] * len(found)
    return found


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_tools_are_offered_as_the_manifest_has_them(environ: dict[str, str], mode: str) -> None:
    """Names, descriptions, both schemas and annotations, unchanged, over both image tasks of the protocol."""
    assert talk(environ, offered, mode=mode) == export(load_manifest(), "mcp", tiers=("pro", "flex"), wait_s=MCP.wait_s)


def test_the_environments_settings_decide_what_is_offered(environ: dict[str, str]) -> None:
    """There is no other place to set the tiers for an MCP host."""
    environ |= {"FLUX2_TOOL_TIERS": "max", "FLUX2_TOOL_CALLBACK_HOSTS": "hooks.example.com"}

    wanted = export(load_manifest(), "mcp", tiers=("max",), callback_hosts=("hooks.example.com",), wait_s=MCP.wait_s)
    assert talk(environ, offered) == wanted


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_call_brings_the_result_object(environ: dict[str, str], sandbox: Sandbox, mode: str) -> None:
    """The same object as everywhere, as structured content and as its JSON."""

    async def call(client: Any) -> dict[str, Any]:
        return result_of(await client.call_tool("text_to_image", {**FOX, "aspect_ratio": "16:9"}))

    result = talk(environ, call, mode=mode)

    assert result["task"]["state"] == "completed"
    assert result["images"][0]["url"].startswith("http")
    assert result["cost"] == {"usd": 0.05, "basis": "billed"}
    [create] = sandbox.ledger.creates
    assert json.loads(create.body) == {**FOX, "aspect_ratio": "16:9", "model": "flux-2-pro-text-to-image"}


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_text_for_the_model_depends_on_what_its_client_shows(environ: dict[str, str], mode: str) -> None:
    """OpenClaw's shows the object and every text that is not the same; others show one of the two."""

    def text_for(client: str) -> str:
        async def call(connection: Any) -> str:
            answer = await connection.call_tool("text_to_image", {"prompt": f"a fox for {client}"})
            assert answer.structured_content["task"]["state"] == "completed"
            return str(answer.content[0].text)

        return talk(environ, call, mode=mode, client_info=named(client))

    assert text_for("some-agent").startswith("The picture is ready but not attached: send the user its link")
    assert json.loads(text_for("openclaw-bundle-mcp"))["task"]["state"] == "completed"


def test_an_edit_takes_the_last_picture_of_the_connection(environ: dict[str, str], sandbox: Sandbox) -> None:
    """The connection is the session, so `task:last` means what it says."""

    async def edit(client: Any) -> dict[str, Any]:
        await client.call_tool("text_to_image", FOX)
        answer = await client.call_tool("remix_image", {"prompt": "at night", "source_image_urls": ["task:last"]})
        return result_of(answer)

    assert talk(environ, edit)["task"]["tool"] == "remix_image"
    assert len(sandbox.ledger.billed_tasks) == 2


def test_wrong_arguments_come_back_as_our_violations(environ: dict[str, str], sandbox: Sandbox) -> None:
    """A model can mend all of them at once; an SDK's own refusal would name the first in its own words."""
    wrong = {"prompt": 7, "aspect_ratio": "2:1", "stlye": "noir"}

    async def call(client: Any) -> dict[str, Any]:
        return result_of(await client.call_tool("text_to_image", wrong))

    error = talk(environ, call)["error"]

    assert error["code"] == "invalid_arguments"
    assert len(error["violations"]) == 3
    assert "(nearest: 16:9)" in error["message"]
    assert not sandbox.ledger.creates


def test_a_misspelt_cap_in_the_environment_makes_no_image(environ: dict[str, str], sandbox: Sandbox) -> None:
    """Neither does it ask for consent to what it then refuses; earlier pictures are still found."""
    environ |= {"FLUX2_TOOL_DAYLY_CAP_USD": "0.01", "FLUX2_TOOL_ASK_ABOVE": "0.01"}

    async def call(client: Any) -> list[dict[str, Any]]:
        made = await client.call_tool("text_to_image", FOX)
        return [result_of(made), result_of(await client.call_tool("get_image_task", {}))]

    refused, listed = talk(environ, call)

    assert refused["error"]["code"] == "configuration_error"
    assert "FLUX2_TOOL_DAYLY_CAP_USD is set but is no setting" in refused["error"]["message"]
    assert "FLUX2_TOOL_ASK_ABOVE to FLUX2_TOOL_ASK_ABOVE_USD" in refused["error"]["hint"]
    assert "error" not in listed or listed["error"] is None
    assert not sandbox.ledger.creates


def test_a_call_without_arguments_is_answered_for_the_model(environ: dict[str, str]) -> None:
    """A protocol error would stop at the host; the model must read what is missing."""

    async def call(client: Any) -> dict[str, Any]:
        return result_of(await client.call_tool("text_to_image", None))

    error = talk(environ, call)["error"]

    assert error["code"] == "invalid_arguments"
    assert "prompt is missing" in error["message"]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_an_unknown_tool_is_an_error_of_the_protocol(environ: dict[str, str], mode: str) -> None:
    """As the specification has it, with the names there are and the nearest; hosts know how to tell their model."""

    async def call(client: Any) -> tuple[str, int]:
        with pytest.raises(PROTOCOL_ERROR) as caught:
            await client.call_tool("text_to_imag", FOX)
        return str(caught.value), caught.value.error.code  # type: ignore[attr-defined]

    known = "text_to_image, remix_image, get_image_task"
    said = f'Unknown tool: "text_to_imag"; tools are {known} (nearest: text_to_image)'
    assert talk(environ, call, mode=mode) == (said, -32602)


@pytest.mark.skipif(MAJOR == 1, reason="version 1 of the SDK does not know them")
def test_the_list_of_tools_may_be_kept_for_a_while(environ: dict[str, str]) -> None:
    """It stays the same while the process runs; a client of 2026 need not ask again before every turn."""

    async def listed(client: Any) -> tuple[int, str]:
        found = await client.list_tools()
        return found.ttl_ms, found.cache_scope

    assert talk(environ, listed, mode="auto") == (300_000, "private")


def test_an_empty_account_is_an_error_with_a_hint(environ: dict[str, str], sandbox: Sandbox) -> None:
    """The agent must be able to tell its user to top up."""
    sandbox.faults.queue(Fault(kind="status", on="create", status=402))

    async def call(client: Any) -> dict[str, Any]:
        return result_of(await client.call_tool("text_to_image", FOX))

    error = talk(environ, call)["error"]

    assert (error["code"], error["charged"]) == ("insufficient_credits", "no")
    assert error["hint"]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        pytest.param({"RUNAPI_API_KEY": ""}, "missing_api_key", "RUNAPI_API_KEY", id="no key"),
        pytest.param({"RUNAPI_API_KEY": "${RUNAPI_API_KEY}"}, "missing_api_key", "placeholder", id="an unfilled key"),
        pytest.param({"FLUX2_TOOL_TIERS": "gold"}, "configuration_error", "FLUX2_TOOL_TIERS", id="a wrong setting"),
    ],
)
def test_a_wrong_set_up_is_told_where_it_is_read(
    environ: dict[str, str], changes: dict[str, str], code: str, said: str
) -> None:
    """A server that does not start leaves its reason in a log that nobody opens."""

    async def call(client: Any) -> dict[str, Any]:
        assert len((await client.list_tools()).tools) == 3
        return result_of(await client.call_tool("text_to_image", FOX))

    error = talk({**environ, **changes}, call)["error"]

    assert error["code"] == code
    assert said in error["message"]


def test_whoever_asks_for_progress_gets_it_rising(environ: dict[str, str]) -> None:
    """Hosts show it, and the protocol demands that each value is above the last."""
    told: list[tuple[float, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async def call(client: Any) -> None:
        result_of(await client.call_tool("text_to_image", FOX, progress_callback=on_progress))

    talk(environ, call)

    values = [value for value, _message in told]
    assert values == sorted(set(values))
    assert "sending the request" in [message for _value, message in told]


def test_whoever_does_not_ask_for_progress_gets_none(environ: dict[str, str]) -> None:
    """A notification without a token is a fault of the protocol, and some hosts hang up on it."""
    messages: list[Any] = []

    async def heard(message: Any) -> None:
        messages.append(message)

    async def call(client: Any) -> None:
        result_of(await client.call_tool("text_to_image", FOX))

    talk(environ, call, message_handler=heard)

    assert not [message for message in messages if is_progress(message)]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_cancelled_call_ends_its_wait_and_keeps_its_task(
    environ: dict[str, str], sandbox: Sandbox, clock: SandboxClock, mode: str
) -> None:
    """RunAPI has no cancel: the picture may be paid for, so whoever asks again gets it."""
    slow = {"prompt": "[slow] a snail"}

    async def cancel(client: Any) -> dict[str, Any]:
        begun = asyncio.Event()

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            if message != "sending the request":
                begun.set()

        call = asyncio.create_task(client.call_tool("text_to_image", slow, progress_callback=on_progress))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        # The connection serves on at once, while the task is still being made.
        assert len((await client.list_tools()).tools) == 3
        clock.offset_s += 200
        return result_of(await client.call_tool("text_to_image", slow))

    result = talk(environ, cancel, mode=mode)

    assert result["task"]["joined"]
    assert len(sandbox.ledger.creates) == 1


def test_a_task_longer_than_the_wait_is_fetched_later(
    environ: dict[str, str], sandbox: Sandbox, clock: SandboxClock
) -> None:
    """No host waits for ever. The answer says how to go on, and going on pays nothing."""
    environ["FLUX2_TOOL_WAIT_S"] = "0.5"

    async def call(client: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        first = result_of(await client.call_tool("text_to_image", {"prompt": "[slow] a cathedral"}))
        clock.offset_s += 200
        return first, result_of(await client.call_tool("get_image_task", {"task_id": first["task"]["id"]}))

    first, second = talk(environ, call)

    assert first["task"]["state"] == "processing"
    assert "get_image_task" in first["next"]
    assert "Do not generate it again" in first["next"]
    assert second["task"]["state"] == "completed"
    assert second["task"]["id"] == first["task"]["id"]
    assert len(sandbox.ledger.creates) == 1


def test_no_call_waits_longer_than_the_host_does(environ: dict[str, str], sandbox: Sandbox) -> None:
    """A model that asks for ten minutes would get the host's time-out instead of an answer that says how to go on."""
    environ["FLUX2_TOOL_WAIT_S"] = "0.5"

    async def call(client: Any) -> tuple[Any, dict[str, Any]]:
        offered = {tool.name: tool.input_schema["properties"] for tool in (await client.list_tools()).tools}
        begun = result_of(await client.call_tool("text_to_image", {"prompt": "[slow] a cathedral"}))
        arguments = {"task_id": begun["task"]["id"], "timeoutSeconds": 600}
        return offered, result_of(await client.call_tool("get_image_task", arguments))

    offered, fetched = talk(environ, call)

    assert offered["get_image_task"]["timeoutSeconds"]["maximum"] == 0.5
    assert fetched["task"]["state"] == "processing"


def test_null_arguments_count_as_omitted(environ: dict[str, str], sandbox: Sandbox) -> None:
    """With strict function calling a model fills in every argument."""

    async def call(client: Any) -> dict[str, Any]:
        return result_of(await client.call_tool("text_to_image", {**FOX, "model": None, "aspect_ratio": None}))

    assert talk(environ, call)["task"]["state"] == "completed"
    [create] = sandbox.ledger.creates
    assert json.loads(create.body) == {**FOX, "model": "flux-2-pro-text-to-image"}


def test_another_connection_fetches_what_the_first_left(
    environ: dict[str, str], sandbox: Sandbox, clock: SandboxClock
) -> None:
    """Some hosts start the server anew for every turn."""
    environ["FLUX2_TOOL_WAIT_S"] = "0.5"

    async def begin(client: Any) -> str:
        result = result_of(await client.call_tool("text_to_image", {"prompt": "[slow] a cathedral"}))
        return str(result["task"]["ref"])

    reference = talk(environ, begin)
    clock.offset_s += 200

    async def fetch(client: Any) -> dict[str, Any]:
        return result_of(await client.call_tool("get_image_task", {"task_id": reference}))

    assert talk(environ, fetch)["task"]["state"] == "completed"
    assert len(sandbox.ledger.creates) == 1


def test_a_connection_made_anew_gets_what_the_last_one_asked_for(
    environ: dict[str, str], sandbox: Sandbox, clock: SandboxClock
) -> None:
    """OpenClaw ends its servers on Stop, compaction and every change of its config; then the model calls again."""
    environ["FLUX2_TOOL_WAIT_S"] = "0.5"

    async def ask(client: Any) -> dict[str, Any]:
        return result_of(await client.call_tool("text_to_image", {"prompt": "[slow] a castle"}))

    async def ask_twice(client: Any) -> list[dict[str, Any]]:
        joined = await ask(client)
        return [joined, await ask(client)]

    begun = talk(environ, ask)
    clock.offset_s += 200
    joined, later = talk(environ, ask_twice)

    assert begun["task"]["state"] == "processing"
    assert (joined["task"]["id"], joined["task"]["joined"]) == (begun["task"]["id"], True)
    assert joined["task"]["state"] == "completed"
    assert later["task"]["joined"] is False
    assert len(sandbox.ledger.creates) == 2


def test_the_last_picture_outlives_the_connection(environ: dict[str, str], sandbox: Sandbox) -> None:
    """The person in the chat does not know what a connection is."""

    async def make(client: Any) -> dict[str, Any]:
        return result_of(await client.call_tool("text_to_image", FOX))

    async def edit(client: Any) -> dict[str, Any]:
        arguments = {"prompt": "make it night", "source_image_urls": ["task:last"]}
        return result_of(await client.call_tool("remix_image", arguments))

    made, edited = talk(environ, make), talk(environ, edit)

    assert edited["task"]["state"] == "completed"
    assert made["images"][0]["url"].encode() in sandbox.ledger.creates[-1].body


def test_two_connections_are_two_sessions(environ: dict[str, str], sandbox: Sandbox) -> None:
    """Two people who ask for the same thing at once get a picture each."""

    async def main() -> list[dict[str, Any]]:
        async with connected(environ) as left, connected(environ) as right:
            answers = await asyncio.gather(left.call_tool("text_to_image", FOX), right.call_tool("text_to_image", FOX))
            return [result_of(answer) for answer in answers]

    results = asyncio.run(main())

    assert [result["task"]["joined"] for result in results] == [False, False]
    assert len(sandbox.ledger.billed_tasks) == 2


def test_a_model_that_repeats_itself_is_stopped(environ: dict[str, str], sandbox: Sandbox) -> None:
    """A misled model must not spend the account in one turn."""
    environ["FLUX2_TOOL_REPEAT_MAX"] = "2"

    async def repeat(client: Any) -> list[dict[str, Any]]:
        return [result_of(await client.call_tool("text_to_image", FOX)) for _ in range(3)]

    last = talk(environ, repeat)[-1]

    assert last["error"]["code"] == "repeated_request"
    assert len(sandbox.ledger.billed_tasks) == 2


def test_the_key_is_in_no_answer(environ: dict[str, str], sandbox: Sandbox) -> None:
    """What a tool returns is kept in transcripts."""
    sandbox.faults.queue(Fault(kind="status", on="create", status=401))

    async def call(client: Any) -> str:
        answers = [await client.call_tool("text_to_image", FOX), await client.call_tool("text_to_image", FOX)]
        return "".join(answer.model_dump_json() for answer in answers)

    assert KEY not in talk(environ, call)
