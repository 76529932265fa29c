"""Users in the database; each method is one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from auth_service.models import User
from auth_service.store.database import Transactions
from auth_service.store.endings import end_sessions
from auth_service.store.records import Account, Claims, Ending, Outbox


class Users:
    """Whatever changes what a user may do ends the sessions it concerns in the same transaction."""

    def __init__(self, transactions: Transactions, outbox: Outbox) -> None:
        self._transactions = transactions
        self._outbox = outbox

    async def add(self, account: Account) -> bool:
        """Add a user; False if the name is taken, in whatever case of letters."""
        row = User(
            name=account.name,
            folded=account.name.lower(),
            password_hash=account.password_hash,
            created_at=account.created_at,
            disabled_at=account.disabled_at,
            **_columns(account.claims),
        )
        try:
            async with self._transactions.begin() as session:
                session.add(row)
        except IntegrityError:
            return False
        return True

    async def find(self, name: str) -> Account | None:
        """Find a user by name, in whatever case of letters."""
        if not name.isprintable():  # nobody's, and PostgreSQL would not read it
            return None
        async with self._transactions() as session:
            found = await session.scalar(select(User).where(User.folded == name.lower()))
        return None if found is None else _account(found)

    async def all(self) -> list[Account]:
        """Return all users by name."""
        async with self._transactions() as session:
            return [_account(each) for each in await session.scalars(select(User).order_by(User.folded))]

    async def renew_hash(self, name: str, old: str, new: str) -> None:
        """Put another hash of the same password in the place of one, unless somebody changed it meanwhile."""
        async with self._transactions.begin() as session:
            await session.execute(
                update(User).where(User.name == name, User.password_hash == old).values(password_hash=new)
            )

    async def set_password(
        self, name: str, new: str, ending: Ending, *, old: str | None = None, keep: str | None = None
    ) -> list[str] | None:
        """Set the hash of another password and end all sessions but `keep`; return the ids of those ended.

        None if there is no such user, or its hash is not `old` any more.
        """
        wanted = User.name == name if old is None else (User.name == name) & (User.password_hash == old)
        async with self._transactions.begin() as session:
            changed = await session.execute(update(User).where(wanted).values(password_hash=new).returning(User.name))
            if changed.scalar_one_or_none() is None:
                return None
            return await end_sessions(session, self._outbox, ending, name, keep=keep)

    async def set_claims(self, name: str, claims: Claims) -> bool:
        """Set what the user's next tokens say; False if there is no such user."""
        return await self._changed(name, _columns(claims))

    async def disable(self, name: str, ending: Ending) -> list[str] | None:
        """Keep a user from logging in and end all sessions; return their ids, None if there is no such user."""
        async with self._transactions.begin() as session:
            changed = await session.execute(
                update(User).where(User.name == name).values(disabled_at=ending.at).returning(User.name)
            )
            if changed.scalar_one_or_none() is None:
                return None
            return await end_sessions(session, self._outbox, ending, name)

    async def enable(self, name: str) -> bool:
        """Let a user log in again; False if there is no such user."""
        return await self._changed(name, {"disabled_at": None})

    async def _changed(self, name: str, values: dict[str, Any]) -> bool:
        async with self._transactions.begin() as session:
            changed = await session.execute(update(User).where(User.name == name).values(**values).returning(User.name))
            return changed.scalar_one_or_none() is not None


def claims_of(row: User) -> Claims:
    """Return the claims in a row."""
    return Claims(tuple(row.roles), row.info, tuple(row.channels))


def _columns(claims: Claims) -> dict[str, Any]:
    return {"roles": list(claims.roles), "info": claims.info, "channels": list(claims.channels)}


def _account(row: User) -> Account:
    return Account(row.name, row.password_hash, row.created_at, row.disabled_at, claims_of(row))
