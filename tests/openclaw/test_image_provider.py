"""OpenClaw's own `image_generate` served by the plugin, in Node with a fake worker: what goes in, what comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.schema.manifest import load_manifest
from tests.openclaw.conftest import PluginHost

MakePlugin = Callable[..., Path]


@pytest.fixture
def serving(host: PluginHost, make_plugin: MakePlugin) -> PluginHost:
    """A host with a plugin that serves `image_generate`."""
    host.register(make_plugin(image_generate=True))
    return host


def generate(host: PluginHost, prompt: str, **request: Any) -> dict[str, Any]:
    """Have the provider generate; return its result with bytes as text, or what it threw."""
    found: dict[str, Any] = host.ask(
        "generateImage", plugin="plugin", request={"model": "flux-2-pro", "prompt": prompt, **request}
    )
    return found


def calls(host: PluginHost) -> list[dict[str, Any]]:
    """Return what the fake worker saw of each call, oldest first."""
    return [json.loads(line) for line in (host.folder / "calls.jsonl").read_text().splitlines()]


def test_without_the_option_no_provider_is_registered(host: PluginHost, make_plugin: MakePlugin) -> None:
    """OpenClaw would offer a second tool for the same job to every model."""
    host.register(make_plugin())

    assert host.ask("imageProvider", plugin="plugin") is None


def test_the_provider_declares_its_capabilities(serving: PluginHost) -> None:
    """OpenClaw fits a request to it and reports what it changed, before it calls."""
    provider = serving.ask("imageProvider", plugin="plugin")

    assert provider["id"] == "runapi"
    assert provider["models"] == ["flux-2-pro", "flux-2-flex"]
    assert provider["defaultModel"] == "flux-2-pro"
    can = provider["capabilities"]
    assert can["generate"]["maxCount"] == can["edit"]["maxCount"] == 4
    assert can["generate"]["supportsSize"] is can["edit"]["supportsSize"] is False
    assert can["edit"]["enabled"] is True
    # Else OpenClaw asks for 2K, which costs more, whenever the photo is a large one.
    assert can["generate"]["supportsResolution"] is True
    assert can["edit"]["supportsResolution"] is False
    assert can["edit"]["maxInputImages"] == 8
    assert can["geometry"]["aspectRatios"] == list(load_manifest().aspect_ratios)
    assert can["geometry"]["resolutions"] == ["1K", "2K"]


def test_the_enabled_tiers_decide_the_models(host: PluginHost, make_plugin: MakePlugin) -> None:
    """Max costs what nobody publishes; only who enabled it may be billed for it."""
    host.register(make_plugin(image_generate=True), config={"tiers": ["max", "flex"]})

    provider = host.ask("imageProvider", plugin="plugin")
    refused = generate(host, "fox", model="flux-2-pro")

    assert provider["models"] == ["flux-2-flex", "flux-2-max"]
    assert provider["capabilities"]["geometry"]["resolutionsByModel"]["flux-2-max"] == ["1K"]
    assert provider["capabilities"]["edit"]["maxInputImagesByModel"] == {"flux-2-flex": 8, "flux-2-max": 1}
    assert "flux-2-flex, flux-2-max" in refused["threw"]
    assert "tiers" in refused["threw"]


@pytest.mark.parametrize(
    ("environ", "host_key", "cfg", "is_configured"),
    [
        pytest.param({}, None, {}, False, id="no key"),
        pytest.param({"RUNAPI_API_KEY": "sk-e"}, None, {}, True, id="in the environment"),
        pytest.param({}, None, {"models": {"providers": {"runapi": {"apiKey": "sk-c"}}}}, True, id="in the config"),
        pytest.param({}, "sk-h", {}, True, id="in OpenClaw's own store"),
    ],
)
def test_the_provider_is_configured_only_with_a_key(
    start_host: Callable[..., PluginHost],
    make_plugin: MakePlugin,
    environ: dict[str, str],
    host_key: str | None,
    cfg: dict[str, Any],
    is_configured: bool,
) -> None:
    """A tool that can only fail must not be offered to a model."""
    host = start_host(**environ)
    host.register(make_plugin(image_generate=True), hostKey=host_key)

    assert host.ask("imageProvider", plugin="plugin", cfg=cfg)["isConfigured"] is is_configured


def test_a_picture_comes_back_as_bytes_and_leaves_no_file(serving: PluginHost) -> None:
    """OpenClaw keeps the picture itself; ours was only how it travelled."""
    made = generate(serving, "fox", aspectRatio="16:9", resolution="2K")

    [image] = made["images"]
    assert (image["bytes"], image["mimeType"], image["fileName"]) == ("the picture's bytes", "image/png", "picture.png")
    assert made["model"] == "flux-2-pro"
    assert made["metadata"] == {"task": "task:tsk_1", "cost": {"usd": 0.05, "basis": "billed"}, "warnings": []}
    [call] = calls(serving)
    params = call["params"]
    assert params["tool"] == "text_to_image"
    assert params["arguments"] == {
        "prompt": "fox", "model": "flux-2-pro-text-to-image", "aspect_ratio": "16:9", "output_resolution": "2k",
    }  # fmt: skip
    assert params["session"] == {"agent_id": None, "session_key": "image_generate"}
    assert params["unattributed"] is True
    assert params["api_key"] == "sk-secret-of-the-environment"
    assert not params.get("is_owner")
    assert not Path(params["output_dir"]).exists()


@pytest.mark.parametrize(
    ("agent_dir", "agent"),
    [
        pytest.param("/srv/openclaw/agents/work/agent", "work", id="the usual folder"),
        pytest.param("/srv/agents/kim", "kim", id="a configured folder"),
        pytest.param("/srv/somewhere", None, id="an unknown folder"),
        pytest.param(None, None, id="none"),
    ],
)
def test_each_agent_has_a_session_of_its_own(serving: PluginHost, agent_dir: str | None, agent: str | None) -> None:
    """One agent must not get what another one asked for, nor be told that it repeats itself."""
    cfg = {"agents": {"list": [{"id": "main"}, {"id": "kim", "agentDir": "/srv/agents/kim"}]}}
    generate(serving, "fox", agentDir=agent_dir, cfg=cfg)

    assert calls(serving)[0]["params"]["session"] == {"agent_id": agent, "session_key": "image_generate"}


@pytest.mark.parametrize(("agent", "key"), [("kim", "sk-of-kim"), ("main", "sk-of-the-provider")])
def test_each_agent_pays_from_its_own_account(
    start_host: Callable[..., PluginHost], make_plugin: MakePlugin, agent: str, key: str
) -> None:
    """What one agent makes must not be charged to another's account."""
    host = start_host()
    keys = {"/agents/kim/agent": "sk-of-kim"}
    host.register(make_plugin(image_generate=True), hostKey="sk-of-the-provider", agentKeys=keys)

    generate(host, "fox", agentDir=f"/agents/{agent}/agent")

    assert calls(host)[0]["params"]["api_key"] == key


def test_input_images_become_private_files_for_one_call(serving: PluginHost) -> None:
    """They may be photos of people; other users of the machine must not see them, nor later calls."""
    made = generate(serving, "fox", model="flux-2-flex", inputImages=["first photo", "second photo"])

    assert made["images"]
    [call] = calls(serving)
    assert call["params"]["tool"] == "remix_image"
    assert call["params"]["arguments"]["model"] == "flux-2-flex-remix-image"
    assert [(file["text"], file["mode"]) for file in call["files"]] == [
        ("first photo", 0o600),
        ("second photo", 0o600),
    ]
    [folder] = {file["folder"] for file in call["files"]}
    assert call["params"]["source_dirs"] == [folder]
    assert not Path(folder).exists()


def test_with_save_dir_pictures_are_not_saved_twice(host: PluginHost, make_plugin: MakePlugin) -> None:
    """Whoever set `save_dir` finds every picture there."""
    host.register(make_plugin(image_generate=True), config={"save_dir": str(host.folder)})

    generate(host, "fox")

    assert calls(host)[0]["params"]["output_dir"] is None


def test_several_pictures_come_back_in_their_order(serving: PluginHost) -> None:
    """By one call, as OpenClaw's own tool offers it."""
    made = generate(serving, "fox", count=3)

    [call] = calls(serving)
    assert call["params"]["arguments"]["count"] == 3
    assert [image["bytes"] for image in made["images"]] == [f"the picture's bytes{number}" for number in (1, 2, 3)]
    assert [image["metadata"]["task"] for image in made["images"]] == ["task:tsk_1", "task:tsk_2", "task:tsk_3"]


def test_pictures_of_a_set_that_failed_are_told_behind_the_models_name(serving: PluginHost) -> None:
    """OpenClaw shows its model that name and the number of pictures, and none of the metadata."""
    made = generate(serving, "some 2", count=4)

    assert [image["bytes"] for image in made["images"]] == ["the picture's bytes1", "the picture's bytes2"]
    assert made["model"] == (
        "flux-2-pro (tell the user: 2 of 4 pictures came; "
        "not_made: picture 3 of 4 was not made: It is too wild. (charged: no); "
        "not_made: picture 4 of 4 was not made: It is too wild. (charged: no))"
    )


def test_a_picture_of_a_set_that_cannot_be_fetched_takes_no_other_with_it(serving: PluginHost) -> None:
    """All of them are paid, and counted as given once: an error would lose those that came."""
    made = generate(serving, "some 2 lost", count=2)

    assert [image["bytes"] for image in made["images"]] == ["the picture's bytes1"]
    assert "1 of 2 pictures came; not_saved: the picture could not be fetched; task:lost was made" in made["model"]
    assert "and paid, but not fetched. Its link: https://images.example/tsk_2.png" in made["model"]


def test_a_set_that_is_late_is_fetched_whole_by_the_same_call(serving: PluginHost) -> None:
    """What is ready is not given alone: the same call brings all of it, and pays for none again."""
    refused = generate(serving, "partly 1", count=3)["threw"]

    assert "task:tsk_2, task:tsk_3 is not finished" in refused
    assert "make the same call again, unchanged" in refused


@pytest.mark.parametrize(
    ("model", "request_", "arguments", "note"),
    [
        pytest.param("flux-2-pro", {"count": 9}, {"count": 4}, "count 9 was not applied", id="several"),
        pytest.param("flux-2-pro", {"size": "1024x1024"}, {}, 'size "1024x1024" was not applied', id="size"),
        pytest.param("flux-2-pro", {"aspectRatio": "9:1"}, {}, 'aspectRatio "9:1" was not applied', id="aspect"),
        pytest.param("flux-2-pro", {"resolution": "4K"}, {}, 'resolution "4K" was not applied', id="resolution"),
        pytest.param("flux-2-pro", {"background": "transparent"}, {}, "background", id="background"),
        pytest.param("flux-2-pro", {"providerOptions": {"openai": {"user": "u"}}}, {}, "openai", id="for another"),
        pytest.param("flux-2-max", {}, {"aspect_ratio": "1:1"}, "aspectRatio is needed by flux-2-max", id="needed"),
        pytest.param(
            "flux-2-max", {"aspectRatio": "3:2", "resolution": "2K"}, {"aspect_ratio": "3:2"},
            'resolution "2K" was not applied', id="a resolution this model does not have",
        ),
    ],
)  # fmt: skip
def test_options_that_do_not_apply_become_warnings(
    host: PluginHost,
    make_plugin: MakePlugin,
    model: str,
    request_: dict[str, Any],
    arguments: dict[str, Any],
    note: str,
) -> None:
    """A picture of another shape than was asked for must not come without a word."""
    host.register(make_plugin(image_generate=True), config={"tiers": ["pro", "max"]})

    made = generate(host, "fox", model=model, **request_)

    [warning] = made["metadata"]["warnings"]
    assert note in warning
    assert ["warn", f"flux2: image_generate: {warning}"] in host.ask("logs")
    assert made["model"] == f"{model} (tell the user: {warning})"
    [call] = calls(host)
    assert call["params"]["arguments"] == {"prompt": "fox", "model": f"{model}-text-to-image", **arguments}


@pytest.mark.parametrize(
    ("timeout_ms", "wait_s"),
    [pytest.param(None, 178, id="our default"), pytest.param(60_000, 58, id="given"), pytest.param(1_000, 0.5)],
)
def test_the_timeout_bounds_the_wait(serving: PluginHost, timeout_ms: int | None, wait_s: float) -> None:
    """With something left to fetch the picture in."""
    generate(serving, "fox", **({} if timeout_ms is None else {"timeoutMs": timeout_ms}))

    assert calls(serving)[0]["params"]["wait_s"] == wait_s


def test_a_timeout_names_the_task_and_how_to_resume(serving: PluginHost) -> None:
    """The equal next call joins the task; a model that changes the prompt would pay twice."""
    threw = generate(serving, "processing", timeoutMs=5_000)["threw"]

    assert "task:tsk_1 is not finished after 5 s" in threw
    assert "the same call again, unchanged" in threw


def test_a_call_that_outlasts_its_timeout_is_cancelled(serving: PluginHost) -> None:
    """A slow download or upload must not hold OpenClaw's task longer than was asked for."""
    threw = generate(serving, "until-cancelled", timeoutMs=300)["threw"]

    assert "task:tsk_1 is not finished after 0.3 s" in threw
    assert 'get_image_task with task_id "task:tsk_1"' in threw


def test_a_failure_is_thrown_with_a_readable_message(serving: PluginHost) -> None:
    """OpenClaw shows the text to the model."""
    assert generate(serving, "poor")["threw"] == (
        "The account is empty.\nHint: Top it up.\n(insufficient_credits, charged: no, retryable: no, request req_9)"
    )


def test_a_picture_whose_download_failed_is_fetched_again(serving: PluginHost) -> None:
    """It is paid for."""
    made = generate(serving, "unsaved")

    assert made["model"] == "flux-2-pro"
    assert made["images"][0]["bytes"] == "the picture's bytes"
    assert [call["params"]["tool"] for call in calls(serving)] == ["text_to_image", "get_image_task"]
    assert calls(serving)[1]["params"]["arguments"] == {"task_id": "task:tsk_1"}


def test_a_picture_that_cannot_be_fetched_is_reported_with_its_link(serving: PluginHost) -> None:
    """The link is what is left of the money."""
    threw = generate(serving, "lost")["threw"]

    assert "task:lost was made and paid, but not fetched" in threw
    assert "https://images.example/lost.png" in threw


def test_klein_makes_pictures_from_text_alone(host: PluginHost, make_plugin: MakePlugin) -> None:
    """OpenClaw itself then refuses an edit with it, and asks for no resolution."""
    host.register(make_plugin(image_generate=True), config={"tiers": ["pro", "klein"]})
    can = host.ask("imageProvider", plugin="plugin")["capabilities"]
    made = generate(host, "fox", model="flux-2-klein", aspectRatio="16:9", resolution="2K")
    refused = generate(host, "fox", model="flux-2-klein", inputImages=["photo"])

    assert can["geometry"]["resolutionsByModel"] == {"flux-2-pro": ["1K", "2K"], "flux-2-klein": []}
    assert can["edit"]["maxInputImagesByModel"] == {"flux-2-pro": 8, "flux-2-klein": 0}
    assert calls(host)[-1]["params"]["arguments"] == {"prompt": "fox", "model": "flux-2-klein", "aspect_ratio": "16:9"}
    assert "this model has no choice of it" in made["metadata"]["warnings"][0]
    assert "makes images from text alone" in refused["threw"]


def test_with_klein_alone_nothing_is_edited(host: PluginHost, make_plugin: MakePlugin) -> None:
    """An agent must not be offered an edit that no enabled tier can make."""
    host.register(make_plugin(image_generate=True), config={"tiers": ["klein"]})

    provider = host.ask("imageProvider", plugin="plugin")
    can = provider["capabilities"]

    assert (provider["models"], provider["defaultModel"]) == (["flux-2-klein"], "flux-2-klein")
    assert (can["edit"]["enabled"], can["geometry"]["resolutions"]) == (False, [])
