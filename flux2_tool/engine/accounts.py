"""The accounts that calls use: one HTTP client per address, one rate limiter per key, one RunAPI client per call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flux2_tool.credentials import Credentials
from flux2_tool.engine.runtime import Runtime
from flux2_tool.exceptions import InternalError
from flux2_tool.journal import AccountPaces
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.http_client import HttpClient, open_http
from flux2_tool.tasks.resume import Account

# Called when a call needs them; raises MissingApiKeyError or ConfigurationError.
CredentialsSource = Callable[[], Credentials]


class Accounts:
    """Opens RunAPI's accounts and shares their connections between calls.

    Args:
        default: Returns the credentials of calls without their own.
        user_agent: The User-Agent header.
        runtime: Network and time.
    """

    def __init__(self, default: CredentialsSource | None, *, user_agent: str, runtime: Runtime) -> None:
        self._default = default
        self._user_agent = user_agent
        self._runtime = runtime
        self._http: dict[str, HttpClient] = {}
        self.paces = AccountPaces(runtime.clock, name=runtime.owner.name)

    def open(self, credentials: CredentialsSource | None = None) -> Account:
        """Return the account of these credentials, else of the default ones.

        Raises:
            MissingApiKeyError: There is no key.
            ConfigurationError: The key or the environment's proxy settings are wrong.
        """
        source = credentials or self._default
        if source is None:
            raise InternalError("no credentials were given to this call")
        chosen = source()
        client = RunapiClient(
            self.http(chosen.base_url),
            base_url=chosen.base_url,
            api_key=chosen.api_key,
            user_agent=self._user_agent,
            attempt_timeout_s=self._runtime.timeouts.attempt_s,
            rate_limiter=self.paces.limiter(chosen.base_url, chosen.fingerprint),
        )
        return Account(client=client, fingerprint=chosen.fingerprint)

    def http(self, base_url: str) -> HttpClient:
        """Return the HTTP client of an address; it has no key."""
        if base_url not in self._http:
            self._http[base_url] = open_http(
                base_url, timeouts=self._runtime.timeouts, transport=self._runtime.transport
            )
        return self._http[base_url]

    async def aclose(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(http.aclose() for http in self._http.values()))
        self._http.clear()
