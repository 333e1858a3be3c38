"""What a developer writes, for a strict type checker to read; `test_types.py` runs mypy on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

from flux2_tool import Flux2Error, Flux2Tool, Progress, SyncFlux2Tool, ToolResult
from flux2_tool.exceptions import InvalidArgumentsError


def show(progress: Progress) -> None:
    assert_type(progress.elapsed_s, float)
    print(progress.message)


async def pictures() -> None:
    async with Flux2Tool(api_key="sk-…", session="gallery", wait_s=60) as flux:
        assert_type(flux, Flux2Tool)
        fox = await flux.text_to_image("a red fox", aspect_ratio="16:9", new=True, on_progress=show)
        assert_type(fox, ToolResult)
        assert_type(fox.images[0].url, str)
        assert_type(fox.images[0].width_px, int | None)
        assert_type(fox.cost.usd, float | None)
        night = await flux.remix_image("at night", [fox, "task:last", Path("stone.png")], output_dir="pictures")
        later = await flux.get_image_task(night, wait_s=5.0)
        assert_type(later.warnings, tuple[str, ...])
        assert_type(await flux.call("text_to_image", {"prompt": "a red fox"}), dict[str, Any])
        assert_type(flux.definitions("openai"), list[dict[str, Any]])
        try:
            await flux.text_to_image("")
        except InvalidArgumentsError as error:
            assert_type(error.violations, tuple[str, ...])
        except Flux2Error as error:
            assert_type(error.task_id, str | None)


def waited_for() -> None:
    with SyncFlux2Tool() as flux:
        assert_type(flux.text_to_image("a red fox", output_resolution="2k"), ToolResult)
        assert_type(flux.remix_image("at night", "task:tsk_abc123"), ToolResult)
        assert_type(flux.call("get_image_task", {}), dict[str, Any])


async def refused(flux: Flux2Tool, fox: ToolResult) -> None:
    await flux.text_to_image("a fox", aspect_ratio="2:1")  # type: ignore[arg-type]
    await flux.text_to_image("a fox", aspect_ratio="auto")  # type: ignore[arg-type]
    await flux.text_to_image("a fox", seed=7)  # type: ignore[call-arg]
    await flux.get_image_task(fox, new=True)  # type: ignore[call-arg]
    SyncFlux2Tool().text_to_image("a fox", output_resolution="4k")  # type: ignore[arg-type]
