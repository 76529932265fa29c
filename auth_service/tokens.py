"""The tokens we sign, and the check of those that come back to us."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import jwt

from auth_service.errors import invalid_token
from auth_service.keys import SigningKey
from auth_service.settings import AuthSettings

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

    token: str
    expires_in: int


class Tokens:
    """Signs with one key. `clock` returns the Unix time."""

    def __init__(self, key: SigningKey, settings: AuthSettings, *, clock: Callable[[], float]) -> None:
        self._key = key
        self._settings = settings
        self._clock = clock

    def access(self, bearer: Bearer) -> Signed:
        """Sign what a client connects with."""
        return self._signed(ACCESS, bearer, self._settings.access_token_seconds)

    def ticket(self, bearer: Bearer) -> Signed:
        """Sign what may stand in a URL, because it is good for seconds and for one use.

        The connection that it opens lasts as long as one that was opened with a fresh access token (`expire_at`).
        """
        lasts = int(self._clock()) + self._settings.access_token_seconds
        return self._signed(TICKET, bearer, self._settings.ticket_seconds, {"expire_at": lasts})

    def subscription(self, bearer: Bearer, channel: str, client: str | None) -> Signed:
        """Sign what a client subscribes to one channel with; `client` binds it to one connection."""
        claims: dict[str, str | int] = (
            {"channel": channel} if client is None else {"channel": channel, "client": client}
        )
        return self._signed(SUBSCRIPTION, bearer, self._settings.subscription_token_seconds, claims)

    def check(self, token: str) -> Bearer:
        """Return who an access token of ours speaks for. Raises Refused (401); other kinds of token are no bearer."""
        if len(token) > _MAX_BYTES:
            raise invalid_token()
        try:
            whole = jwt.decode_complete(
                token,
                self._key.private.public_key(),
                algorithms=[self._key.algorithm],
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

    def _signed(self, typ: str, bearer: Bearer, seconds: int, extra: dict[str, str | int] | None = None) -> Signed:
        now = int(self._clock())
        claims = {
            "iss": self._settings.issuer,
            "aud": self._settings.audience,
            "sub": bearer.user,
            "sid": bearer.session_id,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            **(extra or {}),
        }
        headers = {"typ": typ, "kid": self._key.key_id}
        return Signed(jwt.encode(claims, self._key.private, self._key.algorithm, headers), seconds)
