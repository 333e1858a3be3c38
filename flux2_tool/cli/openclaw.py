"""`openclaw install|status|uninstall|pack`: install the native plugin into OpenClaw and manage it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from flux2_tool.cli.exit_codes import DONE, WRONG_SETUP
from flux2_tool.cli.terminal import agreed, note, note_unwritten_output, write_json, write_line, write_path
from flux2_tool.schema.manifest import load_manifest

_command_option = click.option(
    "--openclaw", "command", metavar="PATH", help="The openclaw command. Default: the one on PATH."
)
_profile_option = click.option(
    "--profile", metavar="NAME", help="OpenClaw's own option of that name: a state folder of its own."
)


@click.group(invoke_without_command=True)
@click.pass_context
def openclaw(ctx: click.Context) -> int:
    """Install the plugin into OpenClaw, show its state, remove it, pack it."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    return DONE


@openclaw.command(short_help="Install or upgrade the plugin.")
@_command_option
@_profile_option
@click.option(
    "--image-generate/--no-image-generate", default=None,
    help="Serve OpenClaw's own tool image_generate too. Default: as it was installed before, at first not.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Agree without being asked.")
@click.option(
    "--accept-looser-settings", "accept_looser", is_flag=True,
    help="Agree that caps and other settings that guard money are looser than they were last.",
)  # fmt: skip
def install(
    command: str | None, profile: str | None, image_generate: bool | None, yes: bool, accept_looser: bool
) -> int:
    """Install or upgrade the plugin; its settings in OpenClaw's config stay as they are."""
    from flux2_tool.cli.interpreter import command_advice, command_here, lasting_python
    from flux2_tool.openclaw.guard_review import review_guards
    from flux2_tool.openclaw.install import consent_text, install, serves_image_generate
    from flux2_tool.openclaw.openclaw_cli import find_openclaw_cli

    manifest = load_manifest()
    cli = find_openclaw_cli(command, os.environ, profile=profile)
    python = lasting_python()
    if image_generate is None:
        image_generate = serves_image_generate(cli.state_folder)
    for line in consent_text(manifest, python=python, openclaw=cli.name, image_generate=image_generate).splitlines():
        note(line)
    hint = "read the lines above; to agree, run: flux2-tool openclaw install --yes"
    if not yes and not agreed("Install it?", hint=hint):
        note("nothing was installed")
        return WRONG_SETUP
    guards = review_guards(cli, manifest)
    for line in guards.lines:
        note(line)
    if guards.looser and not accept_looser:
        hint = "run one of the commands above for each, or add --accept-looser-settings"
        if yes or not agreed("Go on with looser settings?", hint=hint):
            note(f"nothing was installed; {hint}")
            return WRONG_SETUP
    guards.record()
    done = install(cli, manifest, python=python, image_generate=image_generate, notify=note)
    write_line(f"{manifest.id} {done.version} is installed in {cli.name}: {', '.join(done.tools)}")
    note_unwritten_output()
    also = "" if profile is None else f" --profile {shlex.quote(profile)}"
    status = f"{command_here(os.environ)} openclaw status{also}"
    note(f"A running gateway uses it at once. See whether your agents get the tools: {status}")
    for line in command_advice(os.environ):
        note(line)
    return DONE


@openclaw.command(short_help="Show versions, key source, tools, what hides them.")
@_command_option
@_profile_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(command: str | None, profile: str | None, as_json: bool) -> int:
    """Show versions, key source and tools, and what hides them with the command that fixes it."""
    from flux2_tool.openclaw.openclaw_cli import find_openclaw_cli
    from flux2_tool.openclaw.status import get_status, report

    found = get_status(find_openclaw_cli(command, os.environ, profile=profile), load_manifest(), os.environ)
    if as_json:
        write_json(found.as_object())
    else:
        for line in report(found).splitlines():
            write_line(line)
    return DONE if found.ok else WRONG_SETUP


@openclaw.command()
@_command_option
@_profile_option
def uninstall(command: str | None, profile: str | None) -> int:
    """Remove the plugin and its settings from OpenClaw, and say what stays."""
    from flux2_tool._folders import user_data_folder
    from flux2_tool.openclaw.openclaw_cli import find_openclaw_cli
    from flux2_tool.openclaw.uninstall import uninstall, what_stays
    from flux2_tool.settings import load_settings

    manifest = load_manifest()
    cli = find_openclaw_cli(command, os.environ, profile=profile)
    was_installed = uninstall(cli, manifest)
    write_line(
        f"{manifest.id} is removed from {cli.name}" if was_installed else f"{cli.name} has no plugin {manifest.id}"
    )
    note_unwritten_output()
    for line in what_stays(cli.state_folder, home=load_settings(os.environ).home, own=user_data_folder(os.environ)):
        note(line)
    return DONE


@openclaw.command(short_help="Write the plugin as an npm tarball.")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="DIR",
    help="Where to write it. Default: here.",
)  # fmt: skip
@click.option("--repository", metavar="URL", help="Where the source code is, for ClawHub.")
def pack(output: Path, repository: str | None) -> int:
    """Write the plugin as an npm tarball that brings this package, for `openclaw plugins install npm-pack:FILE`."""
    from flux2_tool.openclaw.pack import pack

    path = pack(load_manifest(), output=output, repository=repository)
    write_path(str(path))
    note_unwritten_output()
    packed = shlex.quote(f"npm-pack:{path.absolute()}")
    note(f"install it with: openclaw plugins install {packed} --force --accept-capabilities")
    note("With its first start the gateway makes a Python environment for it, unless one is configured or on its PATH.")
    return DONE
