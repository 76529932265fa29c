"""What users can do: register, log in, refresh, log out, and get tokens for the gateway."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from auth_service.errors import Refused, invalid_credentials, invalid_token
from auth_service.metrics import Metrics
from auth_service.passwords import Passwords
from auth_service.policy import SubscriptionPolicy
from auth_service.settings import AuthSettings
from auth_service.store import Login, Store
from auth_service.tokens import Bearer, Signed, Tokens

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a log-in or a refresh gives."""

    access: Signed
    refresh_token: str


class Accounts:
    """The rules. `clock` returns the Unix time.

    All methods may raise Refused, and SQLAlchemyError when the database is away.
    Cancelling a method leaves the database as before it or as after it.
    """

    def __init__(
        self,
        *,
        store: Store,
        passwords: Passwords,
        tokens: Tokens,
        policy: SubscriptionPolicy,
        settings: AuthSettings,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._tokens = tokens
        self._policy = policy
        self._settings = settings
        self._metrics = metrics
        self._clock = clock

    async def register(self, name: str, password: str) -> None:
        """Add a user."""
        if not self._settings.registration:
            raise Refused(403, "registration_closed", "registration is closed")
        added = await self._store.add_user(name, await self._passwords.hash(password), self._clock())
        self._metrics.registrations.labels("ok" if added else "taken").inc()
        log.info("auth.register", result="ok" if added else "taken", user=_masked(name))
        if not added:
            raise Refused(409, "username_taken", "this username is taken")

    async def log_in(self, name: str, password: str) -> TokenPair:
        """Begin a session. A wrong name and a wrong password take the same time and get the same answer."""
        with self._metrics.login_seconds.time():
            account = await self._store.user(name)
            right = await self._passwords.verify(None if account is None else account.password_hash, password)
        self._metrics.logins.labels("ok" if right else "refused").inc()
        log.info("auth.login", result="ok" if right else "refused", user=_masked(name))
        if account is None or not right:
            raise invalid_credentials()
        if self._passwords.outdated(account.password_hash):
            await self._store.set_password_hash(account.name, await self._passwords.hash(password))
        now = self._clock()
        login = Login(secrets.token_urlsafe(16), account.name, now + self._settings.session_seconds)
        refresh_token = secrets.token_urlsafe(32)
        idle = self._settings.refresh_idle_seconds
        await self._store.begin_session(login, _digest(refresh_token), idle_seconds=idle, now=now)
        return self._pair(login, refresh_token)

    async def refresh(self, refresh_token: str) -> TokenPair:
        """Use a refresh token up and give the next pair. Of several callers with the same one, one gets it."""
        following = secrets.token_urlsafe(32)
        old, idle = _digest(refresh_token), self._settings.refresh_idle_seconds
        login = await self._store.rotate(old, _digest(following), idle_seconds=idle, now=self._clock())
        self._metrics.refreshes.labels("refused" if login is None else "ok").inc()
        if login is not None:
            return self._pair(login, following)
        traced = await self._store.trace(old)
        if traced is not None and traced[1]:  # theft, or an answer that was lost on its way
            self._metrics.refresh_reuse.inc()
            log.warning("auth.refresh_reused", session=_masked(traced[0]))
        raise invalid_token("the refresh token is not valid")

    async def log_out(self, *, bearer: str | None, refresh_token: str | None) -> None:
        """End the session that either token belongs to. A refresh token that is not known has nothing to end."""
        if bearer is not None:
            await self._end(self._tokens.check(bearer).session_id)
            return
        if refresh_token is None:
            raise invalid_token("a bearer token or a refresh token is needed")
        traced = await self._store.trace(_digest(refresh_token))
        if traced is not None:
            await self._end(traced[0])

    async def subscription(self, bearer: str, channel: str, client: str | None) -> Signed:
        """Sign a subscription token, if the policy lets this user into this channel."""
        who = await self._live(bearer)
        if not self._policy(who.user, channel):
            raise Refused(403, "channel_denied", "you may not subscribe to this channel")
        self._metrics.tokens.labels("subscription").inc()
        return self._tokens.subscription(who, channel, client)

    async def ticket(self, bearer: str) -> Signed:
        """Sign a one-time ticket."""
        who = await self._live(bearer)
        self._metrics.tokens.labels("ticket").inc()
        return self._tokens.ticket(who)

    async def _live(self, bearer: str) -> Bearer:
        who = self._tokens.check(bearer)
        if not await self._store.is_live(who.session_id, self._clock()):
            raise invalid_token("the session has ended")
        return who

    async def _end(self, session_id: str) -> None:
        if await self._store.end_session(session_id, self._clock()):
            self._metrics.logouts.inc()
            log.info("auth.logout", session=_masked(session_id))

    def _pair(self, login: Login, refresh_token: str) -> TokenPair:
        self._metrics.tokens.labels("access").inc()
        self._metrics.tokens.labels("refresh").inc()
        return TokenPair(self._tokens.access(Bearer(login.user, login.session_id)), refresh_token)


def _digest(refresh_token: str) -> bytes:
    return hashlib.sha256(refresh_token.encode()).digest()


def _masked(name: str) -> str:
    """Return what tells two users apart in a log, and names neither."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]
