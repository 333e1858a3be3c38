"""Source pictures from this machine: what may be read, what is uploaded, and what never leaves the disk."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import resource
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flux2_tool.context import CallContext
from flux2_tool.engine.source_checks import checked_file, checked_link
from flux2_tool.exceptions import SourceRefusedError
from flux2_tool.images.decode_limits import MAX_SOURCE_BYTES
from flux2_tool.images.decoder import shared_decoder
from flux2_tool.images.safe_open import open_source
from flux2_tool.images.source_paths import open_named
from flux2_tool.images.source_places import SourcePlaces
from flux2_tool.sandbox import SandboxOptions
from tests.support.harness import FOX, PICTURE_URL, SandboxTransport, opened_tool
from tests.support.pictures import picture
from tests.support.virtual_time import run_virtual

WHERE = "source_image_urls[0]"


def giant_png(width_px: int, height_px: int) -> bytes:
    """Return a PNG of a few bytes that claims any number of pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An agent's workspace with one picture in it."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "cat.png").write_bytes(picture())
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """OpenClaw's state folder with one picture that came in by chat."""
    inbound = tmp_path / ".openclaw" / "media" / "inbound"
    inbound.mkdir(parents=True)
    (inbound / "photo---1.jpg").write_bytes(picture("JPEG"))
    (tmp_path / ".openclaw" / "openclaw.json").write_text('{"secret": 1}')
    return tmp_path / ".openclaw"


def remix(home: Path, runapi: SandboxTransport, caller: CallContext, *sources: str, **settings: Any) -> dict[str, Any]:
    """Make one remix call and return its result object."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi, **settings) as tool:
            arguments = {"prompt": "make it blue", "source_image_urls": list(sources)}
            return await tool.call("remix_image", arguments, caller=caller)

    return run_virtual(main())


def sent_sources(runapi: SandboxTransport, result: dict[str, Any]) -> list[str]:
    """Return the links that reached RunAPI."""
    sources: list[str] = runapi.sandbox.ledger.tasks[result["task"]["id"]].arguments["source_image_urls"]
    return sources


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("cat.png", id="relative to the workspace"),
        pytest.param("./sub/../cat.png", id="a path that turns back"),
        pytest.param("{workspace}/cat.png", id="absolute"),
        pytest.param("file://{workspace}/cat.png", id="a file URL"),
        pytest.param("media://inbound/photo---1.jpg", id="an inbound reference"),
        pytest.param("media/inbound/photo---1.jpg", id="an inbound reference of a sandbox"),
        pytest.param("{state}/media/inbound/photo---1.jpg", id="an inbound path"),
        pytest.param("data:image/png;base64,{data}", id="a data URL"),
    ],
)
def test_a_picture_of_the_agents_own_is_uploaded(
    home: Path, runapi: SandboxTransport, workspace: Path, state: Path, source: str
) -> None:
    """In a chat, pictures come from people; they are files, not links."""
    (workspace / "sub").mkdir()
    data = base64.b64encode(picture()).decode()
    source = source.format(workspace=workspace, state=state, data=data)

    result = remix(home, runapi, CallContext(session="s", workspace_dir=workspace, state_dir=state), source)

    assert result["task"]["state"] == "completed"
    assert len(runapi.sandbox.ledger.uploads) == 1
    assert sent_sources(runapi, result)[0].startswith("https://runapi.test/")
    assert runapi.sandbox.ledger.authorization_leaks == []


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        pytest.param("/etc/hostname", "outside the folders", id="outside"),
        pytest.param("../secret.png", "outside the folders", id="by turning back"),
        pytest.param("link.png", "outside the folders", id="a link out"),
        pytest.param("linked/secret.png", "outside the folders", id="a linked folder"),
        pytest.param("/no/such/file.png", "outside the folders", id="outside and missing: nothing is told"),
        pytest.param("{state}/openclaw.json", "outside the folders", id="OpenClaw's own configuration"),
        pytest.param("media://inbound/../../openclaw.json", None, id="an inbound reference that climbs"),
        pytest.param("media://inbound/%2e%2e%2fopenclaw.json", "outside the folders", id="climbing, encoded"),
        pytest.param(".hidden.png", "hidden", id="a hidden file"),
        pytest.param(".ssh/key.png", "hidden", id="in a hidden folder"),
        pytest.param("nothing.png", "no such file", id="missing"),
        pytest.param("folder", '"folder" is a folder', id="a folder"),
        pytest.param("pipe.png", '"pipe.png" is a pipe', id="a pipe"),
        pytest.param("notes.png", "is text", id="text named .png"),
        pytest.param("giant.png", "pixels", id="200 megapixels"),
        pytest.param("cut.jpg", "cut short", id="a picture cut short"),
        pytest.param("huge.png", "MiB", id="too many bytes"),
        pytest.param("file://fileserver/cat.png", "another machine", id="another machine's file"),
        pytest.param("file://[x", "another machine", id="a broken file URL"),
        pytest.param("data:image/png;base64,AAAA", "not a picture", id="data that is no picture"),
        pytest.param("http://127.0.0.1/x.png", "private address", id="loopback"),
        pytest.param("http://2130706433/x.png", "private address", id="loopback as a number"),
        pytest.param("http://[::ffff:10.0.0.1]/x.png", "private address", id="a mapped address"),
        pytest.param("http://127。0。0。1/x.png", "private address", id="loopback with other dots"),
        pytest.param("http://%31%32%37.0.0.1/x.png", "private address", id="loopback, percent-encoded"),
        pytest.param("http://[64:ff9b::a9fe:a9fe]/x.png", "private address", id="a translated address"),
        pytest.param("http://169.254.169.254/latest/meta-data", "private address", id="a cloud's metadata service"),
        pytest.param("https://printer.local/x.png", "private address", id="a local name"),
        pytest.param("task:last", "no finished picture", id="no last picture"),
    ],
)
def test_what_may_not_be_read_is_refused_with_its_rule_and_nothing_leaves(
    home: Path, runapi: SandboxTransport, workspace: Path, state: Path, source: str, rule: str | None
) -> None:
    """A prompt-injected agent may be told to "remix" a private file."""
    (workspace.parent / "secret.png").write_bytes(picture())
    (workspace / "link.png").symlink_to(workspace.parent / "secret.png")
    (workspace / "linked").symlink_to(workspace.parent)
    (workspace / ".hidden.png").write_bytes(picture())
    (workspace / ".ssh").mkdir()
    (workspace / ".ssh" / "key.png").write_bytes(picture())
    (workspace / "folder").mkdir()
    os.mkfifo(workspace / "pipe.png")
    (workspace / "notes.png").write_text("the launch code is 0000")
    (workspace / "giant.png").write_bytes(giant_png(20_000, 10_000))
    (workspace / "cut.jpg").write_bytes(picture("JPEG", (400, 400), quality=95)[:700])
    with (workspace / "huge.png").open("wb") as file:
        file.truncate(MAX_SOURCE_BYTES + 1)
    caller = CallContext(session="s", workspace_dir=workspace, state_dir=state)

    # The good picture comes first: a refusal must come before even that is uploaded.
    error = remix(home, runapi, caller, "cat.png", source.format(state=state))["error"]

    assert error["code"] == ("source_refused" if rule else "invalid_arguments")
    assert "source_image_urls[1]" in error["message"]
    assert rule is None or rule in error["message"]
    assert error["charged"] == "no"
    assert error["hint"]
    assert "0000" not in str(error)
    assert runapi.sandbox.ledger.uploads == []
    assert runapi.sandbox.ledger.creates == []


def test_a_sandboxed_session_may_use_pictures_from_the_chat_only(
    home: Path, runapi: SandboxTransport, workspace: Path, state: Path
) -> None:
    """Its own files are in the sandbox; the host's are none of its business."""
    caller = CallContext(session="s", workspace_dir=workspace, state_dir=state, sandboxed=True)

    refused = remix(home, runapi, caller, "cat.png")
    allowed = remix(home, runapi, caller, "media/inbound/photo---1.jpg")

    assert refused["error"]["code"] == "source_refused"
    assert "sandboxed" in refused["error"]["message"]
    assert allowed["task"]["state"] == "completed"


@pytest.mark.parametrize("sandboxed", [True, False])
def test_openclaws_workspace_copy_counts_as_a_picture_from_the_chat(
    home: Path, runapi: SandboxTransport, workspace: Path, state: Path, tmp_path: Path, sandboxed: bool
) -> None:
    """That copy's path is what the model reads; it works in a sandbox and whatever folders are configured."""
    copy = workspace / "media" / "inbound" / "openclaw-staged-1" / "input-photo.jpg"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(picture("JPEG"))
    (copy.parent / "link.jpg").symlink_to(state / "openclaw.json")
    caller = CallContext(session="s", workspace_dir=workspace, state_dir=state, sandboxed=sandboxed)
    relative = "media/inbound/openclaw-staged-1/input-photo.jpg"

    results = [
        remix(home, runapi, caller, source, source_roots=(str(tmp_path / "album"),))
        for source in (relative, str(copy), "media/inbound/openclaw-staged-1/link.jpg", "cat.png")
    ]

    assert [result.get("task", {}).get("state") for result in results[:2]] == ["completed", "completed"]
    assert [result["error"]["code"] for result in results[2:]] == ["source_refused", "source_refused"]


@pytest.mark.parametrize("replaced", ["media", "media/inbound"])
def test_a_sandboxed_session_cannot_link_the_copies_folder_elsewhere(
    home: Path, runapi: SandboxTransport, workspace: Path, state: Path, tmp_path: Path, replaced: str
) -> None:
    """It writes in its own workspace; what it puts in that folder's place must not open the host's folders."""
    album = tmp_path / "album"
    (album / "inbound").mkdir(parents=True)
    for folder in (album, album / "inbound"):
        (folder / "passport.png").write_bytes(picture())
    (workspace / replaced).parent.mkdir(exist_ok=True)
    (workspace / replaced).symlink_to(album)
    caller = CallContext(session="s", workspace_dir=workspace, state_dir=state, sandboxed=True)

    errors = [
        remix(home, runapi, caller, source)["error"]
        for source in ("media/inbound/passport.png", str(album / "passport.png"))
    ]

    assert [error["code"] for error in errors] == ["source_refused", "source_refused"]
    assert runapi.sandbox.ledger.uploads == []


def test_a_workspace_that_is_reached_through_a_link_still_has_its_copies(
    home: Path, runapi: SandboxTransport, workspace: Path, state: Path, tmp_path: Path
) -> None:
    """Where the operator put the workspace is not the agent's doing."""
    (workspace / "media" / "inbound").mkdir(parents=True)
    (workspace / "media" / "inbound" / "photo.png").write_bytes(picture())
    (tmp_path / "link").symlink_to(workspace)
    caller = CallContext(session="s", workspace_dir=tmp_path / "link", state_dir=state, sandboxed=True)

    assert remix(home, runapi, caller, "media/inbound/photo.png")["task"]["state"] == "completed"


@pytest.mark.parametrize("source", ["media://inbound/photo---1.jpg", "media/inbound/photo---1.jpg"])
@pytest.mark.parametrize("sandboxed", [False, True])
def test_without_its_workspace_a_session_still_has_its_chats_pictures(
    home: Path, runapi: SandboxTransport, tmp_path: Path, state: Path, source: str, sandboxed: bool
) -> None:
    """An agent's folder may be made only when it first writes to it, or have been deleted."""
    caller = CallContext(session="s", workspace_dir=tmp_path / "gone", state_dir=state, sandboxed=sandboxed)

    assert remix(home, runapi, caller, source)["task"]["state"] == "completed"


def outcomes(places: SourcePlaces, *sources: str | Path) -> list[tuple[str, str] | bytes]:
    """Return what a session is told of each source: its bytes, or the refusal and its hint."""
    found: list[tuple[str, str] | bytes] = []
    for source in sources:
        try:
            with open_named(str(source), places, where=WHERE) as file:
                found.append(file.read())
        except SourceRefusedError as exc:
            found.append((exc.message, exc.hint))
    return found


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the host's that no session may know anything about."""
    folder = tmp_path / "host"
    (folder / "there" / "below").mkdir(parents=True)
    (folder / "there.png").write_bytes(picture())
    (folder / "there.txt").write_text("secret")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    return folder


NAMES = (
    "there.png",
    "there.txt",
    "there",
    "there/below",
    "loop",
    "pipe",
    "missing.png",
    "missing/below",
    "there.png/x",
)


def test_a_sandboxed_session_is_told_the_same_of_every_file_of_the_host(
    workspace: Path, state: Path, outside: Path
) -> None:
    """It may write links into its workspace; whatever they lead to, the refusal tells nothing about it."""
    copies = workspace / "media" / "inbound"
    copies.mkdir(parents=True)
    (copies / "out").symlink_to(outside)
    (copies / "folder").mkdir()
    (copies / "photo.png").write_bytes(picture())
    for number, name in enumerate(NAMES):
        (copies / f"link{number}").symlink_to(outside / name)
        (copies / f"relative{number}").symlink_to(Path(os.path.relpath(outside, copies)) / name)
    places = SourcePlaces(
        roots=(), workspace=workspace, inbound=state / "media" / "inbound", staged=copies, inbound_only=True
    )
    sources: list[str | Path] = [*(outside / name for name in NAMES)]
    for number, name in enumerate(NAMES):
        sources += [f"media/inbound/link{number}", copies / f"relative{number}", f"media/inbound/out/{name}"]
        sources += [f"file://{outside}/{name}", f"media://inbound/../../../host/{name}"]
    sources += ["media/inbound/missing.png", "media/inbound/folder", "media://inbound/missing.png", "cat.png", "~/x"]
    sources += ["media/inbound/photo.png/", f"media/inbound/out/there{'x' * 300}", copies / "\0", workspace, "/"]

    told = outcomes(places, *sources)

    assert [item for item in told if isinstance(item, bytes)] == [picture()]  # photo.png, with a slash behind
    assert len(set(told)) == 2
    assert "sandboxed" in str(told[0])


@pytest.mark.parametrize("through", ["there", "missing", "there.png", "loop"])
def test_a_path_that_passes_the_host_and_comes_back_tells_nothing(workspace: Path, outside: Path, through: str) -> None:
    """Whether "/etc/NAME/../.." can be passed would tell whether NAME exists, in a path or in a link's target."""
    detour = f"{outside}/{through}/../../workspace/cat.png"
    (workspace / "link.png").symlink_to(detour)
    (workspace / "deep").symlink_to(f"../host/{through}/..")
    places = SourcePlaces(roots=(workspace,), workspace=workspace)

    direct, linked, deep = outcomes(places, detour, "link.png", "deep/../cat.png")

    assert direct == linked == deep == picture()


@pytest.mark.parametrize("inside", [True, False], ids=["by a link in the workspace", "by its path"])
def test_a_session_is_told_the_same_of_every_file_outside_its_folders(
    workspace: Path, outside: Path, inside: bool
) -> None:
    """A workspace's files may be named when they are missing; what lies elsewhere may not."""
    (workspace / "out").symlink_to(outside)
    for number, name in enumerate(NAMES):
        (workspace / f"link{number}").symlink_to(outside / name)
    places = SourcePlaces(roots=(workspace,), workspace=workspace)
    sources = [f"out/{name}" for name in NAMES] if inside else [f"{outside}/{name}" for name in NAMES]
    sources += [f"link{number}" for number in range(len(NAMES))] if inside else ["/", "../host", "/nowhere"]

    [(message, hint)] = set(outcomes(places, *sources))  # type: ignore[misc]

    assert "outside the folders" in message
    assert hint


def test_links_between_allowed_folders_are_followed(workspace: Path, tmp_path: Path) -> None:
    """An album beside the workspace is as allowed as what links to it, by whichever of its names."""
    album = tmp_path / "album"
    album.mkdir()
    (album / "dog.png").write_bytes(picture())
    (tmp_path / "alias").symlink_to(tmp_path)
    (workspace / "album").symlink_to(album)
    (workspace / "again.png").symlink_to("album/dog.png")
    (workspace / "circle").symlink_to("circle")
    places = SourcePlaces(roots=(workspace, album), workspace=workspace)

    read = outcomes(places, "album/dog.png", "again.png", tmp_path / "alias" / "album" / "dog.png", "circle")

    assert read[:3] == [picture()] * 3
    assert '"circle" cannot be followed: its symbolic links go in a circle' in str(read[3])


def test_a_folder_that_leads_to_the_root_allows_nothing(tmp_path: Path, outside: Path) -> None:
    """A link to "/" in the settings would allow every file of the machine; only "/" itself says so."""
    (tmp_path / "everything").symlink_to("/")
    linked = SourcePlaces(roots=(tmp_path / "everything",), workspace=None)
    meant = SourcePlaces(roots=(Path("/"),), workspace=None)

    path = str(outside / "there.png")
    [refused, through], [read] = outcomes(linked, path, f"{tmp_path}/everything{path}"), outcomes(meant, path)

    assert refused == through
    assert "outside" in str(refused)
    assert read == picture()


def test_an_inbound_reference_is_the_picture_that_the_host_received(workspace: Path, state: Path) -> None:
    """The copy in the workspace may have been changed by the session; its name with "media://" means the original."""
    copies = workspace / "media" / "inbound"
    copies.mkdir(parents=True)
    (copies / "photo---1.jpg").write_bytes(picture("PNG"))
    places = SourcePlaces(roots=(workspace,), workspace=workspace, inbound=state / "media" / "inbound", staged=copies)

    original, copy = outcomes(places, "media://inbound/photo---1.jpg", "media/inbound/photo---1.jpg")

    assert original == picture("JPEG")
    assert copy == picture("PNG")


def test_without_a_workspace_an_inbound_reference_is_the_original(workspace: Path, state: Path) -> None:
    """A session may have none; there is no copy then, and the picture is the same."""
    inbound = state / "media" / "inbound"
    copies = workspace / "media" / "inbound"
    for nowhere, staged in ((None, None), (None, copies), (workspace / "gone", copies)):
        places = SourcePlaces(roots=(), workspace=nowhere, inbound=inbound, staged=staged)

        assert outcomes(places, "media/inbound/photo---1.jpg") == [picture("JPEG")]


@pytest.mark.parametrize("names", [("media\u200b",), ("media\u200b", "media\u200e")], ids=["one", "two"])
def test_a_folder_that_looks_like_that_of_the_copies_is_not_it(
    workspace: Path, state: Path, names: tuple[str, ...]
) -> None:
    """The host makes the folder, and spells it right; whatever a session puts beside it changes nothing."""
    for name in names:
        (workspace / name / "inbound").mkdir(parents=True)
        (workspace / name / "inbound" / "photo---1.jpg").write_bytes(picture("PNG"))
    copies = workspace / "media" / "inbound"
    places = SourcePlaces(roots=(), workspace=workspace, inbound=state / "media" / "inbound", staged=copies)

    assert outcomes(places, "media/inbound/photo---1.jpg") == [picture("JPEG")]


@pytest.mark.parametrize(
    "name", ["folder", "link.png", "missing.png", "cat.png", "folder/inner/cat.png", "folder/inner/missing.png"]
)
def test_no_descriptor_is_left_open(workspace: Path, name: str) -> None:
    """A worker lives for weeks; each refused source must not cost it a file."""
    (workspace / "folder" / "inner").mkdir(parents=True)
    (workspace / "folder" / "inner" / "cat.png").write_bytes(picture())
    (workspace / "link.png").symlink_to("cat.png")
    places = SourcePlaces(roots=(workspace,), workspace=workspace)
    before = len(list(Path("/proc/self/fd").iterdir()))

    outcomes(places, *[name] * 5)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_configured_roots_stand_in_the_workspaces_place(
    home: Path, runapi: SandboxTransport, workspace: Path, tmp_path: Path
) -> None:
    """An operator narrows or widens where pictures may come from."""
    album = tmp_path / "album"
    album.mkdir()
    (album / "dog.png").write_bytes(picture())
    caller = CallContext(session="s", workspace_dir=workspace)

    allowed = remix(home, runapi, caller, str(album / "dog.png"), source_roots=(str(album),))
    refused = remix(home, runapi, caller, "cat.png", source_roots=(str(album),))

    assert allowed["task"]["state"] == "completed"
    assert refused["error"]["code"] == "source_refused"


def test_chat_pictures_are_allowed_beside_a_wider_folder(
    home: Path, runapi: SandboxTransport, state: Path, tmp_path: Path
) -> None:
    """OpenClaw's state folder is a hidden one, often inside the folder that an operator allows."""
    caller = CallContext(session="s", workspace_dir=tmp_path, state_dir=state)

    allowed = remix(home, runapi, caller, "media://inbound/photo---1.jpg")
    refused = remix(home, runapi, caller, str(state / "openclaw.json"))

    assert allowed["task"]["state"] == "completed"
    assert "hidden" in refused["error"]["message"]


def test_a_path_that_a_person_typed_may_lie_in_a_hidden_folder(
    home: Path, runapi: SandboxTransport, state: Path
) -> None:
    """Whoever types a path knows where the picture is; a hidden file itself is rarely meant."""
    inbound = state / "media" / "inbound"
    (inbound / ".secret.jpg").write_bytes((inbound / "photo---1.jpg").read_bytes())
    caller = CallContext(session="s", any_folder=True, is_owner=True)

    allowed = remix(home, runapi, caller, str(inbound / "photo---1.jpg"), host="cli")
    refused = remix(home, runapi, caller, str(inbound / ".secret.jpg"), host="cli")

    assert allowed["task"]["state"] == "completed"
    assert "hidden" in refused["error"]["message"]


def test_a_folder_that_cannot_be_opened_is_a_refusal(workspace: Path) -> None:
    """A process that has run out of files, or a folder closed to it, is no defect of this package."""
    places = SourcePlaces(roots=(workspace,), workspace=workspace)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(SourceRefusedError, match="cannot be opened: Too many open files"):
            open_source(workspace / "cat.png", places, where=WHERE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


ANYWHERE = SourcePlaces(roots=None, workspace=None)


@contextmanager
def without_rights() -> Iterator[None]:
    """Run as a user to whom nothing here belongs, if this is root, whom no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", ["closed.png", "closed/cat.png"])
def test_a_file_without_the_right_to_read_it_is_named_so(tmp_path: Path, name: str) -> None:
    """It is there; whoever looks at the path finds nothing wrong with it."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture())
    closed = tmp_path / Path(name).parts[0]
    closed.chmod(0)
    try:
        with without_rights():
            [(message, hint)] = outcomes(ANYWHERE, path)  # type: ignore[misc]
    finally:
        closed.chmod(0o700)

    assert f'"{path}" cannot be read by this user: permission denied' in message
    assert "Give this user the right to read it" in hint


def test_what_is_there_and_is_no_file_is_named_with_its_kind(tmp_path: Path) -> None:
    """A slip of the hand is found when the error says what was found, not that something is wrong."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.png"))

        told = outcomes(ANYWHERE, tmp_path, "/", *(tmp_path / f"{name}.png" for name in ("pipe", "loop", "socket")))
        told += outcomes(ANYWHERE, "/dev/null")

    causes = ["is a folder", "is a folder", "is a pipe", "symbolic links go in a circle", "is a socket", "is a device"]
    for (message, hint), cause in zip(told, causes, strict=True):  # type: ignore[misc]
        assert cause in message
        assert 'was refused: "/' in message
        assert hint


def test_an_unreadable_file_is_told_rather_than_a_missing_one(workspace: Path) -> None:
    """A name in quotes is also looked for without them, where nothing is."""
    (workspace / "'a'").mkdir()

    [(message, _)] = outcomes(SourcePlaces(roots=(workspace,), workspace=workspace), "'a'")  # type: ignore[misc]

    assert "\"'a'\" is a folder" in message


def test_a_persons_relative_path_in_a_deleted_folder_says_so() -> None:
    """Only a person's own process has no folder for that reason; an agent may have been given no workspace."""
    [(typed, _)] = outcomes(ANYWHERE, "cat.png")  # type: ignore[misc]
    [(given, _)] = outcomes(SourcePlaces(roots=(), workspace=None), "cat.png")  # type: ignore[misc]

    assert '"cat.png" is relative to the working folder, which has been deleted' in typed
    assert "needs a workspace" in given


@pytest.mark.parametrize(
    ("roots", "base", "advice"),
    [
        pytest.param((), None, "the operator can name folders with the setting source_roots", id="no folder"),
        pytest.param(
            ("allowed",), None, "a folder of the setting source_roots. Else use an absolute", id="roots alone"
        ),
        pytest.param(("allowed",), "work", "put it into a folder of the setting source_roots", id="roots elsewhere"),
        pytest.param(("work",), "work", "put it into the workspace", id="a workspace"),
    ],
)
def test_the_advice_names_only_places_that_may_be_read(
    tmp_path: Path, roots: tuple[str, ...], base: str | None, advice: str
) -> None:
    """A model that is told to use a workspace which is none asks its user for a file that is refused again."""
    allowed = tuple(tmp_path / root for root in roots)
    places = SourcePlaces(roots=allowed, workspace=None if base is None else tmp_path / base)

    [(_, hint)] = outcomes(places, "cat.png" if base is None else "/etc/hostname")  # type: ignore[misc]

    assert advice in hint
    assert ("into the workspace" in hint) == (roots == ("work",))


def test_a_file_swapped_for_a_link_after_the_check_is_not_followed(tmp_path: Path) -> None:
    """Between a check and its use an attacker may act; here that goes on for the whole test."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    outside.mkdir()
    (outside / "x.png").write_bytes(b"private")
    (root / "a" / "x.png").write_bytes(b"public")
    (root / "evil").symlink_to(outside)
    places = SourcePlaces(roots=(root,), workspace=root)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            (root / "a").rename(root / "b")
            (root / "evil").rename(root / "a")
            (root / "a").rename(root / "evil")
            (root / "b").rename(root / "a")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        read: set[bytes] = set()
        for _ in range(3000):
            try:
                with open_source(root / "a" / "x.png", places, where=WHERE) as file:
                    read.add(file.read())
            except SourceRefusedError:
                read.add(b"refused")
    finally:
        done.set()
        thread.join()

    assert b"private" not in read
    assert b"public" in read


def test_eight_kinds_mix_and_equal_bytes_go_up_once(
    home: Path, runapi: SandboxTransport, workspace: Path, state: Path
) -> None:
    """Uploading takes seconds of somebody's wait."""
    (workspace / "copy.png").write_bytes((workspace / "cat.png").read_bytes())
    caller = CallContext(session="s", workspace_dir=workspace, state_dir=state)

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("text_to_image", FOX, caller=caller)
            data = "data:image/png;base64," + base64.b64encode(picture(size=(24, 24))).decode()
            sources = [
                "cat.png",
                str(workspace / "copy.png"),
                f"file://{workspace}/cat.png",
                "media://inbound/photo---1.jpg",
                data,
                PICTURE_URL,
                first["task"]["ref"],
                "task:last",
            ]
            return first, await tool.call("remix_image", {"prompt": "all", "source_image_urls": sources}, caller=caller)

    first, result = run_virtual(main())
    links = sent_sources(runapi, result)

    assert len(runapi.sandbox.ledger.uploads) == 3
    assert links[0] == links[1] == links[2]
    assert links[5] == PICTURE_URL
    assert links[6] == links[7] == first["images"][0]["url"]


def test_equal_requests_are_known_by_content_and_not_by_link(
    home: Path, runapi: SandboxTransport, workspace: Path
) -> None:
    """A host that times out repeats the call; the second upload's link must not make it a second image."""
    caller = CallContext(session="s", workspace_dir=workspace)
    (workspace / "copy.png").write_bytes((workspace / "cat.png").read_bytes())
    arguments = {"prompt": "make it blue", "source_image_urls": ["cat.png"]}

    async def main() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("remix_image", arguments, caller=caller, wait_s=1)
        async with opened_tool(home, runapi) as other:
            same = await other.call("remix_image", {**arguments, "source_image_urls": ["copy.png"]}, caller=caller)
            (workspace / "cat.png").write_bytes(picture(size=(64, 64)))
            return first, same, await other.call("remix_image", arguments, caller=caller)

    first, same, changed = run_virtual(main())

    assert (same["task"]["id"], same["task"]["joined"]) == (first["task"]["id"], True)
    assert changed["task"]["joined"] is False
    assert runapi.billed == 2


def test_the_place_a_photo_was_taken_does_not_leave_unless_configured(
    home: Path, runapi: SandboxTransport, workspace: Path
) -> None:
    """People do not know what their phone writes into a picture."""
    notes = Image.Exif()
    notes[0x0112] = 6  # held upright: the pixels lie on their side
    notes[0x010F] = "CameraMaker"
    (workspace / "photo.jpg").write_bytes(picture("JPEG", (40, 20), exif=notes))
    caller = CallContext(session="s", workspace_dir=workspace)

    remix(home, runapi, caller, "photo.jpg")
    remix(home, runapi, caller, "photo.jpg", keep_metadata=True)
    clean, kept = (stored.content or b"" for stored in runapi.sandbox.storage.files.values())

    assert b"CameraMaker" not in clean
    with Image.open(io.BytesIO(clean)) as image:
        assert image.size == (20, 40)
    assert kept == (workspace / "photo.jpg").read_bytes()


def test_another_conversations_task_is_refused_and_the_owner_may(home: Path, runapi: SandboxTransport) -> None:
    """In a group gateway one person's picture is not another's."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("text_to_image", FOX, caller=CallContext(session="agent/alice"))
            arguments = {"prompt": "make it blue", "source_image_urls": [first["task"]["ref"]]}
            return [
                await tool.call("remix_image", arguments, caller=CallContext(session="agent/bob")),
                await tool.call(
                    "get_image_task", {"task_id": first["task"]["id"]}, caller=CallContext(session="agent/bob")
                ),
                await tool.call("remix_image", arguments, caller=CallContext(session="agent/bob", is_owner=True)),
                await tool.call("remix_image", arguments, caller=CallContext(session="agent/alice")),
            ]

    source, look, owner, own = run_virtual(main())

    assert source["error"]["code"] == "source_refused"
    assert "another conversation" in source["error"]["message"]
    assert look["error"]["code"] == "task_not_found"
    assert owner["task"]["state"] == own["task"]["state"] == "completed"


def test_an_expired_picture_is_taken_from_its_saved_copy(home: Path, tmp_path: Path) -> None:
    """Links live seven days; an album lives longer."""
    runapi = SandboxTransport(SandboxOptions(duration_s=6.0, drawn_images=False, seed=1, image_life_s=3600))

    async def main(**settings: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        session = f"agent/{len(settings)}"
        async with opened_tool(home, runapi, **settings) as tool:
            first = await tool.call("text_to_image", {"prompt": f"an album {settings}"}, session=session)
            await asyncio.sleep(7200)
            again = await tool.call("get_image_task", {"task_id": first["task"]["id"]}, session=session)
            arguments = {"prompt": str(settings), "source_image_urls": ["task:last"]}
            return first, again, await tool.call("remix_image", arguments, session=session)

    album = tmp_path / "album"
    first, again, remixed = run_virtual(main(save_dir=str(album)))
    _, _, without = run_virtual(main())

    assert first["warnings"] == []
    assert Path(first["images"][0]["path"]).parent == album
    assert again["images"][0]["path"] == first["images"][0]["path"]
    assert any(warning.startswith("expired_url") for warning in again["warnings"])
    assert remixed["task"]["state"] == "completed"
    assert len(runapi.sandbox.ledger.uploads) == 1
    assert without["error"]["code"] == "source_refused"
    assert "expired" in without["error"]["message"]


@pytest.mark.parametrize(("is_saved", "uploads"), [(True, 1), (False, 0)])
def test_a_saved_copy_replaces_a_link_that_is_about_to_expire(
    home: Path, tmp_path: Path, is_saved: bool, uploads: int
) -> None:
    """RunAPI may fetch a source minutes after it was asked; a dead link then fails the task."""
    runapi = SandboxTransport(SandboxOptions(duration_s=6.0, drawn_images=False, seed=1, image_life_s=3600))

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi, **({"save_dir": str(tmp_path / "album")} if is_saved else {})) as tool:
            await tool.call("text_to_image", FOX, session="s")
            await asyncio.sleep(3300)
            arguments = {"prompt": "make it blue", "source_image_urls": ["task:last"]}
            return await tool.call("remix_image", arguments, session="s")

    assert run_virtual(main())["task"]["state"] == "completed"
    assert len(runapi.sandbox.ledger.uploads) == uploads


@pytest.mark.parametrize("instead", ["nothing", "a link", "a folder"])
def test_a_missing_saved_copy_is_refused_and_no_link_is_followed(home: Path, tmp_path: Path, instead: str) -> None:
    """The folder may be anybody's to write in; what was put in the copy's place is not our picture."""
    runapi = SandboxTransport(SandboxOptions(duration_s=6.0, drawn_images=False, seed=1, image_life_s=3600))
    (tmp_path / "private.png").write_bytes(picture())

    def replace(copy: Path) -> None:
        copy.unlink()
        if instead == "a link":
            copy.symlink_to(tmp_path / "private.png")
        elif instead == "a folder":
            copy.mkdir()

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi, save_dir=str(tmp_path / "album")) as tool:
            first = await tool.call("text_to_image", FOX, session="s")
            replace(Path(first["images"][0]["path"]))
            await asyncio.sleep(7200)
            arguments = {"prompt": "make it blue", "source_image_urls": ["task:last"]}
            return await tool.call("remix_image", arguments, session="s")

    error = run_virtual(main())["error"]

    assert (error["code"], error["charged"]) == ("source_refused", "no")
    assert runapi.sandbox.ledger.uploads == []


def test_a_relative_path_needs_a_workspace() -> None:
    """Relative to the gateway's own folder would be a lottery."""
    with pytest.raises(SourceRefusedError, match="workspace"):
        open_named("cat.png", SourcePlaces(roots=(), workspace=None), where=WHERE)


def test_a_path_from_home_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People type it, and no shell expands it for a model."""
    monkeypatch.setenv("HOME", str(tmp_path))

    (tmp_path / "cat.png").write_bytes(picture())

    with open_named("~/cat.png", SourcePlaces(roots=(tmp_path,), workspace=None), where=WHERE) as file:
        assert file.read() == picture()


def test_pictures_from_the_chat_exist_only_in_openclaw() -> None:
    """Over MCP there is no such folder; the model learns what works instead."""
    with pytest.raises(SourceRefusedError, match="only in OpenClaw"):
        open_named("media://inbound/photo.png", SourcePlaces(roots=(), workspace=None), where=WHERE)


def check_without_places(source: str) -> None:
    """Check a source as the engine does, where no folder is allowed."""
    places = SourcePlaces(roots=(), workspace=None)
    asyncio.run(checked_file(source, WHERE, places=places, decoder=shared_decoder(), keep_metadata=True))


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("data:image/svg+xml,<svg/>", "an SVG drawing"),
        ("data:image/png;base64,A*", "broken base64: an invalid character at 2"),
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,AAAAA", "broken base64: an impossible length"),
    ],
)
def test_data_that_cannot_be_decoded_is_refused(source: str, rule: str) -> None:
    """The arguments' schema refuses it too; bytes must not depend on a pattern in a manifest."""
    with pytest.raises(SourceRefusedError, match=rule):
        check_without_places(source)


def test_a_link_with_a_password_is_refused_without_repeating_it() -> None:
    """RunAPI would store it, and whoever answers for that server has not agreed."""
    with pytest.raises(SourceRefusedError, match="user name or password") as caught:
        checked_link("https://me:hunter2@cdn.example/x.png", WHERE, places=SourcePlaces(roots=(), workspace=None))

    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"


def test_data_larger_than_a_picture_may_be_is_refused_before_it_is_decoded() -> None:
    """A worker serves many sessions; one of them must not fill its memory."""
    source = "data:image/png;base64," + "A" * (MAX_SOURCE_BYTES * 4 // 3 + 8)

    with pytest.raises(SourceRefusedError, match="at most 30 MiB"):
        check_without_places(source)
