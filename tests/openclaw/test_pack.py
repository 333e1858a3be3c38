"""What `flux2-tool openclaw pack` writes: the plugin with a wheel of this package, fit for npm and ClawHub."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from flux2_tool.cli import main
from flux2_tool.openclaw.wheel import package_wheel
from flux2_tool.schema.manifest import load_manifest
from tests.support.environ import unmeasured_environ
from tests.support.readme import ROOT

VERSION = load_manifest().version


def packed_by(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> dict[str, bytes]:
    """Pack the plugin and return the files of the tarball."""
    assert main(["openclaw", "pack", "--output", str(folder), *options]) == 0
    path = Path(capsys.readouterr().out.strip())
    with tarfile.open(path) as archive:
        streams = {member.name.removeprefix("package/"): archive.extractfile(member) for member in archive}
        return {name: stream.read() for name, stream in streams.items() if stream is not None}


def test_the_tarball_brings_everything(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One command on the host's side: no second download by hand, and nothing of the machine that packs."""
    files = packed_by(capsys, tmp_path)

    tools = json.loads(files["dist/tools.json"])
    assert tools["python"] is None
    assert hashlib.sha256(files[tools["wheel"]["path"]]).hexdigest() == tools["wheel"]["sha256"]
    assert files["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"openclaw plugins uninstall flux2" in files["README.md"]
    assert f"{ROOT}/".encode() not in b"".join(files.values())
    assert packed_by(capsys, tmp_path / "again") == files


def test_the_package_says_what_catalogues_ask_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """ClawHub refuses a package without the version that it was built with; addresses are given, never invented."""
    address = "https://github.com/owner/name"
    plain = json.loads(packed_by(capsys, tmp_path)["package.json"])

    found = json.loads(packed_by(capsys, tmp_path, "--repository", f"{address}.git")["package.json"])

    lowest = plain["openclaw"]["install"]["minHostVersion"].removeprefix(">=")
    assert plain["openclaw"]["build"] == {"openclawVersion": lowest, "pluginSdkVersion": lowest}
    assert plain["openclaw"]["compat"] == {"pluginApi": f">={lowest}", "minGatewayVersion": lowest}
    assert plain["peerDependencies"] == {"openclaw": f">={lowest}"}
    assert "openclaw-plugin" in plain["keywords"]
    added = {
        "homepage": f"{address}#readme",
        "repository": {"type": "git", "url": f"git+{address}.git"},
        "bugs": {"url": f"{address}/issues"},
    }
    assert found == {**plain, **added}


def test_a_repository_that_is_no_address_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It would be shown to everybody who looks at the package."""
    assert main(["openclaw", "pack", "--output", str(tmp_path), "--repository", "owner/name"]) == 3
    assert "https://github.com/OWNER/NAME" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_wheel_is_whole_and_packs_itself_again(tmp_path: Path) -> None:
    """From a checkout as from an installed wheel: the copy that is installed makes the same wheel, byte for byte."""
    made = package_wheel(VERSION)
    site = tmp_path / "site"
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        record = archive.read(f"flux2_tool-{VERSION}.dist-info/RECORD").decode().splitlines()
        names = archive.namelist()
        for name, checksum, _ in (line.rsplit(",", 2) for line in record if not line.endswith(",,")):
            digest = base64.urlsafe_b64encode(hashlib.sha256(archive.read(name)).digest()).rstrip(b"=").decode()
            assert checksum == f"sha256={digest}"
        archive.extractall(site)  # noqa: S202 - our own
    assert sorted(names) == sorted(line.rsplit(",", 2)[0] for line in record)
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]

    again = subprocess.run(
        [sys.executable, "-P", "-c", _AGAIN, str(site), VERSION],
        env=unmeasured_environ(),  # a copy is none of the lines that are counted
        capture_output=True,
        text=True,
        check=True,
    )

    assert again.stdout.split() == [str(site), made.sha256]


_AGAIN = """
import sys
sys.path.insert(0, sys.argv[1])
import flux2_tool
from flux2_tool.openclaw.wheel import package_wheel
print(flux2_tool.__path__[0].removesuffix("/flux2_tool"), package_wheel(sys.argv[2]).sha256)
"""
