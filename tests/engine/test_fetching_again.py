"""A finished picture is paid for: it is fetched again after a passing failure, to the place that was meant."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool._network_errors import UnusableConnectionError
from flux2_tool.cli.output import exit_code_of, print_outcome
from flux2_tool.engine.save_targets import SaveTarget
from flux2_tool.engine.wait import CancelToken, Progress
from flux2_tool.exceptions import InvalidArgumentsError
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.results import Cost, PictureTask, TaskInfo, Timing, ToolResult
from tests.support.harness import CREATED, DONE, PICTURE_URL, Answer, MockService, Seen, run_call
from tests.support.pictures import file_of, picture, plain_png, scene, with_frame, with_long_note

PNG = picture(size=(64, 48))
WHOLE = (200, PNG, {})
HTML = (200, b"<html>Sign in</html>", {"content-type": "text/html"})


class Storage:
    """A service that makes one task, and a storage that answers each fetch in turn; the last answer is repeated."""

    def __init__(self, *answers: Any, done: Any = DONE, finished_ago_s: float = 0.0) -> None:
        self.left = list(answers)
        self.done = done
        self.fetched_at_s: list[float] = []
        self.service = MockService(self._answer)

    def _answer(self, request: Seen) -> Answer:
        if "cdn.example" not in request.url:
            return (200, CREATED) if request.method == "POST" else (200, self.done)
        self.fetched_at_s.append(request.at_s)
        answer = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(answer, tuple):
            status, body, headers = answer
            return httpx.Response(status, content=body, headers={"content-type": "image/png", **headers})
        return answer() if callable(answer) else answer


class _Slow(httpx.AsyncByteStream):
    """A picture that takes so long to arrive."""

    def __init__(self, body: bytes, takes_s: float, *, fails: bool = False) -> None:
        self._body, self._takes_s, self._fails = body, takes_s, fails

    async def __aiter__(self) -> Any:
        for index in range(10):
            part = len(self._body) // 10 + 1
            await asyncio.sleep(self._takes_s / 10)
            if self._fails and index == 5:
                raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
            yield self._body[index * part : (index + 1) * part]


def slow(takes_s: float, *, fails: bool = False) -> Callable[[], httpx.Response]:
    """Return what answers with a picture that takes so long."""
    return lambda: httpx.Response(200, stream=_Slow(PNG, takes_s, fails=fails))


def saved(home: Path, storage: Storage, folder: Path, **options: Any) -> dict[str, Any]:
    """Make one image that is saved in a folder, on virtual time."""
    return run_call(home, storage.service, output_dir=folder, **options)


@pytest.mark.transport_only("the fault is the network's own")
def test_a_network_that_cannot_be_used_is_not_tried_again(home: Path, tmp_path: Path) -> None:
    """The link is there, and what to do about the machine's set-up."""
    fault = UnusableConnectionError("the certificate of cdn.example is not accepted", "set SSL_CERT_FILE")
    storage = Storage(fault)

    result = saved(home, storage, tmp_path / "out")

    assert result["images"][0]["url"] == PICTURE_URL
    warning = next(one for one in result["warnings"] if one.startswith("not_saved"))
    assert "the certificate of cdn.example is not accepted; set SSL_CERT_FILE" in warning
    assert len(storage.fetched_at_s) == 1


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(httpx.ReadError("reset"), id="a reset"),
        pytest.param(httpx.ConnectError("refused"), id="no connection"),
        pytest.param(httpx.ReadTimeout("silent"), id="a stall"),
        pytest.param(slow(0.0, fails=True), id="a short body"),
        pytest.param((200, PNG[:-40], {}), id="a cut picture"),
        pytest.param((200, b"", {}), id="nothing"),
        pytest.param(HTML, id="a page"),
        *(
            pytest.param((code, b"<Error/>", {}), id=str(code))
            for code in (403, 404, 408, 425, 429, 500, 502, 503, 504)
        ),
    ],
)
@pytest.mark.parametrize("times", [1, 3])
def test_a_passing_failure_is_tried_again(home: Path, tmp_path: Path, failure: Any, times: int) -> None:
    """Storage that is some seconds late must not cost a picture that is paid for."""
    storage = Storage(*[failure] * times, WHOLE)

    result = saved(home, storage, tmp_path / "out")

    assert Path(result["images"][0]["path"]).read_bytes() == PNG
    assert result["warnings"] == []
    assert len(storage.fetched_at_s) == times + 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == [Path(result["images"][0]["path"]).name]


@pytest.mark.parametrize("code", [429, 503])
def test_the_storages_own_wait_is_obeyed(home: Path, tmp_path: Path, code: int) -> None:
    """It says when it is worth asking."""
    storage = Storage((code, b"", {"retry-after": "20"}), WHOLE)

    result = saved(home, storage, tmp_path / "out")

    assert result["images"][0]["path"]
    first, second = storage.fetched_at_s
    assert second - first == pytest.approx(20.0, abs=0.1)


@pytest.mark.parametrize(
    ("answer", "most"),
    [
        pytest.param((410, b"", {}), 1, id="gone"),
        pytest.param((401, b"", {}), 1, id="a login"),
        pytest.param((302, b"", {"location": "http://10.0.0.1/x"}), 1, id="a private address"),
        pytest.param((503, b"", {"retry-after": "3600"}), 1, id="a wait longer than the call's"),
        pytest.param((404, b"", {}), 5, id="a 404 that stays"),
        pytest.param(HTML, 5, id="a page that stays"),
        pytest.param((503, b"", {}), 8, id="a 503 that stays"),
        pytest.param(httpx.ReadError("reset"), 8, id="resets that stay"),
    ],
)
def test_what_does_not_pass_is_given_up_and_the_way_back_is_named(
    home: Path, tmp_path: Path, answer: Any, most: int
) -> None:
    """Nobody waits a quarter of an hour for a link that is dead, and nobody has to know the command by heart."""
    storage = Storage(answer)

    result = saved(home, storage, tmp_path / "my pictures", wait_s=600)

    assert len(storage.fetched_at_s) == most
    [warning] = result["warnings"]
    assert warning.startswith("not_saved: ")
    assert warning.endswith(f"flux2-tool task task:tsk_abc123 --output '{tmp_path}/my pictures'")
    assert result["images"][0]["url"] == PICTURE_URL
    tasks = tuple(PictureTask(**one) for one in result["tasks"])
    assert exit_code_of(ToolResult(**{**result, "task": TaskInfo(**result["task"]), "tasks": tasks})) == 7


def test_the_command_that_fetches_it_runs_nothing_else(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The id is RunAPI's, and whoever reads the line pastes it into a shell."""
    task_id = "a;id&$(id)"

    def answer(request: Seen) -> Answer:
        if "cdn.example" in request.url:
            return 410, {}
        return (200, {**CREATED, "task_id": task_id}) if request.method == "POST" else (200, {**DONE, "id": task_id})

    lost = run_call(home, MockService(answer), output_dir=tmp_path)
    running = run_call(home / "other", MockService(answer), wait_s=0)
    tasks = tuple(PictureTask(**one) for one in running["tasks"])
    parts = {"task": TaskInfo(**running["task"]), "tasks": tasks, "cost": Cost(**running["cost"])}
    result = ToolResult(**{**running, **parts, "timing": Timing(**running["timing"])})
    print_outcome(result, tool=load_manifest().tools["text_to_image"], as_json=False)

    assert lost["warnings"][0].endswith(f"flux2-tool task 'task:{task_id}' --output {tmp_path}")
    assert f"flux2-tool task '{task_id}'\n" in capsys.readouterr().err


def test_a_404_of_an_old_link_is_final(home: Path, tmp_path: Path) -> None:
    """Its picture was deleted; only just after it was made may it be late."""
    done = {**DONE, "images": [{"url": PICTURE_URL, "expires_at": "2026-11-22T00:00:00Z"}]}
    storage = Storage((404, b"", {}), done=done)

    saved(home, storage, tmp_path / "out")

    assert len(storage.fetched_at_s) == 1


def test_no_attempt_outlasts_the_calls_wait(home: Path, tmp_path: Path) -> None:
    """A host that gives up first loses the result."""
    storage = Storage((503, b"", {}))

    result = saved(home, storage, tmp_path / "out", wait_s=12)

    assert result["warnings"][0].startswith("not_saved: ")
    assert max(storage.fetched_at_s) <= 13.0


@pytest.mark.transport_only("over sockets the read timeout counts real seconds")
def test_a_slow_download_is_given_what_is_left_of_the_wait(home: Path, tmp_path: Path) -> None:
    """A slow line needs longer than a minute, and has it."""
    reports: list[Progress] = []

    result = saved(home, Storage(slow(75.0)), tmp_path / "out", wait_s=600, on_progress=reports.append)

    assert Path(result["images"][0]["path"]).read_bytes() == PNG
    saving = [report.elapsed_s for report in reports if report.message == "saving the picture"]
    assert len(saving) >= 15
    assert {report.task_id for report in reports if report.state == "saving"} == {"tsk_abc123"}


def test_a_call_that_is_stopped_while_it_tries_again_returns_at_once(home: Path, tmp_path: Path) -> None:
    """The link is the answer, and nothing is left on the disk."""
    cancel = CancelToken()

    def stop() -> httpx.Response:
        cancel.set()
        return httpx.Response(503)

    storage = Storage(stop)
    result = saved(home, storage, tmp_path / "out", cancel=cancel)

    assert "stopped" in result["warnings"][0]
    assert len(storage.fetched_at_s) == 1
    assert list((tmp_path / "out").iterdir()) == []


NEW_FORMAT = b"\xfe\xed\xfa\xce\1\2" * 20


# ---- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "media_type", "suffix", "has_size"),
    [
        pytest.param(lambda: file_of("AVIF"), "image/avif", ".avif", True, id="AVIF"),
        pytest.param(lambda: file_of("TIFF"), "image/png", ".tif", True, id="TIFF"),
        pytest.param(lambda: b"\xff\x0a\xfa\x0f" * 20, "image/png", ".jxl", False, id="JPEG XL"),
        pytest.param(lambda: NEW_FORMAT, "image/x-new", ".new", False, id="a format of the future"),
        pytest.param(lambda: NEW_FORMAT, "image/../../x", ".bin", False, id="an odd type"),
        pytest.param(lambda: NEW_FORMAT, "image/webp", ".bin", False, id="another format's type"),
        pytest.param(lambda: NEW_FORMAT, "application/octet-stream", ".bin", False, id="bytes"),
        pytest.param(lambda: NEW_FORMAT, "", ".bin", False, id="no type"),
        pytest.param(lambda: with_frame(file_of("JPEG"), bits=12), "image/jpeg", ".jpg", False, id="a JPEG of 12 bits"),
        pytest.param(lambda: plain_png(9000, 9000), "image/png", ".png", False, id="81 megapixels"),
        pytest.param(lambda: plain_png(15000, 15000), "image/png", ".png", False, id="225 megapixels"),
        pytest.param(lambda: file_of("WEBP", scene((6000, 6000))), "", ".webp", False, id="more memory than allowed"),
        pytest.param(lambda: with_long_note(file_of("PNG")), "image/png", ".png", True, id="a note of 3 MiB"),
    ],
)
def test_a_format_that_nothing_here_knows_is_kept_as_it_came(
    home: Path, tmp_path: Path, body: Callable[[], bytes], media_type: str, suffix: str, has_size: bool
) -> None:
    """It is the picture that was paid for; another program may show it."""
    data = body()

    result = saved(home, Storage((200, data, {"content-type": media_type})), tmp_path / "out")

    [image] = result["images"]
    assert Path(image["path"]).suffix == suffix
    assert Path(image["path"]).read_bytes() == data
    assert (image["width_px"] is not None) == has_size
    assert result["warnings"] == []


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        pytest.param(lambda: NEW_FORMAT, "text/html", id="called a page"),
        pytest.param(lambda: NEW_FORMAT, "application/json", id="called JSON"),
        pytest.param(lambda: b"<html>Sign in", "image/png", id="a page"),
        pytest.param(lambda: b'{"error": "gone"}', "application/octet-stream", id="JSON"),
        pytest.param(lambda: b"%PDF-1.7", "image/png", id="a PDF"),
        pytest.param(lambda: b"PK\3\4" + bytes(40), "", id="an archive"),
        pytest.param(lambda: plain_png(9000, 9000, rows=4500), "image/png", id="half of 81 megapixels"),
        pytest.param(lambda: file_of("WEBP", scene((6000, 6000)))[:-90], "image/webp", id="a large WebP cut short"),
    ],
)
def test_what_is_certainly_no_whole_picture_is_not_kept(
    home: Path, tmp_path: Path, body: Callable[[], bytes], media_type: str
) -> None:
    """A damaged file or an error message under a picture's name is worse than the link."""
    storage = Storage((200, body(), {"content-type": media_type}))

    assert saved(home, storage, tmp_path / "out")["warnings"][0].startswith("not_saved: ")


# ---- where to --------------------------------------------------------------------------------------------------------


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a person works in, with a home folder and a few things in it."""
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "person").mkdir()
    (tmp_path / "album").mkdir()
    (tmp_path / "album.png").mkdir()
    (tmp_path / "notes").write_text("mine")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "folder", "name"),
    [
        pytest.param("fox.png", ".", "fox.png", id="a file"),
        pytest.param("new/fox.JPEG", "new", "fox.JPEG", id="a file in a new folder"),
        pytest.param("~/fox.webp", "person", "fox.webp", id="a file at home"),
        pytest.param("~/pictures", "person/pictures", None, id="a folder at home"),
        pytest.param("album", "album", None, id="a folder that is there"),
        pytest.param("album.png", "album.png", None, id="a folder called like a file"),
        pytest.param("fox.png/", "fox.png", None, id="a slash at the end"),
        pytest.param("pictures", "pictures", None, id="a new folder"),
        pytest.param("v1.2", "v1.2", None, id="a dot that is no suffix"),
        pytest.param("notes", ".", "notes", id="a file that is there"),
        pytest.param(".", ".", None, id="here"),
    ],
)
def test_a_place_is_a_file_or_a_folder_as_a_person_means_it(at: Path, text: str, folder: str, name: str | None) -> None:
    """A folder called fox.png, or one called ~, is nobody's wish."""
    target = SaveTarget.of(text)

    assert target.folder.resolve() == (at / folder).resolve()
    assert target.name == name


@pytest.mark.parametrize("text", ["", "  ", "-", "a\0b", "~nobody-of-this-name/x", "x" * 300])
def test_a_place_that_means_nothing_is_refused(text: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidArgumentsError, match="could not be saved"):
        SaveTarget.of(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("/proc/nope", id="where no file can be"),
        pytest.param("notes/fox.png", id="below a file"),
        pytest.param("notes/album", id="a folder below a file"),
        pytest.param("x" * 254 + ".png", id="too long a name"),
        pytest.param("album/../notes/x/y", id="deep below a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_paid(at: Path, home: Path, text: str) -> None:
    """Nothing is made that then lies nowhere, and nothing is left of the trial."""
    before = sorted(at.rglob("*"))
    storage = Storage(WHOLE)

    target = SaveTarget(folder=at, name=text) if "/" not in text else SaveTarget.of(text)

    error = run_call(home, storage.service, output=target)["error"]

    assert (error["code"], error["charged"]) == ("invalid_arguments", "no")
    assert storage.service.seen == []
    assert sorted(path for path in at.rglob("*") if home not in (path, *path.parents)) == before


def test_a_picture_gets_the_name_that_was_asked_for(at: Path, home: Path) -> None:
    """As with curl and every other program."""
    result = run_call(home, Storage(WHOLE).service, output=SaveTarget.of("new/fox.png"))

    assert result["images"][0]["path"] == str(at / "new" / "fox.png")
    assert (at / "new" / "fox.png").read_bytes() == PNG
    assert result["warnings"] == []


def test_a_suffix_of_another_format_is_kept_and_said(at: Path, home: Path) -> None:
    """A script opens the file under the name that it gave."""
    result = run_call(home, Storage(WHOLE).service, output=SaveTarget.of("fox.jpg"))

    assert (at / "fox.jpg").read_bytes() == PNG
    assert result["warnings"] == ["other_format: fox.jpg has the format PNG, whatever its name says"]


@pytest.mark.parametrize(("name", "kind"), [("fox.JPEG", "JPEG"), ("fox.tiff", "TIFF"), ("fox.PNG", "PNG")])
def test_a_suffix_may_be_spelt_in_any_usual_way(at: Path, home: Path, name: str, kind: str) -> None:
    """It is no other format."""
    result = run_call(home, Storage((200, file_of(kind), {})).service, output=SaveTarget.of(name))

    assert result["warnings"] == []


def test_a_file_that_is_there_is_not_overwritten(at: Path, home: Path) -> None:
    """It may be a picture that was paid for, too."""
    (at / "fox.png").write_bytes(b"mine")

    result = run_call(home, Storage(WHOLE).service, output=SaveTarget.of("fox.png"))

    assert (at / "fox.png").read_bytes() == b"mine"
    assert result["images"][0]["path"] == str(at / "fox-2.png")
    assert result["warnings"] == ["renamed: fox.png is another file already; the picture was saved as fox-2.png"]


def test_several_pictures_under_one_name_are_numbered(at: Path, home: Path) -> None:
    """fox-1.png, fox-2.png: in the order in which they came."""
    done = {**DONE, "images": [{"url": PICTURE_URL}, {"url": f"{PICTURE_URL}?2"}]}
    other = picture(size=(24, 24))
    result = run_call(home, Storage(WHOLE, (200, other, {}), done=done).service, output=SaveTarget.of("fox.png"))

    assert [Path(image["path"]).name for image in result["images"]] == ["fox-1.png", "fox-2.png"]
    assert [(at / name).read_bytes() for name in ("fox-1.png", "fox-2.png")] == [PNG, other]
    assert result["warnings"] == []


def test_the_asked_place_and_the_settings_both_get_theirs(at: Path, home: Path) -> None:
    """Whoever asks for one copy has not given up the archive; it is fetched once."""
    storage = Storage(WHOLE)

    result = run_call(home, storage.service, output=SaveTarget.of("fox.png"), save_dir=str(at / "archive"))

    assert result["images"][0]["path"] == str(at / "fox.png")
    [kept] = (at / "archive").iterdir()
    assert kept.suffix == ".png"
    assert kept.read_bytes() == (at / "fox.png").read_bytes() == PNG
    assert len(storage.fetched_at_s) == 1


def test_one_place_that_fails_does_not_cost_the_other(at: Path, home: Path) -> None:
    """The archive's disk may be full."""
    result = run_call(
        home, Storage(WHOLE).service, output=SaveTarget.of("fox.png"), save_dir=str(at / "notes" / "archive")
    )

    assert (at / "fox.png").read_bytes() == PNG
    assert result["images"][0]["path"] == str(at / "fox.png")
    assert result["warnings"][0].startswith("not_saved: ")
    assert str(at / "notes" / "archive") in result["warnings"][0]


def test_a_copy_that_was_deleted_is_fetched_again(at: Path, home: Path) -> None:
    """A picture that was asked for on disk is there, or the exit code says so."""
    for _ in range(2):
        result = run_call(
            home, Storage(WHOLE).service, "get_image_task", {"task_id": "tsk_abc123"}, save_dir=str(at / "archive")
        )
        path = Path(result["images"][0]["path"])
        assert path.read_bytes() == PNG
        path.unlink()
    assert os.listdir(at / "archive") == []  # noqa: PTH208 - names
