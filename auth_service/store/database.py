"""The database: how transactions are made, and the form of its tables."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from auth_service.errors import OperatorError
from auth_service.migrations import HEAD, revision
from auth_service.store import engines


class Transactions(async_sessionmaker[AsyncSession]):
    """`transactions()` only reads; `transactions.begin()` writes, and is committed unless something is raised.

    On SQLite, a transaction that may write is alone from its first statement on: none fails because it was overtaken.
    All raise SQLAlchemyError when the database is away, within seconds. Cancelling rolls back.
    """

    def __init__(self, reading: AsyncEngine, writing: AsyncEngine) -> None:
        super().__init__(reading, expire_on_commit=False)
        self._writers = async_sessionmaker(writing, expire_on_commit=False)

    def begin(self) -> AbstractAsyncContextManager[AsyncSession]:  # type: ignore[override]  # what it is used as
        """Open a transaction that may write."""
        return self._writers.begin()

    async def ping(self) -> None:
        """Ask the database for a sign of life."""
        async with self() as session:
            await session.execute(text("SELECT 1"))

    async def revision(self) -> str | None:
        """Return the revision of the tables; None = there are none yet, or they are older than revisions."""
        async with self() as session:
            return await session.run_sync(lambda it: revision(it.connection()))


@asynccontextmanager
async def open_database(url: str, *, migrate: bool = True) -> AsyncIterator[Transactions]:
    """Open the database, with the tables of this release, and close it at the end. Raises OperatorError.

    Without `migrate`, tables of another release are refused.
    """
    reading, writing = engines.serving(url)
    transactions = Transactions(reading, writing)
    try:
        with _mendable(writing):
            engines.probe(writing)
            behind = await transactions.revision() != HEAD
        if behind and not migrate:
            raise OperatorError(f"the tables of {_shown(writing)} are not of this release: run auth-service migrate")
        if behind:
            await migrated(url)
        yield transactions
    finally:
        await reading.dispose()
        await writing.dispose()


async def migrated(url: str) -> tuple[str | None, str]:
    """Bring the tables to the form of this release; return the revisions before and after. Raises OperatorError.

    Of several processes that start at once one does it, and the others wait for it. It is done whole or not at all.
    """
    from auth_service.migrations.running import upgrade  # noqa: PLC0415 - heavy, and most starts need none of it

    engine = engines.migrating(url)
    try:
        with _mendable(engine):
            engines.probe(engine)
            async with engine.begin() as connection:
                return await connection.run_sync(upgrade)
    finally:
        await engine.dispose()


@contextmanager
def _mendable(engine: AsyncEngine) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise OperatorError(f"the database {_shown(engine)} cannot be opened: {_reason(error)}") from None


def _shown(engine: AsyncEngine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _reason(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
