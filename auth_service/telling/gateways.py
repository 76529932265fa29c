"""Tells the gateway, by its server API, that a session, a key or a user is barred."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from auth_service.errors import AuthError, OperatorError

TIMEOUT_SECONDS = 2.0  # for one URL, from the first packet to the whole answer
PATH = "/api/revoke"


class GatewayFault(AuthError):  # noqa: N818 - one word for what went wrong between us
    """No URL took the order; `str()` says why, without secrets."""


class Gateways:
    """The gateway under one or several URLs, any of which speaks for all nodes; orders are taken while `connected`.

    The key is a value, or a file that is read for each order, so that it may be replaced at any time.
    """

    def __init__(self, urls: Sequence[str], key: SecretStr | Path | None) -> None:
        self.urls = tuple(url.rstrip("/") for url in urls)
        self._key = key
        self._first = 0  # where the last order was taken
        self._client: httpx.AsyncClient | None = None
        if self.urls and not self._read_key():
            raise OperatorError("AUTH_GATEWAY_URLS needs AUTH_GATEWAY_API_KEY or AUTH_GATEWAY_API_KEY_FILE")

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Hold the connections open."""
        secure = any(url.startswith("https:") for url in self.urls)
        async with httpx.AsyncClient(
            trust_env=False,  # no proxy of the environment stands between us
            timeout=TIMEOUT_SECONDS,
            verify=ssl.create_default_context() if secure else False,  # what the machine trusts
        ) as self._client:
            yield

    async def revoke(self, order: Mapping[str, Any]) -> None:
        """Return once a gateway has stored the order. Raises GatewayFault; takes at most 2 s for each URL.

        Cancelling leaves open whether it was stored: send it again with the same `id`.
        """
        faults: list[str] = []
        for offset in range(len(self.urls)):
            at = (self._first + offset) % len(self.urls)
            try:
                await self._post(self.urls[at], order)
            except GatewayFault as fault:
                faults.append(str(fault))
            else:
                self._first = at
                return
        raise GatewayFault("; ".join(faults))

    async def _post(self, url: str, order: Mapping[str, Any]) -> None:
        assert self._client is not None  # noqa: S101 - orders are for those who are connected
        host = urlsplit(url).netloc
        try:
            headers = {"X-API-Key": self._read_key()}
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await self._client.post(url + PATH, json=dict(order), headers=headers)
        except (TimeoutError, httpx.TimeoutException):
            raise GatewayFault(f"{host}: no answer in {TIMEOUT_SECONDS:g} s") from None
        except httpx.HTTPError as error:
            raise GatewayFault(f"{host}: {type(error).__name__}") from None
        except OperatorError as error:
            raise GatewayFault(str(error)) from None
        _judge(host, answer)

    def _read_key(self) -> str:
        if isinstance(self._key, SecretStr):
            return self._key.get_secret_value()
        if self._key is None:
            return ""
        try:
            return self._key.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not ASCII"
            raise OperatorError(f"AUTH_GATEWAY_API_KEY_FILE {self._key} cannot be read: {why}") from None


def _judge(host: str, answer: httpx.Response) -> None:
    """Raise GatewayFault unless the order was taken: 200 alone does not say so."""
    if answer.status_code != httpx.codes.OK:
        raise GatewayFault(f"{host}: status {answer.status_code}")
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or "result" not in body:
        fault = body.get("error") if isinstance(body, dict) else None
        code = fault.get("code") if isinstance(fault, dict) else "none of its answers"
        raise GatewayFault(f"{host}: error {code}")
