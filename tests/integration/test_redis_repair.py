"""Lost links to a real server: what was published meanwhile comes from history, and no listener notices."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from uuid import uuid4

from gateway.contracts.engine import EngineOptions
from gateway.protocol.values import HistoryQuery, PublishOptions
from gateway.relay import Relay
from gateway.resolver import engine_for
from gateway.timers import TICK, TimerWheel
from gateway.types import Channel, NodeId
from tests.support.engines import RealClock, eventually, good, running
from tests.support.listening import Listener, World
from tests.support.race import Ears
from tests.support.recorder import MemoryRecorder
from tests.support.valkey import Valkey

KEPT = PublishOptions(history_size=1000, history_ttl=60.0, history_meta_ttl=600.0)
CHANNELS = [Channel(f"chat:{n}") for n in range(200)]
ROUNDS = 30


async def test_a_link_that_is_cut_again_and_again_costs_nobody_anything(tmp_path: Path) -> None:
    """Another node publishes to 200 channels all the time; each listener has every offset once, in order."""
    server = Valkey(tmp_path)
    server.start()
    try:
        await _cut_and_listen(server)
    finally:
        server.stop()


async def _cut_and_listen(server: Valkey) -> None:
    ears, clock, recorder = Ears(), RealClock(), MemoryRecorder()
    options = EngineOptions(node=NodeId(str(uuid4())), recorder=recorder, wait_ready=True)
    create = engine_for(server.url)
    async with running(server.url) as other, create(server.url, sink=ears, clock=clock, options=options) as engine:
        world = World(clock, asyncio.get_running_loop().call_soon)
        wheel = TimerWheel(clock.monotonic())
        ears.relay = relay = Relay(hub=world.hub, clock=clock, recorder=recorder, wheel=wheel)
        assert engine.history is not None
        relay.connect(engine.history)
        listeners = []
        for channel in CHANNELS:
            await good(engine.broker.subscribe, channel)
            top = (await good(engine.history.read, channel, HistoryQuery())).top
            listener = Listener(world)
            listener.listen(top, channel=channel)
            listeners.append(listener)
        turning = asyncio.create_task(_turn(wheel, clock))
        for number in range(ROUNDS):
            if number % 10 == 5:
                await eventually(partial(_cut, server))
            await asyncio.gather(*(good(other.engine.broker.publish, it, b"", KEPT) for it in CHANNELS))

        async def everybody_has_everything() -> bool:
            return all(len(it.heard) >= ROUNDS for it in listeners)

        await eventually(everybody_has_everything)
        turning.cancel()
    assert [[f"p{n}" for n in range(1, ROUNDS + 1)]] * len(CHANNELS) == [it.heard for it in listeners]
    assert [[]] * len(CHANNELS) == [it.missed for it in listeners]
    assert len(CHANNELS) <= recorder.counts["gaps_detected", "link"]
    assert 0 < recorder.counts["repairs", "full"]
    assert 0 == recorder.counts["repairs", "lost"]


async def _cut(server: Valkey) -> bool:
    """Cut all pub/sub links; False: none stood, the last cut is not mended yet."""
    return bool(server.command("CLIENT", "KILL", "TYPE", "pubsub"))


async def _turn(wheel: TimerWheel, clock: RealClock) -> None:
    """Turn the wheel as a node does."""
    while True:
        await asyncio.sleep(TICK)
        wheel.advance(clock.monotonic())
