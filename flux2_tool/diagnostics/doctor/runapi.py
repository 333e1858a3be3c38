"""Checks of the key and of RunAPI, by free calls only: the key's shape, reachability, validity, balance, clocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from pydantic import SecretStr

from flux2_tool.credentials import KEY_VARIABLE, Credentials, resolve_credentials
from flux2_tool.diagnostics.doctor.environment import lowest_price_usd
from flux2_tool.diagnostics.doctor.finding import Finding, failure, ok, warning
from flux2_tool.exceptions import AuthenticationError, Flux2Error
from flux2_tool.runapi import contract
from flux2_tool.runapi.balance import balance_of
from flux2_tool.runapi.client import HttpResponse, RunapiClient
from flux2_tool.runapi.send_errors import CrossOriginRedirectError, MaybeSentError, NotSentError, UnusableNetworkError
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import Settings

SKEW_S: Final = 60.0
# A webhook's signature is refused when it is older than this.
TOO_MUCH_SKEW_S: Final = 300.0
SHORT_KEY_CHARS: Final = 12
_PREFIX = re.compile(r"[A-Za-z]{2,8}[-_]")


def masked(key: SecretStr) -> str:
    """Return a key masked for display: its prefix, if that is a word, and its length."""
    text = key.get_secret_value()
    found = _PREFIX.match(text)
    prefix = found.group() if found and len(text) >= SHORT_KEY_CHARS else ""
    return f"{prefix}… ({len(text)} characters)"


def check_key(settings: Settings, environ: Mapping[str, str]) -> tuple[Credentials | None, list[Finding]]:
    """Check the key of this shell; return it too, if there is a usable one."""
    try:
        found = resolve_credentials(environ=environ, settings_base_url=settings.base_url)
    except Flux2Error as exc:
        return None, [failure("key", exc.message, exc.hint)]
    facts = {"source": found.source, "fingerprint": found.fingerprint, "base_url": found.base_url}
    message = f"{masked(found.api_key)} from {found.source}, for {found.base_url}"
    if len(found.api_key.get_secret_value()) < SHORT_KEY_CHARS:
        findings = [warning("key", f"{message}; that is short for a key", "copy the key again", **facts)]
    else:
        findings = [ok("key", message, **facts)]
    other = key_from_file(environ)
    if other is not None and other.fingerprint != found.fingerprint:
        message = f"{other.source} holds another key; {KEY_VARIABLE} wins"
        findings.append(warning("key", message, f"unset {KEY_VARIABLE}, or correct {other.source}"))
    return found, findings


def key_from_file(environ: Mapping[str, str]) -> Credentials | None:
    """Return the key in the vendor's own file, which is used where the environment has none."""
    try:
        return resolve_credentials(environ={name: text for name, text in environ.items() if name != KEY_VARIABLE})
    except Flux2Error:
        return None


async def check_service(
    client: RunapiClient, manifest: Manifest, environ: Mapping[str, str], *, with_key: bool, now: float
) -> list[Finding]:
    """Check by a free call: reachability, the key's validity, the balance, and the clock's skew.

    Args:
        client: With the key when there is one.
        manifest: For the lowest price.
        environ: For the names of proxies, when the service cannot be reached.
        with_key: Whether the client has a key.
        now: This machine's clock, in seconds since 1970.
    """
    path = contract.BALANCE_PATH if with_key else contract.PRICE_SCHEDULES_PATH
    try:
        response = await client.send("GET", path)
    except UnusableNetworkError as exc:
        return [failure("runapi", f"{client.base_url} cannot be reached: {exc}", exc.hint)]
    except (NotSentError, MaybeSentError) as exc:
        return [_unreachable(client, environ, str(exc))]
    except CrossOriginRedirectError as exc:
        message = f"{client.base_url} redirects elsewhere: {exc}; the key was not sent there"
        return [failure("runapi", message, "correct RUNAPI_BASE_URL")]
    findings = [ok("runapi", f"{client.base_url} responds (HTTP {response.status_code})", status=response.status_code)]
    if with_key:
        findings.append(_check_balance(response, manifest))
    return [*findings, *check_clock(response.headers.get("date", ""), now)]


def _unreachable(client: RunapiClient, environ: Mapping[str, str], reason: str) -> Finding:
    proxies = sorted(name for name in environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy"))
    through = f" through {', '.join(proxies)}" if proxies else ""
    return failure("runapi", f"{client.base_url} cannot be reached{through}: {reason}", f"curl -I {client.base_url}")


def _check_balance(response: HttpResponse, manifest: Manifest) -> Finding:
    try:
        balance = balance_of(response)
    except AuthenticationError as exc:
        return failure("balance", exc.message, exc.hint)
    except Flux2Error as exc:
        return warning("balance", exc.message, exc.hint)
    lowest_usd = lowest_price_usd(manifest)
    left_usd = balance.balance_usd or 0.0
    today = "" if balance.spent_today_usd is None else f", {balance.spent_today_usd:.2f} USD spent today"
    message = f"the key is valid; {left_usd:.2f} USD to spend{today}"
    if left_usd < lowest_usd:
        message = f"{message}: not enough for one image ({lowest_usd:.2f} USD)"
        return failure("balance", message, "top up the account at https://runapi.ai", balance_usd=left_usd)
    return ok("balance", message, balance_usd=left_usd)


def check_clock(date: str, now: float) -> list[Finding]:
    """Compare this machine's clock with a response's Date header; no finding when the header cannot be read."""
    try:
        moment = parsedate_to_datetime(date)
    except (TypeError, ValueError, OverflowError):
        return []
    skew_s = now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if abs(skew_s) <= SKEW_S:
        return [ok("clock", f"within {SKEW_S:.0f} s of RunAPI's", skew_s=round(skew_s))]
    here = datetime.fromtimestamp(now, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
    message = f"{here} UTC here, {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} RunAPI's"
    finding = failure if abs(skew_s) > TOO_MUCH_SKEW_S else warning
    return [finding("clock", message, "timedatectl set-ntp true", skew_s=round(skew_s))]
