from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.engines.redis import visit
from gateway.engines.redis.address import Address, Sentinels
from gateway.engines.redis.sentinel import BELIEVED, Finder
from tests.support.clock import ManualClock
from tests.support.engines import GENEROUS
from tests.support.recorder import MemoryRecorder

LOGIN = Address("", 0, db=2, username="gate", password="of-redis")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for everybody: all of them answer here, or refuse at once, only not while the loop stands still."""
    monkeypatch.setattr(visit, "ANSWERED_WITHIN", GENEROUS)
    monkeypatch.setattr(visit, "STRAGGLERS", GENEROUS)


@asynccontextmanager
async def sentinel(*, epoch: int, port: int) -> AsyncIterator[Address]:
    """Run a sentinel that believes in a primary on this port; 0: it knows none."""
    place = f"*2\r\n$9\r\n127.0.0.1\r\n${len(str(port))}\r\n{port}\r\n" if port else "_\r\n"
    facts = f"%1\r\n$12\r\nconfig-epoch\r\n${len(str(epoch))}\r\n{epoch}\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            answer = "%0\r\n" if b"HELLO" in data else place if b"GET-MASTER" in data else facts
            writer.write(answer.encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()


@pytest.mark.parametrize(
    ("beliefs", "expected"),
    [
        ([(1, 7001), (1, 7001), (2, 7002)], 7002),
        ([(9, 7001), (10, 7002), (9, 7001)], 7002),
        ([(1, 7001), (1, 7002), (1, 7002)], 7002),
        ([(0, 0), (3, 7001), (0, 0)], 7001),
    ],
)
async def test_the_highest_epoch_is_believed(
    recorder: MemoryRecorder, beliefs: Sequence[tuple[int, int]], expected: int
) -> None:
    """One that has heard of the failover outweighs those that have not; among equals the majority does."""
    async with AsyncExitStack() as running:
        there = [await running.enter_async_context(sentinel(epoch=epoch, port=port)) for epoch, port in beliefs]
        found = await Finder(Sentinels(there, "main", LOGIN), recorder, ManualClock().monotonic).find()
    assert Address("127.0.0.1", expected, db=2, username="gate", password="of-redis") == found


async def test_who_is_behind_does_not_lead_back(recorder: MemoryRecorder) -> None:
    """After a failover the others are believed only when all say so, or when who knew of it stays away for long."""
    clock = ManualClock()
    async with sentinel(epoch=1, port=7001) as behind:
        async with sentinel(epoch=2, port=7002) as ahead:
            finder = Finder(Sentinels([behind, ahead], "main", LOGIN), recorder, clock.monotonic)
            assert 7002 == (await finder.find()).port
        clock.advance(BELIEVED / 2)
        assert 7002 == (await finder.find()).port
        clock.advance(BELIEVED)
        assert 7001 == (await finder.find()).port


async def test_sentinels_that_were_all_told_anew_are_believed(recorder: MemoryRecorder) -> None:
    """Told to forget a service and to watch it again, they count its epochs from zero."""
    async with sentinel(epoch=7, port=7001) as before, sentinel(epoch=0, port=7002) as anew:
        there = [before]
        finder = Finder(Sentinels(there, "main", LOGIN), recorder, ManualClock().monotonic)
        assert 7001 == (await finder.find()).port
        there[:] = [anew]
        assert 7002 == (await finder.find()).port


async def test_a_service_that_no_sentinel_knows_is_named(recorder: MemoryRecorder) -> None:
    """It is a mistake in the URL, or a sentinel that has just been set up."""
    async with sentinel(epoch=0, port=0) as ignorant:
        with pytest.raises(OSError, match="no sentinel knows the service 'main'"):
            await Finder(Sentinels([ignorant], "main", LOGIN), recorder, ManualClock().monotonic).find()
