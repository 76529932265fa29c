"""SQLAlchemy engines for SQLite and PostgreSQL: drivers, time limits, how a transaction begins."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, NullPool, event
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from auth_service.errors import OperatorError

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_WAIT_SECONDS = 5.0  # for a lock, a connection, or a place in the pool: longer, and the client has given up
_POLL_SECONDS = 0.01  # SQLite itself comes to look every 0.1 s only, and meets a busy process between two of its turns
_ANSWER_SECONDS = 10.0  # for one statement
_MIGRATION_SECONDS = 600.0  # for the lock while another process migrates
_POOL = 10


class Unreachable(SQLAlchemyError):  # noqa: N818 - a state, as its siblings' names are
    """The database did not answer, or not in time; asyncpg says so in words of its own."""


def serving(url: str) -> tuple[AsyncEngine, AsyncEngine]:
    """Return the engine of transactions that only read, and of those that write; nothing waits in them for long.

    They are one on PostgreSQL. SQLite lets one transaction write at a time and has the others poll for their turn, so
    there is one connection that writes, for which ours wait in a row; and what reads is kept from writing.
    Raises OperatorError.
    """
    parsed = _parsed(url)
    if _is_sqlite(parsed):
        reading = _sqlite(parsed, _WAIT_SECONDS, "foreign_keys = ON", "query_only = ON", writes=False)
        writing = _sqlite(parsed, _WAIT_SECONDS, "foreign_keys = ON", pool_size=1, max_overflow=0)
        return reading, writing
    engine = _postgresql(
        parsed,
        {"timeout": _WAIT_SECONDS, "command_timeout": _ANSWER_SECONDS},
        pool_size=_POOL,
        max_overflow=_POOL,
        pool_timeout=_WAIT_SECONDS,
    )
    return engine, engine


def migrating(url: str) -> AsyncEngine:
    """Return an engine for changes of tables: they take their time, and rebuilt tables are referred to meanwhile."""
    parsed = _parsed(url)
    if _is_sqlite(parsed):
        return _sqlite(parsed, _MIGRATION_SECONDS, "foreign_keys = OFF", poolclass=NullPool)
    return _postgresql(parsed, {"timeout": _WAIT_SECONDS}, poolclass=NullPool)


def probe(engine: AsyncEngine) -> None:
    """Find out on our own whether a file can be opened: aiosqlite's thread may outlive the loop when it cannot.

    Raises sqlite3.Error.
    """
    file = engine.url.database
    if _is_sqlite(engine.url) and file and not file.startswith("file:"):
        sqlite3.connect(file).close()


def _parsed(url: str) -> URL:
    scheme, colon, rest = url.partition("://")
    try:
        parsed = make_url(f"{_DRIVERS.get(scheme, scheme)}{colon}{rest}")
    except ArgumentError as error:
        raise _unusable(error) from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise _unusable(f"SQLite and PostgreSQL are known, not {parsed.get_backend_name()!r}")
    if _is_sqlite(parsed) and parsed.database in (None, "", ":memory:"):
        raise _unusable("SQLite needs a file: sqlite:///auth.db, sqlite:////var/lib/auth/auth.db")
    return parsed


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _made(url: URL, **options: Any) -> AsyncEngine:
    try:
        return create_async_engine(url, hide_parameters=True, **options)  # names and hashes are not for traces
    except (ArgumentError, ImportError) as error:
        raise _unusable(error) from None


def _unusable(why: object) -> OperatorError:
    # not the URL itself: it may hold a password
    return OperatorError(f"AUTH_DATABASE_URL (--database) cannot be used: {str(why).splitlines()[0]}")


def _sqlite(url: URL, wait_seconds: float, *pragmas: str, writes: bool = True, **pool: Any) -> AsyncEngine:
    # readers and a writer side by side; a lock that another process has is waited for
    wanted = ["journal_mode = WAL", "synchronous = NORMAL", *pragmas]
    engine = _made(url, **pool) if "poolclass" in pool else _made(url, pool_timeout=wait_seconds, **pool)

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        cursor = connection.cursor()
        for pragma in (_busy_timeout(wait_seconds), *wanted, *([_busy_timeout(_POLL_SECONDS)] if writes else [])):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        if writes:
            _lock(connection, wait_seconds)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _busy_timeout(seconds: float) -> str:
    return f"busy_timeout = {int(seconds * 1000)}"


def _lock(connection: Connection, wait_seconds: float) -> None:
    # writers take the lock at once: one that reads first and is overtaken could only fail
    until = time.monotonic() + wait_seconds
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except OperationalError as error:
            if not _is_busy(error) or time.monotonic() >= until:
                raise
        else:
            return


def _is_busy(error: OperationalError) -> bool:
    return isinstance(error.orig, sqlite3.Error) and error.orig.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _postgresql(url: URL, arguments: dict[str, float], **pool: Any) -> AsyncEngine:
    engine = _made(url, connect_args=arguments, **pool)
    dialect = engine.sync_engine.dialect

    @event.listens_for(engine.sync_engine, "do_connect")
    def connect(_: object, __: object, positional: Any, named: Any) -> Any:
        try:
            return dialect.connect(*positional, **named)
        except (OSError, TimeoutError) as error:
            raise Unreachable(str(error) or "no connection in time") from error

    @event.listens_for(engine.sync_engine, "checkout")
    def check(connection: Any, _: object, __: object) -> None:
        # not pool_pre_ping: it lets asyncpg's own TimeoutError through, and does not connect anew after it
        try:
            dialect.do_ping(connection)
        except (dialect.loaded_dbapi.Error, OSError, TimeoutError) as error:
            raise DisconnectionError from error

    @event.listens_for(engine.sync_engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, OSError | TimeoutError):
            context.is_disconnect, context.invalidate_pool_on_disconnect = True, False
            raise Unreachable(str(context.original_exception) or "no answer in time") from context.original_exception

    return engine
