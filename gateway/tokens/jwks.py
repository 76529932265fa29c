"""The keys that an issuer publishes: fetched when needed, by one request at a time, and kept while it is away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx
import structlog

from gateway.contracts.clock import Clock
from gateway.contracts.recorder import Recorder
from gateway.tokens.discovery import Discovery, check_url
from gateway.tokens.fetching import FAILURES, fetch, open_client
from gateway.tokens.keys import Key, key_set
from gateway.tokens.refusals import unavailable

REFRESH_SECONDS = 300.0  # older keys are refreshed beside the work, unless their issuer says max-age; the most, too
REFRESH_SECONDS_LEAST = 5.0
WAIT_SECONDS = 600.0  # older keys are used only after a try to refresh them
STALE_SECONDS = 3600.0  # older keys are forgotten, and the tokens they vouched for
COOLDOWN_SECONDS = 10.0  # between tries, failed ones too: made-up key ids must not become requests
EMPTY_COOLDOWN_SECONDS = 1.0  # without any key nobody gets in, so ask again soon
EMPTY_COOLDOWN_SECONDS_MOST = 4.0  # but less and less often
SPREAD = 0.5  # pauses are longer by up to this share: a hundred nodes are not to come back as one
UNKNOWN_IDS = 1000  # remembered at once

log = structlog.get_logger(__name__)


class Jwks:
    """The key set at one URL, or where an OIDC issuer says. Use as async context manager; all calls on the loop.

    `retired` is told each key id whose keys changed or went. A client given as `http` stays open. `chance` gives
    numbers from 0 to 1, for the pauses between fetches.
    """

    def __init__(
        self,
        source: str | Discovery,
        *,
        clock: Clock,
        recorder: Recorder,
        retired: Callable[[str], None],
        http: httpx.AsyncClient | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if isinstance(source, str):
            check_url(source, "JWKS endpoint")
        self._source = source
        self._clock = clock
        self._recorder = recorder
        self._retired = retired
        self._borrowed = http
        self._http: httpx.AsyncClient | None = http
        self._chance = chance
        self._keys: dict[str, tuple[Key, ...]] = {}
        self._asked: dict[str, None] = {}  # unknown ids that came since the last fetch; a dict, for its order
        self._missing: dict[str, None] = {}  # those that came before the last fetch and were not in it
        self._fetched_at: float | None = None
        self._next_try_at = 0.0
        self._tend_at = 0.0
        self._failures = 1  # tries since the last good answer; there was none so far
        self._flight: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Open the way to the issuer; nothing is fetched yet."""
        if self._borrowed is None:
            self._http = open_client()
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
        self._launch()

    def find(self, key_id: str) -> tuple[Key, ...] | None:
        """Return the keys of that id, or all of them for an empty id if there is but one; () = there is no such key.

        None: only a fetch can tell, call `fetch`. Raises TokenError (100) if the issuer cannot be asked just now: he
        is away, or was asked a moment ago and the id was first seen after that, so it may be that of a new key.
        """
        now = self._clock.monotonic()
        age = self.age(now)
        may_fetch = self._may_fetch(now)
        if may_fetch and (age is None or age > WAIT_SECONDS):
            self._ask_for(key_id)
            return None
        keys = self._keys.get(key_id, ())
        if not key_id and len(self._keys) == 1:
            keys = next(iter(self._keys.values()))
        if keys or (self._keys and not key_id):  # no fetch makes one key of several
            return keys
        self._ask_for(key_id)
        if may_fetch:
            return None
        if self._failures == 0 and key_id in self._missing:
            return ()
        raise unavailable("the keys cannot be fetched, or not so soon again")

    def _ask_for(self, key_id: str) -> None:
        self._asked[key_id] = None
        if len(self._asked) > UNKNOWN_IDS:
            del self._asked[next(iter(self._asked))]

    def drop(self, key_id: str) -> None:
        """Do without this key at once, and fetch the set anew as soon as that is allowed."""
        if self._keys.pop(key_id, None) is None:
            return
        self._retired(key_id)
        if self._may_fetch(self._clock.monotonic()):
            self._launch()
        else:
            self._tend_at = self._next_try_at

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
        fresh: float | None = None
        try:
            answer = await fetch(http, await self._located(http))
            keys, fresh = key_set(answer.body), answer.max_age
        except FAILURES as error:
            self._failed(error)
        else:
            self._failures = 0
            self._recorder.count("jwks_refreshes", "ok")
            self._fetched_at = self._clock.monotonic()
            self._missing, self._asked = self._asked, {}
            self._replace(keys)
        finally:
            self._flight = None
            self._plan(fresh)

    async def _located(self, http: httpx.AsyncClient) -> str:
        return self._source if isinstance(self._source, str) else await self._source.locate(http)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if isinstance(self._source, Discovery):
            self._source.doubt()
        self._recorder.count("jwks_refreshes", "error")
        log.warning("jwks.refresh_failed", error=type(error).__name__, detail=str(error))

    def _plan(self, fresh: float | None) -> None:
        """Settle when the next fetch may be, and when it is to be."""
        now = self._clock.monotonic()
        pause = COOLDOWN_SECONDS
        if not self._keys:
            pause = min(EMPTY_COOLDOWN_SECONDS * 2 ** min(self._failures - 2, 10), EMPTY_COOLDOWN_SECONDS_MOST)
        if self._failures:
            self._next_try_at = self._tend_at = now + pause * (1 + SPREAD * self._chance())
        else:
            after = min(max(REFRESH_SECONDS if fresh is None else fresh, REFRESH_SECONDS_LEAST), REFRESH_SECONDS)
            self._next_try_at = now + pause
            self._tend_at = now + after * (1 - SPREAD / 2 * self._chance())

    def _replace(self, keys: dict[str, tuple[Key, ...]]) -> None:
        before, self._keys = self._keys, keys
        for key_id, old in before.items():
            if keys.get(key_id) != old:
                self._retired(key_id)
            if key_id not in keys:
                self._missing[key_id] = None
        if before.keys() != keys.keys():
            log.info("jwks.keys_changed", keys=len(keys))
