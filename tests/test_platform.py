"""What only one system has is hidden here: macOS is tested on Linux, and Windows is refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flux2_tool._platform import resident_bytes, unsupported_system
from tests.support.environ import unmeasured_environ

# The modules and flags that Windows does not have, and those that macOS does not have.
_NOT_ON_WINDOWS = ("fcntl", "resource", "pwd", "grp", "termios", "pty")
_NOT_ON_MACOS = ("O_PATH", "O_TMPFILE", "pidfd_open", "sched_getaffinity", "memfd_create")


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=unmeasured_environ(), capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("platform", ["linux", "darwin", "freebsd14"])
def test_posix_systems_are_supported(platform: str) -> None:
    assert unsupported_system(platform) is None


def test_the_command_refuses_windows_in_one_sentence() -> None:
    """Before any module is imported that Windows does not have."""
    done = _run(
        "import sys, click, asyncio, logging.handlers, importlib\n"
        f"for name in {_NOT_ON_WINDOWS}: sys.modules[name] = None\n"
        "sys.platform = 'win32'\n"
        "from flux2_tool.cli import main\n"
        "sys.exit(main(['generate', 'a red fox']))"
    )

    assert (done.returncode, done.stdout) == (3, "")
    assert "WSL" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_python_api_refuses_windows_with_its_own_error() -> None:
    """At the import, where a missing module would be a riddle."""
    done = _run(
        "import sys, asyncio, importlib\n"
        f"for name in {_NOT_ON_WINDOWS}: sys.modules[name] = None\n"
        "sys.platform = 'win32'\n"
        "from flux2_tool import Flux2Error\n"
        "try:\n    from flux2_tool import Flux2Tool\n"
        "except Flux2Error as exc:\n    print(exc.code, exc.message)"
    )

    assert done.stdout.startswith("configuration_error flux2-tool does not run on Windows itself"), done.stderr


def test_a_source_is_opened_without_the_flags_of_linux(tmp_path: Path) -> None:
    """The rules of links and hidden folders hold on macOS too."""
    (tmp_path / "fox.png").write_bytes(b"a picture")
    (tmp_path / "link.png").symlink_to("/etc/hostname")
    done = _run(
        "import os, pathlib\n"
        f"for name in {_NOT_ON_MACOS}:\n    hasattr(os, name) and delattr(os, name)\n"
        "from flux2_tool.exceptions import SourceRefusedError\n"
        "from flux2_tool.images.safe_open import open_source\n"
        "from flux2_tool.images.source_places import SourcePlaces\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "places = SourcePlaces(roots=(folder,), workspace=folder)\n"
        "print(open_source(folder / 'fox.png', places, where='source').read())\n"
        "try:\n    open_source(folder / 'link.png', places, where='source')\n"
        "except SourceRefusedError as exc:\n    print(exc.message)"
    )

    assert done.stdout.splitlines()[:1] == ["b'a picture'"], done.stderr
    assert "outside the folders" in done.stdout


def test_the_memory_of_a_process_is_known_without_proc() -> None:
    """What the parent of a decoding process looks at where the system limits no memory."""
    with subprocess.Popen(["sleep", "60"]) as process:
        used_bytes = resident_bytes(process.pid)
        process.kill()

    assert used_bytes > 0
    assert resident_bytes(process.pid) == 0
