"""The keys that an issuer publishes: fetched when needed, by one request at a time, and kept while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx
import structlog

from gateway.contracts.clock import Clock
from gateway.contracts.recorder import Recorder
from gateway.errors import OperatorError
from gateway.tokens.keys import Key, key_set
from gateway.tokens.refusals import unavailable

FETCH_SECONDS = 2.0
MAX_BYTES = 65536
REFRESH_SECONDS = 300.0  # older keys are refreshed beside the work; the auth service says max-age=300
WAIT_SECONDS = 600.0  # older keys are used only after a try to refresh them
STALE_SECONDS = 3600.0  # older keys are forgotten, and the tokens they vouched for
COOLDOWN_SECONDS = 10.0  # between tries, failed ones too: made-up key ids must not become requests
EMPTY_COOLDOWN_SECONDS = 1.0  # without any key nobody gets in, so ask again soon

log = structlog.get_logger(__name__)


class Jwks:
    """The key set at one URL. Use as async context manager; all calls on the loop.

    `retired` is told each key id whose keys changed or went. A client given as `http` stays open.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        recorder: Recorder,
        retired: Callable[[str], None],
        http: httpx.AsyncClient | None = None,
    ) -> None:
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise OperatorError(f"the JWKS endpoint is not an http(s) URL: {url!r}")
        self._url = url
        self._clock = clock
        self._recorder = recorder
        self._retired = retired
        self._borrowed = http
        self._http: httpx.AsyncClient | None = http
        self._keys: dict[str, tuple[Key, ...]] = {}
        self._fetched_at: float | None = None
        self._next_try_at = 0.0
        self._tend_at = 0.0
        self._failed = True  # no good answer so far
        self._flight: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Open the way to the issuer; nothing is fetched yet."""
        if self._borrowed is None:
            # proxies and .netrc of the environment are meant for other things than the way to our own issuer
            self._http = httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=FETCH_SECONDS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End a fetch under way and close the client."""
        flight = self._flight
        if flight is not None:
            flight.cancel()
            await asyncio.wait({flight})
        if self._http is not None and self._borrowed is None:
            await self._http.aclose()
        self._http = None

    def age(self, now: float) -> float | None:
        """Return the seconds since the last good fetch, at monotonic time `now`; None before the first."""
        return None if self._fetched_at is None else now - self._fetched_at

    def tend(self) -> None:
        """Refresh keys that grow old, beside the work, and forget those too old. Cheap: called for every token."""
        now = self._clock.monotonic()
        if now < self._tend_at:
            return
        age = self.age(now)
        if age is None:
            return  # nobody has asked for a key yet
        if age > STALE_SECONDS:
            self._replace({})
        self._tend_at = now + COOLDOWN_SECONDS
        if self._may_fetch(now):
            self._launch()

    def find(self, key_id: str) -> tuple[Key, ...] | None:
        """Return the keys of that id, or all of them for an empty id if there is but one; () = there is no such key.

        None: only a fetch can tell, call `fetch`. Raises TokenError (100) if the issuer cannot be asked just now.
        """
        now = self._clock.monotonic()
        age = self.age(now)
        may_fetch = self._may_fetch(now)
        if may_fetch and (age is None or age > WAIT_SECONDS):
            return None
        keys = self._keys.get(key_id, ())
        if not key_id and len(self._keys) == 1:
            keys = next(iter(self._keys.values()))
        if keys:
            return keys
        if may_fetch:
            return None
        if self._failed:
            raise unavailable("the keys cannot be fetched")
        return ()

    async def fetch(self) -> None:
        """Wait for a fetch, the one under way or a new one. Never raises; cancelling leaves the fetch running."""
        self._launch()
        if self._flight is not None:
            await asyncio.wait({self._flight})

    def _may_fetch(self, now: float) -> bool:
        return self._flight is not None or (now >= self._next_try_at and self._http is not None)

    def _launch(self) -> None:
        if self._flight is None and self._http is not None:
            self._flight = asyncio.create_task(self._fetch(self._http), name="jwks.fetch")

    async def _fetch(self, http: httpx.AsyncClient) -> None:
        self._failed = True
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = key_set(await self._download(http))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            self._recorder.count("jwks_refreshes", "error")
            log.warning("jwks.refresh_failed", error=type(error).__name__, detail=str(error))
        else:
            self._failed = False
            self._recorder.count("jwks_refreshes", "ok")
            self._fetched_at = self._clock.monotonic()
            self._replace(keys)
        finally:
            self._flight = None
            now = self._clock.monotonic()
            self._next_try_at = now + (COOLDOWN_SECONDS if self._keys else EMPTY_COOLDOWN_SECONDS)
            self._tend_at = now + (COOLDOWN_SECONDS if self._failed else REFRESH_SECONDS)

    async def _download(self, http: httpx.AsyncClient) -> bytes:
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        body = bytearray()
        async with http.stream("GET", self._url, headers=headers, follow_redirects=False) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise ValueError(f"status {answer.status_code}")
            async for chunk in answer.aiter_raw():  # raw: what is packed all the same must not unfold in memory
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError("too long")
        return bytes(body)

    def _replace(self, keys: dict[str, tuple[Key, ...]]) -> None:
        before, self._keys = self._keys, keys
        for key_id, old in before.items():
            if keys.get(key_id) != old:
                self._retired(key_id)
        if before.keys() != keys.keys():
            log.info("jwks.keys_changed", keys=len(keys))
