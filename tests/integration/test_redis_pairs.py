"""Every reply belongs to the command it answers, whatever timed out, was given up, or was lost before it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from gateway.contracts.engine import EngineOptions
from gateway.engines.redis.address import Address
from gateway.engines.redis.library import Library
from gateway.engines.redis.server import Server
from gateway.errors import EngineFault
from gateway.types import NodeId
from tests.support.engines import RealClock
from tests.support.faultproxy import COMMANDS, FaultProxy, Rule, faultproxy
from tests.support.recorder import MemoryRecorder
from tests.support.valkey import Valkey

TIMEOUT = 0.03  # seconds; the way back takes twice that at most
PATIENCE = 60.0  # seconds for enough of each ending, on a machine that does other things too
SWEEP = 0.005
BATCH = 500
ENOUGH = 20  # of so many commands, one must have been answered, and one have timed out


class Pairs:
    """Sends commands that say who they are, and compares."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.sent = 0
        self.good = 0
        self.mixed: list[Any] = []
        self.faults: dict[str, int] = {}
        self.answers = 0

    def send(self) -> None:
        """Send one."""
        self.sent += 1
        number = b"%d" % self.sent

        def answered(reply: Any) -> None:
            self.answers += 1
            if isinstance(reply, EngineFault):
                self.faults[reply.kind] = self.faults.get(reply.kind, 0) + 1
            elif reply == number:
                self.good += 1
            else:
                self.mixed.append((number, reply))

        self._server.commands.call(("ECHO", number), answered)


async def swept(server: Server, clock: RealClock) -> None:
    """Enforce deadlines, far more often than an engine does."""
    while True:
        await asyncio.sleep(SWEEP)
        server.commands.sweep(clock.monotonic())


async def exchange(proxy: FaultProxy, pairs: Pairs, server: Server, count: int) -> None:
    """Send so many commands at least, over a link that is cut now and then, until enough of all endings came."""
    cut_at, enough = BATCH * 20, count / ENOUGH
    until = give_up = time.monotonic() + PATIENCE
    while pairs.sent < count or (min(pairs.good, pairs.faults.get("timeout", 0)) < enough and time.monotonic() < until):
        if not server.commands.answers:
            assert time.monotonic() < give_up, "the link does not come back"
            await asyncio.sleep(SWEEP)
            continue
        give_up = time.monotonic() + PATIENCE
        for _ in range(random.randint(1, BATCH)):
            pairs.send()
        if pairs.sent >= cut_at and proxy.count(COMMANDS):
            cut_at += BATCH * 20
            proxy.cut(COMMANDS)
        await asyncio.sleep(random.uniform(0.0, 2 * SWEEP))
    async with asyncio.timeout(PATIENCE):
        while pairs.answers < pairs.sent:  # noqa: ASYNC110 - nobody announces the last
            await asyncio.sleep(SWEEP)


@pytest.mark.parametrize("count", [20_000, pytest.param(300_000, marks=pytest.mark.soak)])
async def test_no_reply_goes_to_another_command(valkey: Valkey, count: int) -> None:
    """Commands time out at random over a slow link that is lost at times: each gets one answer, none another's."""
    clock, recorder = RealClock(), MemoryRecorder()
    options = EngineOptions(node=NodeId("n"), recorder=recorder, command_timeout=TIMEOUT)
    async with faultproxy(valkey.port) as proxy:

        async def locate() -> Address:
            return Address("127.0.0.1", proxy.port)

        server = Server("slow", locate, library=Library(), clock=clock, options=options)
        pairs = Pairs(server)
        life = [asyncio.create_task(server.run()), asyncio.create_task(swept(server, clock))]
        await asyncio.wait_for(server.stands(), PATIENCE)
        with proxy.rule(Rule(way="down", only=COMMANDS, jitter=2 * TIMEOUT)):
            await exchange(proxy, pairs, server, count)
        for task in life:
            task.cancel()
        await asyncio.gather(*life, return_exceptions=True)
    assert [] == pairs.mixed
    assert pairs.sent == pairs.good + sum(pairs.faults.values())
    assert pairs.good >= count / ENOUGH, "hardly anything was answered"
    assert pairs.faults["timeout"] >= count / ENOUGH, "hardly anything timed out"
    assert pairs.faults["lost"] > 0, "no link was lost"
