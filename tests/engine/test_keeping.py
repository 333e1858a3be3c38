"""Copies of finished pictures, which OpenClaw's plugin keeps for a while beside its calls."""

from __future__ import annotations

import asyncio
import gc
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool.engine.keeping import END_GRACE_S, KEEP_DELAY_S, MOST_WAITING, SWEEP_EVERY_S
from flux2_tool.engine.kept_report import kept_report
from flux2_tool.tasks import live_tasks
from flux2_tool.tasks.task import ImageTask
from tests.support.harness import FOX, PICTURE_URL, MockService, Seen, numbered, opened_tool, settings_at
from tests.support.pictures import picture
from tests.support.virtual_time import run_virtual

FETCH = {"task_id": "tsk_1"}


class Service:
    """RunAPI with a picture behind its link.

    Attributes:
        fetched_s: When the link was fetched, on the loop's clock.
        answers: What the link answers, in turn; the last one again and again.
    """

    def __init__(self, *answers: int) -> None:
        self.fetched_s: list[float] = []
        self._answers = list(answers) or [200]
        self._api = numbered()
        self.transport = MockService(self._answer)

    def _answer(self, request: Seen) -> Any:
        if request.url != PICTURE_URL:
            return self._api.handler(request)
        self.fetched_s.append(request.at_s)
        code = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return httpx.Response(code, content=picture(), headers={"content-type": "image/png"})


def played(home: Path, service: Service, *steps: Any, pause_s: float = 60.0, **settings: Any) -> list[dict[str, Any]]:
    """Make calls in one process, each a tool with its arguments and options, with a pause after each."""

    async def main() -> list[dict[str, Any]]:
        results = []
        async with opened_tool(home, service.transport, **{"keep_days": 30, **settings}) as tool:
            for name, arguments, options in steps:
                results.append(await tool.call(name, arguments, session="a chat", **options))
                await asyncio.sleep(pause_s)
        return results

    return run_virtual(main())


def a_picture(prompt: str = "a red fox", **options: Any) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Return a step that makes a picture."""
    return "text_to_image", {"prompt": prompt}, options


A_LOOK = ("get_image_task", FETCH, {})


def kept_in(home: Path) -> list[Path]:
    """Return the kept files."""
    return sorted((home / "pictures").glob("*")) if (home / "pictures").is_dir() else []


def test_openclaw_keeps_a_copy_of_every_finished_picture(home: Path) -> None:
    """And says so as soon as somebody asks for the picture again."""
    service = Service()

    first, later = played(home, service, a_picture(), A_LOOK)

    [copy] = kept_in(home)
    assert copy.read_bytes() == picture()
    assert first["images"][0]["path"] is None
    assert later["images"][0]["path"] == str(copy)
    assert len(service.fetched_s) == 1


@pytest.mark.parametrize(
    ("options", "why"),
    [
        pytest.param({"host": "cli"}, "a person saves what they want", id="the command line"),
        pytest.param({"host": "mcp"}, "its data is no gateway's", id="mcp"),
        pytest.param({"keep_days": 0}, "the operator says so", id="switched off"),
        pytest.param({"save_dir": "album"}, "it is saved for good anyway", id="save_dir"),
    ],
)
def test_elsewhere_no_copy_is_kept(home: Path, tmp_path: Path, options: dict[str, Any], why: str) -> None:
    """The setting save_dir is for that, and its folder is nobody's to prune."""
    if "save_dir" in options:
        options = {"save_dir": str(tmp_path / "album")}

    played(home, Service(), a_picture(), **options)

    assert kept_in(home) == [], why


@pytest.mark.parametrize("options", [{"keep_days": 0}, {"save_dir": "album"}], ids=["switched off", "save_dir"])
def test_copies_of_before_are_still_reported(home: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """They take room until somebody deletes them, so nothing may deny them."""
    played(home, Service(), a_picture())
    options = {"save_dir": str(tmp_path / "album")} if "save_dir" in options else options

    report = kept_report(settings_at(home, **options))

    assert report.count == 1
    assert f"1 from before, 0.0 MB, stay in {home / 'pictures'} until you delete them" in report.text


def test_the_answer_does_not_wait_for_the_copy(home: Path) -> None:
    """A person waits for the picture, and nobody for its copy."""
    service = Service()

    async def main() -> tuple[float, int]:
        async with opened_tool(home, service.transport, keep_days=30) as tool:
            await tool.call("text_to_image", FOX)
            return asyncio.get_running_loop().time(), len(service.fetched_s)

    answered_s, fetched = run_virtual(main())

    assert fetched == 0
    # The end of the process hurries it.
    assert answered_s <= service.fetched_s[0] <= answered_s + END_GRACE_S


def test_what_the_host_got_is_copied_and_not_fetched_again(home: Path, tmp_path: Path) -> None:
    """OpenClaw's own copies go after days; a second download of the same bytes helps nobody."""
    service = Service()

    played(home, service, a_picture(output_dir=tmp_path / "shown"))

    [shown], [copy] = list((tmp_path / "shown").iterdir()), kept_in(home)
    assert copy.read_bytes() == shown.read_bytes()
    assert len(service.fetched_s) == 1


def test_a_kept_copy_serves_when_the_link_has_ended(home: Path, tmp_path: Path) -> None:
    """The person asks for the picture of last week."""
    service = Service(200, 403)

    _, later = played(home, service, a_picture(), ("get_image_task", FETCH, {"output_dir": tmp_path / "shown"}))

    assert Path(later["images"][0]["path"]).parent == tmp_path / "shown"
    assert Path(later["images"][0]["path"]).read_bytes() == picture()
    assert not [warning for warning in later["warnings"] if warning.startswith("not_saved")]
    assert len(service.fetched_s) == 1


def test_a_removed_copy_is_not_named_any_more(home: Path) -> None:
    """Whether the bounds or a person removed it: a path that leads nowhere is worse than none. It is not made again."""
    service = Service()
    played(home, service, a_picture())
    [copy] = kept_in(home)
    copy.unlink()

    [later] = played(home, service, A_LOOK)

    assert later["images"][0]["path"] is None
    assert kept_in(home) == []
    assert len(service.fetched_s) == 1


def test_the_oldest_copies_go_when_there_are_too_many(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest one stays even where it alone is over the bound."""
    monkeypatch.setattr("flux2_tool.engine.keeping.MB", 1)

    results = played(home, Service(), a_picture("one"), a_picture("two"), keep_mb=1)

    [copy] = kept_in(home)
    assert results[1]["task"]["id"] in copy.name


def test_the_next_process_keeps_what_this_one_could_not(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Storage was down for a while, or the gateway was stopped."""
    caplog.set_level(logging.WARNING)
    service = Service(503, 503, 503, 200)
    played(home, service, a_picture())
    assert kept_in(home) == []
    assert "no copy of its picture is kept: its link answered HTTP 503" in caplog.text

    played(home, service, a_picture("another"))

    assert len(kept_in(home)) == 2
    assert len(service.fetched_s) == 5


def test_what_could_not_be_kept_is_tried_again_later(home: Path) -> None:
    """By the same process, which may run for months: storage is back after a while."""
    service = Service(503, 503, 503, 200)

    played(home, service, a_picture(), a_picture("another"), pause_s=SWEEP_EVERY_S + 60.0)

    assert len(kept_in(home)) == 2


def test_a_link_that_is_gone_for_good_is_not_asked_again_and_again(home: Path) -> None:
    """Each look through the journal would ask for every such picture of the last week."""
    service = Service(410)

    played(home, service, *[a_picture(f"fox {n}") for n in range(4)], pause_s=2.0 * 3600.0)

    assert len(service.fetched_s) == 4


def test_a_burst_of_pictures_is_kept_without_all_of_them_waiting_in_memory(home: Path) -> None:
    """The journal remembers what there is no room for; what was made meanwhile is kept as well."""
    service, count, waiting = Service(), 3 * MOST_WAITING, list[int]()

    async def main() -> None:
        async with opened_tool(home, service.transport, keep_days=30) as tool:
            calls = (tool.call("text_to_image", {"prompt": f"fox {n}"}, session=f"chat {n}") for n in range(count))
            await asyncio.gather(*calls)
            waiting.append(len(asyncio.all_tasks()))
            await asyncio.sleep(60.0)

    run_virtual(main())

    assert len(kept_in(home)) == count
    assert waiting[0] < MOST_WAITING + 50


def test_a_kept_picture_leaves_nothing_to_the_garbage_collector(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds itself stays until Python looks for it, which is seldom where much is in memory."""
    service, left = Service(), list[Any]()
    monkeypatch.setattr(live_tasks, "MAX_RECORDED", 4)

    async def main() -> None:
        async with opened_tool(home, service.transport, keep_days=30) as tool:
            for number in range(6):
                if number == 3:  # what is made once is there
                    gc.collect()
                    gc.disable()
                await tool.call("text_to_image", {"prompt": f"fox {number}"}, session="a chat")
                await asyncio.sleep(60.0)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left.extend(gc.garbage)

    try:
        run_virtual(main())
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    assert len(kept_in(home)) == 6
    assert not [one for one in left if isinstance(one, httpx.Request | httpx.Response | ImageTask)]


def test_a_full_disk_costs_a_copy_and_nothing_else(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal needs the last room more than a copy does."""
    monkeypatch.setattr("flux2_tool.engine.keeping.free_bytes", lambda _folder: 1000)

    [result] = played(home, Service(), a_picture())

    assert result["task"]["state"] == "completed"
    assert kept_in(home) == []
    assert "the disk is almost full" in caplog.text


def test_a_folder_that_cannot_be_written_costs_a_copy_and_nothing_else(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The picture was answered, and its link works."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "pictures").write_text("a file in its place")

    [result] = played(home, Service(), a_picture())

    assert result["task"]["state"] == "completed"
    assert "no copy of its picture is kept" in caplog.text
    assert (home / "pictures").read_text() == "a file in its place"


def test_two_processes_keep_one_copy(home: Path) -> None:
    """Both find the same finished picture without a copy."""
    played(home, Service(503), a_picture())
    service = Service()

    async def main() -> None:
        async with (
            opened_tool(home, service.transport, keep_days=30) as one,
            opened_tool(home, service.transport, keep_days=30) as two,
        ):
            await asyncio.gather(*(tool.call("get_image_task", FETCH, session="a chat") for tool in (one, two)))
            await asyncio.sleep(60.0)

    run_virtual(main())

    assert len(kept_in(home)) == 1


def test_the_copy_is_made_some_seconds_after_the_answer(home: Path) -> None:
    """So that the answer's own download has the network for itself."""
    service = Service()

    async def main() -> float:
        async with opened_tool(home, service.transport, keep_days=30) as tool:
            await tool.call("text_to_image", FOX)
            answered_s = asyncio.get_running_loop().time()
            await asyncio.sleep(30.0)
            return answered_s

    answered_s = run_virtual(main())

    assert service.fetched_s == [pytest.approx(answered_s + KEEP_DELAY_S, abs=0.5)]
