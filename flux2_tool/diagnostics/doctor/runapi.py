"""Checks of the key and of RunAPI, by free calls only: the key's shape, reachability, validity, balance, clocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from flux2_tool._redaction import SecretStr
from flux2_tool.credentials import KEY_VARIABLE, Credentials, resolve_credentials
from flux2_tool.diagnostics.doctor.finding import Finding, failure, ok, warning
from flux2_tool.exceptions import Flux2Error
from flux2_tool.runapi.account_check import ServiceFacts, ask_service, skew_of, utc_text
from flux2_tool.runapi.client import RunapiClient
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
    client: RunapiClient, lowest_usd: float, environ: Mapping[str, str], *, with_key: bool, now: float
) -> list[Finding]:
    """Check by a free call: reachability, the key's validity, the balance, and the clock's skew.

    Args:
        client: With the key when there is one.
        lowest_usd: What the cheapest image costs that may be made.
        environ: For the names of proxies, when the service cannot be reached.
        with_key: Whether the client has a key.
        now: This machine's clock, in seconds since 1970.
    """
    return service_findings(await ask_service(client, with_key=with_key, now=now), lowest_usd, environ, now=now)


def service_findings(
    facts: ServiceFacts, lowest_usd: float, environ: Mapping[str, str], *, now: float
) -> list[Finding]:
    """Return the findings about RunAPI; for the arguments see `check_service`."""
    if facts.no_response == "unusable":
        return [failure("runapi", f"{facts.base_url} cannot be reached: {facts.reason}", facts.hint)]
    if facts.no_response == "unreachable":
        return [_unreachable(facts.base_url, environ, facts.reason)]
    if facts.no_response == "redirected":
        message = f"{facts.base_url} redirects elsewhere: {facts.reason}; the key was not sent there"
        return [failure("runapi", message, "correct RUNAPI_BASE_URL")]
    findings = [ok("runapi", f"{facts.base_url} responds (HTTP {facts.status})", status=facts.status)]
    if facts.error or facts.balance_usd is not None:
        findings.append(_check_balance(facts, lowest_usd))
    return [*findings, *_clock_findings(facts.skew_s, now)]


def _unreachable(base_url: str, environ: Mapping[str, str], reason: str) -> Finding:
    proxies = sorted(name for name in environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy"))
    through = f" through {', '.join(proxies)}" if proxies else ""
    return failure("runapi", f"{base_url} cannot be reached{through}: {reason}", f"curl -I {base_url}")


def _check_balance(facts: ServiceFacts, lowest_usd: float) -> Finding:
    if facts.error:
        return (failure if facts.is_refused else warning)("balance", facts.error, facts.hint)
    left_usd = facts.balance_usd or 0.0
    today = "" if facts.spent_today_usd is None else f", {facts.spent_today_usd:.2f} USD spent today"
    message = f"the key is valid; {left_usd:.2f} USD to spend{today}"
    if left_usd < lowest_usd:
        message = f"{message}: not enough for one image ({lowest_usd:.2f} USD)"
        return failure("balance", message, "top up the account at https://runapi.ai", balance_usd=left_usd)
    return ok("balance", message, balance_usd=left_usd)


def check_clock(date: str, now: float) -> list[Finding]:
    """Compare this machine's clock with a response's Date header; no finding when the header cannot be read."""
    return _clock_findings(skew_of(date, now), now)


def _clock_findings(skew_s: float | None, now: float) -> list[Finding]:
    if skew_s is None:
        return []
    if abs(skew_s) <= SKEW_S:
        return [ok("clock", f"within {SKEW_S:.0f} s of RunAPI's", skew_s=round(skew_s))]
    message = f"{utc_text(now)} UTC here, {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} RunAPI's"
    finding = failure if abs(skew_s) > TOO_MUCH_SKEW_S else warning
    return [finding("clock", message, "timedatectl set-ntp true", skew_s=round(skew_s))]
