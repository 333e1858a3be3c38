"""Settings from options, the plugin's config and the environment."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from flux2_tool._net import normalized_base_url
from flux2_tool.engine.host_profile import LOCAL, MCP, OPENCLAW
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.manifest_check import manifest_schema
from flux2_tool.settings import NORMALIZERS, Settings, load_settings


def test_without_anything_set_the_defaults_hold() -> None:
    """The first call of a newcomer must work with a key alone."""
    found = load_settings({})

    assert found == Settings(home=found.home)
    assert found.home.is_absolute()
    assert found.home.name == "flux2-tool"


def test_every_setting_of_the_manifest_has_a_field() -> None:
    """A key that is offered in a form and read by nobody would be a lie."""
    assert set(load_manifest().config_schema["properties"]) == set(Settings.__dataclass_fields__)


def test_every_kind_that_the_manifest_may_name_is_known_here() -> None:
    """The check of the manifest and the reading of a value must agree."""
    named = manifest_schema()["properties"]["settings"]["additionalProperties"]["properties"]["kind"]["enum"]

    assert named == sorted(NORMALIZERS)


def test_an_option_beats_the_config_that_beats_the_environment() -> None:
    """The nearest word wins."""
    environ = {"FLUX2_TOOL_WAIT_S": "1", "FLUX2_TOOL_ROUTE": "guide", "FLUX2_TOOL_TIERS": "max"}

    found = load_settings(environ, config={"wait_s": 2, "route": "service"}, overrides={"wait_s": 3, "route": None})

    assert (found.wait_s, found.route, found.tiers) == (3, "service", ("max",))


def test_environment_text_becomes_the_schemas_types() -> None:
    """A variable is always text; a setting is not."""
    found = load_settings(
        {
            "FLUX2_TOOL_WAIT_S": " 12.5 ",
            "FLUX2_TOOL_TIERS": "pro, flex ,max",
            "FLUX2_TOOL_SAFETY_CHECKER": "No",
            "FLUX2_TOOL_CALLBACK_HOSTS": "Hooks.Example.com",
            "FLUX2_TOOL_HOME": "/var/lib/flux",
            "RUNAPI_BASE_URL": "https://api.example.com/v1/",
        }
    )

    assert found == Settings(
        home=Path("/var/lib/flux"),
        wait_s=12.5,
        tiers=("pro", "flex", "max"),
        safety_checker=False,
        callback_hosts=("hooks.example.com",),
        base_url="https://api.example.com",
    )


@pytest.mark.parametrize(("word", "value"), [("true", True), ("1", True), ("YES", True), ("0", False), ("no", False)])
def test_a_boolean_may_be_said_in_several_words(word: str, value: bool) -> None:
    """People write what their other tools take."""
    assert load_settings({"FLUX2_TOOL_SAFETY_CHECKER": word}).safety_checker is value


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"FLUX2_TOOL_WAIT_S": "soon"}, "correct or remove it;"),
        ({"FLUX2_TOOL_WAIT_S": "soon", "FLUX2_TOOL_ROUTE": "gide"}, "correct or remove them;"),
    ],
)
def test_the_hint_counts_the_wrong_settings(environ: dict[str, str], said: str) -> None:
    """Whoever reads "them" of one looks for another."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ)

    assert caught.value.hint.startswith(said)


def test_an_empty_variable_counts_as_not_set() -> None:
    """Compose files and CI pass unset variables on as empty ones."""
    assert load_settings({"FLUX2_TOOL_ROUTE": "", "RUNAPI_BASE_URL": " "}).route == "auto"


def test_half_of_the_webhook_settings_is_wrong_only_in_the_plugins_config() -> None:
    """A shell that has read OpenClaw's `.env` has the secret, as one that the sandbox gave it; both may make images."""
    secret, address = "c2VjcmV0c2VjcmV0c2VjcmV0", "https://agent.example.com"

    assert load_settings({"FLUX2_TOOL_CALLBACK_SECRET": secret}).callback_secret is not None
    assert load_settings({"FLUX2_TOOL_CALLBACK_PUBLIC_URL": address}).callback_secret is None
    assert load_settings({}, config={"callback_secret": None}).callback_secret is None
    both = load_settings({"FLUX2_TOOL_CALLBACK_SECRET": secret}, config={"callback_public_url": address})
    assert (both.callback_secret, both.callback_public_url) == (secret, address)
    for half in ({"callback_secret": secret}, {"callback_public_url": address}):
        with pytest.raises(ConfigurationError, match="belong together"):
            load_settings({}, config=half)


def test_all_wrong_values_are_reported_at_once_with_their_source() -> None:
    """One round of corrections, not five."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(
            {"FLUX2_TOOL_WAIT_S": "soon", "FLUX2_TOOL_TIERS": "pro,ultra"},
            config={"rout": "guide", "safety_checker": "maybe"},
            overrides={"route": "both"},
        )

    said = caught.value.message
    for part in (
        'FLUX2_TOOL_WAIT_S: "soon" is not a number from 0 to 3600',
        'FLUX2_TOOL_TIERS: "ultra" is not one of pro, flex, max',
        "plugins.entries.flux2.config.rout is not a setting (nearest: route)",
        'plugins.entries.flux2.config.safety_checker: "maybe" is not true or false',
        'option route: "both" is not one of auto, guide, service',
    ):
        assert part in said


@pytest.mark.parametrize(
    ("config", "said"),
    [
        pytest.param({"wait_s": 4000}, "nearest: 3600", id="above a bound"),
        pytest.param({"wait_s": float("nan")}, "is not a number", id="not a number"),
        pytest.param({"wait_s": True}, "is not a number", id="a boolean for a number"),
        pytest.param({"tiers": []}, "list of", id="no tier at all"),
        pytest.param({"tiers": ["pro", "pro"]}, "contains a duplicate", id="a tier twice"),
        pytest.param({"tiers": "pro"}, "list", id="text for a list"),
        pytest.param({"callback_hosts": ["https://a.example/x"]}, "without scheme", id="a URL for a host"),
        pytest.param({"home": "data"}, "absolute path", id="a relative home"),
        pytest.param({"source_roots": ["/a", "b"]}, '"b" must be an absolute path', id="one relative folder of two"),
        pytest.param({"save_dir": "~nobody-of-that-name/x"}, "home folder", id="the home of nobody"),
        pytest.param({"python": "python3"}, "absolute path", id="an interpreter without a path"),
        pytest.param({"base_url": "http://api.example.com"}, "use https", id="plain http to elsewhere"),
        pytest.param({"base_url": "https://user:hunter2@api.example.com"}, "user name", id="credentials in it"),
        pytest.param({"base_url": "ftp://api.example.com"}, "is not a URL", id="another scheme"),
        pytest.param({"base_url": "https://[api.example.com"}, "is not a URL", id="a broken address"),
        pytest.param({"callback_public_url": "http://agent.example.com"}, "must be https", id="an open public address"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(config: dict[str, Any], said: str) -> None:
    """A setting that is silently ignored is found out at the worst moment."""
    with pytest.raises(ConfigurationError, match=r".") as caught:
        load_settings({}, config=config)

    assert said in caught.value.message
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://runapi.ai/v1", "https://runapi.ai"),
        ("https://runapi.ai/v1/", "https://runapi.ai"),
        ("https://runapi.ai/", "https://runapi.ai"),
        ("https://proxy.example/runapi/v1", "https://proxy.example/runapi"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/v1", "http://[::1]:8080"),
        ("http://localhost:9", "http://localhost:9"),
    ],
)
def test_an_address_with_or_without_v1_is_the_same(text: str, url: str) -> None:
    """OpenClaw's provider config has the /v1, the vendor's own tools have not."""
    assert normalized_base_url(text) == url


@pytest.mark.parametrize("host", ["http://127.0.0.1.example.com", "http://localhost.example.com", "http://10.0.0.1"])
def test_a_name_that_only_looks_local_is_not_loopback(host: str) -> None:
    """The key would cross a network in the clear."""
    with pytest.raises(ValueError, match="unencrypted"):
        normalized_base_url(host)


@pytest.mark.parametrize("text", ["http://127.0.0.1:0", "https://runapi.ai:00/v1", "https://runapi.ai:65536"])
def test_an_address_with_a_port_that_none_can_have_is_no_address(text: str) -> None:
    """For port 0 clients take the usual one, where another program may listen, and get the key."""
    with pytest.raises(ValueError, match="is not a URL"):
        normalized_base_url(text)


def test_the_hosts_own_wait_holds_until_someone_sets_one() -> None:
    """Each host ends a call after another time."""
    assert [host.longest_wait_s(load_settings({})) for host in (OPENCLAW, MCP, LOCAL)] == [80, 50, 900]
    assert OPENCLAW.longest_wait_s(load_settings({"FLUX2_TOOL_WAIT_S": "7"})) == 7


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@examples(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(load_manifest().config_schema["properties"])), VALUES))
def test_any_config_gives_settings_or_one_configuration_error(config: dict[str, Any]) -> None:
    """The config file is written by hand; nothing in it may crash the gateway's tool."""
    found = None
    with contextlib.suppress(ConfigurationError):
        found = load_settings({}, config=config)
    assert found is None or found.home.is_absolute()
