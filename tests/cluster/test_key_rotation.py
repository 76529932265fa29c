"""Keys that follow each other under load, and keys that are dropped: no good token is refused, no dropped key taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from auth_service.keys.key import SigningKey
from tests.support.exactness import within
from tests.support.fleet import Process
from tests.support.rotating import LEEWAY, LIFE, Rotating, asked, rotating, takes
from tests.support.valkey import Valkey

MAX_AGE = 5  # seconds, the least that nodes go by
AHEAD = 10  # seconds
ROTATION = 20  # seconds
SLACK = within(3.0, otherwise=2.0)  # seconds for looks into the folder and fetches
COOLDOWN = 15.0  # seconds after a fetch in which a node may not ask again, at the longest
PUSHED = within(5.0, otherwise=2.0)  # seconds within which an emergency has reached all nodes through the API
PROBE = 0.1  # seconds between two tries of a thief


@pytest.fixture(name="clients")
def _clients(request: pytest.FixtureRequest) -> int:
    return 500 if request.config.getoption("--standard-load") else 120


@dataclass(slots=True)
class Thief:
    """Tries stolen keys on all nodes without end, those whose files are gone; says when one was last taken."""

    it: Rotating
    stolen: dict[str, SigningKey] = field(default_factory=dict)
    gone_at: dict[str, float] = field(default_factory=dict)  # monotonic time by name of the file
    taken_at: dict[str, float] = field(default_factory=dict)
    answers: dict[tuple[str, str], str] = field(default_factory=dict)  # the last one, by file and node

    async def go_on(self) -> None:
        """Steal what is there, try what is not."""
        while True:
            there = self.it.keys
            self.stolen |= there
            for name in self.stolen.keys() - there.keys():
                self.gone_at.setdefault(name, time.monotonic())
                await asyncio.gather(*(self._try(name, node) for node in self.it.nodes))
            await asyncio.sleep(PROBE)

    async def _try(self, name: str, node: Process) -> None:
        refusal = await takes(node, self.stolen[name])
        self.answers[name, node.name] = refusal
        if not refusal:
            self.taken_at[name] = time.monotonic()

    @property
    def lasts(self) -> Mapping[str, float]:
        """For how many seconds after its file was gone a key was still taken."""
        return {name: self.taken_at.get(name, gone) - gone for name, gone in self.gone_at.items()}


@asynccontextmanager
async def thieving(it: Rotating) -> AsyncIterator[Thief]:
    """Let a thief try for as long as this lasts."""
    thief = Thief(it)
    task = asyncio.create_task(thief.go_on())
    try:
        yield thief
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_nobody_notices_a_whole_key_cycle(valkey: Valkey, tmp_path: Path, clients: int) -> None:
    """Keys follow each other twice while everybody reconnects: no good token is refused, and retired keys open nothing.

    Two auth services make and publish the keys; each node knows them from another one than half of its tokens.
    """
    times = {
        "jwks_max_age_seconds": MAX_AGE,
        "key_publish_ahead_seconds": AHEAD,
        "key_rotation_seconds": ROTATION,
    }
    async with rotating(tmp_path, valkey.url, clients=clients, push=False, **times) as it, thieving(it) as thief:
        await it.until_signed(3, within=2 * ROTATION + 60)
        async with asyncio.timeout(LIFE + LEEWAY + 60):
            while len(thief.gone_at) < 2:  # noqa: ASYNC110 - nothing would set an event
                await asyncio.sleep(0.1)
        await asyncio.sleep(MAX_AGE + SLACK)  # as long as nodes may go by the JWKS they have
        answers = dict(thief.answers)
    let_in = sum(not attempt.refusal for attempt in it.attempts)
    print(f"{let_in} connects, {len(it.attempts) - let_in} refused; retired keys taken for {thief.lasts} s")  # noqa: T201 - figures for who runs it with -s
    assert {} == it.refused()
    assert [] == it.cut
    assert clients < let_in
    assert {"first.pem"} < thief.gone_at.keys()
    assert 0 <= max(thief.lasts.values()) <= MAX_AGE + SLACK
    assert {"close 3500"} == {answers[name, node.name] for name in thief.gone_at for node in it.nodes}


@pytest.mark.parametrize("push", [True, False], ids=["told", "found out"])
async def test_an_emergency_ends_a_key(valkey: Valkey, tmp_path: Path, push: bool, clients: int) -> None:
    """`keys rotate --now` under load: what a thief signs is refused within seconds on all nodes, and nobody else soon.

    Told by the API, nodes need not wait for the JWKS, which they may keep for five minutes here; and they close what
    is open with it. If nobody tells them, it takes as long as they may keep the JWKS.
    """
    bound = PUSHED if push else MAX_AGE + SLACK
    times = {} if push else {"jwks_max_age_seconds": MAX_AGE, "key_publish_ahead_seconds": AHEAD}
    async with rotating(tmp_path, valkey.url, clients=clients // 2, push=push, **times) as it, thieving(it) as thief:
        await it.until_signed(1, within=60)
        (stolen,) = it.keys.values()
        async with asked(it.nodes[1], await it.token()) as (socket, refusal):
            assert "" == refusal
            assert ["", ""] == [await takes(node, stolen) for node in it.nodes]
            printed = await it.command("keys", "rotate", "--now")
            told_at = time.monotonic()
            assert f"{stolen.key_id} is dropped" in printed
            if push:
                async with asyncio.timeout(PUSHED):
                    await socket.wait_closed()
                assert 3005 == socket.close_code  # come back with a new token
        await asyncio.sleep(bound)
        await asyncio.sleep(max(0.0, told_at + COOLDOWN - time.monotonic()))
        settled_at = time.monotonic()
        before = len(it.attempts)
        async with asyncio.timeout(60):
            while len(it.attempts) < before + clients:  # noqa: ASYNC110 - nothing would set an event
                await asyncio.sleep(0.1)
        answers = dict(thief.answers)
    last = max((at for at in thief.taken_at.values()), default=told_at) - told_at
    back = max((attempt.at for attempt in it.attempts if attempt.refusal), default=told_at) - told_at
    print(f"the dropped key was taken for {last:.2f} s after the command, fresh tokens refused for {back:.2f} s")  # noqa: T201 - figures for who runs it with -s
    assert last <= bound
    assert {"first.pem"} == thief.gone_at.keys()
    assert {"error 109" if push else "close 3500"} == set(answers.values())
    assert {} == it.refused(settled_at)
    assert {stolen.key_id} < {attempt.key_id for attempt in it.attempts}
    assert set(it.cut) <= {"close 3005"}
