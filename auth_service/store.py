"""Users, sessions and refresh tokens in a database; each method is one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, event, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from auth_service.errors import OperatorError
from auth_service.models import Base, RefreshToken, Session, User


@dataclass(frozen=True, slots=True)
class Account:
    """A user as the login needs it."""

    name: str
    password_hash: str


@dataclass(frozen=True, slots=True)
class Login:
    """A session as a refresh needs it."""

    session_id: str
    user: str
    ends_at: float


class Store:
    """All times are Unix seconds, and given by the caller."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def ping(self) -> None:
        """Ask the database for a sign of life. Raises SQLAlchemyError."""
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def add_user(self, name: str, password_hash: str, now: float) -> bool:
        """Add a user; False if the name is taken, in whatever case of letters."""
        async with self._sessions() as session:
            session.add(User(name=name, folded=name.lower(), password_hash=password_hash, created_at=now))
            try:
                await session.commit()
            except IntegrityError:
                return False
        return True

    async def user(self, name: str) -> Account | None:
        """Find a user by name, in whatever case of letters."""
        async with self._sessions() as session:
            found = await session.scalar(select(User).where(User.folded == name.lower()))
        return None if found is None else Account(found.name, found.password_hash)

    async def set_password_hash(self, name: str, password_hash: str) -> None:
        """Replace a user's hash."""
        async with self._sessions.begin() as session:
            await session.execute(update(User).where(User.name == name).values(password_hash=password_hash))

    async def begin_session(self, login: Login, refresh: bytes, *, idle_seconds: float, now: float) -> None:
        """Enter a session with its first refresh token, good for `idle_seconds`."""
        async with self._sessions.begin() as session:
            session.add(Session(id=login.session_id, user=login.user, created_at=now, ends_at=login.ends_at))
            await session.flush()
            session.add(RefreshToken(digest=refresh, session_id=login.session_id, expires_at=now + idle_seconds))

    async def rotate(self, old: bytes, new: bytes, *, idle_seconds: float, now: float) -> Login | None:
        """Replace a refresh token by the next one and return its session; None if it is not good any more.

        Of several callers with the same token one gets the session.
        """
        async with self._sessions.begin() as session:
            used = await session.execute(
                update(RefreshToken)
                .where(RefreshToken.digest == old, RefreshToken.used_at.is_(None), RefreshToken.expires_at > now)
                .values(used_at=now)
                .returning(RefreshToken.session_id)
            )
            session_id = used.scalar_one_or_none()
            found = None if session_id is None else await session.get(Session, session_id)
            if found is None or found.ended_at is not None or found.ends_at <= now:
                return None
            session.add(RefreshToken(digest=new, session_id=found.id, expires_at=now + idle_seconds))
            return Login(found.id, found.user, found.ends_at)

    async def trace(self, digest: bytes) -> tuple[str, bool] | None:
        """Return the session a refresh token belongs to, and whether the token was used; None for a stranger."""
        async with self._sessions() as session:
            found = await session.get(RefreshToken, digest)
        return None if found is None else (found.session_id, found.used_at is not None)

    async def is_live(self, session_id: str, now: float) -> bool:
        """Whether a session has neither ended nor been ended."""
        async with self._sessions() as session:
            found = await session.get(Session, session_id)
        return found is not None and found.ended_at is None and found.ends_at > now

    async def end_session(self, session_id: str, now: float) -> bool:
        """End a session; False if it had ended before."""
        async with self._sessions.begin() as session:
            ended = await session.execute(
                update(Session)
                .where(Session.id == session_id, Session.ended_at.is_(None))
                .values(ended_at=now)
                .returning(Session.id)
            )
            return ended.scalar_one_or_none() is not None

    async def purge(self, now: float) -> None:
        """Delete what has expired and can tell nothing any more."""
        async with self._sessions.begin() as session:
            await session.execute(delete(RefreshToken).where(RefreshToken.expires_at <= now))
            # what is left of their refresh tokens goes with them
            await session.execute(delete(Session).where(Session.ends_at <= now))


@asynccontextmanager
async def open_store(url: str, *, now: float) -> AsyncIterator[Store]:
    """Open the database, make what tables are missing, purge it, and close it at the end. Raises OperatorError."""
    engine = _engine(url)
    try:
        store = Store(engine)
        try:
            _probe(engine)
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            await store.purge(now)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise OperatorError(f"the database {_shown(engine)} cannot be opened: {_reason(error)}") from None
        yield store
    finally:
        await engine.dispose()


def _engine(url: str) -> AsyncEngine:
    try:
        engine = create_async_engine(_with_driver(url), pool_pre_ping=not url.startswith("sqlite"))
    except (ArgumentError, ImportError) as error:
        # not the URL itself: it may hold a password
        raise OperatorError(f"AUTH_DATABASE_URL (--database) cannot be used: {_reason(error)}") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


def _probe(engine: AsyncEngine) -> None:
    """Find out on our own whether a file can be opened: aiosqlite's thread may outlive the loop when it cannot."""
    file = engine.url.database
    if engine.dialect.name == "sqlite" and file and not file.startswith((":memory:", "file:")):
        sqlite3.connect(file).close()


def _with_driver(url: str) -> str:
    scheme, colon, rest = url.partition("://")
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
    return f"{drivers.get(scheme, scheme)}{colon}{rest}"


def _prepare_sqlite(connection: Any, _: object) -> None:
    """Let readers and a writer work side by side, wait for a lock instead of failing, and honour foreign keys."""
    cursor = connection.cursor()
    for pragma in ("busy_timeout = 5000", "journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _shown(engine: AsyncEngine) -> str:
    return make_url(engine.url).render_as_string(hide_password=True)


def _reason(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
