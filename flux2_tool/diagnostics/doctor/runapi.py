"""RunAPI's side, by free calls only: the key and its shape, reachability, validity, balance, and the clocks."""

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
from flux2_tool.runapi.client import CrossOriginRedirectError, HttpResponse, MaybeSentError, NotSentError, RunapiClient
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import Settings

SKEW_S: Final = 60.0
# A webhook's signature is refused when it is older than this.
TOO_MUCH_SKEW_S: Final = 300.0
SHORT_KEY_CHARS: Final = 12
_PREFIX = re.compile(r"[A-Za-z]{2,8}[-_]")


def masked(key: SecretStr) -> str:
    """Return what may be shown of a key: how it begins, if that is a word, and how long it is."""
    text = key.get_secret_value()
    found = _PREFIX.match(text)
    prefix = found.group() if found and len(text) >= SHORT_KEY_CHARS else ""
    return f"{prefix}… ({len(text)} characters)"


def key(settings: Settings, environ: Mapping[str, str]) -> tuple[Credentials | None, list[Finding]]:
    """Return the key of this shell, if there is a usable one, and what is to say of it."""
    try:
        found = resolve_credentials(environ=environ, settings_base_url=settings.base_url)
    except Flux2Error as exc:
        return None, [failure("key", exc.message, exc.hint)]
    facts = {"source": found.source, "fingerprint": found.fingerprint, "base_url": found.base_url}
    said = f"{masked(found.api_key)} from {found.source}, for {found.base_url}"
    if len(found.api_key.get_secret_value()) < SHORT_KEY_CHARS:
        findings = [warning("key", f"{said}; that is short for a key", "copy the key again", **facts)]
    else:
        findings = [ok("key", said, **facts)]
    try:
        other = resolve_credentials(environ={name: text for name, text in environ.items() if name != KEY_VARIABLE})
    except Flux2Error:
        return found, findings
    if other.fingerprint != found.fingerprint:
        said = f"{other.source} holds another key; {KEY_VARIABLE} wins"
        findings.append(warning("key", said, f"unset {KEY_VARIABLE}, or correct {other.source}"))
    return found, findings


async def runapi(
    client: RunapiClient, manifest: Manifest, environ: Mapping[str, str], *, with_key: bool, now: float
) -> list[Finding]:
    """Return what a free call tells: reachability, the key's validity, the balance, and the clock's skew.

    Args:
        client: With the key when there is one.
        manifest: For the lowest price.
        environ: For the names of proxies, when the service cannot be reached.
        with_key: Whether the client has a key.
        now: This machine's clock, in seconds since 1970.
    """
    path = contract.BALANCE_PATH if with_key else contract.PRICE_SCHEDULES_PATH
    try:
        answer = await client.send("GET", path)
    except (NotSentError, MaybeSentError) as exc:
        return [_unreachable(client, environ, str(exc))]
    except CrossOriginRedirectError as exc:
        said = f"{client.base_url} redirects elsewhere: {exc}; the key was not sent there"
        return [failure("runapi", said, "correct RUNAPI_BASE_URL")]
    findings = [ok("runapi", f"{client.base_url} answers (HTTP {answer.status_code})", status=answer.status_code)]
    if with_key:
        findings.append(_balance(answer, manifest))
    return [*findings, *clock_skew(answer.headers.get("date", ""), now)]


def _unreachable(client: RunapiClient, environ: Mapping[str, str], said: str) -> Finding:
    proxies = sorted(name for name in environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy"))
    through = f" through {', '.join(proxies)}" if proxies else ""
    return failure("runapi", f"{client.base_url} cannot be reached{through}: {said}", f"curl -I {client.base_url}")


def _balance(answer: HttpResponse, manifest: Manifest) -> Finding:
    try:
        balance = balance_of(answer)
    except AuthenticationError as exc:
        return failure("balance", exc.message, exc.hint)
    except Flux2Error as exc:
        return warning("balance", exc.message, exc.hint)
    lowest_usd = lowest_price_usd(manifest)
    left_usd = balance.balance_usd or 0.0
    today = "" if balance.spent_today_usd is None else f", {balance.spent_today_usd:.2f} USD spent today"
    said = f"the key is valid; {left_usd:.2f} USD to spend{today}"
    if left_usd < lowest_usd:
        said = f"{said}: not enough for one image ({lowest_usd:.2f} USD)"
        return failure("balance", said, "top up the account at https://runapi.ai", balance_usd=left_usd)
    return ok("balance", said, balance_usd=left_usd)


def clock_skew(date: str, now: float) -> list[Finding]:
    """Return what the Date header of an answer tells of this machine's clock; nothing when it cannot be read."""
    try:
        moment = parsedate_to_datetime(date)
    except (TypeError, ValueError, OverflowError):
        return []
    skew_s = now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if abs(skew_s) <= SKEW_S:
        return [ok("clock", f"within {SKEW_S:.0f} s of RunAPI's", skew_s=round(skew_s))]
    here = datetime.fromtimestamp(now, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
    said = f"{here} UTC here, {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} RunAPI's"
    finding = failure if abs(skew_s) > TOO_MUCH_SKEW_S else warning
    return [finding("clock", said, "timedatectl set-ntp true", skew_s=round(skew_s))]
