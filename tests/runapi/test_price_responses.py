"""Reading prices: what counts as one, and that nothing odd ever does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux2_tool.runapi.cache import PRICES_FILE, CachedPrices, PriceCache
from flux2_tool.runapi.price_responses import MAX_PRICE_USD, read_quote, read_schedules, usd_of_cents
from flux2_tool.runapi.prices import Price, list_price
from flux2_tool.sandbox.prices import schedules as sandbox_schedules
from flux2_tool.schema.manifest import load_manifest

PRO = "flux-2-pro-text-to-image"
QUOTE = {
    "service": "flux_2",
    "action": "text_to_image",
    "model": PRO,
    "pricing_status": "available",
    "currency": "USD",
    "reservation_amount_cents": 5,
    "estimate_basis": "exact",
    "as_of": "2026-11-20T00:00:00.000000Z",
}
ROW = {
    "service": "flux_2",
    "action": "text_to_image",
    "model": PRO,
    "pricing_status": "available",
    "catalog_status": "active",
    "currency": "USD",
    "billing_unit": "per_call",
    "billing_strategy": "flat",
    "unit_price_cents": 5,
    "billing_config": {"key": "output_resolution", "overrides": {"1k": 5, "2k": 7}},
}
ODD: list[Any] = [None, 0, -0.0, -5, True, "5", [5], {"usd": 5}, math.nan, math.inf, 1e400, 10**400, 1e-9]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def _schedules(row: Any) -> dict[str, float]:
    body = {"as_of": "2026-11-20T00:00:00Z", "price_schedules": [row]}
    return read_schedules(body, action="text_to_image", model=PRO, resolutions=("1k", "2k"))[0]


@pytest.mark.parametrize("action", ["remix_image", "image_to_image"])
@pytest.mark.parametrize("model", ["flux-2-pro-remix-image", "flux-2-pro-image-to-image"])
def test_older_spellings_of_model_and_action_are_understood(action: str, model: str) -> None:
    """Older documents of the service have them."""
    named = {"action": action, "model": model}
    asked: Any = {"action": "remix_image", "model": "flux-2-pro-remix-image"}
    rows = {"price_schedules": [{**ROW, **named}]}

    assert read_quote({**QUOTE, **named}, **asked) is not None
    assert read_schedules(rows, **asked, resolutions=("1k", "2k"))[0] == {"1k": 0.05, "2k": 0.07}


@pytest.mark.parametrize(
    ("service", "usd"), [("flux", 0.03), (None, 0.03), ("flux-2", None), ("flux_2", None), (7, None)]
)
def test_a_price_of_klein_is_its_own_services(service: Any, usd: float | None) -> None:
    """Another service's offer of the same name is for something else."""
    row = {**ROW, "service": service, "model": "flux-2-klein", "unit_price_cents": 3, "billing_config": None}
    quote = {**QUOTE, "service": service, "model": "flux-2-klein", "reservation_amount_cents": 3}
    found, _ = read_schedules(
        {"price_schedules": [row]}, action="text_to_image", model="flux-2-klein", resolutions=("1k",)
    )
    quoted = read_quote(quote, action="text_to_image", model="flux-2-klein")

    assert found.get("1k") == (None if quoted is None else quoted.usd) == usd


@pytest.mark.parametrize("body", [{"price_quote": QUOTE}, QUOTE])
def test_a_quote_is_read_with_its_date(body: Any) -> None:
    """Wrapped as the service documents it, or bare as its JavaScript client types it."""
    quoted = read_quote(body, action="text_to_image", model=PRO)

    assert quoted is not None
    assert (quoted.usd, quoted.as_of) == (0.05, "2026-11-20T00:00:00Z")


@pytest.mark.parametrize("cents", ODD)
def test_an_odd_amount_is_no_price(cents: Any) -> None:
    """A price of zero or of nonsense would let an image slip past every cap."""
    assert usd_of_cents(cents) is None
    assert read_quote({"price_quote": {**QUOTE, "reservation_amount_cents": cents}}, action="a", model="m") is None
    assert _schedules({**ROW, "billing_config": None, "unit_price_cents": cents}) == {}
    assert _schedules({**ROW, "billing_config": {"key": "output_resolution", "overrides": {"1k": cents}}}) in (
        {"2k": 0.05},
        {},
    )


@pytest.mark.parametrize(
    "change",
    [
        {"currency": "CNY"},
        {"currency": None},
        {"pricing_status": "unavailable"},
        {"pricing_status": 7},
        {"model": "flux-2-flex-text-to-image"},
        {"action": "remix_image"},
        {"service": "kling"},
    ],
)
def test_a_price_of_something_else_is_not_ours(change: dict[str, Any]) -> None:
    """A quote in another currency, or for another model, says nothing about this request."""
    assert read_quote({"price_quote": {**QUOTE, **change}}, action="text_to_image", model=PRO) is None
    assert _schedules({**ROW, **change}) == {}


@pytest.mark.parametrize(
    ("config", "prices"),
    [
        pytest.param({"key": "output_resolution", "overrides": {"1k": 5, "2k": 7}}, {"1k": 0.05, "2k": 0.07}, id="all"),
        pytest.param({"key": "output_resolution", "overrides": {"2k": 7.5}}, {"1k": 0.05, "2k": 0.075}, id="some"),
        pytest.param(
            {"keys": ["output_resolution"], "matrix": {"1k": 6, "2k": 8}}, {"1k": 0.06, "2k": 0.08}, id="grid"
        ),
        pytest.param(
            {"keys": ["output_count", "output_resolution"], "matrix": {"1": {"1k": 6}, "2": {"1k": 12}}},
            {"1k": 0.06},
            id="two keys",
        ),
        pytest.param(
            {"keys": ["output_count", "output_resolution"], "matrix": {"any": {"2k": 9}}}, {"2k": 0.09}, id="any"
        ),
        pytest.param(None, {"1k": 0.05, "2k": 0.05}, id="none"),
        pytest.param({}, {"1k": 0.05, "2k": 0.05}, id="empty"),
        pytest.param({"key": "quality", "overrides": {"high": 22}}, {}, id="a parameter we do not send"),
        pytest.param({"key": "output_resolution"}, {}, id="no overrides"),
        pytest.param({"keys": ["output_resolution"], "matrix": [1, 2]}, {}, id="a list for a matrix"),
        pytest.param({"keys": [["x"]], "matrix": {}}, {}, id="a key that is no text"),
        pytest.param({"key": "output_resolution", "overrides": {"1k": 5}, "duration_source": {}}, {}, id="by duration"),
        pytest.param({"key": "output_resolution", "keys": ["x"], "overrides": {}, "matrix": {}}, {}, id="both forms"),
        pytest.param("output_resolution", {}, id="text"),
    ],
)
def test_a_schedule_counts_only_where_its_billing_config_is_understood(config: Any, prices: dict[str, float]) -> None:
    """A price that depends on something nobody here knows is a guess, and the list price is the better one."""
    assert _schedules({**ROW, "billing_config": config}) == prices


@pytest.mark.parametrize("unit", ["image", "per_call", "Per_Request", "generation", "per_generation", None])
def test_a_price_per_image_is_understood_in_its_usual_words(unit: Any) -> None:
    """One call makes one image, and the service may name either."""
    assert _schedules({**ROW, "billing_unit": unit}) == _schedules(ROW) != {}


@pytest.mark.parametrize("unit", ["per_second", "per_1k_tokens", 7])
def test_a_unit_that_is_not_one_image_is_not_understood(unit: Any) -> None:
    """Cents per second are not cents per image."""
    assert _schedules({**ROW, "billing_unit": unit}) == {}


def test_the_sandbox_is_understood_as_a_whole() -> None:
    """What the tests run against must exercise this reader."""
    for row in sandbox_schedules({}):
        body = {"price_schedules": [row]}
        model = load_manifest().models[row["model"]]
        found, _ = read_schedules(body, action=row["action"], model=row["model"], resolutions=tuple(model.prices_usd))
        assert set(found) == set(model.prices_usd)


@given(body=json_values, member=json_values)
def test_no_json_breaks_the_reader(body: Any, member: Any) -> None:
    """A response is data; a price that is found is always one that can be paid."""
    texts: list[Any] = [body, {"price_quote": body}, {"price_quote": {**QUOTE, "reservation_amount_cents": member}}]
    for text in texts:
        quoted = read_quote(text, action="text_to_image", model=PRO)
        assert quoted is None or 0 < quoted.usd <= MAX_PRICE_USD
    for row in (body, {**ROW, "billing_config": body}, {**ROW, "unit_price_cents": member, "billing_config": body}):
        assert all(0 < usd <= MAX_PRICE_USD for usd in _schedules(row).values())


@pytest.mark.parametrize(
    ("model", "resolution", "price"),
    [
        (PRO, "1k", Price(usd=0.05, basis="list price")),
        ("flux-2-flex-remix-image", "2k", Price(usd=0.24, basis="list price")),
        ("flux-2-max-text-to-image", "1k", Price(usd=None, basis="unknown")),
        ("flux-2-max-text-to-image", "2k", Price(usd=None, basis="unknown")),
        ("flux-9", "1k", Price(usd=None, basis="unknown")),
    ],
)
def test_the_list_price_is_the_manifests_or_unknown(model: str, resolution: str, price: Price) -> None:
    """Unknown is never zero: a cap must not take an image without a published price for a free one."""
    assert list_price(load_manifest(), model, resolution) == price


# ---- on disk ---------------------------------------------------------------------------------------------------------

KEPT = CachedPrices(
    usd={"1k": 0.05}, asked_at=1_795_392_000.0, as_of="2026-11-23T00:00:00Z", service="flux_2", etag='W/"x"'
)


def test_what_is_kept_is_read_by_the_next_process(tmp_path: Path) -> None:
    """A command line call lives for seconds; the price it learned outlives it."""
    PriceCache(tmp_path / "deep" / PRICES_FILE).put("schedule x", KEPT)

    assert PriceCache(tmp_path / "deep" / PRICES_FILE).get("schedule x") == KEPT
    assert (tmp_path / "deep" / PRICES_FILE).stat().st_mode & 0o077 == 0
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [PRICES_FILE]


@pytest.mark.parametrize(
    "change",
    [
        {"usd": {"1k": 0}},
        {"usd": {"1k": -1.0}},
        {"usd": {"1k": True}},
        {"usd": {"1k": "0.05"}},
        {"usd": {"1k": math.nan}},
        {"usd": {}},
        {"usd": []},
        {"asked_at": "now"},
        {"asked_at": math.nan},
        {"asked_at": 10**400},
        {"as_of": "yesterday"},
        {"service": "kling"},
        {"etag": "a\r\nb"},
        {"etag": 7},
        {"more": 1},
    ],
)
def test_an_entry_that_was_tampered_with_is_as_if_it_were_not_there(tmp_path: Path, change: dict[str, Any]) -> None:
    """The file is only a cache: nothing in it may crash a call or pass for a price."""
    path = tmp_path / PRICES_FILE
    PriceCache(path).put("schedule x", KEPT)
    stored = json.loads(path.read_text())
    stored["schedule x"] |= change
    path.write_text(json.dumps(stored))

    assert PriceCache(path).get("schedule x") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"schedule x": 7}', "[" * 100_000, '{"a": "' + "x" * 300_000 + '"}']
)
def test_a_broken_file_is_an_empty_one(tmp_path: Path, text: str) -> None:
    """And the next price that is learned replaces it."""
    path = tmp_path / PRICES_FILE
    path.write_text(text)
    memory = PriceCache(path)

    assert memory.get("schedule x") is None
    memory.put("schedule x", KEPT)
    assert PriceCache(path).get("schedule x") == KEPT


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_file(tmp_path: Path) -> None:
    """A read-only home must not stop anybody from asking for a price."""
    (tmp_path / "file").write_text("not a folder")
    memory = PriceCache(tmp_path / "file" / PRICES_FILE)

    memory.put("schedule x", KEPT)

    assert memory.get("schedule x") == KEPT
