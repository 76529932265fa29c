"""The verifier: which key may speak for a token, and what is remembered of those found good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from types import TracebackType
from typing import Self

import httpx
import structlog

from gateway.contracts.clock import Clock
from gateway.contracts.recorder import Recorder
from gateway.errors import INTERNAL, TOKEN_EXPIRED, TokenError
from gateway.tokens.cache import TokenCache
from gateway.tokens.claims import Rules, check, good_until, identity, read
from gateway.tokens.jwks import Jwks
from gateway.tokens.jws import Presented, parse
from gateway.tokens.keys import ASYMMETRIC, Key, public_key, secret_key
from gateway.tokens.refusals import invalid, unavailable
from gateway.types import Identity

MAX_BYTES = 8192  # more than any honest token; looked at before anything is computed from it
CACHED_TOKENS = 50_000
SECRET_BYTES = 32  # RFC 7518 section 3.2: a secret shorter than its hash is the weakest part

_FAILURES = {INTERNAL.code: "unavailable", TOKEN_EXPIRED.code: "expired"}

log = structlog.get_logger(__name__)


class TokenVerifier:
    """Implements `gateway.contracts.verifier.Verifier`. Use as async context manager; all calls on the loop.

    Keys: a shared secret (HS*), public keys in PEM form, and the JWKS of an issuer; the algorithm must be one the
    key is meant for, whatever the header says. Without any key every token is refused.

    `audience`, if not empty, must be (in) the claim `aud`. A token signed with the shared secret may do without the
    claim, because nobody but us can take such a token; whoever signs for several audiences must say which he means.
    `issuer`, if not empty, must equal `iss`. `exp` and `nbf` are taken with `leeway` seconds of grace, the `exp` of a
    ticket without. A returned Identity is shared by all who present the token: do not change it.

    Counts refusals as `auth_failures` (invalid, expired, unavailable), fetches as `jwks_refreshes` (ok, error).
    Raises OperatorError if a key or the URL cannot be used.
    """

    def __init__(
        self,
        *,
        jwks_url: str = "",
        hmac_secret: bytes = b"",
        public_keys: Sequence[str | bytes] = (),
        issuer: str = "",
        audience: str = "gateway",
        leeway: float = 30.0,
        user_id_claim: str = "sub",
        clock: Clock,
        recorder: Recorder,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._clock = clock
        self._recorder = recorder
        self._rules = Rules(issuer=issuer, audience=audience, leeway=leeway, user_id_claim=user_id_claim)
        self._cache = TokenCache(limit=CACHED_TOKENS)
        self._secret = secret_key(hmac_secret) if hmac_secret else None
        if 0 < len(hmac_secret) < SECRET_BYTES:
            log.warning("token.secret_short", bytes=len(hmac_secret), advised=SECRET_BYTES)
        self._public = tuple(public_key(pem) for pem in public_keys)
        self._jwks = (
            Jwks(jwks_url, clock=clock, recorder=recorder, retired=self._cache.drop_key, http=http)
            if jwks_url
            else None
        )

    async def __aenter__(self) -> Self:
        """Open the way to the issuer of the JWKS, if there is one; nothing is fetched yet."""
        if self._jwks is not None:
            await self._jwks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End a fetch under way and close the client."""
        if self._jwks is not None:
            await self._jwks.__aexit__(kind, error, trace)

    def known(self, token: str, now: float) -> Identity | TokenError | None:
        """Check with the keys at hand at wall clock `now`; None: a key must be fetched, use `verify`."""
        if self._jwks is not None:
            self._jwks.tend()
        if len(token) <= MAX_BYTES and token.isascii():
            digest = sha256(token.encode()).digest()
            found = self._cache.get(digest, now)
            if found is not None:
                return found
            try:
                return self._examined(token, digest, now)
            except TokenError as refusal:
                return self._counted(refusal)
        return self._counted(invalid("too long, or not ASCII"))

    async def verify(self, token: str) -> Identity:
        """Check, fetching keys if need be. Raises TokenError. Cancelling is safe: the fetch is shared and goes on."""
        outcome = self.known(token, self._clock.wall())
        if outcome is None and self._jwks is not None:
            await self._jwks.fetch()
            outcome = self.known(token, self._clock.wall())
        if outcome is None:  # the keys went old again while we waited
            raise self._counted(unavailable("the keys cannot be fetched"))
        if isinstance(outcome, TokenError):
            raise outcome
        return outcome

    def jwks_age(self, now: float) -> float | None:
        """Return the seconds since the JWKS was last fetched, at monotonic time `now`; None without any."""
        return None if self._jwks is None else self._jwks.age(now)

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
        key = self._signer(presented)
        if key is None:
            return None
        claims = read(presented.payload, self._rules)
        check(claims, self._rules, aud_required=key is not self._secret)
        until = good_until(claims, self._rules, ticket=presented.ticket, now=now)
        found = identity(claims, key_id=presented.key_id or key.key_id, ticket=presented.ticket)
        self._cache.put(digest, found, until)
        return found

    def _signer(self, presented: Presented) -> Key | None:
        """Return the key that made the signature, None if that takes a fetch. Raises TokenError."""
        signer = _signer_among(self._own_keys(presented), presented)
        if signer is not None:
            return signer
        if self._jwks is None or presented.algorithm not in ASYMMETRIC:
            raise invalid("signature, or an algorithm that no key of ours is for")
        published = self._jwks.find(presented.key_id)
        if published is None:
            return None
        signer = _signer_among(published, presented)
        if signer is None:
            raise invalid("signature, or an algorithm its key is not for" if published else "unknown key")
        return signer

    def _own_keys(self, presented: Presented) -> Iterable[Key]:
        """Return the keys given to us: of the public ones that named, else all, since their ids are made by us."""
        if presented.algorithm not in ASYMMETRIC:
            return () if self._secret is None else (self._secret,)
        named = tuple(key for key in self._public if key.key_id == presented.key_id)
        return named or self._public


def _signer_among(keys: Iterable[Key], presented: Presented) -> Key | None:
    for key in keys:
        if key.signed(presented.algorithm, presented.signed, presented.signature):
            return key
    return None
