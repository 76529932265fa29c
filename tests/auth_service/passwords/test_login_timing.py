"""Whether the time of a refusal tells who is a user."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from statistics import median

import httpx
import pytest

from auth_service.app import create_app
from auth_service.models import User
from auth_service.passwords.hashes import Passwords
from auth_service.settings import AuthSettings
from auth_service.store import open_database
from tests.auth_service.conftest import fault
from tests.auth_service.passwords.attacked import served

BOUND = 0.005  # seconds between the medians
CONFIDENCE = 0.95
RESAMPLES = 1000
PAIRS = 5  # asked for from one address; with more than 20 log-ins it would be throttled


@dataclass(slots=True)
class Times:
    """What refusals took, in the order of the pairs: seconds, and seconds of processor in all threads."""

    took: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)


async def paired(settings: AuthSettings, size: int) -> list[tuple[str, str]]:
    """Add users; return pairs of one of them and somebody who is none, whose names differ in nothing else."""
    numbers = random.Random(1).sample(range(10**6), 2 * size)
    names = [f"user-{number:06}" for number in numbers]
    with closing(Passwords(workers=1, limit=1)) as passwords:
        hashed = await passwords.hash("correct horse")
    async with open_database(settings.database_url) as database, database.begin() as session:
        session.add_all(
            User(name=name, folded=name, password_hash=hashed, created_at=0.0, roles=[], channels=[])
            for name in names[:size]
        )
    return list(zip(names[:size], names[size:], strict=True))


@asynccontextmanager
async def asking(port: int, number: int) -> AsyncIterator[httpx.AsyncClient]:
    """Come from an address of one's own."""
    transport = httpx.AsyncHTTPTransport(local_address=f"127.0.{number // 250 + 1}.{number % 250 + 1}")
    async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        await client.get("/health/live")  # the connection is not part of what is measured
        yield client


async def refuse(client: httpx.AsyncClient, name: str, times: Times) -> None:
    """Try a wrong password."""
    began, worked = time.perf_counter(), time.process_time()
    answer = await client.post("/login", json={"username": name, "password": "wrong horse"})
    times.took.append(time.perf_counter() - began)
    times.worked.append(time.process_time() - worked)
    assert (401, "invalid_credentials") == fault(answer)


def interval(known: Sequence[float], unknown: Sequence[float]) -> tuple[float, float]:
    """Return where the median of the differences lies with the confidence we ask for (bootstrap).

    Of pairs, since both halves of one are asked in a row: a machine that is slow for a while slows both.
    """
    chance = random.Random(2)
    differences = [one - other for one, other in zip(known, unknown, strict=True)]
    medians = sorted(median(chance.choices(differences, k=len(differences))) for _ in range(RESAMPLES))
    outside = int(RESAMPLES * (1 - CONFIDENCE) / 2)
    return medians[outside], medians[-1 - outside]


def test_the_interval_knows_a_difference() -> None:
    """Of 100 pairs, a difference of 10 ms shows in noise of 5 ms, and none between equals."""
    chance = random.Random(4)
    one, other = ([chance.gauss(0.045, 0.005) for _ in range(100)] for _ in range(2))
    low, high = interval(one, other)
    assert -BOUND < low < 0 < high < BOUND
    low, high = interval([each + 0.01 for each in one], other)
    assert BOUND < low < 0.01 < high < 0.015


@pytest.mark.parametrize("size", [100, pytest.param(1000, marks=pytest.mark.soak)])
async def test_unknown_users_take_as_long(settings: AuthSettings, size: int) -> None:
    """For users and for nobody, in the median of pairs, it differs by 5 ms at most, with 95 % confidence.

    Asked in turn, in an order left to chance. On a machine so busy that the clock cannot tell to 5 ms, the small size
    goes by the time that processors worked.
    """
    chance = random.Random(3)
    known, unknown = Times(), Times()
    pairs = await paired(settings, size)
    async with served(create_app(settings)) as port:
        for start in range(0, size, PAIRS):
            async with asking(port, start // PAIRS) as client:
                for name, nobody in pairs[start : start + PAIRS]:
                    for who, times in chance.sample([(name, known), (nobody, unknown)], 2):
                        await refuse(client, who, times)
    low, high = interval(known.worked, unknown.worked)
    assert -BOUND <= low <= high <= BOUND
    low, high = interval(known.took, unknown.took)
    told = f"{median(known.took):.4f} s and {median(unknown.took):.4f} s, {low * 1000:.2f} to {high * 1000:.2f} ms"
    assert -BOUND <= low <= high <= BOUND or (size == 100 and high - low > BOUND), told
