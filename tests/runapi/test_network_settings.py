"""Requests through proxies and with a company's authorities, over real sockets: what works, and what is said."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.journal import ThisProcess, open_journal
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.http_client import HttpTimeouts, open_http
from flux2_tool.runapi.send_errors import NotSentError, UnusableNetworkError
from flux2_tool.runapi.tls import tls_context
from tests.support.certificates import Certificates, make_certificates
from tests.support.harness import credentials, settings_at
from tests.support.hosted import hosted
from tests.support.journal import NOON
from tests.support.keys import KEY
from tests.support.proxies import Front, Handler, front, http_proxy, serving, socks_proxy
from tests.support.stores import place_of

HOST = "runapi.test"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of an inspecting proxy, for the service."""
    return make_certificates(tmp_path_factory.mktemp("ca"), HOST)


async def send(
    environ: dict[str, str], *, url: str = f"https://{HOST}", times: int = 1, timeouts: HttpTimeouts | None = None
) -> None:
    """Send requests with these variables."""
    async with open_http(url, environ=environ, timeouts=timeouts) as http:
        client = RunapiClient(http, base_url=url, api_key=None, user_agent="test/1")
        for _ in range(times):
            assert (await client.send("POST", "/v1/x", body=b"{}")).status_code == 200


@contextlib.asynccontextmanager
async def proxied(
    certificates: Certificates, kind: str, user: str | None = None, answer: int | None = None
) -> AsyncIterator[tuple[Front, int]]:
    """The server, behind a proxy whose port is returned."""
    async with front(certificates.server) as one:
        if kind == "http":
            handler: Handler = http_proxy(one, user=user, code=answer or 200)
        else:
            handler = socks_proxy(one, user=user, reply=answer or 0)
        async with serving(handler) as port:
            yield one, port


@pytest.mark.parametrize("user", [None, "ada:p@ss"])
@pytest.mark.parametrize(
    ("kind", "scheme"), [("http", "http"), ("socks", "socks5"), ("socks", "socks5h"), ("socks", "socks")]
)
def test_requests_go_through_the_proxy(certificates: Certificates, kind: str, scheme: str, user: str | None) -> None:
    """One connection serves them all, and the proxy looks the name up."""

    async def main() -> Front:
        async with proxied(certificates, kind, user) as (one, port):
            login = "" if user is None else "ada:p%40ss@"
            environ = {"ALL_PROXY": f"{scheme}://{login}127.0.0.1:{port}", "SSL_CERT_FILE": str(certificates.ca)}
            await send(environ, times=3)
            return one

    one = asyncio.run(main())

    assert len(one.asked) == 1
    assert f"{HOST}:443" in one.asked[0]
    assert one.requests == ["POST /v1/x HTTP/1.1"] * 3


@pytest.mark.parametrize(
    "bound",
    [
        pytest.param(b"\x01\x7f\0\0\x01", id="IPv4"),
        pytest.param(b"\x04" + bytes(16), id="IPv6"),
        pytest.param(b"\x03\x0aproxy.test", id="name"),
        pytest.param(b"\x03\0", id="no name"),
    ],
)
@pytest.mark.parametrize("user", [None, "ada:p@ss"])
def test_a_socks_proxys_answers_may_arrive_in_pieces(
    certificates: Certificates, user: str | None, bound: bytes
) -> None:
    """TCP promises no packets; a slow proxy's answers were taken for none."""

    async def main() -> Front:
        async with front(certificates.server) as one:
            async with serving(socks_proxy(one, user=user, bound=bound, in_pieces=True)) as port:
                login = "" if user is None else "ada:p%40ss@"
                environ = {"ALL_PROXY": f"socks5://{login}127.0.0.1:{port}", "SSL_CERT_FILE": str(certificates.ca)}
                await send(environ)
            return one

    assert asyncio.run(main()).requests == ["POST /v1/x HTTP/1.1"]


def test_a_proxy_may_itself_speak_tls(certificates: Certificates, tmp_path: Path) -> None:
    """Its certificate is judged like any other."""
    own = make_certificates(tmp_path, "proxy.test", "localhost")
    both = tmp_path / "both.pem"
    both.write_bytes(own.ca.read_bytes() + certificates.ca.read_bytes())

    async def main() -> Front:
        async with front(certificates.server) as one, serving(http_proxy(one), own.server) as port:
            await send({"HTTPS_PROXY": f"https://localhost:{port}", "SSL_CERT_FILE": str(both)})
            return one

    assert asyncio.run(main()).requests == ["POST /v1/x HTTP/1.1"]


@pytest.mark.parametrize(
    ("kind", "user", "answer", "said"),
    [
        ("http", "ada:p@ss", None, "407"),
        ("http", None, 403, "403"),
        ("socks", "ada:p@ss", None, "NO ACCEPTABLE METHODS"),
        ("socks", None, 2, "not allowed by ruleset"),
    ],
)
def test_a_proxy_that_refuses_is_final(
    certificates: Certificates, kind: str, user: str | None, answer: int | None, said: str
) -> None:
    """Another attempt fails as well; the variable and the proxy are named."""

    async def main() -> int:
        async with proxied(certificates, kind, user, answer) as (_, port):
            scheme = {"http": "http", "socks": "socks5"}[kind]
            await send({"HTTPS_PROXY": f"{scheme}://127.0.0.1:{port}", "SSL_CERT_FILE": str(certificates.ca)})
            return port

    with pytest.raises(UnusableNetworkError) as caught:
        asyncio.run(main())

    assert "of HTTPS_PROXY refuses" in str(caught.value)
    assert said in str(caught.value)
    assert "HTTPS_PROXY" in caught.value.hint


@pytest.mark.parametrize("answer", [502, 503, 504])
def test_a_proxy_that_cannot_connect_now_may_do_so_later(certificates: Certificates, answer: int) -> None:
    """Nothing was sent; the proxy is named all the same."""

    async def main() -> None:
        async with proxied(certificates, "http", None, answer) as (_, port):
            await send({"HTTPS_PROXY": f"http://127.0.0.1:{port}"})

    with pytest.raises(NotSentError, match=f"{answer} .*of HTTPS_PROXY") as caught:
        asyncio.run(main())
    assert not isinstance(caught.value, UnusableNetworkError)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("heard", [b"", b"\x00\x01\x02\r\n\r\n", b"HTTP/1.1 2", b"\x05", None])
def test_whatever_a_proxy_does_first_nothing_was_sent(scheme: str, heard: bytes | None) -> None:
    """It closes, hangs, or says what no proxy says, before it leads to the service; the variable is named."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if heard is not None:
            writer.write(heard)
        while heard is None and await reader.read(100):
            pass

    async def main() -> None:
        async with serving(handle) as port:
            await send(
                {"HTTPS_PROXY": f"{scheme}://127.0.0.1:{port}"}, timeouts=HttpTimeouts(connect_s=0.5, read_s=0.5)
            )

    with pytest.raises(NotSentError, match=f"as (an HTTP|a SOCKS5) proxy does.*{scheme}://.*of HTTPS_PROXY"):
        asyncio.run(main())


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_call_that_ends_while_a_proxy_hangs_has_cost_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """No money stays reserved for it."""

    async def handle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            pass

    async def main() -> tuple[dict[str, Any], str]:
        async with serving(handle) as port:
            monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://127.0.0.1:{port}")
            tool = hosted(settings_at(home), credentials(KEY, f"https://{HOST}"), host="cli")
            result = await tool.call("text_to_image", {"prompt": "a fox"}, wait_s=0.5)
            await tool.aclose()
            [record] = (journal := open_journal(place_of(home), owner=ThisProcess(), now=NOON)).records()
            journal.close()
            return result, record.state

    result, state = asyncio.run(main())

    assert (result["error"]["charged"], state) == ("no", "not_created")


@pytest.mark.parametrize("heard", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x04\x5a", b"\x05"])
def test_what_is_no_socks_proxy_is_not_sent_anything(heard: bytes) -> None:
    """Nor is it a defect of ours."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(heard)

    async def main() -> None:
        async with serving(handle) as port:
            await send({"ALL_PROXY": f"socks5://127.0.0.1:{port}"})

    with pytest.raises(NotSentError, match="of ALL_PROXY"):
        asyncio.run(main())


def test_a_proxy_that_is_not_there_is_named() -> None:
    """Otherwise people look for the fault at the service."""

    async def main() -> None:
        async def handle(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            return

        async with serving(handle) as port:
            pass
        await send({"HTTPS_PROXY": f"http://ada:hunter2@127.0.0.1:{port}"})

    with pytest.raises(NotSentError, match="of HTTPS_PROXY") as caught:
        asyncio.run(main())
    assert "hunter2" not in str(caught.value)


def test_socks_without_its_extra_is_a_fault_of_the_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setattr("httpcore.AsyncSOCKSProxy", _not_installed)

    with pytest.raises(ConfigurationError, match=r"ALL_PROXY names a SOCKS proxy, .*extra socks"):
        open_http("https://runapi.ai", environ={"ALL_PROXY": "socks5://127.0.0.1:1080"})


def _not_installed(**_arguments: object) -> None:
    raise RuntimeError("Attempted to use SOCKS support, but the `socksio` package is not installed.")


@pytest.mark.parametrize(
    ("names", "days", "authority", "reason", "remedy"),
    [
        ((HOST,), (-1, 365), None, "self-signed", "set SSL_CERT_FILE"),
        ((HOST,), (-1, 365), "another", "self-signed", "SSL_CERT_FILE replaces the system's authorities"),
        ((HOST,), (-9, -1), "its own", "expired", "clock"),
        ((HOST,), (1, 9), "its own", "not yet valid", "clock"),
        (("other.test",), (-1, 365), "its own", "match", "check the base URL"),
    ],
)
def test_a_certificate_that_is_not_accepted_is_final(
    tmp_path: Path,
    names: tuple[str, ...],
    days: tuple[int, int],
    authority: str | None,
    reason: str,
    remedy: str,
) -> None:
    """One attempt, and what to do; "try again in a minute" would be wrong."""
    here = make_certificates(tmp_path / "here", *names, days_from_now=days)
    chosen = {
        None: {},
        "its own": {"SSL_CERT_FILE": str(here.ca)},
        "another": {"SSL_CERT_FILE": str(make_certificates(tmp_path / "another", HOST).ca)},
    }[authority]
    attempts: list[str] = []

    async def main() -> None:
        async with proxied(here, "http") as (one, port):
            try:
                await send({"HTTPS_PROXY": f"http://127.0.0.1:{port}", **chosen})
            finally:
                attempts.extend(one.asked)

    with pytest.raises(UnusableNetworkError) as caught:
        asyncio.run(main())

    assert f"the certificate of {HOST} is not accepted" in str(caught.value)
    assert ".." not in str(caught.value)
    assert reason in str(caught.value)
    assert remedy in caught.value.hint
    assert len(attempts) == 1


def test_the_systems_trust_store_counts(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a company puts its own authority."""
    store = tmp_path / "bundle.pem"
    store.write_bytes(certificates.ca.read_bytes())
    monkeypatch.setattr("flux2_tool.runapi.tls._BUNDLES", ("/nowhere.pem", str(tmp_path), str(store)))
    # A Python whose OpenSSL was built for another place than this system's.
    paths = ssl.get_default_verify_paths()._replace(openssl_cafile="/nowhere.pem", openssl_capath="/nowhere")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)

    async def main() -> Front:
        async with proxied(certificates, "http") as (one, port):
            await send({"HTTPS_PROXY": f"http://127.0.0.1:{port}"})
            return one

    assert asyncio.run(main()).requests


@pytest.mark.parametrize(
    ("variable", "kind", "fault"),
    [
        ("SSL_CERT_FILE", "missing", "does not exist"),
        ("SSL_CERT_FILE", "folder", "is a folder"),
        ("SSL_CERT_FILE", "pipe", "is no file"),
        ("SSL_CERT_FILE", "text", "contains no certificate in PEM format"),
        ("SSL_CERT_FILE", "empty", "contains no certificate in PEM format"),
        ("SSL_CERT_DIR", "missing", "is not a folder"),
        ("SSLKEYLOGFILE", "missing/keys.log", "cannot be written"),
        ("SSLKEYLOGFILE", "folder", "cannot be written"),
        ("SSLKEYLOGFILE", "/dev/full", "cannot be written"),
        ("SSLKEYLOGFILE", "pipe", "cannot be written"),
    ],
)
def test_a_bad_file_is_named_with_its_variable(tmp_path: Path, variable: str, kind: str, fault: str) -> None:
    """And not the other variables."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("not a certificate")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ConfigurationError) as caught:
        open_http("https://runapi.ai", environ={variable: str(tmp_path / kind)})

    assert caught.value.message.startswith(f"{variable} names {tmp_path / kind}, which {fault}")
    assert caught.value.hint == f"correct or unset {variable}"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "HTTPS_PROXY", "ALL_PROXY"])
def test_what_a_loopback_service_does_not_use_is_not_judged(variable: str) -> None:
    """The sandbox works on a machine whose settings are broken."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async def main() -> None:
        async with serving(handle) as port:
            await send({variable: "/no/such/file"}, url=f"http://127.0.0.1:{port}")

    asyncio.run(main())


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_openssl_does_not_read_what_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """It knows the variables of the process, and would wait for a pipe for ever."""
    usual = len(tls_context({}).get_ca_certs())
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv(variable, str(tmp_path / "pipe"))

    assert len(tls_context({}).get_ca_certs()) == usual > 0


def test_the_keys_of_connections_may_go_to_a_pipe_that_is_read(tmp_path: Path) -> None:
    """A program that shows the traffic may read it."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert tls_context({"SSLKEYLOGFILE": str(tmp_path / "pipe")}).keylog_filename == str(tmp_path / "pipe")
        assert os.read(reader, 100) == b"# flux2-tool\n"
    finally:
        os.close(reader)


def test_an_empty_variable_is_none() -> None:
    """Hosts pass on variables that were never set."""
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")

    assert tls_context(dict.fromkeys(names, "")).get_ca_certs()


def test_a_folder_that_is_missing_beside_a_good_file_is_none(certificates: Certificates) -> None:
    """Some distributions set both."""
    context = tls_context({"SSL_CERT_FILE": str(certificates.ca), "SSL_CERT_DIR": "/nowhere"})

    assert len(context.get_ca_certs()) == 1
