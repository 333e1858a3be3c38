"""Generate the native OpenClaw plugin from the manifest: the same input always gives the same bytes.

A plugin is `openclaw.plugin.json` and `package.json` (which OpenClaw reads before it runs anything), the
hand-written `dist/*.js`, pictures, a skill, and `dist/tools.json`, which `index.js` reads:

    version, manifest_sha256   compared with the worker's own when it starts
    python                     the interpreter that has this package, or null in a packed plugin
    wheel                      the wheel of this package that a packed plugin brings: path, sha256; else null
    install_again              how this version of the package is installed, with "{pip}" as the command's placeholder
    tiers, default_tiers       every tier in the manifest's order, and those offered by default
    settings                   of each setting: default; guards, how the stricter of two values is found; sensitive
    tools[]                    name, label, description with "{tiers}" where the text depends on the tiers,
                               parameters with everything enabled, callback_only: members left out without
                               callback hosts, whose description has "{callback_hosts}" as their placeholder,
                               by_tiers["pro,flex"]: what differs for these tiers (text, properties, required, without:
                               members that are left out), or withheld: true where none of them has the tool,
                               rules: see `argument_rules.py`
    argument_rules             what the rules of all tools share; see there
    callback_path              where the gateway takes RunAPI's webhooks, when they are configured
    image_provider             null, or the provider's data for OpenClaw's own `image_generate`; see `image_provider.py`

Source for the fields: OpenClaw's own docs, `plugins/manifest.md` and `plugins/manifest/*.md`.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

from flux2_tool._folders import APP_NAME
from flux2_tool.engine.host_profile import OPENCLAW
from flux2_tool.openclaw.argument_rules import argument_rules, tool_rules
from flux2_tool.openclaw.image_provider import PROVIDER, image_provider
from flux2_tool.openclaw.npm_package import WHEEL_FOLDER, npm_version, package_manifest
from flux2_tool.openclaw.setting_rules import setting_rule
from flux2_tool.openclaw.settings_page import settings_page
from flux2_tool.openclaw.wheel import Wheel
from flux2_tool.schema.export import export
from flux2_tool.schema.install_text import any_install_version_text
from flux2_tool.schema.manifest import Manifest
from flux2_tool.tasks.webhook_inbox import ROUTE_PATH

_ICON = "assets/icon.png"
# In OpenClaw's state folder: the journal, late and kept pictures, without what is made anew.
_BACKED_UP = {
    APP_NAME: "include",
    f"{APP_NAME}/gallery": "regenerable",
    f"{APP_NAME}/python": "regenerable",
    f"{APP_NAME}/openclaw-plugin": "regenerable",
}
_HAND_WRITTEN = {
    "dist/account.js": "account.js",
    "dist/argument_faults.js": "argument_faults.js",
    "dist/arguments.js": "arguments.js",
    "dist/approval.js": "approval.js",
    "dist/callbacks.js": "callbacks.js",
    "dist/command.js": "command.js",
    "dist/deadlines.js": "deadlines.js",
    "dist/definition.js": "definition.js",
    "dist/delivery.js": "delivery.js",
    "dist/diagnosis.js": "diagnosis.js",
    "dist/environments.js": "environments.js",
    "dist/failure.js": "failure.js",
    "dist/family.js": "family.js",
    "dist/gallery.js": "gallery.js",
    "dist/given_arguments.js": "given_arguments.js",
    "dist/guards.js": "guards.js",
    "dist/index.js": "index.js",
    "dist/image_provider.js": "image_provider.js",
    "dist/image_request.js": "image_request.js",
    "dist/json_rpc.js": "json_rpc.js",
    "dist/late.js": "late.js",
    "dist/late_set.js": "late_set.js",
    "dist/late_text.js": "late_text.js",
    "dist/json_schema.js": "json_schema.js",
    "dist/misfit.js": "misfit.js",
    "dist/nearest.js": "nearest.js",
    "dist/picture_list.js": "picture_list.js",
    "dist/picture_set.js": "picture_set.js",
    "dist/process.js": "process.js",
    "dist/commands.js": "commands.js",
    "dist/folders.js": "folders.js",
    "dist/files.js": "files.js",
    "dist/install_faults.js": "install_faults.js",
    "dist/lock.js": "lock.js",
    "dist/private_python.js": "private_python.js",
    "dist/provided_images.js": "provided_images.js",
    "dist/python_choice.js": "python_choice.js",
    "dist/python_search.js": "python_search.js",
    "dist/python_text.js": "python_text.js",
    "dist/recent.js": "recent.js",
    "dist/record.js": "record.js",
    "dist/requester.js": "requester.js",
    "dist/saved.js": "saved.js",
    "dist/settings.js": "settings.js",
    "dist/shared.js": "shared.js",
    "dist/shown.js": "shown.js",
    "dist/tool_call.js": "tool_call.js",
    "dist/split_url.js": "split_url.js",
    "dist/tool_result.js": "tool_result.js",
    "dist/unshown.js": "unshown.js",
    "dist/value_text.js": "value_text.js",
    "dist/violations.js": "violations.js",
    "dist/worker.js": "worker.js",
    _ICON: "icon.png",
    "assets/activity.svg": "activity.svg",
    "skills/flux2/SKILL.md": "skills/flux2/SKILL.md",
    "LICENSE": "LICENSE",
    "README.md": "README.md",
}


def plugin_files(
    manifest: Manifest,
    *,
    python: str | None,
    image_generate: bool = False,
    wheel: Wheel | None = None,
    repository: str | None = None,
) -> dict[str, bytes]:
    """Return the plugin's files by their path inside its folder.

    Args:
        manifest: What to generate from.
        python: Absolute path of the interpreter that runs the worker; None for a plugin that is to be
            installed elsewhere, which takes `flux2-tool` from PATH unless it is configured.
        image_generate: Whether it serves OpenClaw's own tool `image_generate` too.
        wheel: This package, for a plugin that brings it.
        repository: Where the source code is, as an address that begins with https.
    """
    package = resources.files("flux2_tool.openclaw") / "plugin"
    files = {path: package.joinpath(name).read_bytes() for path, name in _HAND_WRITTEN.items()}
    files["openclaw.plugin.json"] = _json(plugin_manifest(manifest, image_generate=image_generate))
    files["package.json"] = _json(package_manifest(manifest, repository=repository))
    data = tools_data(manifest, python=python, image_generate=image_generate)
    path = f"{WHEEL_FOLDER}/{wheel.name}" if wheel else ""
    files["dist/tools.json"] = _json({**data, "wheel": {"path": path, "sha256": wheel.sha256} if wheel else None})
    if wheel:
        files[path] = wheel.data
    return dict(sorted(files.items()))


def plugin_manifest(manifest: Manifest, *, image_generate: bool = False) -> dict[str, Any]:
    """Return `openclaw.plugin.json`: everything OpenClaw reads without running the plugin."""
    providers = {"imageGenerationProviders": [PROVIDER]} if image_generate else {}
    definitions = export(manifest, "openclaw", tiers=manifest.tiers)
    return {
        "id": manifest.id,
        "name": manifest.name,
        "description": manifest.description,
        "version": npm_version(manifest.version),
        "categories": ["media"],
        "skills": ["./skills"],
        # Loaded with the gateway, so that its service can end the worker when the gateway stops.
        "activation": {"onStartup": True},
        "contracts": {"tools": [definition["name"] for definition in definitions], **providers},
        # No authSignals: without a key the tools stay, and the first call says what is missing.
        "toolMetadata": {
            definition["name"]: {"profiles": ["coding", "messaging"], **definition["metadata"]}
            for definition in definitions
        },
        # Also keeps an untrusted workspace's .env from setting the key.
        "setup": {
            "providers": [{"id": PROVIDER, "envVars": [name for name, v in manifest.environment.items() if v.secret]}],
            "requiresRuntime": False,
        },
        "backupResources": [
            {"disposition": disposition, "scope": "state", "relativePath": path}
            for path, disposition in _BACKED_UP.items()
        ],
        **settings_page(manifest),
    }


def tools_data(manifest: Manifest, *, python: str | None, image_generate: bool = False) -> dict[str, Any]:
    """Return `dist/tools.json`, whose shape the module's docstring describes."""
    tiers = manifest.tiers
    sets = [chosen for size in range(1, len(tiers) + 1) for chosen in itertools.combinations(tiers, size)]
    by_set = {
        chosen: {
            definition["name"]: definition
            for definition in export(
                manifest, "openclaw", tiers=chosen, callback_hosts=("{callback_hosts}",), wait_s=OPENCLAW.wait_s
            )
        }
        for chosen in sets
    }
    without_callbacks = export(manifest, "openclaw", tiers=tiers, wait_s=OPENCLAW.wait_s)
    return {
        "version": manifest.version,
        "manifest_sha256": manifest.sha256,
        "python": python,
        "install_again": any_install_version_text(manifest.version, pip="{pip}"),
        "tiers": list(tiers),
        "default_tiers": list(manifest.default_tiers),
        "settings": {name: setting_rule(setting) for name, setting in manifest.settings.items()},
        "tools": [
            _tool_data({chosen: by_set[chosen].get(plain["name"]) for chosen in sets}, full=tiers, plain=plain)
            | {"rules": tool_rules(manifest.tools[plain["name"]])}
            for plain in without_callbacks
        ],
        "argument_rules": argument_rules(manifest),
        "callback_path": ROUTE_PATH,
        "image_provider": image_provider(manifest) if image_generate else None,
    }


def _tool_data(
    by_tiers: Mapping[tuple[str, ...], dict[str, Any] | None], *, full: tuple[str, ...], plain: dict[str, Any]
) -> dict[str, Any]:
    offered = {chosen: definition for chosen, definition in by_tiers.items() if definition is not None}
    base = offered[full]
    texts = {chosen: definition["description"] for chosen, definition in offered.items()}
    head, tail = _common_ends(texts.values())
    differing = len(set(texts.values())) > 1
    by_key: dict[str, dict[str, Any]] = {}
    for chosen in by_tiers:
        if chosen not in offered:
            by_key[",".join(chosen)] = {"withheld": True}
            continue
        text = {"text": texts[chosen][len(head) : len(texts[chosen]) - len(tail)]} if differing else {}
        by_key[",".join(chosen)] = _difference(offered[chosen]["parameters"], base["parameters"]) | text
    properties = base["parameters"]["properties"]
    return {
        "name": base["name"],
        "label": base["label"],
        "description": f"{head}{{tiers}}{tail}" if differing else base["description"],
        "parameters": base["parameters"],
        "callback_only": [name for name in properties if name not in plain["parameters"]["properties"]],
        "by_tiers": {key: difference for key, difference in by_key.items() if difference},
    }


def _difference(parameters: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return the properties and `required` that are not as in `base`, and the properties that `base` alone has."""
    found: dict[str, Any] = {}
    changed = {k: v for k, v in parameters["properties"].items() if v != base["properties"][k]}
    if changed:
        found["properties"] = changed
    if without := [name for name in base["properties"] if name not in parameters["properties"]]:
        found["without"] = without
    if parameters["required"] != base["required"]:
        found["required"] = parameters["required"]
    return found


def _common_ends(texts: Iterable[str]) -> tuple[str, str]:
    """Return the longest shared start and, of what is left, the longest shared end."""
    every = list(texts)
    head = _common_start(every)
    tail = _common_start([text[len(head) :][::-1] for text in every])[::-1]
    return head, tail


def _common_start(texts: Sequence[str]) -> str:
    length = sum(1 for _ in itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False)))
    return texts[0][:length]


def write_plugin(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files into a folder; every other file in it is removed, such as those of an older version.

    Whatever the umask is, others may read them at most: OpenClaw refuses a plugin that anybody could change.
    """
    wanted = {folder / PurePosixPath(path): data for path, data in files.items()}
    for path, data in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        for parent in (path.parent, *path.parent.parents):
            if not parent.is_relative_to(folder):
                break
            parent.chmod(0o755)
        path.write_bytes(data)
        path.chmod(0o644)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in wanted:
            path.unlink()


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return the files as an npm tarball, byte for byte the same for the same files."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in sorted(files.items()):
            # npm's own fixed date, which every unpacker accepts.
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size, entry.mode, entry.mtime = len(data), 0o644, 499162500
            archive.addfile(entry, io.BytesIO(data))
    compressed = io.BytesIO()
    with gzip.GzipFile(fileobj=compressed, mode="wb", filename="", mtime=0) as stream:
        stream.write(plain.getvalue())
    return compressed.getvalue()


def _json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()
