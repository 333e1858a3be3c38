"""`manifest check` and `manifest export`: for editing the manifest and writing agents."""

from __future__ import annotations

import os
from typing import Any

import click

from flux2_tool.cli.exit_codes import DONE, WRONG_SETUP
from flux2_tool.cli.terminal import note, print_error, write_json, write_line
from flux2_tool.engine.host_profile import MCP, OPENCLAW
from flux2_tool.schema.manifest import MAX_MANIFEST_BYTES, load_manifest, manifest_path

FORMATS = ("openclaw", "mcp", "openai", "openai-responses", "anthropic", "gemini")


@click.group(invoke_without_command=True)
@click.pass_context
def manifest(ctx: click.Context) -> int:
    """Check the manifest, export the tools for an agent's host."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    return DONE


@manifest.command(short_help="Find every problem of a manifest.")
@click.argument("file", required=False, type=click.File("rb"), metavar="[FILE]")
def check(file: Any) -> int:
    """Find every problem of FILE ("-" for stdin), by default the manifest this installation uses."""
    from flux2_tool.schema.manifest_check import check_manifest

    name = str(manifest_path()) if file is None else file.name
    data = manifest_path().read_bytes() if file is None else file.read(MAX_MANIFEST_BYTES + 1)
    try:
        problems = check_manifest(data.decode("utf-8"))
    except UnicodeDecodeError as exc:
        problems = [f"(file): not UTF-8 (byte {exc.start})"]
    for problem in problems:
        print_error(problem)
    if problems:
        note(f"{len(problems)} problem(s) in {name}")
        return WRONG_SETUP
    write_line(f"{name}: ok")
    return DONE


@manifest.command(short_help="Print tool definitions for a host or a model's API.")
@click.option("--format", "shape", type=click.Choice(FORMATS), required=True, help="Whose tool definitions.")
@click.option("--tiers", metavar="LIST", help="Tiers to offer, comma separated. Default: the setting tiers.")
@click.option("--callback-hosts", metavar="LIST", help="Offer callback_url for these hosts, comma separated.")
@click.option("--strict", is_flag=True, help="For OpenAI's strict mode: all arguments required, null for none.")
def export(shape: str, tiers: str | None, callback_hosts: str | None, strict: bool) -> int:
    """Print the tool definitions as JSON, ready to hand to a host or a model's API."""
    from flux2_tool.schema.export import export as exported
    from flux2_tool.settings import load_settings

    overrides = {"tiers": _list(tiers), "callback_hosts": _list(callback_hosts)}
    settings = load_settings(os.environ, overrides=overrides)
    definitions = exported(
        load_manifest(),
        shape,
        tiers=settings.tiers,
        callback_hosts=settings.callback_hosts,
        wait_s=(OPENCLAW if shape == "openclaw" else MCP).longest_wait_s(settings),
        strict=strict,
    )
    write_json(definitions, indent=2)
    return DONE


def _list(text: str | None) -> list[str] | None:
    return None if text is None else [item.strip() for item in text.split(",") if item.strip()]
