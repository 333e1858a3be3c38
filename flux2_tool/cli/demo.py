"""`demo`: a full example from prompt to saved image, against a sandbox in this process, without a key."""

from __future__ import annotations

import tempfile

import click

DEFAULT_PROMPT = "a red fox in the snow, morning light"
DEFAULT_FOLDER = "flux2-images"
# Half the sandbox's realistic durations: long enough to show the wait, short enough to watch.
SPEED = 2.0


@click.command()
@click.argument("prompt", default=DEFAULT_PROMPT)
@click.option(
    "--output",
    default=DEFAULT_FOLDER,
    metavar="PATH",
    help=f"Where to save the image: a folder or a file. Default ./{DEFAULT_FOLDER}.",
)
def demo(prompt: str, output: str) -> int:
    """Run a full example: make a sandbox image of PROMPT, without a key or a charge."""
    # Imported here because `--help` must not pay for them.
    from flux2_tool._redaction import SecretStr
    from flux2_tool.cli.exit_codes import NOT_SAVED
    from flux2_tool.cli.options import typed_text
    from flux2_tool.cli.output import exit_code_of, print_failure
    from flux2_tool.cli.run import run_call
    from flux2_tool.cli.sandbox import sandbox_package
    from flux2_tool.cli.terminal import note, note_unwritten_output, print_error, write_path
    from flux2_tool.credentials import Credentials
    from flux2_tool.exceptions import CancelledCallError, Flux2Error
    from flux2_tool.schema.manifest import load_manifest
    from flux2_tool.schema.recent import one_task
    from flux2_tool.settings import load_settings

    package = sandbox_package()
    tool = load_manifest().tools["text_to_image"]
    with (
        tempfile.TemporaryDirectory(prefix="flux2-demo-") as home,
        package.running_sandbox(package.SandboxOptions(speed=SPEED)) as (base_url, _),
    ):
        note(f"mock RunAPI at {base_url}; the real RunAPI is not contacted")
        settings = load_settings({}, overrides={"home": home})
        credentials = Credentials(api_key=SecretStr("sk-demo"), base_url=base_url, source="demo")
        outcome = run_call(
            tool.name,
            {"prompt": typed_text(prompt)},
            show=lambda outcome: outcome,
            output=output,
            account=(settings, credentials),
        )
    if isinstance(outcome, CancelledCallError):
        print_error("interrupted; nothing was charged")
        return exit_code_of(outcome)
    if isinstance(outcome, Flux2Error):
        return print_failure(outcome, tool=tool)
    outcome = one_task(outcome)
    paths = [image.path for image in outcome.images if image.path]
    if not paths:
        print_error("; ".join(outcome.warnings) or "the image was not saved")
        return NOT_SAVED
    for path in paths:
        write_path(path)
    note_unwritten_output()
    note("the sandbox drew this image on this machine: Flux 2 was not called and nothing was charged")
    note('for real images set RUNAPI_API_KEY, then: flux2-tool generate "…"')
    return exit_code_of(outcome)
