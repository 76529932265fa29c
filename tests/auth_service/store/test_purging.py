"""The task that deletes what has expired, now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from auth_service.store import Transactions, open_database, purging
from tests.auth_service.store.storing import IDLE, LIFE, NOW, Shelf
from tests.support.clock import ManualClock
from tests.support.engines import GENEROUS, eventually


@asynccontextmanager
async def purged(shelf: Shelf, clock: ManualClock) -> AsyncIterator[None]:
    """Run the task, which looks again and again."""
    task = asyncio.create_task(purging.purge_for_ever(shelf.transactions, clock.wall, every=0.01))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_it_deletes_as_time_goes(tmp_path: Path, clock: ManualClock) -> None:
    """First the refresh token that lies unused, then the session that is over."""
    async with open_database(f"sqlite:///{tmp_path}/auth.db") as transactions:
        shelf = Shelf(transactions)
        await shelf.user("alice")
        await shelf.session("s1", now=clock.wall())
        async with purged(shelf, clock):
            clock.advance(IDLE)
            await eventually(lambda: _counts(shelf, refresh_tokens=0, sessions=1))
            clock.advance(LIFE)
            await eventually(lambda: _counts(shelf, refresh_tokens=0, sessions=0))


@pytest.mark.parametrize(
    ("fault", "logged"),
    [
        (OperationalError("DELETE", {}, Exception("away")), "database.purge_failed"),
        (ZeroDivisionError(), "database.purge_broken"),
    ],
)
async def test_it_goes_on_after_a_fault(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, fault: Exception, logged: str
) -> None:
    """A database that is away, or a bug, is logged and the next time comes."""
    faults = [fault, fault]
    real = purging.purge

    async def fail_twice(transactions: Transactions, now: float) -> int:
        if faults:
            raise faults.pop()
        return await real(transactions, now)

    monkeypatch.setattr(purging, "purge", fail_twice)
    async with open_database(f"sqlite:///{tmp_path}/auth.db") as transactions:
        shelf = Shelf(transactions)
        await shelf.user("alice")
        await shelf.session("s1", now=NOW)
        clock.advance(NOW + LIFE - clock.wall() if clock.wall() < NOW + LIFE else 0)
        with capture_logs() as logs:
            async with purged(shelf, clock):
                await eventually(lambda: _counts(shelf, refresh_tokens=0, sessions=0))
    assert [logged, logged] == [line["event"] for line in logs if line["log_level"] in ("warning", "error")]


async def test_it_ends_with_its_transaction(tmp_path: Path) -> None:
    """Cancelled while it connects, it ends when its first transaction has: no thread is left without a loop."""
    url = f"sqlite:///{tmp_path}/auth.db"
    async with open_database(url) as transactions:
        shelf = Shelf(transactions)
        await shelf.user("alice")
        await shelf.session("s1", now=NOW)
    async with open_database(url) as transactions:
        connecting = asyncio.Event()
        event.listen(Engine, "do_connect", lambda *_: connecting.set(), once=True)
        task = asyncio.create_task(purging.purge(transactions, NOW + IDLE))
        await asyncio.wait_for(connecting.wait(), GENEROUS)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert await _counts(Shelf(transactions), refresh_tokens=0, sessions=1)


async def _counts(shelf: Shelf, *, refresh_tokens: int, sessions: int) -> bool:
    counted = await shelf.count("refresh_tokens"), await shelf.count("sessions")
    return counted == (refresh_tokens, sessions)
