"""Which proxy leads to a URL: the variables, and the hosts that NO_PROXY names."""

from __future__ import annotations

import pytest

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.runapi.proxies import Proxies

URL = "https://runapi.ai/v1/tasks/1"
PROXY = {"HTTPS_PROXY": "http://proxy:3128"}


def chosen(environ: dict[str, str], url: str = URL) -> str | None:
    """The proxy's URL, None for a direct connection."""
    proxy = Proxies(environ).proxy_for(url)
    return None if proxy is None else proxy.url


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128", "HTTPS_PROXY": "http://other:1"}, "http://proxy:3128"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://other:1"}, None),
        ({"https_proxy": "", "ALL_PROXY": "http://all:1"}, "http://all:1"),
        ({"HTTP_PROXY": "http://other:1"}, None),
        ({"ALL_PROXY": "http://all"}, "http://all:80"),
        ({"HTTPS_PROXY": "http://proxy:3128", "ALL_PROXY": "socks://all:1080/"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": " proxy:3128 "}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "https://[fd00::1]"}, "https://[fd00::1]:443"),
        ({"ALL_PROXY": "socks5h://127.0.0.1"}, "socks5h://127.0.0.1:1080"),
        ({"ALL_PROXY": "SOCKS://127.0.0.1:9050/"}, "socks5h://127.0.0.1:9050"),
    ],
)
def test_the_variable_of_the_scheme_counts_then_that_of_all(environ: dict[str, str], expected: str | None) -> None:
    """As with curl; an empty variable is as good as none."""
    assert chosen(environ) == expected


def test_a_cgi_request_cannot_choose_the_proxy() -> None:
    """There the variable HTTP_PROXY is the request's header Proxy."""
    environ = {"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}

    assert chosen(environ, "http://runapi.test") is None
    assert chosen({**environ, "http_proxy": "http://own:1"}, "http://runapi.test") == "http://own:1"


def test_a_password_is_decoded_and_never_shown() -> None:
    """It goes to the proxy alone."""
    proxy = Proxies({"HTTPS_PROXY": "http://ada:p%40ss%3Aword@proxy:3128"}).proxy_for(URL)

    assert proxy is not None
    assert proxy.user == (b"ada", b"p@ss:word")
    assert "ss" not in f"{proxy} {proxy!r}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("foo://user:pass-word@proxy", 'has the scheme "foo"'),
        ("socks4://pass-word@proxy", 'has the scheme "socks4"'),
        ("http://[::1", "is not a URL"),
        ("http://user:pass-word@proxy:65536", "is not a URL"),
        ("http://proxy:pass-word", "is not a URL"),
        ("::::", "is not a URL"),
        ("http://", "names no host"),
        ("http://pröxy", "names no host"),
    ],
)
def test_an_unusable_proxy_is_named_by_its_variable(text: str, fault: str) -> None:
    """Six variables may name one; only this one is wrong. Its value may contain a password."""
    with pytest.raises(ConfigurationError) as caught:
        chosen({"ALL_PROXY": text})

    assert caught.value.message.startswith(f"ALL_PROXY {fault}")
    assert "pass-word" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("*", URL, True),
        ("runapi.ai", URL, True),
        ("RunAPI.ai.", URL, True),
        (".runapi.ai", "https://cdn.runapi.ai", True),
        ("*.runapi.ai", "https://cdn.runapi.ai", True),
        ("runapi.ai", "https://cdn.runapi.ai", True),
        ("api.ai", URL, False),
        ("runapi.ai", "https://runapi.ai.evil.example", False),
        ("a.example, b.example\trunapi.ai", URL, True),
        ("runapi.ai:443", URL, True),
        ("runapi.ai:8443", URL, False),
        ("runapi.ai:8443", "https://runapi.ai:8443", True),
        ("https://runapi.ai", URL, True),
        ("http://runapi.ai", URL, False),
        ("bücher.example", "https://xn--bcher-kva.example", True),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.1.2.3/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.0.0.0/8", URL, False),
        ("10.1.2.3", "https://10.1.2.3", True),
        ("10.1.2.3:443", "https://10.1.2.3", True),
        ("10.1.2.3", "https://[::ffff:10.1.2.3]", True),
        ("::1", "https://[::1]", True),
        ("[::1]", "https://[::1]:8443", True),
        ("[::1]:8443", "https://[::1]:8443", True),
        ("[::1]:8443", "https://[::1]", False),
        ("fd07:b51a:cc66:f0::/64", "https://[fd07:b51a:cc66:f0::9]", True),
        ("[fd07::]/16", "https://[fd07:1::9]", True),
        ("[fd07::/16]", "https://[fd07:1::9]", True),
        ("fd07::/16", "https://[fd08::9]", False),
        ("localhost,127.0.0.1,127.0.0.0/8,::1,fd07:b51a:cc66:f0::/64,[::1],[,:,10.0.0.0/99,..,***", URL, False),
    ],
)
def test_no_proxy_names_hosts_domains_addresses_and_networks(no_proxy: str, url: str, is_direct: bool) -> None:
    """What cannot be read names nothing, and spoils nothing."""
    assert (chosen({**PROXY, "NO_PROXY": no_proxy}, url) is None) is is_direct


def test_the_lower_case_no_proxy_comes_first() -> None:
    """As for the others."""
    assert chosen({**PROXY, "no_proxy": "runapi.ai", "NO_PROXY": "a.example"}) is None
    assert chosen({**PROXY, "no_proxy": "", "NO_PROXY": "runapi.ai"}) is None
