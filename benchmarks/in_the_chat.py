"""How long a finished picture takes into the chat: our tool against OpenClaw's own `image_generate`.

Both make the same pictures in turn, in one gateway, with the same journal and polling behind them, in a Telegram group
whose Bot API is on this machine. Measured is from the moment the sandbox has a picture ready to the moment the bot
posts it, and how much of that passes before a poll sees it, which is the same client in both. `image_generate` answers
with a background task and posts in a turn of its own; ours posts in the turn that asked. The scripted model answers at
once; after the picture is there a real one adds one answer's time to both.

Needs OpenClaw: eval "$(.ci/install-openclaw)" && python -m benchmarks.in_the_chat
"""

from __future__ import annotations

import argparse
import base64
import os
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from flux2_tool.sandbox import SandboxOptions, running_sandbox
from tests.e2e.openclaw_host import OpenClaw
from tests.e2e.scripted_model import Say, ToolCall, running_model
from tests.e2e.telegram import Telegram, running_telegram
from tests.e2e.world import World, configure

OWNER = 8001
KEY = "sk-key-of-this-benchmark"
SECRET = base64.b64encode(b"the secret of this benchmark").decode()
TASK_S = 3.0
PATIENCE_S = 120.0


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--pictures", type=int, default=10, metavar="N", help="how many each makes (default 10)")
    parser.add_argument("--webhooks", action="store_true", help="let RunAPI tell the gateway, for both")
    chosen = parser.parse_args()
    pictures: int = chosen.pictures
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="in-the-chat-")))
        options = SandboxOptions(
            api_keys=frozenset({KEY}), duration_s=TASK_S, drawn_images=False, callback_secret=SECRET
        )
        sandbox_url, sandbox = stack.enter_context(running_sandbox(options))
        telegram = stack.enter_context(running_telegram())
        model = stack.enter_context(running_model())
        openclaw = OpenClaw(
            node=Path(os.environ["FLUX2_TEST_NODE"]),
            script=Path(os.environ["FLUX2_TEST_OPENCLAW"]),
            home=folder,
            environ={"RUNAPI_API_KEY": KEY, "RUNAPI_BASE_URL": sandbox_url},
        )
        configure(openclaw, model)
        push = {"callback_public_url": f"http://127.0.0.1:{openclaw.port}", "callback_secret": SECRET}
        ours = {"config": {"daily_cap_usd": 1000, **(push if chosen.webhooks else {})}}
        openclaw.configure(
            channels={"telegram": telegram.channel(owner=OWNER)},
            commands={"ownerAllowFrom": [f"telegram:{OWNER}"]},
            plugins={"entries": {"flux2": ours}},
        )
        done = openclaw.flux2_tool("openclaw", "install", "--yes", "--image-generate")
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        stack.enter_context(openclaw.gateway())
        world = World(openclaw=openclaw, model=model, sandbox=sandbox, sandbox_url=sandbox_url)
        measured: dict[str, list[Lateness]] = {"text_to_image": [], "image_generate": []}
        for number in range(-1, pictures):
            for tool, found in measured.items():
                lateness = one_picture(world, telegram, tool, f"{tool} number {number}")
                if number >= 0:  # the first of each warms up
                    found.append(lateness)
    report(measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """Seconds after a picture was ready."""

    seen_s: float
    posted_s: float


def one_picture(world: World, telegram: Telegram, tool: str, prompt: str) -> Lateness:
    """Have a person ask for a picture; return when it was seen by a poll and posted by the bot."""
    call = ToolCall(tool=tool, arguments={"prompt": prompt})
    if tool == "image_generate":  # it stands behind OpenClaw's tool search
        call = ToolCall(tool="tool_call", arguments={"id": tool, "args": {"prompt": prompt}})
    name = prompt.replace(" ", "-")
    before = len(telegram.sent)
    telegram.post(f"A picture, please. {world.model.script(name, [call, Say(text=name)])}", sender=OWNER)
    deadline, event = time.monotonic() + PATIENCE_S, threading.Event()
    while not (photos := [sent for sent in telegram.sent[before:] if sent.method == "sendPhoto"]):
        if time.monotonic() > deadline:
            raise SystemExit(f"no picture for {prompt} after {PATIENCE_S:.0f} s")
        event.wait(0.05)
    [task] = [task for task in world.sandbox.ledger.tasks.values() if task.arguments["prompt"] == prompt]
    event.wait(1.0)  # the turn ends a moment after it has posted
    seen_at = task.first_seen_finished_at or task.finish_at
    return Lateness(seen_s=seen_at - task.finish_at, posted_s=photos[0].at - task.finish_at)


def report(measured: dict[str, list[Lateness]]) -> None:
    """Print the figures as a table, and how the two compare."""
    columns = ("pictures", "seen by a poll", "posted, mean", "median", "slowest", "from seen to posted")
    print(f"| seconds after it was ready | {' | '.join(columns)} |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for tool, found in measured.items():
        posted = [lateness.posted_s for lateness in found]
        seen = statistics.mean(lateness.seen_s for lateness in found)
        mean = statistics.mean(posted)
        figures = (seen, mean, statistics.median(posted), max(posted), mean - seen)
        print(f"| `{tool}` | {len(found)} | {' | '.join(f'{figure:.2f}' for figure in figures)} |")
    ours, theirs = (statistics.mean(lateness.posted_s for lateness in found) for found in measured.values())
    print(f"\nOurs takes {ours / theirs:.2f} of the time of image_generate.")


if __name__ == "__main__":
    main()
