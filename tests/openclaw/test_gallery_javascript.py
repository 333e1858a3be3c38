"""The gallery's tab and route in the plugin's JavaScript; OpenClaw lets its operators alone to the route."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from flux2_tool.hosts.worker.gallery import ROUTE
from tests.openclaw.conftest import PluginHost
from tests.support.pictures import picture

PAGE = "<!DOCTYPE html><title>Pictures</title>"


@pytest.fixture
def asked(host: PluginHost, make_plugin: Callable[..., Path], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return what asks the route of a plugin whose worker has a page and pictures."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "page.html").write_text(PAGE)
    (home / "fox").write_bytes(b"what is in a file without a suffix")
    (home / "rabbit").symlink_to(home / "fox")
    (home / "folder").mkdir()
    host.register(make_plugin(), config={"home": str(home)})

    def ask(path: str, method: str = "GET") -> dict[str, Any]:
        return dict(host.ask("fetched", plugin="plugin", path=f"/flux2/gallery{path}", method=method))

    return ask


def test_the_tab_is_for_operators_and_so_is_its_route(host: PluginHost, make_plugin: Callable[..., Path]) -> None:
    """Prompts and pictures of every conversation are on the page."""
    host.register(make_plugin())

    [tab] = host.ask("tabs", plugin="plugin")
    [route] = [route for route in host.ask("routes", plugin="plugin") if route["path"] == tab["path"]]

    assert (tab["surface"], tab["id"], tab["requiredScopes"]) == ("tab", "gallery", ["operator.read"])
    assert route == {"path": "/flux2/gallery", "auth": "gateway", "match": "prefix"}


def test_the_page_is_sent_and_stays_nowhere(asked: Callable[..., dict[str, Any]]) -> None:
    """A browser's cache outlives the pictures."""
    found = asked("")

    assert (found["status"], found["body"]) == (200, PAGE)
    assert found["headers"]["content-type"] == "text/html; charset=utf-8"
    assert found["headers"]["cache-control"] == "private, no-store"
    assert found["headers"]["x-content-type-options"] == "nosniff"


def test_the_pages_links_work_with_a_slash_after_its_address(asked: Callable[..., dict[str, Any]]) -> None:
    """They are relative, so that they work behind a proxy's prefix, and a slash would make dead links of them."""
    found = asked("/?from=tab")

    assert (found["status"], found["body"], found["address"]) == (200, PAGE, "/flux2/gallery?from=tab")
    link = urljoin(found["address"], f"{ROUTE}/fox-0")
    assert asked(link.removeprefix("/flux2/gallery"))["body"] == "what is in a file without a suffix"


def test_a_picture_is_sent_whole(asked: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Larger than what is in memory at a time."""
    body = picture(size=(400, 300)) + bytes(300_000)
    (tmp_path / "home" / "fox-1").write_bytes(body)
    (tmp_path / "home" / "fox-1").rename(tmp_path / "home" / "big-png")

    found = asked("/picture/big-png-0")

    assert (found["status"], len(found["body"])) == (200, len(body))
    assert found["headers"]["content-disposition"].startswith("attachment")  # it has no picture's suffix


def test_only_the_headers_are_sent_where_nothing_else_is_asked(asked: Callable[..., dict[str, Any]]) -> None:
    """The host probes so."""
    found = asked("", "HEAD")

    assert (found["status"], found["body"]) == (200, "")
    assert found["headers"]["content-length"] == str(len(PAGE))


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        pytest.param("/picture/none-0", "GET", 404, id="no copy any more"),
        pytest.param("/picture/missing-0", "GET", 404, id="a file that has gone"),
        pytest.param("/picture/rabbit-0", "GET", 404, id="a link in its place"),
        pytest.param("/picture/folder-0", "GET", 404, id="a folder in its place"),
        pytest.param("/picture/..%2Fpage.html", "GET", 404, id="a way out"),
        pytest.param("/picture/", "GET", 404, id="no name"),
        pytest.param("er", "GET", 404, id="another page"),
        pytest.param("", "POST", 405, id="a change"),
    ],
)
def test_nothing_else_is_served(asked: Callable[..., dict[str, Any]], path: str, method: str, status: int) -> None:
    """The route names pictures of the journal and never files."""
    found = asked(path, method)

    assert found["status"] == status
    assert PAGE not in found["body"]
    assert found["headers"]["content-type"] == "text/plain; charset=utf-8"


def test_without_a_worker_it_says_why(host: PluginHost, make_plugin: Callable[..., Path]) -> None:
    """Whoever opens the tab reads what to do, and no stack."""
    host.register(make_plugin(worker_version="0.0.0-other"))

    found = host.ask("fetched", plugin="plugin", path="/flux2/gallery")

    assert found["status"] == 503
    assert found["body"].strip()
