"""The verifier: which key may speak for a token, and what is remembered of those found good."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from hashlib import sha256
from types import TracebackType
from typing import Self

import httpx

from gateway.contracts.clock import Clock
from gateway.contracts.control import ControlBus
from gateway.contracts.recorder import Recorder
from gateway.errors import INTERNAL, TOKEN_EXPIRED, OperatorError, TokenError
from gateway.protocol.messages import Revoke
from gateway.protocol.revocations import Denylist, subject
from gateway.tokens.cache import TokenCache
from gateway.tokens.claims import check, good_until, identity, issuer_named, read
from gateway.tokens.issuers import Issuer, Trust
from gateway.tokens.jws import Presented, parse
from gateway.tokens.refusals import expired, invalid, unavailable
from gateway.types import Identity

MAX_BYTES = 8192  # more than any honest token; looked at before anything is computed from it
CACHED_TOKENS = 50_000
INFORMED_SECONDS = 2.0  # that a token waits for a node that has just started and does not know what was revoked

_FAILURES = {INTERNAL.code: "unavailable", TOKEN_EXPIRED.code: "expired"}


class TokenVerifier:
    """Implements `gateway.contracts.verifier.Verifier`. Use as async context manager; all calls on the loop.

    Each issuer has keys and rules of its own (`Trust`); a token is looked at with those of the issuer it names, and
    with no others. Without any issuer every token is refused.

    `audience`, if not empty, must be (in) the claim `aud`. A token signed with the shared secret may do without the
    claim, because nobody but us can take such a token; whoever signs for several audiences must say which he means.
    `exp`, `nbf` and `iat` are taken with `leeway` seconds of grace, the `exp` of a ticket without. A returned Identity
    is shared by all who present the token: do not change it.

    Counts refusals as `auth_failures` (invalid, expired, unavailable), fetches as `jwks_refreshes` (ok, error), and
    `revocations` by kind; `revocations_forgotten` are those that went early because there were too many.
    Raises OperatorError if a key or URL cannot be used, or an issuer stands there twice.
    """

    def __init__(
        self,
        *trusted: Trust,
        clock: Clock,
        recorder: Recorder,
        http: httpx.AsyncClient | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._recorder = recorder
        self._cache = TokenCache(limit=CACHED_TOKENS)
        self._denied = Denylist()
        self._awaited: ControlBus | None = None
        self._issuers: dict[str, Issuer] = {}
        for trust in trusted:
            issuer = Issuer(
                trust, clock=clock, recorder=recorder, retired=self._cache.drop_key, http=http, chance=chance
            )
            if issuer.name in self._issuers:
                raise OperatorError(f"tokens of the issuer {issuer.name!r} are to be read in two ways")
            self._issuers[issuer.name] = issuer
        self._fetched = tuple(issuer.jwks for issuer in self._issuers.values() if issuer.jwks is not None)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the ways to all issuers whose keys are fetched; nothing is fetched yet."""
        for issuer in self._issuers.values():
            await self._open.enter_async_context(issuer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the fetches under way and close the clients."""
        await self._open.__aexit__(kind, error, trace)

    def judge_after(self, bus: ControlBus) -> None:
        """Judge no token before the bus is ready: until then nobody has told us what was revoked before we started."""
        self._awaited = bus

    def known(self, token: str, now: float) -> Identity | TokenError | None:
        """Check with the keys at hand at wall clock `now`; None: something must be waited for, use `verify`."""
        if self._awaited is not None:
            if not self._awaited.ready:
                return None
            self._awaited = None
        for jwks in self._fetched:
            jwks.tend()
        if len(token) <= MAX_BYTES and token.isascii():
            digest = sha256(token.encode()).digest()
            found = self._cache.get(digest, now)
            try:
                if found is None:
                    found = self._examined(token, digest, now)
                if self._denied.size and found is not None and (barred := self._denied.find(found, now)) is not None:
                    # Of a key that is dropped nobody's session ends: whoever has one is to fetch a new token.
                    raise expired("revoked key") if barred.key_id else invalid("revoked")
            except TokenError as refusal:
                return self._counted(refusal)
            return found
        return self._counted(invalid("too long, or not ASCII"))

    async def verify(self, token: str) -> Identity:
        """Check, fetching keys if need be. Raises TokenError. Cancelling is safe: the fetch is shared and goes on."""
        if self._awaited is not None and not await _stands(self._awaited):
            raise self._counted(unavailable("what was revoked is not known yet"))
        outcome = self.known(token, self._clock.wall())
        if outcome is None and (jwks := self._issuer_of(parse(token)).jwks) is not None:
            await jwks.fetch()
            outcome = self.known(token, self._clock.wall())
        if outcome is None:  # the keys went old again while we waited
            raise self._counted(unavailable("the keys cannot be fetched"))
        if isinstance(outcome, TokenError):
            raise outcome
        return outcome

    def revoke(self, revocation: Revoke) -> None:
        """Bar the tokens concerned up to its end: those found good before, and those that come. On the loop.

        A key is dropped though its issuer should still publish it, and the key set is fetched anew.
        """
        self._recorder.count("revocations", subject(revocation)[0])
        self._recorder.count("revocations_forgotten", n=self._denied.add(revocation, self._clock.wall()))
        self.forget(token_id=revocation.token_id, session_id=revocation.session_id, key_id=revocation.key_id)
        if revocation.key_id:
            for jwks in self._fetched:
                jwks.drop(revocation.key_id)

    def revoked(self, identity: Identity) -> bool:
        """Whether the token that made this identity has been revoked since."""
        return self._denied.size > 0 and self._denied.find(identity, self._clock.wall()) is not None

    @property
    def revocations(self) -> int:
        """How many revocations are in force."""
        self._denied.expire(self._clock.wall())
        return self._denied.size

    def jwks_age(self, now: float) -> float | None:
        """Return the seconds since the oldest key set was fetched, at monotonic time `now`; None without any."""
        return max((age for jwks in self._fetched if (age := jwks.age(now)) is not None), default=None)

    def forget(self, *, token_id: str = "", session_id: str = "", key_id: str = "") -> None:
        """Drop what the cache holds of a token (`jti`), a session (`sid`) or a key (`kid`); empty ones are no one's."""
        if token_id:
            self._cache.drop_token(token_id)
        if session_id:
            self._cache.drop_session(session_id)
        if key_id:
            self._cache.drop_key(key_id)

    def _counted(self, refusal: TokenError) -> TokenError:
        self._recorder.count("auth_failures", _FAILURES.get(refusal.code, "invalid"))
        return refusal

    def _examined(self, token: str, digest: bytes, now: float) -> Identity | None:
        presented = parse(token)
        if self._denied.size and self._denied.bars_key(presented.key_id, now):
            raise expired("revoked key")  # before anybody is asked for it
        issuer = self._issuer_of(presented)
        key = issuer.signer(presented, now)
        if key is None:
            return None
        claims = read(presented.payload, issuer.rules)
        check(claims, issuer.rules, aud_required=not key.shared)
        until = good_until(claims, issuer.rules, ticket=presented.ticket, now=now)
        found = identity(claims, issuer.rules, key_id=key.key_id or presented.key_id, ticket=presented.ticket)
        self._cache.put(digest, found, min(until, key.until))
        return found

    def _issuer_of(self, presented: Presented) -> Issuer:
        """Return whose keys and rules are to be asked, by what the token says itself. Raises TokenError."""
        if len(self._issuers) == 1:
            return next(iter(self._issuers.values()))  # its rules look at `iss`, when the signature is known to be good
        issuer = self._issuers.get(issuer_named(presented.payload)) or self._issuers.get("")
        if issuer is None:
            raise invalid("issuer")
        return issuer


async def _stands(bus: ControlBus) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(INFORMED_SECONDS):
            await bus.stands()
    return bus.ready
