"""What the tests of the store share: an outbox that remembers, and users and sessions to begin with."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.models import Base
from auth_service.store import Account, Claims, Ending, Login, Sessions, Transactions, Users

NOW = 1_000_000.0
IDLE = 700.0
GRACE = 10.0
LIFE = 3000.0


class Outbox:
    """Remembers what was entered, and whether its transaction was committed."""

    def __init__(self) -> None:
        self.entered: list[tuple[str, str, float]] = []

    def enter(self, session: AsyncSession, kind: Literal["sid", "kid", "user"], value: str, until: float) -> None:
        """Remember, inside the transaction."""
        assert session.in_transaction()
        self.entered.append((kind, value, until))


class Shelf:
    """A store with its outbox."""

    def __init__(self, transactions: Transactions) -> None:
        self.transactions = transactions
        self.outbox = Outbox()
        self.users = Users(transactions, self.outbox)
        self.sessions = Sessions(transactions, self.outbox, idle_seconds=IDLE, grace_seconds=GRACE)

    async def user(self, name: str, claims: Claims | None = None) -> None:
        """Add a user whose hash is `hash`."""
        assert await self.users.add(Account(name, "hash", NOW, claims=claims or Claims()))

    async def session(self, session_id: str, user: str = "alice", token: str = "", now: float = NOW) -> None:
        """Begin a session; its refresh token is its id unless another is named."""
        login = Login(session_id, user, now, now + LIFE, agent="curl", address="192.0.2.1")
        assert await self.sessions.begin(login, token or session_id, verified="hash") is not None

    async def count(self, table: Literal["users", "sessions", "refresh_tokens", "throttles"]) -> int:
        """Return how many rows there are."""
        async with self.transactions() as session:
            rows = await session.execute(select(func.count()).select_from(Base.metadata.tables[table]))
            return int(rows.scalar_one())


def at(now: float, by: str = "reuse") -> Ending:
    """Return an ending at this time."""
    return Ending(by, now, now + 660.0)
