"""Derive a command's options from the manifest's input schema, so that they cannot drift from it.

Values are passed on as typed: the tool's own validation reports errors and nearest values.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import click

from flux2_tool.engine.host_profile import LOCAL
from flux2_tool.schema.manifest import Manifest, Model, Tool

# Help for people, where the manifest's description is written for a model.
_FOR_PEOPLE = {
    "output_resolution": "How large; 2k costs more.",
    "enable_safety_checker": "RunAPI's safety checker on or off; unset, the service decides.",
    "count": "How many pictures, each charged.",
    "callback_url": "A public http(s) address that RunAPI calls when the image is done.",
}

UNITS_S: Final = {"m": 60.0, "h": 3600.0, "d": 86400.0}


class Number(click.FloatRange):
    """A number within bounds; unlike its base it rejects NaN, which no bound excludes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, within the bounds."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return a time in the past, "30m", "2h", "7d" or a date, as seconds since 1970."""
    if value is None:
        return None
    length = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", value)
    if length is not None:
        return time.time() - float(length[1]) * UNITS_S[length[2]]
    try:
        from flux2_tool._clock import local_epoch  # and asyncio with it

        return local_epoch(datetime.fromisoformat(value))
    except (ValueError, OverflowError, OSError):
        message = f'"{value}" is neither a length such as 30m, 2h or 7d nor a date such as 2026-11-23'
        raise click.BadParameter(message, ctx, param) from None


def option_name(argument: str) -> str:
    """Return the option of an argument: aspect_ratio becomes --aspect-ratio."""
    return f"--{argument.replace('_', '-')}"


def argument_options(tool: Tool, *, without: Iterable[str]) -> list[click.Parameter]:
    """Return one option for each of the tool's arguments, except those in `without`."""
    left_out = set(without)
    properties = tool.input_schema["properties"]
    return [_option(tool, name, schema) for name, schema in properties.items() if name not in left_out]


def _option(tool: Tool, name: str, schema: Mapping[str, Any]) -> click.Option:
    help_text = _FOR_PEOPLE.get(name) or str(schema.get("description", ""))
    if name == "model":
        help_text = "; ".join(_model_line(model) for model in tool.models) + "."
    if without := [model.tier for model in tool.models if name in model.forbids]:
        help_text = f"{help_text} Not for {' or '.join(without)}."
    if "default" in schema:
        help_text = f"{help_text} Default {schema['default']}.".strip()
    if schema["type"] == "boolean":
        flag = option_name(name)
        return click.Option([f"{flag}/--no-{flag[2:]}", name], default=None, help=help_text)
    choices = f"[{'|'.join(schema['enum'])}]" if "enum" in schema else "TEXT"
    if schema["type"] == "integer":  # the text of one that is none is refused with the bounds, as an agent's is
        choices = f"[{schema['minimum']}-{schema['maximum']}]"
    return click.Option([option_name(name), name], default=None, metavar=choices, help=help_text)


def _model_line(model: Model) -> str:
    prices = [
        f"price of {resolution} not published" if price is None else f"{resolution} ${price:.2f}"
        for resolution, price in model.prices_usd.items()
    ]
    return f"{model.tier}: {', '.join(filter(None, [model.use_for, model.limits, *prices]))}"


def wait_option(manifest: Manifest) -> click.Option:
    """Return the option for the longest wait."""
    bounds = manifest.settings["wait_s"].schema
    return click.Option(
        ["--wait", "wait_s"],
        type=Number(bounds["minimum"], bounds["maximum"]),
        metavar="SECONDS",
        help=f"Longest wait for the image. Default: {manifest.settings['wait_s'].env}, else {LOCAL.wait_s:.0f}.",
    )


def waiting_options(manifest: Manifest) -> list[click.Parameter]:
    """Return the options of every command that waits for one image."""
    return [
        wait_option(manifest),
        click.Option(
            ["--output"],
            metavar="PATH",
            help="Save the image there too, and print its path: a folder, or a file such as fox.png.",
        ),
        click.Option(["--open", "show"], is_flag=True, help="Show the image in your viewer or browser."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the whole result object."),
    ]


def session_options() -> list[click.Parameter]:
    """Return the options of every command that may make a new image."""
    return [
        click.Option(
            ["--session"],
            metavar="NAME",
            help="Join an equal request of this session that is running, or whose image was never printed, instead of "
            "paying again. Without a session only interrupted requests are joined.",
        ),
        click.Option(["--new"], is_flag=True, help="Join nothing: always make, and pay for, a new image."),
    ]


def given_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that were given, in the tool's form."""
    return {name: _in_tool_form(value) for name, value in values.items() if value is not None}


def _in_tool_form(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_in_tool_form(item) for item in value]
    return typed_text(value) if isinstance(value, str) else value


def typed_text(text: str) -> str:
    """Return text of the command line as it was typed: in UTF-8, also in a locale that has fewer characters."""
    if any("\udc80" <= character <= "\udcff" for character in text):
        with contextlib.suppress(UnicodeError):
            return os.fsencode(text).decode("utf-8")
    return text


_NEAREST = re.compile(r"\(nearest: (?P<value>[^()]+)\)$")


def option_hint(violations: Sequence[str], tool: Tool) -> str | None:
    """Return "pass --aspect-ratio 16:9" for violations that name a nearest value, or None."""
    found = []
    for violation in violations:
        match = _NEAREST.search(violation)
        name = next((n for n in tool.input_schema["properties"] if re.search(rf"\b{n}\b", violation)), None)
        if match and name and not name.startswith("source"):
            found.append(f"{option_name(name)} {match['value']}")
    return f"pass {' '.join(found)}" if found else None
