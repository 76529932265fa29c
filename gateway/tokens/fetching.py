"""One answer of an issuer over HTTP: soon, small, and from where we asked."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus

import httpx

FETCH_SECONDS = 2.0
MAX_BYTES = 65536

FAILURES = (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError)
"""All that `fetch` raises, and what readers of its answers are to raise."""

_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, and for how many seconds its sender calls it fresh, if he says so."""

    body: bytes
    max_age: float | None


def open_client() -> httpx.AsyncClient:
    """Open the way to an issuer."""
    # proxies and .netrc of the environment are meant for other things than the way to our own issuer
    return httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=FETCH_SECONDS)


async def fetch(http: httpx.AsyncClient, url: str) -> Answer:
    """Get what stands at a URL. Raises FAILURES: for any status but 200, redirects too, and what is late or long."""
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    body = bytearray()
    async with (
        asyncio.timeout(FETCH_SECONDS),
        http.stream("GET", url, headers=headers, follow_redirects=False) as answer,
    ):
        if answer.status_code != HTTPStatus.OK:
            raise ValueError(f"status {answer.status_code}")
        async for chunk in answer.aiter_raw():  # raw: what is packed all the same must not unfold in memory
            body += chunk
            if len(body) > MAX_BYTES:
                raise ValueError("too long")
        fresh = _MAX_AGE.search(answer.headers.get("cache-control", ""))
    return Answer(bytes(body), float(fresh[1]) if fresh else None)
