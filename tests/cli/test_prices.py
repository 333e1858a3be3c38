"""prices, estimate and balance: figures on stdout, and nothing that costs anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.sandbox import Fault, Sandbox
from flux2_tool.schema.manifest import load_manifest
from tests.support.command import Command
from tests.support.keys import KEY


def _priced(stdout: str) -> dict[tuple[str, str], dict[str, Any]]:
    rows = json.loads(stdout)["prices"]
    return {(row["model"], row["resolution"]): row for row in rows}


def test_prices_are_quotes_while_runapi_answers(command: Command, sandbox: Sandbox) -> None:
    """Every model and resolution, also max, whose price is published nowhere."""
    done = command.run("prices", "--json")

    found = _priced(done.stdout)
    assert done.returncode == 0
    assert set(found) == {(m.slug, r) for m in load_manifest().models.values() for r in m.prices_usd}
    assert found["flux-2-flex-remix-image", "2k"]["usd"] == 0.24
    assert {row["basis"] for row in found.values()} == {"quote"}
    assert sandbox.ledger.creates == []


def test_prices_need_no_key_and_offline_no_service(bare: Command) -> None:
    """People look at prices before they have an account."""
    done = bare.run("prices", "--offline")

    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["flux-2-pro-text-to-image", "1k", "0.05", "USD", "list", "price"] in lines
    assert ["flux-2-max-text-to-image", "1k", "price", "unknown"] in lines
    assert "RunAPI was not contacted" in done.stderr


def test_prices_that_were_learned_are_known_offline(command: Command) -> None:
    """With the date they were learned."""
    command.run("prices")

    row = _priced(command.run("prices", "--json", "--offline").stdout)["flux-2-max-text-to-image", "1k"]

    assert (row["usd"], row["basis"]) == (0.1, "quote")
    assert row["as_of"].endswith("Z")


def test_a_service_without_prices_leaves_the_list_and_says_so(command: Command) -> None:
    """Nobody should take a shipped figure for today's."""
    done = command.run("prices", RUNAPI_BASE_URL="http://127.0.0.1:9")

    assert done.returncode == 0
    assert "list price" in done.stdout
    assert "named no price" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "usd"),
    [
        ('{"prompt": "a fox"}', 0.05),
        ('{"prompt": "a fox", "output_resolution": "2k"}', 0.07),
        ('{"prompt": "a fox", "model": "flux-2-flex-text-to-image", "output_resolution": "2k"}', 0.24),
        ('{"prompt": "a fox", "count": 4}', 0.20),
    ],
)
def test_an_estimate_names_the_price_and_makes_nothing(
    command: Command, sandbox: Sandbox, arguments: str, usd: float
) -> None:
    """The question before a batch: what will this cost me?"""
    done = command.run("estimate", "text_to_image", arguments, "--json")

    found = json.loads(done.stdout)
    assert (done.returncode, found["usd"], found["basis"]) == (0, usd, "quote")
    assert sandbox.ledger.creates == []


def test_an_estimate_reads_stdin_and_speaks_to_people(command: Command) -> None:
    """One line with the figure; the rest beside it."""
    done = command.run("estimate", "text_to_image", "-", "--offline", stdin='{"prompt": "雪中的狐狸"}')

    assert done.stdout == "0.05 USD  list price\n"
    assert "flux-2-pro-text-to-image at 1k" in done.stderr


def test_fetching_a_task_costs_nothing(command: Command) -> None:
    """The one zero that is true."""
    assert json.loads(command.run("estimate", "get_image_task", '{"task_id": "tsk_1"}', "--json").stdout)["usd"] == 0.0
    assert command.run("estimate", "get_image_task", '{"task_id": "tsk_1"}').stdout.startswith("nothing")


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("text_to_image", '{"prompt": "a", "seed": 1}', "there is no seed"),
        ("text_to_image", "{", "not JSON"),
        ("paint", "{}", "there is no tool"),
        ("text_to_image", '{"prompt": "a", "model": "flux-2-max-text-to-image"}', "max"),
    ],
)
def test_an_estimate_of_what_would_be_refused_is_refused(
    command: Command, tool: str, arguments: str, said: str
) -> None:
    """A price for a call that cannot be made would be a lie."""
    done = command.run("estimate", tool, arguments)

    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr


def test_the_balance_is_shown(command: Command) -> None:
    """In dollars, after what was spent."""
    command.run("generate", "a red fox", "--new")

    done = command.run("balance")

    assert done.returncode == 0
    assert done.stdout.splitlines()[0].startswith("99.95 USD to spend")
    assert "0.05 USD spent today" in done.stdout
    assert json.loads(command.run("balance", "--json").stdout)["balance_usd"] == 99.95


def test_a_refused_key_and_a_dead_service_are_told_apart(command: Command, sandbox: Sandbox) -> None:
    """The one is mended with another key, the other by waiting."""
    bad = command.run("balance", RUNAPI_API_KEY="bad-key")
    dead = command.run("balance", RUNAPI_BASE_URL="http://127.0.0.1:9")
    sandbox.faults.queue(Fault(kind="status", on="account", status=503))
    down = command.run("balance")

    assert (bad.returncode, dead.returncode, down.returncode) == (3, 5, 5)
    assert "refused the key" in bad.stderr
    assert "could not be reached" in dead.stderr
    assert "bad-key" not in bad.stderr


def test_without_a_key_the_balance_says_where_to_put_one(bare: Command) -> None:
    """As every command that needs it."""
    done = bare.run("balance")

    assert done.returncode == 3
    assert "RUNAPI_API_KEY" in done.stderr


def test_the_kept_prices_hold_no_key(command: Command) -> None:
    """The file is copied around with the data folder."""
    command.run("prices")
    files = [path for path in Path(command.environ["FLUX2_TOOL_HOME"]).rglob("*") if path.is_file()]

    assert [path.name for path in files] == ["prices.json"]
    assert all(KEY.encode() not in path.read_bytes() for path in files)


def test_a_wrong_estimate_is_an_error_object_for_programs(bare: Command) -> None:
    """It checks a call before it is made: a script reads why it would be refused."""
    done = bare.run("estimate", "text_to_image", '{"prompt": ""}', "--json")

    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "invalid_arguments"
    assert "error: " in done.stderr
