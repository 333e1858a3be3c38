"""Agent turns in the real OpenClaw, through one gateway that has the key in its environment."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Sequence

from flux2_tool.engine.host_profile import OPENCLAW
from flux2_tool.sandbox import Fault
from flux2_tool.schema.export import export
from flux2_tool.schema.manifest import load_manifest
from tests.e2e.common_gateway import gateway, world
from tests.e2e.conftest import KEY, World
from tests.e2e.openclaw_host import Gateway, Turn
from tests.e2e.scripted_model import Say, Step, ToolCall
from tests.support.waiting import wait_until

__all__ = ["gateway", "run", "task_of", "world"]


def task_of(text: str) -> str:
    """Return the task reference in a tool result."""
    found = re.search(r"task:tsk_\w+", text)
    assert found, text
    return found.group()


def run(world: World, steps: Sequence[Step], *, session: str | None = None) -> tuple[Turn, tuple[str, ...]]:
    """Run a turn in which the model takes these steps; return it and the tool results the model read."""
    name = world.model.unused("turn")
    marker = world.model.script(name, steps)
    turn = world.openclaw.turn(f"A picture, please. {marker}", session=session or name)
    return turn, world.model.tool_results(name)


def test_the_model_is_offered_the_manifests_tools(world: World) -> None:
    """By exact name, directly and with every parameter: not behind a search the model may not make."""
    marker = world.model.script("offered", [Say(text="I see them.")])

    world.openclaw.turn(f"What can you do? {marker}", session="offered")

    offered = world.model.seen("offered")[0].tools
    for wanted in export(load_manifest(), "openclaw", tiers=("pro", "flex"), wait_s=OPENCLAW.wait_s):
        found = offered[wanted["name"]]
        assert found["parameters"] == wanted["parameters"]
        assert found["description"] == wanted["description"]


def test_a_picture_reaches_the_chat_and_its_task_can_be_remixed(world: World) -> None:
    """The main job: URL as text for the model, signed URL whole as attachment, then an edit by reference."""
    turn, results = run(
        world,
        [
            ToolCall(tool="text_to_image", arguments={"prompt": "a red fox in the snow", "aspect_ratio": "16:9"}),
            Say(text="Here is your fox."),
        ],
        session="fox",
    )

    reference = task_of(results[0])
    task = world.sandbox.ledger.tasks[reference.removeprefix("task:")]
    [url] = turn.media_urls
    assert turn.text == "Here is your fox."
    assert "X-Amz-Signature=" in url
    assert "…" not in url
    assert url.split("?")[0] not in results[0]  # a link that the model reads is posted by some, beside the picture
    assert "0.05 USD (billed)" in results[0]
    assert task.key_fingerprint

    edited, results = run(
        world,
        [
            ToolCall(tool="remix_image", arguments={"prompt": "make it night", "source_image_urls": [reference]}),
            Say(text="Now at night."),
        ],
        session="fox",
    )

    [night] = edited.media_urls
    assert night.split("?")[0] != url.split("?")[0]
    [create] = [c for c in world.sandbox.ledger.creates if c.task_id == task_of(results[0]).removeprefix("task:")]
    assert url.split("?")[0] in create.body.decode()
    assert "task:" not in create.body.decode()


def test_several_pictures_of_one_call_are_attached_in_their_order(world: World) -> None:
    """ "The second one" is edited by its reference."""
    turn, results = run(
        world,
        [
            ToolCall(tool="text_to_image", arguments={"prompt": "three red foxes", "count": 3}),
            Say(text="Three foxes."),
        ],
        session="three",
    )

    refs = re.findall(r"task:tsk_\w+", results[0].splitlines()[1])
    tasks = [world.sandbox.ledger.tasks[ref.removeprefix("task:")] for ref in refs]
    assert [task.image_id in url for task, url in zip(tasks, turn.media_urls, strict=True)] == [True] * 3
    assert "0.15 USD (billed)" in results[0]


def test_show_me_the_second_one_you_made(world: World) -> None:
    """In a later turn the agent looks back, shows an earlier picture again and edits it, by its reference alone."""
    prompts = ("a green boat", "a blue door", "a yellow kite")
    run(
        world,
        [*(ToolCall(tool="text_to_image", arguments={"prompt": prompt}) for prompt in prompts), Say(text="Three.")],
        session="looks-back",
    )

    def second(results: Sequence[str]) -> str:
        [line] = re.findall(r"^2\. .*$", results[0], re.MULTILINE)
        assert '"a blue door"' in line
        return task_of(line)

    turn, results = run(
        world,
        [
            ToolCall(tool="get_image_task", arguments={}),
            lambda results: ToolCall(tool="get_image_task", arguments={"task_id": second(results)}),
            lambda results: ToolCall(
                tool="remix_image", arguments={"prompt": "in red", "source_image_urls": [second(results)]}
            ),
            Say(text="Here is the door, and the door in red."),
        ],
        session="looks-back",
    )

    assert [re.findall(r'"(a \w+ \w+)"', line)[0] for line in results[0].splitlines() if line[:1].isdigit()] == [
        *prompts[::-1]
    ]
    assert "Left to spend: $" in results[0]
    assert "in the RunAPI account" in results[0]  # the operator's own client
    assert len(turn.media_urls) == 2
    [create] = [c for c in world.sandbox.ledger.creates if c.task_id == task_of(results[2]).removeprefix("task:")]
    shown = next(url for url in turn.media_urls if url.split("?")[0] in create.body.decode())
    assert second(results).removeprefix("task:") in world.sandbox.ledger.tasks
    assert shown


def test_null_arguments_count_as_omitted(world: World) -> None:
    """Models that fill every optional member with null must not be refused, nor billed for something else."""
    turn, results = run(
        world,
        [
            ToolCall(tool="text_to_image", arguments={"prompt": "a blue door", "model": None, "aspect_ratio": None}),
            Say(text="Done."),
        ],
    )

    [create] = [c for c in world.sandbox.ledger.creates if c.task_id == task_of(results[0]).removeprefix("task:")]
    assert json.loads(create.body) == {"prompt": "a blue door", "model": "flux-2-pro-text-to-image"}
    assert turn.failed_calls == 0


def test_the_model_reads_our_refusal_of_wrong_arguments_word_for_word(world: World) -> None:
    """The host's own text names neither the nearest value nor the second mistake; nothing may be paid."""
    creates = len(world.sandbox.ledger.creates)

    turn, results = run(
        world,
        [
            ToolCall(tool="text_to_image", arguments={"prompt": 12345, "aspect_ratio": "2:1"}),
            Say(text="That shape does not exist."),
        ],
    )

    ratios = ", ".join(load_manifest().aspect_ratios)
    assert results == (
        "2 things are wrong with the arguments of text_to_image:"
        " 1. prompt must be text with at least one visible character, not the number 12345;"
        f' 2. aspect_ratio "2:1" is not one of {ratios} (nearest: 16:9)\n'
        "Hint: correct this and call text_to_image again; nothing was sent\n"
        "(invalid_arguments, charged: no, retryable: no)",
    )
    assert turn.failed_calls == 1
    assert len(world.sandbox.ledger.creates) == creates


def test_an_empty_account_reaches_the_model_as_a_readable_failure(world: World) -> None:
    """The agent must be able to tell its user to top up, and must not try again."""
    world.sandbox.faults.queue(Fault(kind="status", on="create", status=402))

    turn, results = run(
        world,
        [ToolCall(tool="text_to_image", arguments={"prompt": "a golden palace"}), Say(text="The account is empty.")],
    )

    assert turn.failed_calls == 1
    assert turn.media_urls == []
    assert "insufficient_credits, charged: no" in results[0]
    assert re.search(r"^Hint: .*(top up|add credits)", results[0], re.IGNORECASE | re.MULTILINE)
    assert "SECURITY" not in results[0]


def test_an_aborted_turn_stops_the_wait(world: World, gateway: Gateway) -> None:
    """Who stops the agent must get their session back at once, and nobody must wait on in the worker either."""
    marker = world.model.script(
        "aborted", [ToolCall(tool="text_to_image", arguments={"prompt": "[slow] a snail"}), Say(text="Never said.")]
    )
    process = world.openclaw.begin_turn(f"Slowly, please. {marker}", session="aborted")
    task = wait_until(lambda: [t for t in world.sandbox.ledger.tasks.values() if "snail" in t.arguments["prompt"]])[0]

    with process:
        world.openclaw.call_gateway("sessions.abort", key="agent:main:aborted")
        process.communicate(timeout=20)

    wait_until(lambda: "text_to_image: cancelled" in gateway.log.read_text())
    turn, _ = run(world, [Say(text="I am here.")], session="aborted")
    assert turn.text == "I am here."
    assert task.state(world.sandbox.clock()) in ("pending", "processing")
    assert [request.tool_results for request in world.model.seen("aborted")] == [()]


def test_two_sessions_at_once_get_their_own_pictures(world: World) -> None:
    """One worker serves everybody; a mix-up would show one user's picture to another."""
    prompts = {"left": "a left shoe", "right": "a right glove"}
    processes = {}
    # Longer than the two commands' starts lie apart, so that both calls are in the worker at once.
    world.sandbox.change({"duration_s": 15.0})
    for session, prompt in prompts.items():
        steps: list[Step] = [
            ToolCall(tool="text_to_image", arguments={"prompt": prompt}),
            Say(text=f"Your {prompt}."),
        ]
        marker = world.model.script(session, steps)
        processes[session] = world.openclaw.begin_turn(f"Please. {marker}", session=session)

    turns = {session: world.openclaw.finish_turn(process) for session, process in processes.items()}
    world.sandbox.change({"duration_s": 1.0})

    tasks = {t.arguments["prompt"]: t for t in world.sandbox.ledger.tasks.values()}
    left, right = (tasks[prompt] for prompt in prompts.values())
    assert max(left.created_at, right.created_at) < min(left.finish_at, right.finish_at)
    for session, prompt in prompts.items():
        [task] = [t for t in world.sandbox.ledger.tasks.values() if t.arguments["prompt"] == prompt]
        [url] = turns[session].media_urls
        assert task.image_id in url
        assert turns[session].text == f"Your {prompt}."


def test_a_worker_killed_between_two_turns_is_replaced(world: World, gateway: Gateway) -> None:
    """The out-of-memory killer must not cost more than the calls it hit."""
    run(world, [ToolCall(tool="text_to_image", arguments={"prompt": "a first egg"}), Say(text="One.")])
    [pid] = gateway.workers()

    os.kill(pid, signal.SIGKILL)
    turn, _ = run(world, [ToolCall(tool="text_to_image", arguments={"prompt": "a second egg"}), Say(text="Two.")])

    assert len(turn.media_urls) == 1
    [replacement] = gateway.workers()
    assert replacement != pid


def test_the_workers_environment_has_no_key_and_no_settings(world: World, gateway: Gateway) -> None:
    """Other users of the machine can read a process's arguments, and its children inherit its environment."""
    run(world, [ToolCall(tool="text_to_image", arguments={"prompt": "a lock"}), Say(text="Locked.")])
    [pid] = gateway.workers()

    seen = gateway.process_text(pid, "cmdline") + gateway.process_text(pid, "environ")

    assert "RUNAPI" not in seen
    assert "sk-key" not in seen
    assert "sk-key" not in gateway.log.read_text()


def test_doctor_asks_the_running_gateway(world: World) -> None:
    """Its key and its worker are what counts, not those of somebody's shell."""
    done = world.openclaw.flux2_tool("doctor", "--json")

    found = {finding["area"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert found["gateway key"]["state"] == "ok", found["gateway key"]
    assert found["worker"]["state"] == "ok", found["worker"]
    assert KEY not in done.stdout + done.stderr


def test_a_model_that_repeats_its_call_is_stopped(world: World) -> None:
    """A misled model was seen to call 2,300 times in ten minutes; nothing in the host stops it."""
    world.sandbox.change({"duration_s": 0.2})
    prompt = "an endless loop"
    call = ToolCall(tool="text_to_image", arguments={"prompt": prompt})

    _turn, results = run(world, [*[call] * 50, Say(text="I stop.")])

    world.sandbox.change({"duration_s": 1.0})
    made = [task for task in world.sandbox.ledger.tasks.values() if task.arguments["prompt"] == prompt]
    assert len(results) == 50
    assert len(made) == 4
    assert sum(task.billed_cents for task in made) == 20
    for refused in results[4:]:
        assert "repeated_request, charged: no" in refused
        assert set(re.findall(r"task:tsk_\w+", refused)) == {f"task:{task.id}" for task in made}
