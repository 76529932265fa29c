"""Migrations: from nothing, from the release before there were any, and what cannot be migrated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, Double, ForeignKey, LargeBinary, MetaData, String, Table, inspect, text

from auth_service.errors import OperatorError
from auth_service.migrations import HEAD, running
from auth_service.models import Base
from auth_service.store import Rotated, engines, migrated, open_database, refresh_tokens
from tests.auth_service.store.storing import NOW, Shelf, at

# The tables as the release without migrations made them.
FORMER = MetaData()
Table(
    "users",
    FORMER,
    Column("name", String(64), primary_key=True),
    Column("folded", String(64), unique=True, nullable=False),
    Column("password_hash", String(255), nullable=False),
    Column("created_at", Double, nullable=False),
)
Table(
    "sessions",
    FORMER,
    Column("id", String(32), primary_key=True),
    Column("user", ForeignKey("users.name", ondelete="CASCADE"), index=True, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("ends_at", Double, nullable=False),
    Column("ended_at", Double),
)
Table(
    "refresh_tokens",
    FORMER,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("session_id", ForeignKey("sessions.id", ondelete="CASCADE"), index=True, nullable=False),
    Column("expires_at", Double, index=True, nullable=False),
    Column("used_at", Double),
)


async def on(url: str, work: Callable[[Connection], Any]) -> Any:
    """Do something to a database, without the store."""
    engine = engines.migrating(url)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def populate(connection: Connection) -> None:
    """Make a database of the former release with two users, three sessions and their refresh tokens."""
    FORMER.create_all(connection)
    users, sessions, tokens = (FORMER.tables[name] for name in ("users", "sessions", "refresh_tokens"))
    for name in ("Alice", "bob"):
        connection.execute(users.insert().values(name=name, folded=name.lower(), password_hash="hash", created_at=NOW))
    rows = [("s1", "Alice", None), ("s2", "Alice", NOW + 5), ("s3", "bob", None)]
    for session_id, user, ended_at in rows:
        connection.execute(
            sessions.insert().values(id=session_id, user=user, created_at=NOW, ends_at=NOW + 9999, ended_at=ended_at)
        )
    for session_id, token, used_at in (("s1", "first", NOW + 50), ("s1", "second", None), ("s3", "third", None)):
        digest = refresh_tokens.digest(token)
        connection.execute(
            tokens.insert().values(digest=digest, session_id=session_id, expires_at=NOW + 900, used_at=used_at)
        )


def differences(connection: Connection) -> list[Any]:
    """Compare the tables with the models."""
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Base.metadata))


async def test_migrations_make_what_the_models_say(empty_url: str) -> None:
    """Not a column, type, index or constraint is different."""
    assert (None, HEAD) == await migrated(empty_url)
    assert (HEAD, HEAD) == await migrated(empty_url)
    assert [] == await on(empty_url, differences)


async def test_the_former_tables_are_told_from_the_models(empty_url: str) -> None:
    """The comparison above finds what is missing: it can fail."""
    await on(empty_url, populate)
    found = repr(await on(empty_url, differences))
    for name in ("roles", "used_at", "successor", "throttles", "closures", "ix_closures_next_try_at"):
        assert repr(name) in found


def test_the_head_is_the_last_revision() -> None:
    """What a start compares with is what Alembic would do; the line of revisions has no branches."""
    script = ScriptDirectory(str(running._FOLDER))
    assert [HEAD] == script.get_heads()
    assert {running.FIRST, HEAD} <= running.known()


async def test_a_database_of_the_former_release_goes_on(empty_url: str) -> None:
    """Users, sessions and refresh tokens stay as good as they were, and get what is new."""
    await on(empty_url, populate)
    async with open_database(empty_url) as transactions:
        shelf = Shelf(transactions)
        assert ["Alice", "bob"] == [it.name for it in await shelf.users.all()]
        assert await shelf.users.find("ALICE") is not None
        (listed,) = await shelf.sessions.of_user("Alice", NOW + 60, limit=9)
        assert ("s1", NOW + 50, "", "") == (listed.session_id, listed.used_at, listed.agent, listed.address)
        (other,) = await shelf.sessions.of_user("bob", NOW + 60, limit=9)
        assert NOW == other.used_at
        async with transactions() as session:
            ended = await session.scalars(text("SELECT ended_by FROM sessions ORDER BY id"))
            assert [None, "logout", None] == list(ended)
        assert isinstance(await shelf.sessions.rotate("second", at(NOW + 60)), Rotated)
        async with transactions.begin() as session:
            await session.execute(text("DELETE FROM users WHERE name = 'Alice'"))
        assert (1, 1, 1) == (
            await shelf.count("users"),
            await shelf.count("sessions"),
            await shelf.count("refresh_tokens"),
        )
    async with open_database(empty_url, migrate=False):
        pass


async def test_of_many_that_start_at_once_one_migrates(empty_url: str) -> None:
    """The others wait, and find it done."""
    await on(empty_url, populate)
    done = await asyncio.gather(*(migrated(empty_url) for _ in range(5)))
    assert [(None, HEAD)] + 4 * [(HEAD, HEAD)] == sorted(done, key=lambda it: it[0] or "")
    async with open_database(empty_url) as transactions:
        assert 2 == await Shelf(transactions).count("users")


async def test_a_migration_that_fails_leaves_no_trace(empty_url: str) -> None:
    """Something is in its way at the end: all that was done before is undone, and it says so in a line."""
    await on(empty_url, populate)
    await on(empty_url, lambda it: it.execute(text("CREATE TABLE closures (id INTEGER)")))
    with pytest.raises(OperatorError, match=r"cannot be opened: .*closures.* already exists"):
        await migrated(empty_url)

    def look(connection: Connection) -> tuple[set[str], set[str]]:
        seen = inspect(connection)
        return set(seen.get_table_names()), {column["name"] for column in seen.get_columns("users")}

    tables, columns = await on(empty_url, look)
    assert {"users", "sessions", "refresh_tokens", "closures"} == tables
    assert {"name", "folded", "password_hash", "created_at"} == columns
    await on(empty_url, lambda it: it.execute(text("DROP TABLE closures")))
    assert (None, HEAD) == await migrated(empty_url)


async def test_tables_of_a_later_release_are_left_alone(empty_url: str) -> None:
    """An old release that is started by mistake says what it sees."""
    await migrated(empty_url)
    await on(empty_url, lambda it: it.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(OperatorError, match=f"later release .revision 9999.; this one knows {HEAD}"):
        async with open_database(empty_url):
            pytest.fail("it was opened")


async def test_a_start_may_be_kept_from_migrating(empty_url: str) -> None:
    """Where the service's role may not change tables, somebody else runs the command."""
    with pytest.raises(OperatorError, match=r"run auth-service migrate$"):
        async with open_database(empty_url, migrate=False):
            pytest.fail("it was opened")
    assert [] == await on(empty_url, lambda it: inspect(it).get_table_names())
