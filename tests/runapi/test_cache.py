"""What RunAPI told before, in files that processes share; prices in the file are tested with their readers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from flux2_tool.runapi.cache import ROUTES_FILE, RouteCache

BASE_URL = "https://runapi.test"


def test_routes_are_read_by_the_next_process_and_stay_readable_text(tmp_path: Path) -> None:
    """The file is as older versions wrote it."""
    path = tmp_path / "deep" / ROUTES_FILE
    RouteCache(path).put(BASE_URL, "create", "service")
    RouteCache(path).put(BASE_URL, "poll", "/v1/tasks/{id}")

    assert json.loads(path.read_text()) == {BASE_URL: {"create": "service", "poll": "/v1/tasks/{id}"}}
    assert RouteCache(path).get(BASE_URL, "create") == "service"
    assert RouteCache(path).get("https://other.test", "create") is None
    assert path.stat().st_mode & 0o077 == 0


def test_what_two_processes_learn_is_kept_together(tmp_path: Path) -> None:
    """One learns where to create, the other where to poll."""
    one, other = RouteCache(tmp_path / ROUTES_FILE), RouteCache(tmp_path / ROUTES_FILE)
    one.put(BASE_URL, "create", "service")
    other.put(BASE_URL, "poll", "/v1/tasks/{id}")
    one.put("https://other.test", "create", "guide")

    assert (one.get(BASE_URL, "poll"), other.get(BASE_URL, "create")) == ("/v1/tasks/{id}", "service")
    assert RouteCache(tmp_path / ROUTES_FILE).get(BASE_URL, "create") == "service"


def test_routes_that_cannot_be_written_are_known_to_this_process(tmp_path: Path) -> None:
    """A read-only home costs a failing request per process, not per image."""
    (tmp_path / "file").write_text("not a folder")
    cache = RouteCache(tmp_path / "file" / ROUTES_FILE)

    cache.put(BASE_URL, "create", "service")
    cache.put(BASE_URL, "poll", "/v1/tasks/{id}")

    assert (cache.get(BASE_URL, "create"), cache.get(BASE_URL, "poll")) == ("service", "/v1/tasks/{id}")


def test_routes_are_not_read_from_a_pipe(tmp_path: Path) -> None:
    """It would hold up every call; it is replaced by a file as soon as something is learnt."""
    os.mkfifo(tmp_path / ROUTES_FILE)
    cache = RouteCache(tmp_path / ROUTES_FILE)

    before = cache.get(BASE_URL, "create")
    cache.put(BASE_URL, "create", "service")

    assert before is None
    assert RouteCache(tmp_path / ROUTES_FILE).get(BASE_URL, "create") == "service"


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image would leave one more in the data folder."""

    def fail(self: Path, target: Path) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    RouteCache(tmp_path / ROUTES_FILE).put(BASE_URL, "create", "service")

    assert list(tmp_path.iterdir()) == []


def test_without_a_file_routes_are_known_to_this_process_alone() -> None:
    """A tool without a data folder must not ask for the route with every image."""
    cache = RouteCache(None)
    cache.put(BASE_URL, "create", "service")

    assert (cache.get(BASE_URL, "create"), cache.get(BASE_URL, "poll")) == ("service", None)
    assert RouteCache(None).get(BASE_URL, "create") is None
