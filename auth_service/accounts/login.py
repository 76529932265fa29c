"""What needs a password: register, log in, change it."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from auth_service.accounts.endings import ending
from auth_service.accounts.origin import Origin
from auth_service.audit import Audit
from auth_service.errors import Refused, bad_request, busy, invalid_credentials
from auth_service.metrics import Metrics
from auth_service.passwords.devices import Devices
from auth_service.passwords.hashes import Passwords
from auth_service.passwords.rules import fault
from auth_service.passwords.throttle import Throttles, network
from auth_service.settings import AuthSettings
from auth_service.store import Account, Live, Login, Sessions, Users, refresh_tokens
from auth_service.tokens import Signed, Tokens

_TRIES = 2  # of a log-in whose password hash was renewed by another log-in at the same moment


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a log-in or a refresh gives; `device_token` is for log-ins to come."""

    user: str
    access: Signed
    refresh_token: str = field(repr=False)
    device_token: str | None = field(default=None, repr=False)


class Accounts:
    """The rules. `clock` returns the Unix time; `wake` is called when the gateway has something to be told.

    All methods may raise Refused, and SQLAlchemyError when the database is away.
    Cancelling a method leaves the database as before it or as after it, but for a counted attempt.
    """

    def __init__(
        self,
        *,
        users: Users,
        sessions: Sessions,
        passwords: Passwords,
        throttles: Throttles,
        devices: Devices,
        tokens: Tokens,
        settings: AuthSettings,
        metrics: Metrics,
        audit: Audit,
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._passwords = passwords
        self._throttles = throttles
        self._devices = devices
        self._tokens = tokens
        self._settings = settings
        self._metrics = metrics
        self._audit = audit
        self._wake = wake
        self._clock = clock
        self._looked_at: Counter[str] = Counter()  # passwords, by the address that sent them

    async def register(self, name: str, password: str, origin: Origin) -> None:
        """Add a user. Whether the name is taken is said after the same work.

        An address registers, or asks, so many times a minute only: each costs a hash, and leaves a user for good.
        """
        if not self._settings.registration:
            raise Refused(403, "registration_closed", "registration is closed")
        _allowed(password, name, "password")
        account, address = f"register:{name}", f"register:{network(origin.address)}"  # apart from log-ins
        await self._checked(name, origin, account=account, address=address, device=None)
        try:
            hashed = await self._passwords.hash(password)
        except Refused:
            await self._throttles.unused(account=account, address=address, device=None)
            raise
        added = await self._users.add(Account(name, hashed, self._clock()))
        result = "ok" if added else "taken"
        self._metrics.registrations.labels(result).inc()
        self._audit.note("register", result=result, user=name, address=origin.address)
        if not added:
            raise Refused(409, "username_taken", "this username is taken")

    async def log_in(self, name: str, password: str, origin: Origin) -> TokenPair:
        """Begin a session.

        A wrong name, a wrong password and a disabled user take the same time and get the same answer.
        """
        with self._metrics.login_seconds.time():
            for _ in range(_TRIES):
                account = await self._verified(name, password, origin)
                if account is None:
                    break
                token = refresh_tokens.new()
                login = self._login(account, origin)
                live = await self._sessions.begin(login, token, verified=account.password_hash)
                if live is not None:
                    return await self._logged_in(account, password, live, token, origin)
        self._metrics.logins.labels("refused").inc()
        self._audit.note("login", result="refused", user=name.lower(), address=origin.address)
        raise invalid_credentials()

    async def change_password(self, live: Live, old: str, new: str, origin: Origin) -> None:
        """Set another password, and end all other sessions of the user."""
        _allowed(new, live.user, "new_password")
        account = await self._verified(live.user, old, origin)
        done = None
        if account is not None:
            hashed = await self._passwords.hash(new)
            end = ending(self._settings, "password", self._clock())
            done = await self._users.set_password(
                account.name, hashed, end, old=account.password_hash, keep=live.session_id
            )
        result = "refused" if done is None else "ok"
        self._audit.note(
            "password_changed", result=result, user=live.user, session=live.session_id, address=origin.address
        )
        if done is None:
            raise invalid_credentials()
        self._wake()

    async def _verified(self, name: str, password: str, origin: Origin) -> Account | None:
        """Return the user if the password is right. Raises Refused (429) when it was tried too often, 503 if busy."""
        device = await self._devices.known(origin.device, account=name)
        await self._checked(name, origin, account=name, address=origin.address, device=device)
        account = await self._users.find(name)
        try:
            with self._place(origin.address):
                right = await self._passwords.verify(None if account is None else account.password_hash, password)
        except Refused:
            await self._throttles.unused(account=name, address=origin.address, device=device)
            raise
        if account is None or not right or account.disabled_at is not None:
            return None
        await self._throttles.passed(account=name, address=origin.address, device=device)
        return account

    @contextmanager
    def _place(self, address: str) -> Iterator[None]:
        """Keep one address, with however many known devices, from having all hashing to itself. Raises Refused."""
        asker = network(address)
        if self._looked_at[asker] >= self._settings.attempts_per_address:
            raise busy()
        self._looked_at[asker] += 1
        try:
            yield
        finally:
            self._looked_at[asker] -= 1
            if not self._looked_at[asker]:
                del self._looked_at[asker]

    async def _checked(self, name: str, origin: Origin, *, account: str, address: str, device: str | None) -> None:
        try:
            await self._throttles.check(account=account, address=address, device=device)
        except Refused:
            self._audit.note("throttled", result="refused", user=name.lower(), address=origin.address)
            raise

    def _login(self, account: Account, origin: Origin) -> Login:
        now = self._clock()
        ends_at = now + self._settings.session_seconds
        session_id = secrets.token_urlsafe(16)
        return Login(session_id, account.name, now, ends_at, agent=origin.agent, address=origin.address)

    async def _logged_in(self, account: Account, password: str, live: Live, token: str, origin: Origin) -> TokenPair:
        fresh = await self._passwords.renewed(account.password_hash, password)
        if fresh is not None:
            await self._users.renew_hash(account.name, account.password_hash, fresh)
        device_token = await self._devices.remember(origin.device, account=account.name)
        self._metrics.logins.labels("ok").inc()
        self._metrics.tokens.labels("access").inc()
        self._metrics.tokens.labels("refresh").inc()
        self._audit.note("login", result="ok", user=live.user, session=live.session_id, address=origin.address)
        return TokenPair(live.user, self._tokens.access(live), token, device_token)


def _allowed(password: str, name: str, member: str) -> None:
    wrong = fault(password, name)
    if wrong is not None:
        raise bad_request(f"{member}: {wrong}")
