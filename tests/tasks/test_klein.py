"""klein, a tier of another service: its paths, prices and refusals, and what is remembered of each service."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.runapi import contract
from flux2_tool.runapi.cache import ROUTES_FILE
from flux2_tool.runapi.services import current_model, routes_of, service_of
from flux2_tool.sandbox import SandboxOptions
from flux2_tool.schema.manifest import load_manifest
from tests.support.harness import (
    BASE_URL,
    DONE,
    FOX,
    PRICE_PATHS,
    MockService,
    SandboxTransport,
    Seen,
    opened_tool,
    run_call,
    scripted,
)
from tests.support.stores import records_of
from tests.support.virtual_time import run_virtual

KLEIN = {**FOX, "model": "flux-2-klein"}
KLEIN_PATH = "/api/v1/flux/text_to_image"
TIERS = ["pro", "flex", "max", "klein"]
TASK_ID = "3f0c9a52-7c1e-4b57-9a3d-1f2e3d4c5b6a"


def _sandbox(**options: Any) -> SandboxTransport:
    return SandboxTransport(SandboxOptions(**{"duration_s": 3.0, "drawn_images": False, "seed": 1, **options}))


def test_a_picture_by_klein_is_made_and_polled_at_its_own_service(home: Path) -> None:
    """It has no guide's route, so none is tried, and costs what it costs."""
    runapi = _sandbox()
    result = run_call(home, runapi, arguments=KLEIN, tiers=TIERS)
    task_id = result["task"]["id"]

    assert (result["task"]["state"], result["task"]["model"]) == ("completed", "flux-2-klein")
    assert result["cost"] == {"usd": 0.03, "basis": "billed"}
    assert {path for _, path in runapi.requests} == {KLEIN_PATH, f"{KLEIN_PATH}/{task_id}"}
    assert json.loads(runapi.sandbox.ledger.creates[0].body) == {**KLEIN}


@pytest.mark.parametrize("route", ["auto", "guide", "service"])
def test_the_setting_route_leaves_klein_its_only_one(home: Path, route: str) -> None:
    """There is nothing to choose: a refusal would help nobody."""
    runapi = _sandbox()
    result = run_call(home, runapi, arguments=KLEIN, tiers=TIERS, route=route, wait_s=0)

    assert result["task"]["state"] == "processing"
    assert [record.path for record in runapi.sandbox.ledger.creates] == [KLEIN_PATH]


def test_a_service_without_the_path_creates_nothing(home: Path) -> None:
    """The other service is no other route: it would make another picture, or none."""
    runapi = _sandbox(flux_service=False)
    error = run_call(home, runapi, arguments=KLEIN, tiers=TIERS)["error"]

    assert (error["code"], error["charged"]) == ("unexpected_answer", "no")
    assert f"POST {KLEIN_PATH} answered HTTP 404" in error["message"]
    assert len(runapi.sandbox.ledger.creates) == 1


def test_services_remember_their_routes_apart(home: Path) -> None:
    """Else a picture by klein would send the next one by pro to a route that was never tried for it, or poll amiss."""
    runapi = _sandbox(poll_paths=frozenset({"service_plain", "guide"}))
    run_call(home, runapi, tiers=TIERS)
    before = json.loads((home / ROUTES_FILE).read_text())[BASE_URL]
    run_call(home, runapi, arguments=KLEIN, tiers=TIERS)
    after = json.loads((home / ROUTES_FILE).read_text())
    runapi.requests.clear()
    again = run_call(home, runapi, arguments={**KLEIN, "prompt": "two red foxes"}, tiers=TIERS)

    assert after[BASE_URL] == before == {"create": "guide", "poll": "/v1/{action}/{id}"}
    assert after[f"{BASE_URL} flux"] == {"create": "service", "poll": "/api/v1/flux/{id}"}
    assert {path for _, path in runapi.requests} == {KLEIN_PATH, f"/api/v1/flux/{again['task']['id']}"}


def test_an_interrupted_picture_by_klein_is_resumed_at_its_own_paths(home: Path) -> None:
    """The journal has the model, and the model its service."""
    runapi = _sandbox(duration_s=30.0)
    first = run_call(home, runapi, arguments=KLEIN, tiers=TIERS, wait_s=0)
    runapi.requests.clear()
    # The tier may be switched off meanwhile: what is paid for is fetched.
    second = run_call(home, runapi, "get_image_task", {"task_id": first["task"]["ref"]}, tiers=["pro"], wait_s=100)

    assert second["task"]["state"] == "completed"
    assert {path for _, path in runapi.requests} == {f"{KLEIN_PATH}/{first['task']['id']}"}
    assert runapi.billed == 1


def test_a_lost_response_is_resent_to_the_same_service(home: Path) -> None:
    """Under its first key, by the next process, which has only the journal."""
    runapi = _sandbox()
    runapi.fault("drop_after", times=9)
    lost = run_call(home, runapi, arguments=KLEIN, tiers=TIERS, session="s", wait_s=1)
    runapi.sandbox.faults.clear()

    async def main() -> list[Any]:
        async with opened_tool(home, runapi, tiers=TIERS) as tool:
            return await tool.engine.resume(wait_s=100.0)

    outcomes = run_virtual(main())

    assert lost.get("error", {}).get("charged", "unknown") == "unknown"
    assert [outcome.task.state for outcome in outcomes] == ["completed"]
    assert {record.path for record in runapi.sandbox.ledger.creates} == {KLEIN_PATH}
    assert len({record.idempotency_key for record in runapi.sandbox.ledger.creates}) == 1
    assert runapi.billed == 1


@pytest.mark.parametrize("path", [KLEIN_PATH, "/api/v1/flux", "/v1/tasks", "/api/v1/tasks", "/api/v1/flux_2"])
def test_a_task_of_unknown_service_is_looked_up_at_all(home: Path, path: str) -> None:
    """An id alone does not tell; each path is asked once before the next."""

    def answer(request: Seen) -> tuple[int, Any]:
        is_here = request.path == f"{path}/{TASK_ID}"
        return (200, {**DONE, "id": TASK_ID}) if is_here else (404, {"error": "Not found"})

    runapi = MockService(answer)
    result = run_call(home, runapi, "get_image_task", {"task_id": TASK_ID}, wait_s=60)

    assert result["task"]["state"] == "completed"
    # Both services' own paths come before those that any service has.
    asked = [request.path for request in runapi.gets]
    assert len(asked) == len(set(asked)) <= 10
    assert asked[: asked.index(f"{path}/{TASK_ID}")].count(f"{KLEIN_PATH}/{TASK_ID}") == (path != KLEIN_PATH)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"output_resolution": "2k"}, "flux-2-klein does not take output_resolution; leave it out"),
        ({"output_resolution": "1k"}, "flux-2-klein does not take output_resolution; leave it out"),
        ({"enable_safety_checker": True}, "flux-2-klein does not take enable_safety_checker; leave it out"),
        ({"aspect_ratio": "auto"}, 'aspect_ratio "auto" is not one of'),
    ],
)
def test_what_klein_does_not_take_is_refused_before_anything_is_sent(
    home: Path, arguments: dict[str, Any], said: str
) -> None:
    """RunAPI would refuse it later, and say less."""
    runapi = _sandbox()
    error = run_call(home, runapi, arguments={**KLEIN, **arguments}, tiers=TIERS)["error"]

    assert (error["code"], error["charged"]) == ("invalid_arguments", "no")
    assert said in error["message"]
    assert runapi.requests == []


@pytest.mark.parametrize(
    ("tool", "arguments", "tiers", "said"),
    [
        ("text_to_image", KLEIN, ["pro"], "model flux-2-klein is not enabled here; enabled: flux-2-pro-text-to-image"),
        (
            "text_to_image",
            FOX,
            ["klein"],
            "the default flux-2-pro-text-to-image is not enabled here; enabled: flux-2-kl",
        ),
        (
            "remix_image",
            {**FOX, "source_image_urls": ["https://a.example/b.png"]},
            ["klein"],
            "the default flux-2-pro-remix-image is not enabled here; enabled: none (an operator can add pro to tiers",
        ),
        (
            "remix_image",
            {**KLEIN, "source_image_urls": ["https://a.example/b.png"]},
            ["pro", "klein"],
            'model "flux-2-klein" is not one of flux-2-pro-remix-image',
        ),
    ],
)
def test_a_tier_that_a_call_cannot_have_is_named(
    home: Path, tool: str, arguments: dict[str, Any], tiers: list[str], said: str
) -> None:
    """With what is enabled instead, and who can change it."""
    error = run_call(home, _sandbox(), tool, arguments, tiers=tiers)["error"]

    assert error["code"] == "invalid_arguments"
    assert said in error["message"]


@pytest.mark.parametrize(("tiers", "is_named"), [(["klein"], False), (["klein", "flex"], True)])
def test_editing_is_named_only_where_a_tier_can_edit(home: Path, tiers: list[str], is_named: bool) -> None:
    """Where remix_image is not offered, an agent would look for it in vain."""
    result = run_call(home, _sandbox(), arguments=KLEIN, tiers=tiers)

    assert ("remix_image" in result["next"]) is is_named


@pytest.mark.parametrize(("setting", "sent"), [(None, False), (True, False), (False, False)])
def test_the_operators_safety_checker_is_not_sent_with_klein(home: Path, setting: bool | None, sent: bool) -> None:
    """It has no such switch."""
    runapi = _sandbox()
    run_call(home, runapi, arguments=KLEIN, tiers=TIERS, safety_checker=setting)

    assert ("enable_safety_checker" in json.loads(runapi.sandbox.ledger.creates[0].body)) is sent


def test_its_price_is_asked_of_its_service(home: Path) -> None:
    """Without a resolution, which it does not take."""
    quoted: list[dict[str, Any]] = []

    def answer(request: Seen) -> tuple[int, Any]:
        if request.path in PRICE_PATHS:
            quoted.append(json.loads(request.body))
            quote = {"pricing_status": "available", "currency": "USD", "reservation_amount_cents": 4}
            return 200, {
                "price_quote": {**quote, "service": "flux", "action": "text_to_image", "model": "flux-2-klein"}
            }
        return (200, {"id": TASK_ID}) if request.method == "POST" else (200, {**DONE, "id": TASK_ID, "usage": None})

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, MockService(answer, has_prices=True), tiers=TIERS) as tool:
            first = await tool.call("text_to_image", {**KLEIN, "prompt": "a fox"})
            await asyncio.sleep(1.0)
            return [first, await tool.call("text_to_image", {**KLEIN, "prompt": "b fox"})]

    run_virtual(main())

    assert [(one["service"], one["model"]) for one in quoted] == [("flux", "flux-2-klein")]
    assert "output_resolution" not in quoted[0]["params"]
    assert sorted(record.price_usd or 0 for record in records_of(home)) == [0.03, 0.04]


def test_what_still_fits_under_a_cap_names_klein_without_a_resolution(home: Path) -> None:
    """An agent that followed "flux-2-klein 1k" would be refused."""
    error = run_call(home, _sandbox(), tiers=TIERS, max_image_usd=0.04)["error"]

    assert error["code"] == "budget_exceeded"
    assert "What still fits now: flux-2-klein ($0.03)." in error["message"]


@pytest.mark.parametrize(
    ("spelt", "model"),
    [
        ("flux-2-pro-image-to-image", "flux-2-pro-remix-image"),
        ("flux-2-flex-image-to-image", "flux-2-flex-remix-image"),
        ("flux-2-max-image-to-image", "flux-2-max-remix-image"),
        ("flux-2-pro-remix-image", "flux-2-pro-remix-image"),
        ("flux-2-klein", "flux-2-klein"),
        ("image-to-image", "image-to-image"),
    ],
)
def test_older_spellings_of_a_model_are_understood_in_responses(home: Path, spelt: str, model: str) -> None:
    """The service's older documents have them; a result names the model as everything else here does."""
    done = {**DONE, "model": spelt}
    result = run_call(home, scripted(gets=[(200, done)]), "get_image_task", {"task_id": DONE["id"]})

    assert result["task"]["model"] == model
    assert current_model(model) == model


def test_every_model_has_its_service_and_every_service_a_path() -> None:
    """A tier of a service of its own is an entry of the manifest, and one of this table."""
    models = load_manifest().models.values()

    assert {model.slug: service_of(model.slug).name for model in models if model.tier == "klein"} == {
        "flux-2-klein": "flux"
    }
    for model in models:
        service = service_of(model.slug)
        assert model.tool in service.actions
        assert routes_of(service, setting="auto", remembered=None)
        assert not service.models or model.slug in service.models
    assert {slug for service in contract.SERVICES for slug in service.models} <= {model.slug for model in models}
