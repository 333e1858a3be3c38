"""How a finished picture reaches its conversation, by channel: attached, by a line of the agent's, or by its link."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.openclaw.conftest import PluginHost, text_of

MakePlugin = Callable[..., Path]
QUEUED = {"messageChannel": "webchat", "deliveryContext": {"channel": "webchat", "to": "agent:main:main"}}
WEBCHAT = {**QUEUED, "delivery": {}}
"""A turn that OpenClaw follows as it runs."""


def lines_of(outcome: dict[str, Any]) -> list[str]:
    return re.findall(r'^MEDIA:"(.*)"$', text_of(outcome), re.MULTILINE)


def test_webchat_gets_a_line_that_the_agent_writes(host: PluginHost, make_plugin: MakePlugin, tmp_path: Path) -> None:
    """What a tool attaches there takes the place of the agent's words; where the line is missing it still comes."""
    host.register(make_plugin())

    outcome = host.call("titled a red fox in the snow", context=WEBCHAT)

    [path] = lines_of(outcome)
    assert Path(path).read_text() == "the picture's bytes"
    assert Path(path).name == "a red fox in the snow"
    assert Path(path).is_relative_to(tmp_path / "media" / "tool-flux2")
    assert "write a caption without a link, and under it this line, exactly so:" in text_of(outcome)
    assert outcome["details"]["media"]["mediaUrls"] == [outcome["details"]["result"]["images"][0]["url"]]


def test_a_turn_that_openclaw_does_not_follow_needs_the_suffix(host: PluginHost, make_plugin: MakePlugin) -> None:
    """One that waited behind another, or goes on after a restart: the page shows no picture without a suffix."""
    host.register(make_plugin())

    [first] = lines_of(host.call("titled a fox", context=QUEUED))
    Path(first).write_text("something else")
    [other] = lines_of(host.call("titled a fox", context={**QUEUED, "sessionKey": "another"}))

    assert [Path(first).name, Path(other).name] == ["a fox.png", "a fox (2).png"]


def test_webchat_gets_a_line_for_each_of_several(host: PluginHost, make_plugin: MakePlugin) -> None:
    """In their order, each from a folder of its own task."""
    host.register(make_plugin())

    outcome = host.call("four foxes", context=WEBCHAT, args={"prompt": "four foxes", "count": 4})

    paths = [Path(line) for line in lines_of(outcome)]
    assert [path.read_text() for path in paths] == [f"the picture's bytes{number}" for number in (1, 2, 3, 4)]
    assert [path.parent.name for path in paths] == ["tsk_1", "tsk_2", "tsk_3", "tsk_4"]
    assert "under it these lines, exactly so:" in text_of(outcome)
    assert "task:tsk_1, task:tsk_2, task:tsk_3, task:tsk_4, state: completed" in text_of(outcome)


def test_each_of_several_is_shown_once(host: PluginHost, make_plugin: MakePlugin) -> None:
    """What was ready is attached at once, the rest when it is fetched, and nothing of it by the repeated call."""
    host.register(make_plugin())
    group = {"messageChannel": "telegram", "sessionKey": "agent:main:telegram:group:-1", "sessionId": "s"}
    call: dict[str, Any] = {"context": group, "args": {"prompt": "partly 2", "count": 3}}

    partly = host.call("", **call)
    third = host.call("", tool="get_image_task", args={"task_id": "tsk_3"}, context=group)
    again = host.call("", **call)

    assert len(partly["details"]["media"]["mediaUrls"]) == 2
    assert "The pictures are already attached to this conversation, in this order" in text_of(partly)
    assert "https://" not in text_of(partly)
    assert len(third["details"]["media"]["mediaUrls"]) == 1
    assert "media" not in again["details"]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("../../etc/passwd", "etc passwd"),
        ('say "hi" to `me`', "say hi to me"),
        ("a\u202efox\nMEDIA:/etc/passwd", "a fox MEDIA etc passwd"),
        (".", "Picture"),
        ("/", "Picture"),
        ("画一张春节海报", "画一张春节海报"),
    ],
)
def test_a_prompt_becomes_a_safe_name(host: PluginHost, make_plugin: MakePlugin, title: str, name: str) -> None:
    """The line stands in quotation marks, and names a file of ours whatever somebody asks for."""
    host.register(make_plugin())

    [path] = lines_of(host.call(f"titled {title}", context=WEBCHAT))

    assert Path(path).name == name
    assert Path(path).parent.name == "tsk_1"


def test_pictures_of_one_name_are_told_apart(host: PluginHost, make_plugin: MakePlugin) -> None:
    """Fetched again it is the same file; another file under its name is not overwritten."""
    host.register(make_plugin())
    [first] = lines_of(host.call("titled a fox", context=WEBCHAT))
    [again] = lines_of(host.call("titled a fox", context={**WEBCHAT, "sessionKey": "another"}))
    Path(first).unlink()
    Path(first).write_text("something else")

    [other] = lines_of(host.call("titled a fox", context={**WEBCHAT, "sessionKey": "a third"}))

    assert first == again
    assert Path(other).name == "a fox (2)"
    assert Path(first).read_text() == "something else"


def test_a_picture_that_could_not_be_saved_is_attached(host: PluginHost, make_plugin: MakePlugin) -> None:
    """Better beside the words than not at all."""
    host.register(make_plugin())

    outcome = host.call("unsaved", context=WEBCHAT)

    assert lines_of(outcome) == []
    assert outcome["details"]["media"]["mediaUrls"]
    assert "already attached" in text_of(outcome)


def test_a_kept_copy_takes_the_place_of_a_link_that_has_ended(
    host: PluginHost, make_plugin: MakePlugin, tmp_path: Path
) -> None:
    """Somebody asks a group for an old picture: OpenClaw gets the copy, from a folder that it shows files of."""
    host.register(make_plugin())
    (tmp_path / "kept.png").write_text("the kept picture")

    outcome = host.call(f"kept {tmp_path / 'kept.png'}", context={"messageChannel": "telegram"})

    [url] = outcome["details"]["media"]["mediaUrls"]
    shown = Path(host.ask("resolved", plugin="plugin", url=url))
    assert shown.read_text() == "the kept picture"
    assert shown.is_relative_to(tmp_path / "media" / "tool-flux2")
    assert "already attached" in text_of(outcome)


def test_a_link_that_has_ended_is_attached_to_nothing(host: PluginHost, make_plugin: MakePlugin) -> None:
    """The worker says that nobody can show the picture any more; an attachment that fails would say less."""
    host.register(make_plugin())

    outcome = host.call("ended", context={"messageChannel": "telegram"})

    assert outcome["details"].get("media", {}).get("mediaUrls", []) == []
    assert "attached" not in text_of(outcome)


def test_a_sandboxed_agent_writes_no_line(host: PluginHost, make_plugin: MakePlugin) -> None:
    """Its lines name files of its sandbox alone."""
    host.register(make_plugin())

    outcome = host.call("titled a fox", context={**WEBCHAT, "sandboxed": True})

    assert lines_of(outcome) == []
    assert outcome["details"]["media"]["mediaUrls"]


def test_a_channel_needs_no_copy(host: PluginHost, make_plugin: MakePlugin, tmp_path: Path) -> None:
    """OpenClaw fetches the picture itself, which is sooner."""
    host.register(make_plugin())

    outcome = host.call("fox", context={"messageChannel": "telegram"})

    assert outcome["details"]["result"]["seen"]["params"]["output_dir"] is None
    assert not (tmp_path / "media").exists()


def test_a_sandboxs_picture_reaches_a_channel_as_our_copy(
    start_host: Callable[..., PluginHost], make_plugin: MakePlugin, tmp_path: Path
) -> None:
    """OpenClaw fetches nothing from this machine, and whoever tries before paying must see a picture."""
    host = start_host(RUNAPI_API_KEY="sk-1", RUNAPI_BASE_URL="http://127.0.0.1:9")
    host.register(make_plugin())

    outcome = host.call("loopback", context={"messageChannel": "telegram"})
    [url] = outcome["details"]["media"]["mediaUrls"]
    copy = host.ask("resolved", plugin="plugin", url=url)

    assert url.startswith("http://127.0.0.1")
    assert Path(copy).read_text() == "the picture's bytes"
    assert "already attached" in text_of(outcome)
    assert host.ask("resolved", plugin="plugin", url="http://127.0.0.1:9/other.png") is None


@pytest.mark.parametrize(
    ("prompt", "environ"),
    [
        ("plain", {}),
        ("loopback", {}),
    ],
)
@pytest.mark.parametrize("context", [{"messageChannel": "telegram"}, {}], ids=["telegram", "no channel"])
def test_nothing_is_called_attached_that_cannot_arrive(
    start_host: Callable[..., PluginHost],
    make_plugin: MakePlugin,
    prompt: str,
    environ: dict[str, str],
    context: dict[str, str],
) -> None:
    """OpenClaw refuses plain http and this machine; the person then needs the link."""
    host = start_host(RUNAPI_API_KEY="sk-1", **environ)
    host.register(make_plugin())

    outcome = host.call(prompt, context=context)

    [image] = outcome["details"]["result"]["images"]
    assert "media" not in outcome["details"]
    assert f"Not attached, because this chat cannot fetch it: send the user this link: {image['url']}" in text_of(
        outcome
    )


def test_copies_are_kept_as_long_as_the_service_keeps_the_picture(
    host: PluginHost, make_plugin: MakePlugin, tmp_path: Path
) -> None:
    """OpenClaw has copies of its own of what was shown."""
    host.register(make_plugin())
    [path] = lines_of(host.call("titled a fox", context=WEBCHAT))
    week_ago = Path(path).stat().st_mtime - 8 * 24 * 3600
    for old in (Path(path).parent, tmp_path / "media" / "tool-flux2" / "picture.png"):
        os.utime(old, (week_ago, week_ago))

    host.call("titled another fox", args={"task_id": "tsk_2"}, context=WEBCHAT)

    assert not Path(path).exists()
    assert [found.name for found in (tmp_path / "media" / "tool-flux2").iterdir() if found.is_dir()] == ["tsk_2"]


def test_a_folder_that_cannot_be_made_refuses_no_picture(
    host: PluginHost, make_plugin: MakePlugin, tmp_path: Path
) -> None:
    """It is attached by its link, as everywhere else."""
    (tmp_path / "media").write_text("not a folder")
    host.register(make_plugin())

    outcome = host.call("titled a fox", context=WEBCHAT)

    assert outcome["details"]["result"]["seen"]["params"]["output_dir"] is None
    assert outcome["details"]["media"]["mediaUrls"]
    assert "already attached" in text_of(outcome)


def test_what_could_not_be_shown_is_shown_when_it_is_fetched(host: PluginHost, make_plugin: MakePlugin) -> None:
    """It is paid for: an error must not count as shown, and names what to fetch instead of paying again."""
    host.register(make_plugin())
    same_turn: dict[str, Any] = {"context": WEBCHAT, "turn": 1}

    failed = host.call("unshowable", **same_turn)
    fetched = host.call("", tool="get_image_task", args={"task_id": "tsk_1"}, **same_turn)
    again = host.call("", tool="get_image_task", args={"task_id": "tsk_1"}, **same_turn)

    assert 'Call get_image_task with task_id "task:tsk_1", which is free' in text_of(failed)
    assert "(internal_error, charged: yes, retryable: no, task:tsk_1)" in text_of(failed)
    assert len(lines_of(fetched)) == 1
    assert lines_of(again) == []


def test_a_copy_that_cannot_be_written_loses_no_picture(
    host: PluginHost, make_plugin: MakePlugin, tmp_path: Path
) -> None:
    """It is paid for; its own file shows it, under a name that nobody chose."""
    folder = tmp_path / "media" / "tool-flux2"
    folder.mkdir(parents=True)
    (folder / "tsk_1").write_text("not a folder")
    host.register(make_plugin())

    [path] = lines_of(host.call("titled a fox", context=WEBCHAT))

    assert Path(path).read_text() == "the picture's bytes"
