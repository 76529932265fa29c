"""Hashing off the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing

import argon2
import pytest

from auth_service.errors import Refused
from auth_service.passwords import Passwords


@pytest.fixture(name="passwords")
async def _passwords() -> AsyncIterator[Passwords]:
    with closing(Passwords(workers=2, limit=50)) as passwords:
        yield passwords


async def test_right_and_wrong(passwords: Passwords) -> None:
    """A password verifies against its own hash only."""
    hashed = await passwords.hash("secret one")
    assert await passwords.verify(hashed, "secret one")
    assert not await passwords.verify(hashed, "secret two")
    assert not await passwords.verify("no hash at all", "secret one")


async def test_an_unknown_user_costs_the_same(passwords: Passwords) -> None:
    """For nobody the same work is done with the same parameters, and nothing is right."""
    hashed = await passwords.hash("secret one")
    assert argon2.extract_parameters(hashed) == argon2.extract_parameters(passwords._nobody)
    assert not await passwords.verify(None, "secret one")
    assert not await passwords.verify(None, "")
    with closing(Passwords(workers=1, limit=1)) as other:
        assert other._nobody != passwords._nobody


async def test_the_loop_goes_on_while_hashing(passwords: Passwords) -> None:
    """Hashes run in other threads: between two of them the loop turns hundreds of times, not once."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    before = asyncio.get_running_loop().time()
    await asyncio.gather(*(passwords.hash("secret") for _ in range(20)))
    turning.cancel()
    mean_pause = (asyncio.get_running_loop().time() - before) / turns
    assert turns > 20 * 20
    assert mean_pause < 0.02  # a single hash takes more


async def test_no_endless_queue(passwords: Passwords) -> None:
    """Over the limit a caller is told to come again, at once; later there is room."""
    waiting = [asyncio.create_task(passwords.hash("secret")) for _ in range(50)]
    await asyncio.sleep(0)
    assert 50 == passwords.pending
    with pytest.raises(Refused, match="503 busy"):
        await passwords.verify(None, "secret")
    for task in waiting[1:]:
        task.cancel()
    await asyncio.wait(waiting)
    assert await waiting[0]
    assert passwords.pending > 40  # cancelling does not take back work that is handed over


async def test_a_cancelled_hash_gives_its_place_back_when_done() -> None:
    """The place of a caller who left is free when the thread is through, not before."""
    with closing(Passwords(workers=1, limit=1)) as passwords:
        task = asyncio.create_task(passwords.hash("secret"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert 1 == passwords.pending
        with pytest.raises(Refused):
            await passwords.hash("secret")
        await asyncio.wrap_future(passwords._pool.submit(int))  # behind it in the only thread
        assert await passwords.hash("secret")
