"""The engine for Redis and Valkey: several nodes, one server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, get_args

from gateway.contracts.clock import Clock
from gateway.contracts.engine import EngineOptions, EngineSink
from gateway.engines.redis.address import parse_all
from gateway.engines.redis.broker import RedisBroker
from gateway.engines.redis.chores import Chores
from gateway.engines.redis.control import RedisControl
from gateway.engines.redis.envelope import Envelope
from gateway.engines.redis.history import RedisHistory
from gateway.engines.redis.layout import Layout, fixed
from gateway.engines.redis.link import DIAL_TIMEOUT, Role
from gateway.engines.redis.peers import ANNOUNCED_EVERY
from gateway.engines.redis.presence import RedisPresence
from gateway.engines.redis.topology import placed
from gateway.errors import EngineFault, OperatorError

SWEEP_EVERY: Final = 0.25  # seconds; how late a deadline may be noticed
LAST_WORDS: Final = 1.0  # seconds for the farewell of a node that stops


class RedisEngine:
    """One node's way to the others; see `contracts.engine.Engine`."""

    def __init__(self, layout: Layout, *, sink: EngineSink, clock: Clock, options: EngineOptions) -> None:
        envelope = Envelope()
        self.layout = layout
        self._clock = clock
        self._options = options
        self._chores = Chores()
        self._was_ready = False
        place = placed(layout.partitions)
        self.node = options.node
        self.broker = RedisBroker(place, audience=sink, clock=clock.monotonic, envelope=envelope, options=options)
        self.history = RedisHistory(place, envelope=envelope, recorder=options.recorder)
        self.presence = RedisPresence(
            place, layout.partitions, sink=sink, clock=clock.monotonic, envelope=envelope, options=options
        )
        self.control = RedisControl(
            placed([layout.control]), sink=sink, clock=clock, envelope=envelope, options=options
        )
        layout.came_up = self._came_up

    @property
    def up(self) -> Mapping[Role, bool]:
        """Whether all links of a role stand."""
        servers = self.layout.servers
        return {role: all(server.links[role].up for server in servers) for role in get_args(Role)}

    def faults(self) -> Sequence[str]:
        """See the contract."""
        return [*self._not_yet(), *self.presence.faults(), *self._chores.dead]

    def outages(self) -> Sequence[str]:
        """See the contract."""
        return [*self.layout.outages(), *self.presence.outages()]

    async def open(self) -> None:
        """Start; with `wait_ready` raises OperatorError when there is no working server in time."""
        self.layout.open(self._chores)
        self._chores.every(SWEEP_EVERY, "redis sweep", self._sweep)
        self._chores.every(ANNOUNCED_EVERY, "redis announcements", self.control.announce)
        self._chores.every(1.0, "redis control", self.control.tick)
        if self._options.wait_ready:
            await self._wait_ready()

    async def aclose(self) -> None:
        """Say goodbye if there is somebody to say it to, and close; everything in flight ends in a fault."""
        self.control.close()
        self.layout.close()
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.presence.retire(lambda _outcome: None if told.done() else told.set_result(None))
        with suppress(TimeoutError):
            await asyncio.wait_for(told, LAST_WORDS)
        await self._chores.aclose()
        self.broker.close()

    # --- inside

    def _not_yet(self) -> Sequence[str]:
        """Return what keeps this node from having been connected once; later outages are no reason to leave it out.

        Of several servers, that of the control bus and any one must have stood: if all were needed, restarting the
        nodes would make a whole outage of a partial one.
        """
        if self._was_ready:
            return ()
        if self.control.ready and not all(server.outages() for server in self.layout.servers):
            self._was_ready = True
            return ()
        return self.outages() or ["redis: the control channel has not been read yet"]

    def _came_up(self) -> None:
        self.presence.tick()
        self.control.came_up()

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        self.layout.sweep(now)
        self.broker.sweep(now)
        self.presence.tick()
        self._not_yet()  # however seldom somebody asks

    async def _wait_ready(self) -> None:
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                await self.layout.stands()
                await self.control.stands()
        except (TimeoutError, EngineFault):
            links = [link for server in self.layout.servers for link in server.links.values()]
            failed = [link.last_fault for link in links if link.last_fault]
            why = (*failed, *self.faults(), "redis: not ready in time")[0].removesuffix("; retrying")
            raise OperatorError(f"{why}: start the server, or correct engine.url") from None


def check(url: str) -> None:
    """Read `engine.url` as `create` would. Raises OperatorError."""
    parse_all(url)


@asynccontextmanager
async def create(url: str, *, sink: EngineSink, clock: Clock, options: EngineOptions) -> AsyncIterator[RedisEngine]:
    """Connect to one server, or to several whose URLs stand in a row with commas; see `contracts.engine`.

    Each is `redis://[user:password@]host[:port][/db]`. Raises OperatorError.
    """
    layout = fixed(parse_all(url), clock=clock, options=options)
    async with running(layout, sink=sink, clock=clock, options=options) as engine:
        yield engine


@asynccontextmanager
async def running(
    layout: Layout, *, sink: EngineSink, clock: Clock, options: EngineOptions
) -> AsyncIterator[RedisEngine]:
    """Run the engine over this layout."""
    engine = RedisEngine(layout, sink=sink, clock=clock, options=options)
    try:
        await engine.open()
        yield engine
    finally:
        await engine.aclose()
