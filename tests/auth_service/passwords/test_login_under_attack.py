"""Guesses by the dozen over real sockets: who is refused, who gets in, and what the loop feels of it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from auth_service.app import create_app
from auth_service.settings import AuthSettings
from tests.auth_service.conftest import PASSWORD, fault, metric
from tests.auth_service.passwords.attacked import TICK, Answer, Lag, attacked, served
from tests.support.clock import ManualClock

LAG = 0.020  # seconds
DEADLINE = 60.0
REFUSED = "auth_password_hash_refusals_total"
GUESSES = 50
WRONG, EARLY, BUSY = "401 invalid_credentials", "429 too_many_attempts", "503 busy"
AWAY = "503 unavailable"  # so busy a machine that its SQLite takes seconds for one write


@dataclass(slots=True)
class Target:
    """A service with one user, alice, who has logged in from one device."""

    app: FastAPI
    port: int
    client: httpx.AsyncClient
    clock: ManualClock
    device_token: str

    async def log_in(self, device_token: str | None = None, password: str = PASSWORD) -> httpx.Response:
        """Log alice in from 127.0.0.1."""
        body = {"username": "alice", "password": password, "device_token": device_token}
        return await self.client.post("/login", json=body)


@pytest.fixture(name="target")
async def _target(settings: AuthSettings, clock: ManualClock) -> AsyncIterator[Target]:
    app = create_app(settings, clock=clock.wall)
    async with (
        served(app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client,
    ):
        credentials = {"username": "alice", "password": PASSWORD}
        assert 201 == (await client.post("/register", json=credentials)).status_code
        device_token = (await client.post("/login", json=credentials)).json()["device_token"]
        yield Target(app, port, client, clock, device_token)


def guess(number: int, username: str = "alice", address: str | None = None) -> tuple[str, dict[str, Any]]:
    """Return a wrong password, and an address to send it from."""
    return address or f"127.0.1.{number + 1}", {"username": username, "password": f"wrong password {number}"}


def counted(answers: list[Answer]) -> Counter[str]:
    """Count the answers of each kind."""
    return Counter(what for what, _, _ in answers)


async def test_fifty_guesses_at_one_account(target: Target) -> None:
    """From fifty addresses at once, five are looked at and 45 refused with a time; the loop goes on for everybody."""
    lag = Lag()
    answers = await attacked(target.port, [guess(number) for number in range(GUESSES)], lag)
    assert {WRONG: 5, EARLY: GUESSES - 5} == counted(answers)
    assert {(WRONG, None), (EARLY, 1)} == {(what, wait) for what, wait, _ in answers}
    assert GUESSES - 5 == await metric(target.client, 'auth_throttled_total{by="account"}')
    lag.assert_at_most(LAG)


async def test_never_more_than_ten_a_minute(target: Target) -> None:
    """Guesses whenever the account is open, a few at once, are looked at ten times in the first minute."""
    looked_at = 0
    for pause in (0, 1, 2, 4, 8, 16, 28.9):
        target.clock.advance(pause)
        looked_at += counted(await attacked(target.port, [guess(number) for number in range(8)]))[WRONG]
    assert 10 == looked_at
    target.clock.advance(60 - 28.9 - 28)
    assert {WRONG: 1, EARLY: 7} == counted(await attacked(target.port, [guess(number) for number in range(8)]))


async def test_the_user_gets_in_by_a_known_device(target: Target) -> None:
    """While the account and the address are closed to everybody, the user's own device is let in, each time."""
    next_door = [guess(number, f"user-{number}", "127.0.0.1") for number in range(GUESSES)]
    assert {WRONG: 20, EARLY: GUESSES - 20} == counted(await attacked(target.port, next_door))
    await attacked(target.port, [guess(number) for number in range(10)])
    refused = await target.log_in()
    assert (429, "too_many_attempts") == fault(refused)
    assert 60 == int(refused.headers["Retry-After"])
    attack = asyncio.create_task(attacked(target.port, [guess(number) for number in range(GUESSES)]))
    for _ in range(3):
        answer = await target.log_in(target.device_token)
        assert 200 == answer.status_code
        assert target.device_token == answer.json()["device_token"]
    assert {EARLY: GUESSES} == counted(await attack)
    assert (401, "invalid_credentials") == fault(await target.log_in(target.device_token, "wrong"))
    assert (429, "too_many_attempts") == fault(await target.log_in("made-up"))


async def test_a_right_password_in_a_closed_account_is_not_told(target: Target) -> None:
    """While an account is closed, a right guess gets the answer of a wrong one."""
    await attacked(target.port, [guess(number) for number in range(5)])
    right = ("127.0.2.1", {"username": "alice", "password": PASSWORD})
    wrong = ("127.0.2.2", {"username": "alice", "password": "wrong"})
    assert {EARLY: 2} == counted(await attacked(target.port, [right, wrong]))


async def test_the_user_gets_in_after_the_wait(target: Target) -> None:
    """Without a known device, the right password is good again when the told time has passed; then all is as ever."""
    for looked_at, told in ((5, 1), (1, 2), (1, 4), (1, 8)):
        answers = await attacked(target.port, [guess(number) for number in range(GUESSES)])
        assert looked_at == counted(answers)[WRONG]
        refused = await target.log_in()
        assert (429, "too_many_attempts") == fault(refused)
        assert told == int(refused.headers["Retry-After"])
        target.clock.advance(told)
    assert 200 == (await target.log_in()).status_code
    assert [401] * 4 == [(await target.log_in(password=f"wrong {number}")).status_code for number in range(4)]
    assert 200 == (await target.log_in()).status_code


async def test_the_hash_queue_is_bounded(target: Target) -> None:
    """Of 120 guesses at as many accounts, no more than 50 wait; others are told to come again, and may."""
    guesses = [guess(number, f"user-{number}") for number in range(120)]
    lag = Lag()
    async with _queue_of(target) as depths:
        with _busy_with_others(target) as done:
            attack = asyncio.create_task(attacked(target.port, guesses, lag))
            await _until(lambda: _sample(target, REFUSED) > 0)
            done.set()
            answers = await attack
    assert {(WRONG, None), (BUSY, 1)} == {(what, wait) for what, wait, _ in answers} - {(AWAY, 1)}
    assert counted(answers)[BUSY] == _sample(target, REFUSED)
    assert 50 == max(depths)
    lag.assert_at_most(2 * LAG)  # uvicorn takes so many connections in one go
    # nobody looked at what was refused: it is not counted
    busy = next(one for one, (what, _, _) in zip(guesses, answers, strict=True) if what == BUSY)
    assert {WRONG: 5} == counted(await attacked(target.port, [busy] * 5))


async def test_the_user_gets_in_through_a_flood(target: Target) -> None:
    """Where strangers fill the queue, the user is told to come again like everybody, does so, and gets in."""
    guesses = [guess(number, f"user-{number}") for number in range(60)]
    with _busy_with_others(target) as done:
        attack = asyncio.create_task(attacked(target.port, guesses))
        await _until(lambda: _sample(target, REFUSED) > 0)
        answer = await target.log_in(target.device_token)
        assert (503, "busy") == fault(answer)
        done.set()
        async with asyncio.timeout(DEADLINE):
            while answer.status_code == 503:
                await asyncio.sleep(int(answer.headers["Retry-After"]))
                answer = await target.log_in(target.device_token)
    assert 200 == answer.status_code
    assert {WRONG, BUSY} == set(counted(await attack)) - {AWAY}


@contextmanager
def _busy_with_others(target: Target) -> Iterator[threading.Event]:
    """Keep all threads that hash occupied until the event is set, however fast this machine is."""
    passwords = target.app.state.parts.accounts._passwords
    done = threading.Event()
    for _ in range(target.app.state.parts.settings.hash_workers):
        passwords._pool.submit(done.wait, DEADLINE)
    try:
        yield done
    finally:
        done.set()


@asynccontextmanager
async def _queue_of(target: Target) -> AsyncIterator[list[float]]:
    """Read every few milliseconds how many passwords are waiting or being hashed."""
    depths: list[float] = []

    async def read() -> None:
        while True:
            depths.append(_sample(target, "auth_password_hash_queue"))
            await asyncio.sleep(TICK)

    reading = asyncio.create_task(read())
    try:
        yield depths
    finally:
        reading.cancel()
        await asyncio.wait({reading})


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - a metric sets no event
            await asyncio.sleep(TICK)


def _sample(target: Target, name: str) -> float:
    return float(target.app.state.metrics.registry.get_sample_value(name))
