"""The tokens we sign, and the check of those that come back to us."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from auth_service.errors import invalid_token
from auth_service.keys.key import SigningKey
from auth_service.keys.ring import Keyring
from auth_service.settings import AuthSettings
from auth_service.store.records import Live

ACCESS = "at+jwt"  # RFC 9068
SUBSCRIPTION = "JWT"
TICKET = "ticket+jwt"

_MAX_BYTES = 4096  # ours are under 1 KiB


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who an access token speaks for."""

    user: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Signed:
    """A token and the seconds it lives."""

    token: str = field(repr=False)
    expires_in: int


class Tokens:
    """Signs with the key whose time it is. `clock` returns the Unix time."""

    def __init__(self, keyring: Keyring, settings: AuthSettings, *, clock: Callable[[], float]) -> None:
        self._keyring = keyring
        self._settings = settings
        self._clock = clock

    def access(self, live: Live) -> Signed:
        """Sign what a client connects with; it says what the user has been given to say (roles, info, channels)."""
        return self._signed(ACCESS, live, self._settings.access_token_seconds, live.claims.said())

    def ticket(self, live: Live) -> Signed:
        """Sign what may stand in a URL, because it is good for seconds and for one use.

        The connection that it opens lasts as long as one that was opened with a fresh access token (`expire_at`).
        """
        lasts = int(self._clock()) + self._settings.access_token_seconds
        return self._signed(TICKET, live, self._settings.ticket_seconds, {**live.claims.said(), "expire_at": lasts})

    def subscription(self, live: Live, channel: str, client: str | None) -> Signed:
        """Sign what a client subscribes to one channel with; `client` binds it to one connection."""
        claims = {"channel": channel} if client is None else {"channel": channel, "client": client}
        return self._signed(SUBSCRIPTION, live, self._settings.subscription_token_seconds, claims)

    def check(self, token: str) -> Bearer:
        """Return who an access token of ours speaks for. Raises Refused (401); other kinds of token are no bearer."""
        if len(token) > _MAX_BYTES:
            raise invalid_token()
        try:
            key = self._key_of(token)
            whole = jwt.decode_complete(
                token,
                key.private.public_key(),
                algorithms=[key.algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                # times are checked below, against our clock
                options={
                    "require": ["exp", "sub", "sid"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, RecursionError):
            raise invalid_token() from None
        claims = whole["payload"]
        if whole["header"].get("typ") != ACCESS:
            raise invalid_token()
        if self._clock() >= claims["exp"]:
            raise invalid_token("the token has expired")
        return Bearer(claims["sub"], claims["sid"])

    def _key_of(self, token: str) -> SigningKey:
        key = self._keyring.find(jwt.get_unverified_header(token).get("kid", ""))
        if key is None:
            raise invalid_token()
        return key

    def _signed(self, typ: str, live: Live, seconds: int, extra: Mapping[str, Any]) -> Signed:
        now = int(self._clock())
        claims = {
            **extra,
            "iss": self._settings.issuer,
            "aud": self._settings.audience,
            "sub": live.user,
            "sid": live.session_id,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
        }
        key = self._keyring.signer()
        headers = {"typ": typ, "kid": key.key_id}
        return Signed(jwt.encode(claims, key.private, key.algorithm, headers), seconds)
