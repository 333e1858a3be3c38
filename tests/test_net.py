"""Which hosts are public: decided by their text, in every spelling that some program reads as a private one."""

from __future__ import annotations

import pytest

from flux2_tool._net import (
    MAX_UNICODE_AUTHORITY_CHARS,
    MAX_URL_CHARS,
    is_loopback,
    is_private_address,
    is_private_host,
    is_private_url,
    is_web_url,
    origin_of,
    split_url,
)

NAMES = (
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "localhost.localdomain",
    "localhost4.localdomain4",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
    "metadata",
    "metadata.google.internal",
    "metadata.google.internal.",
    "instance-data",
    "printer.local",
    "router",
    "nas.lan",
    "nas.home.arpa",
    "wiki.corp",
    "127.0.0.1.nip.io",
    "loca\u00adlhost",
    "ⓛocalhost",
    "",
)
IPV4 = (
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "0x7f.1",
    "0X7F000001",
    "017700000001",
    "0177.0.0.1",
    "2130706433",
    "%31%32%37.0.0.1",
    "%2531%2532%2537.0.0.1",
    "127.0.0.1%20",
    "127.0.0.1%00.example.com",
    "127.0.0.1%23.example.com",
    "１２７.0.0.1",
    "127。0。0。1",
    "127．0．0．1",
    "①②⑦.0.0.1",
    "0",
    "0.0.0.0",  # noqa: S104 - nothing binds to it
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "255.255.255.255",
    "1.2.3.4.5",
    "0x08080808",
    "010.8.8.8",
    "8.8.8",
)
IPV6 = (
    "::",
    "::1",
    "[::1]",
    "0:0:0:0:0:0:0:1",
    "fe80::1%25eth0",
    "[fe80::1%eth0]",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:0:8.8.8.8",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "2002:7f00:1::",
    "2002:808:808::",
    "2001:0:808:808::f7f7:f7f7",
    "2001:470:1:2:0:5efe:10.0.0.1",
    "2001:470:1:2:200:5efe:10.0.0.1",
    "fe80::5efe:127.0.0.1",
    "2001:db8::1",
    "3fff::1",
    "a:b",
)
PUBLIC = (
    "8.8.8.8",
    "2606:4700::1111",
    "[2606:4700::1111]",
    "64:ff9b::808:808",
    "::ffff:8.8.8.8",
    "cdn.example",
    "cdn.example.",
    "bücher.example",
    "localhost.example",
    "internal.example.com",
    "8-8-8-8.example",
    "a.0x.example",
    "under_score.example",
)


@pytest.mark.parametrize("host", [*NAMES, *IPV4, *IPV6])
def test_a_private_host_is_known_in_every_spelling(host: str) -> None:
    """One program's odd name is another's 127.0.0.1; RunAPI, a browser or OpenClaw may fetch it."""
    assert is_private_host(host)


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_host_is_not_private(host: str) -> None:
    """A paid picture must not be kept from its owner."""
    assert not is_private_host(host)


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:10.0.0.1", "2002:808:808::", "fe80::1%eth0", "192.88.99.1"])
def test_a_connection_to_a_private_address_is_known(address: str) -> None:
    """As a socket names its peer."""
    assert is_private_address(address)
    assert not is_private_address("8.8.8.8")


@pytest.mark.parametrize(
    ("url", "loopback_allowed", "is_private"),
    [
        ("http://127.0.0.1:8000/x", True, False),
        ("http://localhost/x", True, False),
        ("http://[::1]/x", True, False),
        ("http://127.0.0.1:8000/x", False, True),
        ("http://127.1/x", True, True),
        ("http://10.0.0.1/x", True, True),
        ("https://cdn.example/x", False, False),
        ("https://[bad/x", True, True),
    ],
)
def test_only_a_literal_loopback_is_allowed_to_a_sandbox(url: str, loopback_allowed: bool, is_private: bool) -> None:
    """A mock service on this machine serves its pictures so, and nothing else of the network is its business."""
    assert is_private_url(url, loopback_allowed=loopback_allowed) is is_private


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "127.0.0.9", "LOCALHOST"])
def test_loopback_is_the_same_in_every_python(host: str) -> None:
    """Newer versions look into mapped addresses by themselves."""
    assert is_loopback(host)


def test_a_url_longer_than_any_in_use_is_not_even_split() -> None:
    """Normalizing a host takes time by the square of its combining marks: 64,000 of them took seven seconds."""
    marks = "a" + "\u0315\u0300" * 1_000_000
    signed = f"https://cdn.example/x?{'s' * (MAX_URL_CHARS - 40)}"

    for url in (f"https://{marks}/x", f"https://cdn.example/{marks}", "https://cdn.example/" + "x" * MAX_URL_CHARS):
        with pytest.raises(ValueError, match="too long"):
            split_url(url)
        assert not is_web_url(url)
        assert is_private_url(url, loopback_allowed=True)
    assert split_url(signed).hostname == "cdn.example"
    longest = "https://cdn.example/".ljust(MAX_URL_CHARS, "x")
    assert split_url(longest).hostname == "cdn.example"
    assert is_web_url(longest)
    assert split_url("https://cdn.example/" + "ü" * (MAX_UNICODE_AUTHORITY_CHARS - 20)).hostname == "cdn.example"


@pytest.mark.parametrize(
    ("url", "other", "is_same"),
    [
        ("https://runapi.test/v1", "https://RUNAPI.test:443/v2", True),
        ("http://localhost/v1", "http://localhost:80", True),
        ("https://runapi.test:8443", "https://runapi.test:8443/x", True),
        ("https://runapi.test:8443", "https://runapi.test:9443", False),
        ("https://runapi.test", "https://runapi.test:8443", False),
        ("https://runapi.test", "http://runapi.test:443", False),
        ("https://runapi.test", "https://runapi.test.evil.test", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, other: str, is_same: bool) -> None:
    """The key is sent to one origin only; another port may be another program's, of another user."""
    assert (origin_of(url) == origin_of(other)) is is_same


@pytest.mark.parametrize(
    ("value", "is_url"),
    [
        ("https://cdn.example/fox.png?a=1", True),
        ("HTTP://cdn.example:8000", True),
        ("https://bücher.example/füchse", True),
        ("https://cdn.example/a fox.png", False),
        ("https://cdn.example/a\tfox.png", False),
        ("https://cdn.example/a\u00a0fox.png", False),
        ("https://cdn.example/\u200b", False),
        ("https://user:word@cdn.example/", False),
        ("https://cdn.example:port/", False),
        ("https://cdn.example:0/", False),
        ("https://cdn.example:/", True),
        ("https:///fox.png", False),
        ("ftp://cdn.example/fox.png", False),
        ("fox.png", False),
        ("", False),
        (b"https://cdn.example/", False),
        (["https://cdn.example/"], False),
        (7, False),
        (None, False),
    ],
)
def test_only_the_plain_text_of_a_link_is_one(value: object, is_url: bool) -> None:
    """A response may have anything in its place; programs differ on where a link with a blank ends."""
    assert is_web_url(value) is is_url
