"""Whom we believe: an issuer's keys, what he may use them for, and how his tokens are read."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx
import structlog

from gateway.contracts.clock import Clock
from gateway.contracts.recorder import Recorder
from gateway.errors import OperatorError
from gateway.tokens.claims import Rules
from gateway.tokens.discovery import Discovery
from gateway.tokens.jwks import Jwks
from gateway.tokens.jws import Presented
from gateway.tokens.keys import ALGORITHMS, ASYMMETRIC, Key, public_key, secret_key
from gateway.tokens.refusals import invalid

SECRET_BYTES = 32  # RFC 7518 section 3.2: a secret shorter than its hash is the weakest part

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """One issuer whom we believe. `rules.issuer` empty: tokens that name no issuer of the others.

    Keys: a shared secret (HS*), and the one before it up to wall clock `previous_until`; public keys in PEM form; the
    set at `jwks_url`, or with `discover` at the address that the OIDC issuer `rules.issuer` tells. `algorithms` that
    are named exclude all others; in any case a key is good only for those that it is meant for.
    """

    rules: Rules = field(default_factory=Rules)
    hmac_secret: bytes = b""
    previous_hmac_secret: bytes = b""
    previous_until: float = math.inf
    public_keys: Sequence[str | bytes] = ()
    jwks_url: str = ""
    discover: bool = False
    algorithms: Set[str] = frozenset()


class Issuer:
    """An issuer at work. Use as async context manager; all calls on the loop.

    `retired`, `http` and `chance` are those of the `Jwks`. Raises OperatorError if a key or URL cannot be used.
    """

    def __init__(
        self,
        trust: Trust,
        *,
        clock: Clock,
        recorder: Recorder,
        retired: Callable[[str], None],
        http: httpx.AsyncClient | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.rules = trust.rules
        self.name = trust.rules.issuer
        self._algorithms = trust.algorithms or ALGORITHMS
        if unknown := self._algorithms - ALGORITHMS:
            raise OperatorError(f"no such algorithm for tokens: {', '.join(sorted(unknown))}")
        self._secrets = tuple(_secrets(trust))
        self._public = tuple(public_key(pem) for pem in trust.public_keys)
        source = Discovery(self.name, clock=clock) if trust.discover else trust.jwks_url
        self.jwks = (
            Jwks(source, clock=clock, recorder=recorder, retired=retired, http=http, chance=chance) if source else None
        )

    async def __aenter__(self) -> Self:
        """Open the way to the key set, if there is one; nothing is fetched yet."""
        if self.jwks is not None:
            await self.jwks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End a fetch under way and close the client."""
        if self.jwks is not None:
            await self.jwks.__aexit__(kind, error, trace)

    def signer(self, presented: Presented, now: float) -> Key | None:
        """Return the key that made the signature, at wall clock `now`; None if that takes a fetch. Raises TokenError.

        3500: no key of ours, or an algorithm that it is not for. 100: keys cannot be fetched just now.
        """
        if presented.algorithm not in self._algorithms:
            raise invalid("signature, or an algorithm that no key of ours is for")
        signer = _signer_among(self._own_keys(presented, now), presented)
        if signer is not None:
            return signer
        if self.jwks is None or presented.algorithm not in ASYMMETRIC:
            raise invalid("signature, or an algorithm that no key of ours is for")
        published = self.jwks.find(presented.key_id)
        if published is None:
            return None
        signer = _signer_among(published, presented)
        if signer is None:
            raise invalid("signature, or an algorithm its key is not for" if published else "unknown key")
        return signer

    def _own_keys(self, presented: Presented, now: float) -> Iterable[Key]:
        """Return the keys given to us: of the public ones that named, else all, since their ids are made by us."""
        if presented.algorithm not in ASYMMETRIC:
            return (key for key in self._secrets if now < key.until)
        named = tuple(key for key in self._public if key.key_id == presented.key_id)
        return named or self._public


def _secrets(trust: Trust) -> Iterable[Key]:
    for secret, until in ((trust.hmac_secret, math.inf), (trust.previous_hmac_secret, trust.previous_until)):
        if 0 < len(secret) < SECRET_BYTES:
            log.warning("token.secret_short", bytes=len(secret), advised=SECRET_BYTES)
        if secret:
            yield secret_key(secret, until)


def _signer_among(keys: Iterable[Key], presented: Presented) -> Key | None:
    for key in keys:
        if key.signed(presented.algorithm, presented.signed, presented.signature):
            return key
    return None
