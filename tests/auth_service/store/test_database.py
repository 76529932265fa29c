"""How transactions are made, and what happens when the database is busy, away, or none that we know."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from auth_service.errors import OperatorError
from auth_service.store import engines, open_database
from tests.auth_service.conftest import PASSWORD, Running, bearer, fault
from tests.auth_service.store.storing import Shelf
from tests.support.engines import eventually
from tests.support.postgres import Postgres

WAIT = 0.3


@pytest.fixture(name="own")
def _own() -> Iterator[Postgres]:
    """Run a cluster that a test may harm."""
    cluster = Postgres()
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("nosuch://x", "AUTH_DATABASE_URL (--database) cannot be used: "),
        ("mysql://x/y", "AUTH_DATABASE_URL (--database) cannot be used: "),
        ("sqlite://", "AUTH_DATABASE_URL (--database) cannot be used: SQLite needs a file: sqlite:///auth.db"),
        ("sqlite:///:memory:", "AUTH_DATABASE_URL (--database) cannot be used: SQLite needs a file"),
        ("no url", "AUTH_DATABASE_URL (--database) cannot be used: "),
        ("sqlite:////nowhere/auth.db", "the database sqlite+aiosqlite:////nowhere/auth.db cannot be opened: unable"),
        (
            "postgres://auth:s3cret@/x?host=/nowhere",
            "the database postgresql+asyncpg://auth:***@/x?host=%2Fnowhere cannot be opened: ",
        ),
    ],
)
async def test_databases_that_cannot_be_used(url: str, line: str) -> None:
    """One line says why, without the password."""
    with pytest.raises(OperatorError) as caught:
        async with open_database(url):
            pytest.fail("it was opened")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_what_reads_cannot_write_by_mistake(tmp_path: Path) -> None:
    """On SQLite, where a transaction that began to read may fail when it writes."""
    async with open_database(f"sqlite:///{tmp_path}/auth.db") as transactions, transactions() as session:
        with pytest.raises(OperationalError, match="readonly"):
            await session.execute(text("DELETE FROM users"))


async def test_what_raises_is_rolled_back(database_url: str) -> None:
    """A transaction is whole or not at all."""
    async with open_database(database_url) as transactions:

        async def fail() -> None:
            async with transactions.begin() as session:
                await session.execute(text("INSERT INTO throttles VALUES ('x', 0, 0, 0, 0)"))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert 0 == await Shelf(transactions).count("throttles")


async def test_many_transactions_that_read_and_then_write(database_url: str) -> None:
    """None fails because another was faster, and on SQLite none is lost either."""
    async with open_database(database_url) as transactions:

        async def step(number: int) -> None:
            async with transactions.begin() as session:
                await session.execute(text("SELECT COUNT(*) FROM throttles"))
                await session.execute(text("INSERT INTO throttles VALUES (:key, 0, 0, 0, 0)"), {"key": str(number)})

        await asyncio.gather(*(step(number) for number in range(100)))
        assert 100 == await Shelf(transactions).count("throttles")


async def test_a_file_that_somebody_else_writes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write waits for its turn, and fails in time if it does not come; reads go on meanwhile."""
    monkeypatch.setattr(engines, "_WAIT_SECONDS", WAIT)
    async with open_database(f"sqlite:///{tmp_path}/auth.db") as transactions:
        other = sqlite3.connect(tmp_path / "auth.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(SQLAlchemyError):
            async with transactions.begin() as session:
                await session.execute(text("SELECT 1"))
        assert WAIT <= time.monotonic() - began < WAIT + 5
        await transactions.ping()
        other.execute("ROLLBACK")
        other.close()
        async with transactions.begin() as session:
            await session.execute(text("INSERT INTO throttles VALUES ('x', 0, 0, 0, 0)"))


async def test_a_file_that_another_process_hardly_lets_go_of(tmp_path: Path) -> None:
    """Writes find the short times between the transactions of somebody who writes without end: none starves.

    SQLite's own polls, ten a second, would hit one gap in ten: a second each, and now and then none in five.
    """
    done = threading.Event()

    def write_on() -> None:
        other = sqlite3.connect(tmp_path / "auth.db", isolation_level=None, timeout=60)
        while not done.wait(0.002):
            other.execute("BEGIN IMMEDIATE")
            done.wait(0.02)
            other.execute("COMMIT")
        other.close()

    async with open_database(f"sqlite:///{tmp_path}/auth.db") as transactions:
        writer = asyncio.create_task(asyncio.to_thread(write_on))
        try:
            async with asyncio.timeout(15):
                for number in range(40):
                    async with transactions.begin() as session:
                        await session.execute(
                            text("INSERT INTO throttles VALUES (:key, 0, 0, 0, 0)"), {"key": str(number)}
                        )
        finally:
            done.set()
            await writer
        assert 40 == await Shelf(transactions).count("throttles")


@pytest.mark.needs("postgres")
async def test_a_postgresql_that_goes_away_and_comes_back(running: Running, own: Postgres) -> None:
    """Requests get 503 while it is away, nothing is lost, and no restart is needed."""
    url = own.database("auth")
    async with running(database_url=url) as client:
        alice = {"username": "alice", "password": PASSWORD}
        assert 201 == (await client.post("/register", json=alice)).status_code
        pair = (await client.post("/login", json=alice)).json()
        own.kill()
        for answer in (
            await client.post("/login", json=alice),
            await client.post("/refresh", json={"refresh_token": pair["refresh_token"]}),
            await client.get("/me", headers=bearer(pair["access_token"])),
        ):
            assert (503, "unavailable") == fault(answer)
            assert "1" == answer.headers["retry-after"]
        assert 503 == (await client.get("/health/ready")).status_code
        own.start()

        async def ready() -> bool:
            return 200 == (await client.get("/health/ready")).status_code

        await eventually(ready)
        assert 200 == (await client.get("/me", headers=bearer(pair["access_token"]))).status_code
        assert 200 == (await client.post("/refresh", json={"refresh_token": pair["refresh_token"]})).status_code


@pytest.mark.needs("postgres")
async def test_a_postgresql_that_stalls(running: Running, own: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sockets are open and it does not answer: requests get 503 in time, on old connections and on new ones."""
    for limit in ("_WAIT_SECONDS", "_ANSWER_SECONDS"):  # the log-in before is to keep them, too
        monkeypatch.setattr(engines, limit, 5 * WAIT)
    async with running(database_url=own.database("auth")) as client:
        pair = await _alice(client)
        with own.stalled():
            began = time.monotonic()
            answers = await asyncio.gather(
                *(client.get("/me", headers=bearer(pair["access_token"])) for _ in range(30))
            )
            assert time.monotonic() - began < 20
            assert {(503, "unavailable")} == {fault(answer) for answer in answers}

        async def answers_again() -> bool:
            return 200 == (await client.get("/me", headers=bearer(pair["access_token"]))).status_code

        await eventually(answers_again)


async def _alice(client: httpx.AsyncClient) -> dict[str, str]:
    alice = {"username": "alice", "password": PASSWORD}
    await client.post("/register", json=alice)
    pair: dict[str, str] = (await client.post("/login", json=alice)).json()
    return pair
