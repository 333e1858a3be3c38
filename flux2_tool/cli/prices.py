"""`prices`, `estimate` and `balance`: what images cost, what one would cost, and what the account can spend."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import click

from flux2_tool.cli.exit_codes import DONE
from flux2_tool.cli.terminal import note, write_json, write_line
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.money import cost_text, usd_text

if TYPE_CHECKING:
    from flux2_tool.runapi.prices import Price

# A command that only shows prices waits longer for one than a call that makes an image.
PATIENCE_S: Final = 10.0

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_live_option = click.option(
    "--live/--offline", default=True, help="Ask RunAPI, without the key, or use only the prices known on this machine."
)


@click.command()
@_json_option
@_live_option
def prices(as_json: bool, live: bool) -> int:
    """List what an image costs by model and resolution, where the figure comes from, and its date.

    A quote is what RunAPI says it would charge now, a schedule its public price list, the list price what came with
    this version.
    """
    models = load_manifest().models.values()
    wanted = [(model.slug, resolution) for model in models for resolution in model.prices_usd]
    base_url, found = _asked(wanted, live=live)
    if as_json:
        rows = [
            {"model": model, "resolution": resolution, **asdict(price)}
            for (model, resolution), price in zip(wanted, found, strict=True)
        ]
        write_json({"base_url": base_url, "prices": rows})
        return DONE
    width = max(len(model) for model, _ in wanted)
    for (model, resolution), price in zip(wanted, found, strict=True):
        write_line(f"{model:<{width}}  {resolution}  {_shown(price)}")
    if not live:
        note("RunAPI was not contacted")
    elif all(price.basis in ("list price", "unknown") for price in found):
        note(f"{base_url} named no price: these came with flux2-tool {load_manifest().version}")
    return DONE


@click.command()
@click.argument("tool")
@click.argument("arguments", metavar="JSON|-")
@_json_option
@_live_option
def estimate(tool: str, arguments: str, as_json: bool, live: bool) -> int:
    """Check a call of TOOL with the arguments JSON and say what it would cost. No image is made."""
    from flux2_tool.cli.call import parse_arguments
    from flux2_tool.cli.output import print_failure
    from flux2_tool.exceptions import InvalidArgumentsError
    from flux2_tool.schema.results import error_object

    try:
        given = parse_arguments(arguments)
        _check(tool, given)
    except InvalidArgumentsError as exc:
        if as_json:
            write_json(error_object(exc))
        return print_failure(exc, tool=None)
    known = load_manifest().tools[tool]
    if known.default_model is None:
        if as_json:
            write_json(
                {
                    "tool": tool,
                    "model": None,
                    "resolution": None,
                    "count": 0,
                    "usd": 0.0,
                    "basis": "free",
                    "as_of": None,
                }
            )
        else:
            write_line(f"nothing: {tool} makes no image")
        return DONE
    model, resolution = load_manifest().image_kind(tool, given)
    _, (price,) = _asked([(model, resolution)], live=live)
    count = int(given.get("count", 1))
    if price.usd is not None and count > 1:
        price = replace(price, usd=round(price.usd * count, 6))
    if as_json:
        write_json({"tool": tool, "model": model, "resolution": resolution, "count": count, **asdict(price)})
    else:
        write_line(_shown(price))
        note(f"for {'one image' if count == 1 else f'{count} images'} by {model} at {resolution}")
    return DONE


@click.command()
@_json_option
def balance(as_json: bool) -> int:
    """Show what the account can spend and has spent."""
    from flux2_tool.cli.service import opened_client
    from flux2_tool.credentials import resolve_credentials
    from flux2_tool.runapi.balance import Balance, read_balance
    from flux2_tool.settings import load_settings

    settings = load_settings(os.environ)
    credentials = resolve_credentials(environ=os.environ, settings_base_url=settings.base_url)

    async def ask() -> Balance:
        async with opened_client(credentials.base_url, credentials) as client:
            return await read_balance(client)

    found = asyncio.run(ask())
    if as_json:
        write_json(asdict(found))
        return DONE
    write_line(
        f"{usd_text(found.balance_usd)} to spend ({usd_text(found.paid_usd)} paid, {usd_text(found.bonus_usd)} bonus)"
    )
    write_line(f"{usd_text(found.spent_today_usd)} spent today, {usd_text(found.spent_total_usd)} in all")
    return DONE


def price_now(model: str, resolution: str) -> str:
    """Return what an image costs now, in words."""
    _, (price,) = _asked([(model, resolution)], live=True)
    return cost_text(price.usd, _basis(price))


def _asked(wanted: list[tuple[str, str]], *, live: bool) -> tuple[str, list[Price]]:
    """Return the service's address and the price of each model at its resolution, all requested at the same time."""
    from flux2_tool._clock import SystemClock
    from flux2_tool.cli.service import opened_client, public_base_url
    from flux2_tool.runapi.prices import Prices
    from flux2_tool.settings import load_settings

    settings = load_settings(os.environ)
    base_url = public_base_url(settings, os.environ)

    async def ask() -> list[Price]:
        found = Prices(manifest=load_manifest(), folder=settings.home, clock=SystemClock())
        async with opened_client(base_url) as client:
            try:
                return await asyncio.gather(
                    *(
                        found.price_of(client, model=model, resolution=resolution, timeout_s=PATIENCE_S if live else 0)
                        for model, resolution in wanted
                    )
                )
            finally:
                await found.aclose()

    return base_url, asyncio.run(ask())


def _check(tool: str, arguments: Any) -> None:
    from flux2_tool.schema.validation import validate_arguments
    from flux2_tool.settings import load_settings

    settings = load_settings(os.environ)
    validate_arguments(
        load_manifest(),
        tool,
        arguments,
        tiers=settings.tiers,
        agent_host=False,
        callback_hosts=settings.callback_hosts,
        safety_checker=settings.safety_checker,
    )


def _shown(price: Price) -> str:
    if price.usd is None:
        return "price unknown"
    return f"{usd_text(price.usd)}  {_basis(price)}"


def _basis(price: Price) -> str:
    return f"{price.basis} of {price.as_of}" if price.as_of else price.basis
