"""Deletes what has expired and can tell nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeAlias

import structlog
from sqlalchemy import ColumnElement, delete, exists, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import InstrumentedAttribute

from auth_service.models import RefreshToken, Session, Throttle
from auth_service.store.database import Transactions

EVERY_SECONDS = 3600.0

_LONGEST_TOKEN_SECONDS = 2 * 3600.0  # a session without refresh tokens lasts as long as what it signed may
_ROWS = 1000  # deleted at once: requests want to write, too

_Key: TypeAlias = InstrumentedAttribute[str] | InstrumentedAttribute[bytes]

log = structlog.get_logger(__name__)


async def purge(transactions: Transactions, now: float) -> int:
    """Delete in many small transactions, and return the number of rows.

    Cancelling leaves the rest for later, once the transaction under way has ended: aiosqlite's thread would go on with
    it, and find no loop to give its answer to.
    """
    return (
        await _delete(transactions, RefreshToken.digest, RefreshToken.expires_at <= now)
        + await _delete(transactions, Session.id, _over(now))
        + await _delete(transactions, Throttle.key, Throttle.purge_at <= now)
    )


async def purge_for_ever(
    transactions: Transactions, clock: Callable[[], float], *, every: float = EVERY_SECONDS
) -> None:
    """Purge now and then until cancelled. A database that is away is left alone until the next time."""
    while True:
        try:
            deleted = await purge(transactions, clock())
            log.info("database.purged", rows=deleted)
        except SQLAlchemyError as error:
            log.warning("database.purge_failed", error=type(error).__name__)
        except Exception:  # the root of a task, which must not end before its time
            log.exception("database.purge_broken")
        await asyncio.sleep(every)


def _over(now: float) -> ColumnElement[bool]:
    refreshable = exists().where(RefreshToken.session_id == Session.id)
    return (Session.ends_at <= now) | (~refreshable & (Session.used_at <= now - _LONGEST_TOKEN_SECONDS))


async def _delete(transactions: Transactions, key: _Key, condition: ColumnElement[bool]) -> int:
    total = 0
    while True:
        deleted = await _whole(_delete_some(transactions, key, condition))
        total += deleted
        if deleted < _ROWS:
            return total


async def _delete_some(transactions: Transactions, key: _Key, condition: ColumnElement[bool]) -> int:
    async with transactions.begin() as session:
        keys = (await session.scalars(select(key).where(condition).limit(_ROWS))).all()
        if keys:
            await session.execute(delete(key.class_).where(key.in_(keys)))
    return len(keys)


async def _whole(work: Coroutine[object, object, int]) -> int:
    """Return what comes of it; if cancelled, wait for its end first."""
    task = asyncio.create_task(work, name="purge of some")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
