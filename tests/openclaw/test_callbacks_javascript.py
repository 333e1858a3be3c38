"""The gateway's route for RunAPI's webhooks, in the plugin's JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flux2_tool.tasks.webhook_inbox import ROUTE_PATH
from tests.openclaw.conftest import PluginHost

CONFIG = {"callback_public_url": "https://agent.example.com", "callback_secret": "c2VjcmV0"}
SIGNED = {"x-callback-id": "evt_1", "x-callback-timestamp": "1", "x-callback-signature": "abc", "cookie": "private"}


def with_route(host: PluginHost, make_plugin: Callable[..., Path], *, is_running: bool = True) -> None:
    """Register the plugin with webhooks configured; a call starts the worker."""
    host.register(make_plugin(), config=CONFIG)
    if is_running:
        host.call("a fox")


def post(host: PluginHost, body: str, **options: Any) -> int:
    """POST to the route and return the status; the route must answer and say that it did."""
    done = host.ask("http", plugin="plugin", headers=SIGNED, body=body, **options)
    assert (done["ended"], done["handled"]) == (True, True)
    return int(done["status"])


def test_without_a_secret_the_route_is_as_if_it_were_not_there(
    host: PluginHost, make_plugin: Callable[..., Path]
) -> None:
    """An open door that nobody asked for; the settings may come later, without a restart."""
    host.register(make_plugin(), config={"callback_public_url": CONFIG["callback_public_url"]})
    host.call("a fox")

    done = host.ask("http", plugin="plugin", headers=SIGNED, body="good")
    host.ask("configure", changed={"enabled": True, "config": CONFIG})
    later = host.ask("http", plugin="plugin", headers=SIGNED, body="good")

    assert (done["ended"], done["handled"]) == (False, False)
    assert (later["ended"], later["handled"]) == (True, True)


def test_the_route_has_the_path_of_the_callback_url(host: PluginHost, make_plugin: Callable[..., Path]) -> None:
    """The address in the requests and the route come from one place."""
    with_route(host, make_plugin, is_running=False)

    found = [route for route in host.ask("routes", plugin="plugin") if route["auth"] == "plugin"]
    assert found == [{"path": ROUTE_PATH, "auth": "plugin", "match": "exact"}]


def test_the_worker_decides_and_gets_only_signature_headers(host: PluginHost, make_plugin: Callable[..., Path]) -> None:
    """401 has RunAPI deliver again, 200 does not."""
    with_route(host, make_plugin)

    assert post(host, "good") == 200
    assert post(host, "bad") == 401


def test_a_webhook_starts_no_worker(host: PluginHost, make_plugin: Callable[..., Path]) -> None:
    """Anybody can knock; whoever waits for a picture has started the worker."""
    with_route(host, make_plugin, is_running=False)

    assert post(host, "good") == 503
    assert host.ask("worker")["pid"] is None


def test_only_a_post_up_to_256_kb_is_read(host: PluginHost, make_plugin: Callable[..., Path]) -> None:
    """A flood must not fill the gateway's memory."""
    with_route(host, make_plugin)

    assert post(host, "good", method="GET") == 405
    assert post(host, "x" * 100_000, times=3) == 413
    assert host.pid()


def test_a_webhook_to_a_dead_worker_gets_503(host: PluginHost, make_plugin: Callable[..., Path]) -> None:
    """RunAPI tries again; by then the next call has started another worker."""
    with_route(host, make_plugin)
    host.call("die")

    assert post(host, "good") == 503
