"""Compare the recorded exchanges with the table in `runapi/contract.py`, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from flux2_tool._net import is_loopback_url
from flux2_tool.diagnostics.probe.recorder import Exchange, link_of
from flux2_tool.runapi import contract
from flux2_tool.runapi.image_links import image_links
from flux2_tool.runapi.price_responses import read_quote, read_schedules
from flux2_tool.runapi.responses import TaskResponse, phase_of, read_task, unwrapped
from flux2_tool.runapi.text import printable

Verdict = Literal["right", "wrong", "not seen"]

ACTION: Final = "text_to_image"
MODEL: Final = "flux-2-pro-text-to-image"
# The models of the price requests, one of each service, and the resolutions that a schedule of it prices.
PRICED_MODELS: Final[Mapping[str, tuple[str, ...]]] = {MODEL: ("1k", "2k"), "flux-2-klein": ("1k",)}
BALANCE_FIELDS: Final = (
    "balance_cents",
    "paid_balance_cents",
    "bonus_balance_cents",
    "spent_cents_today",
    "spent_cents_total",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table: the expected value, the seen one, and whether they agree."""

    what: str
    expected: str
    seen: str
    verdict: Verdict


def rows(exchanges: Sequence[Exchange], *, task_id: str | None) -> list[Row]:
    """Return every row of the table with its verdict, those of the create and the poll first."""
    return [
        *_create_routes(exchanges),
        *_create_response(exchanges),
        *_poll_paths(exchanges, task_id),
        *_statuses(exchanges, task_id),
        *_result(exchanges, task_id),
        *_account(exchanges),
        *_prices(exchanges),
    ]


def _row(what: str, expected: str, seen: str, *, agrees: bool | None) -> Row:
    verdict: Verdict = "not seen" if agrees is None else "right" if agrees else "wrong"
    return Row(what=what, expected=expected, seen=seen, verdict=verdict)


def create_path(route: contract.Route) -> str:
    """Return the path of a route's create."""
    return contract.FLUX_2.create_paths[route].format(action=ACTION)


def poll_templates() -> tuple[str, ...]:
    """Return each of the table's paths of a task's status."""
    return (*(f"{create_path(route)}/{{id}}" for route in contract.ROUTES), *contract.FLUX_2.task_paths)


def _creates(exchanges: Sequence[Exchange]) -> list[Exchange]:
    paths = tuple(create_path(route) for route in contract.ROUTES)
    return [one for one in exchanges if one.method == "POST" and one.path.endswith(paths)]


def _create_routes(exchanges: Sequence[Exchange]) -> Iterator[Row]:
    for route in contract.ROUTES:
        path = create_path(route)
        codes = [one.code for one in _creates(exchanges) if one.path.endswith(path)]
        tried = [f"HTTP {code}" if code else "no answer" for code in codes]
        known = [code for code in codes if code]
        agrees = None if not known else any(200 <= code < 300 for code in known)
        yield _row(f"create, {route} route", f"POST {path} answers 2xx", ", ".join(tried) or "not tried", agrees=agrees)


def _create_response(exchanges: Sequence[Exchange]) -> Iterator[Row]:
    accepted = next((one for one in _creates(exchanges) if one.is_good), None)
    expected_id = f"one of {', '.join(contract.TASK_ID_FIELDS)}, or the header {contract.TASK_ID_HEADER}"
    if accepted is None:
        yield _row("task id in the create answer", expected_id, "no create was accepted", agrees=None)
        return
    found = _present(accepted.body, contract.TASK_ID_FIELDS)
    in_header = contract.TASK_ID_HEADER.lower() in accepted.headers
    places = [*found, *([f"header {contract.TASK_ID_HEADER}"] if in_header else [])]
    seen = ", ".join(places) or f"none of them; fields: {_names(accepted.body)}"
    yield _row("task id in the create answer", expected_id, seen, agrees=bool(places))
    status = read_task(accepted.body).status
    known = None if status is None else phase_of(status) != "unknown"
    yield _row(
        "status in the create answer", "a known word, or none", f'"{status}"' if status else "none", agrees=known
    )
    has_id = contract.REQUEST_ID_HEADER in accepted.headers
    yield _row("request id", f"header {contract.REQUEST_ID_HEADER}", "there" if has_id else "not there", agrees=has_id)


def polls(exchanges: Sequence[Exchange], task_id: str | None) -> list[Exchange]:
    """Return the exchanges that asked for the task's status."""
    if task_id is None:
        return []
    return [one for one in exchanges if one.method == "GET" and task_id in one.url and one.body is not None]


def _poll_paths(exchanges: Sequence[Exchange], task_id: str | None) -> Iterator[Row]:
    for template in poll_templates():
        path = template.replace("{id}", task_id or "{id}")
        asked = [one for one in exchanges if one.method == "GET" and one.path.endswith(path)]
        # The shorter paths are also endings of longer ones.
        asked = [one for one in asked if not _is_longer(one.path, template, task_id)]
        good = [one for one in asked if one.is_good and read_task(one.body).is_about_a_task]
        codes = sorted({f"HTTP {one.code}" if one.code else "no answer" for one in asked})
        seen = ", ".join(codes) + (", the task" if good else "")
        yield _row("poll", f"GET {template}", seen or "not asked", agrees=bool(good) if asked else None)


def _is_longer(path: str, template: str, task_id: str | None) -> bool:
    others = [other for other in poll_templates() if other != template and other.endswith(template)]
    return any(path.endswith(other.replace("{id}", task_id or "")) for other in others)


def _statuses(exchanges: Sequence[Exchange], task_id: str | None) -> Iterator[Row]:
    words = dict.fromkeys(read_task(one.body).status for one in polls(exchanges, task_id) if one.is_good)
    for word in filter(None, words):
        phase = phase_of(word)
        yield _row("status", "a known word", f'"{word}" ({phase})', agrees=phase != "unknown")


def _completed(exchanges: Sequence[Exchange], task_id: str | None) -> tuple[Exchange, TaskResponse] | None:
    for one in [*polls(exchanges, task_id), *_creates(exchanges)]:
        task = read_task(one.body)
        if one.is_good and task.phase == "completed":
            return one, task
    return None


def _result(exchanges: Sequence[Exchange], task_id: str | None) -> Iterator[Row]:
    found = _completed(exchanges, task_id)
    expected = f"{contract.IMAGE_FIELDS[0]}; else {', '.join(contract.IMAGE_FIELDS[1:])}"
    if found is None:
        yield _row("field of the pictures", expected, "the task was not seen completed", agrees=None)
        return
    response, task = found
    body = unwrapped(response.body)
    fields = [name for name in contract.IMAGE_FIELDS if image_links(body, (name,))]
    seen = ", ".join(fields) or f"none of them; fields: {_names(body)}"
    agrees = fields[0] == contract.IMAGE_FIELDS[0] if fields else False
    yield _row("field of the pictures", expected, seen, agrees=agrees)
    if task.images:
        link = task.images[0].url
        signed = {name.lower() for name, _ in parse_qsl(urlsplit(link).query)}
        has_expiry = "x-amz-date" in signed and "x-amz-expires" in signed
        life = "its life is in the query" if has_expiry else "seven days are assumed"
        yield _row("link of the picture", "https", f"{link_of(link)}; {life}", agrees=_may_be_shown(response.url, link))
    others = (*contract.COST_USD_FIELDS[1:], *contract.COST_CENTS_FIELDS)
    costs = _present(body, (*contract.COST_USD_FIELDS, *contract.COST_CENTS_FIELDS))
    cost = f"{', '.join(costs)}, {task.cost_usd:g} USD" if costs and task.cost_usd is not None else "none of them"
    yield _row(
        "field of the cost",
        f"{contract.COST_USD_FIELDS[0]}; else {', '.join(others)}",
        cost,
        agrees=contract.COST_USD_FIELDS[0] in costs,
    )


def _may_be_shown(asked_at: str, link: str) -> bool:
    """Whether a link is https, or the service is a sandbox on this machine."""
    return urlsplit(link).scheme == "https" or is_loopback_url(asked_at)


def _account(exchanges: Sequence[Exchange]) -> Iterator[Row]:
    asked = [one for one in exchanges if one.path.endswith(contract.BALANCE_PATH)]
    expected = f"GET {contract.BALANCE_PATH}: {', '.join(BALANCE_FIELDS)}"
    if not asked:
        yield _row("balance", expected, "not asked", agrees=None)
        return
    body = asked[-1].body
    fields = [name for name in BALANCE_FIELDS if isinstance(body, Mapping) and name in body]
    seen = f"{f'HTTP {asked[-1].code}' if asked[-1].code else 'no answer'}: {', '.join(fields) or _names(body)}"
    yield _row("balance", expected, seen, agrees=asked[-1].is_good and len(fields) == len(BALANCE_FIELDS))


def _prices(exchanges: Sequence[Exchange]) -> Iterator[Row]:
    for one in exchanges:
        code = f"HTTP {one.code}" if one.code else "no answer"
        if one.path.endswith(contract.PRICE_SCHEDULES_PATH):
            query = dict(parse_qsl(urlsplit(one.url).query))
            service, model = query.get("service", ""), query.get("model", "")
            resolutions = PRICED_MODELS.get(model, ())
            found, _ = read_schedules(one.body, action=ACTION, model=model, resolutions=resolutions)
            price_text = (
                ", ".join(f"{name} {usd:g} USD" for name, usd in found.items()) or "no price that is understood"
            )
            etag = ", with ETag" if "etag" in one.headers else ", without ETag"
            what = f"price schedule, service {printable(service, 20)}"
            yield _row(
                what,
                f"prices of {' and '.join(resolutions)}",
                f"{code}, {price_text}{etag if one.is_good else ''}",
                agrees=len(found) == len(resolutions),
            )
        elif one.path.endswith(contract.PRICE_QUOTES_PATH):
            sent = one.sent if isinstance(one.sent, Mapping) else {}
            service, model = sent.get("service", ""), str(sent.get("model", ""))
            quote = read_quote(one.body, action=ACTION, model=model) if one.is_good else None
            price_text = "no price that is understood" if quote is None else f"{quote.usd:g} USD"
            what = f"price quote, service {printable(str(service), 20)}"
            yield _row(what, "a price", f"{code}, {price_text}", agrees=quote is not None)


def _present(body: Any, paths: Sequence[str]) -> list[str]:
    return [path for path in paths if _dig(body, path) is not None]


def _dig(body: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(body, Mapping):
            return None
        body = body.get(name)
    return body


def _names(body: Any) -> str:
    if not isinstance(body, Mapping):
        return f"a {type(body).__name__}" if body is not None else "no JSON"
    return ", ".join(printable(str(name), 40) for name in list(body)[:20]) or "an empty object"
