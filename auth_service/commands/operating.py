"""What an operator does to users and sessions from a shell; a running service tells the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.accounts.endings import ending
from auth_service.audit import Audit
from auth_service.errors import OperatorError
from auth_service.metrics import Metrics
from auth_service.passwords import peppers
from auth_service.passwords.hashes import Passwords
from auth_service.settings import AuthSettings
from auth_service.store import Account, Claims, Ending, Listed, Sessions, Transactions, Users, open_database
from auth_service.telling.closures import order

_LISTED = 1000


def operate(settings: AuthSettings, work: Callable[[Operator], Awaitable[None]]) -> None:
    """Do some work on the database. Raises OperatorError."""

    async def run() -> None:
        async with operating(settings) as operator:
            await work(operator)

    asyncio.run(run())


@asynccontextmanager
async def operating(settings: AuthSettings) -> AsyncIterator[Operator]:
    """Open the database for an operator. Raises OperatorError, also when the database goes away meanwhile."""
    async with open_database(settings.database_url, migrate=settings.migrate) as transactions:
        hasher = Passwords(
            workers=1,
            limit=1,
            peppers=peppers.read(settings.pepper_file),
            memory_kib=settings.hash_memory_kib,
            passes=settings.hash_passes,
        )
        with closing(hasher) as passwords:
            try:
                yield Operator(transactions, passwords, settings)
            except SQLAlchemyError as error:
                raise OperatorError(f"the database failed: {str(error).splitlines()[0]}") from None


class Operator:
    """Each method is done whole or not at all, audited, and raises OperatorError for a user that is not there."""

    def __init__(self, transactions: Transactions, passwords: Passwords, settings: AuthSettings) -> None:
        outbox = _Outbox()
        self._users = Users(transactions, outbox)
        self._sessions = Sessions(
            transactions,
            outbox,
            idle_seconds=settings.refresh_idle_seconds,
            grace_seconds=settings.refresh_grace_seconds,
        )
        self._passwords = passwords
        self._audit = Audit(metrics=Metrics(), file=settings.audit_file, clock=time.time)
        self._settings = settings

    async def add(self, name: str, password: str, claims: Claims) -> bool:
        """Add a user; False if there is one of this name."""
        if await self._users.find(name) is not None:
            return False
        hashed = await self._passwords.hash(password)
        added = await self._users.add(Account(name, hashed, time.time(), claims=claims))
        if added:
            self._audit.note("user_added", result="ok", user=name)
        return added

    async def change(self, name: str, change: Callable[[Claims], Claims]) -> Account:
        """Change what a user's next tokens say, and return the user with it."""
        account = await self._user(name)
        claims = change(account.claims)
        await self._users.set_claims(account.name, claims)
        self._audit.note("user_changed", result="ok", user=account.name)
        return replace(account, claims=claims)

    async def set_password(self, name: str, password: str) -> int:
        """Set a password and end all sessions of the user; return how many."""
        account = await self._user(name)
        hashed = await self._passwords.hash(password)
        ended = await self._users.set_password(account.name, hashed, self._ending("password"))
        self._audit.note("password_changed", result="ok", user=account.name)
        return len(ended or ())

    async def disable(self, name: str) -> int:
        """Keep a user from logging in and end all sessions; return how many."""
        account = await self._user(name)
        ended = await self._users.disable(account.name, self._ending("disabled"))
        self._audit.note("user_disabled", result="ok", user=account.name)
        return len(ended or ())

    async def enable(self, name: str) -> None:
        """Let a user log in again."""
        account = await self._user(name)
        await self._users.enable(account.name)
        self._audit.note("user_enabled", result="ok", user=account.name)

    async def users(self) -> list[Account]:
        """Return all users by name."""
        return await self._users.all()

    async def sessions(self, name: str) -> list[Listed]:
        """Return a user's sessions, the one last used first; at most 1,000."""
        account = await self._user(name)
        return await self._sessions.of_user(account.name, time.time(), limit=_LISTED)

    async def logged_in(self) -> list[str]:
        """Return all users who have sessions."""
        return await self._sessions.users(time.time())

    async def revoke(self, session_id: str) -> None:
        """End a session. Raises OperatorError if there is none of this id, or it has ended."""
        live = await self._sessions.live(session_id, time.time())
        if live is None or not await self._sessions.end(session_id, live.user, self._ending("revoked")):
            raise OperatorError(f"there is no session {session_id!r}, or it has ended")
        self._audit.note("session_revoked", result="ok", user=live.user, session=session_id)

    async def revoke_all(self, name: str) -> int:
        """End all sessions of a user; return how many."""
        account = await self._user(name)
        ended = await self._sessions.end_all(account.name, self._ending("revoked"))
        for each in ended:
            self._audit.note("session_revoked", result="ok", user=account.name, session=each)
        return len(ended)

    async def _user(self, name: str) -> Account:
        found = await self._users.find(name)
        if found is None:
            raise OperatorError(f"there is no user {name!r}")
        return found

    def _ending(self, by: str) -> Ending:
        return ending(self._settings, by, time.time())


class _Outbox:
    """Leaves the orders in the table, where a running service looks every second."""

    def enter(self, session: AsyncSession, kind: Literal["sid", "kid", "user"], value: str, until: float) -> None:
        session.add(order(kind, value, until=until, now=time.time()))
