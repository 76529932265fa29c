"""Devices that an account logged in from before: whoever guesses elsewhere does not lock them out."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from auth_service.models import Throttle
from auth_service.passwords.throttle import device_key

FIRST_SECONDS = (
    30 * 86_400.0
)  # clients that never send their token back leave a row each time: for as long as a session's
AGAIN_SECONDS = 180 * 86_400.0


class Devices:
    """Device tokens: random, good for one account, and known by their SHA-256 only.

    They let nobody in. They are no signed tokens because they outlive every signing key, and because who stole a key
    must not make himself known devices. A device is known as long as its row in the table of throttles is there: 180
    days from its last log-in, 30 if there was but one. `clock` returns the Unix time. May raise SQLAlchemyError.
    """

    def __init__(self, sessions: async_sessionmaker[AsyncSession], *, clock: Callable[[], float]) -> None:
        self._sessions = sessions
        self._clock = clock

    async def known(self, token: str | None, *, account: str) -> str | None:
        """Return the id to throttle by, if the token is from a log-in of this very account; else None."""
        if not token:
            return None
        device = _id(token, account)
        row = select(Throttle.key).where(Throttle.key == device_key(device), Throttle.purge_at > self._clock())
        async with self._sessions() as session:
            found = await session.scalar(row)
        return None if found is None else device

    async def remember(self, token: str | None, *, account: str) -> str:
        """Return the token to give to who has just logged in: the one that came, if it is known, or a new one.

        One that is not known is never taken over: somebody else may have put it there.
        """
        now = self._clock()
        async with self._sessions.begin() as session:
            if token:
                row = (Throttle.key == device_key(_id(token, account)), Throttle.purge_at > now)
                renewed = update(Throttle).where(*row).values(purge_at=now + AGAIN_SECONDS).returning(Throttle.key)
                if (await session.execute(renewed)).scalar_one_or_none() is not None:
                    return token
            fresh = secrets.token_urlsafe(32)
            key = device_key(_id(fresh, account))
            times = {"since": now, "open_at": 0.0, "purge_at": now + FIRST_SECONDS}
            await session.execute(insert(Throttle).values(key=key, failures=0, **times))
            return fresh


def _id(token: str, account: str) -> str:
    return hashlib.sha256(f"{account.lower()}\0{token}".encode("utf-8", "surrogatepass")).hexdigest()
