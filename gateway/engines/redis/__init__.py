"""The engine for Redis and Valkey: several nodes, one server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from gateway.contracts.clock import Clock
from gateway.contracts.engine import EngineOptions, EngineSink
from gateway.engines.redis.address import parse
from gateway.engines.redis.broker import RedisBroker
from gateway.engines.redis.chores import Chores
from gateway.engines.redis.control import RedisControl
from gateway.engines.redis.envelope import Envelope
from gateway.engines.redis.history import RedisHistory
from gateway.engines.redis.library import Library
from gateway.engines.redis.link import DIAL_TIMEOUT, Link, Role
from gateway.engines.redis.partition import Partition
from gateway.engines.redis.peers import ANNOUNCED_EVERY
from gateway.engines.redis.presence import RedisPresence
from gateway.engines.redis.subscriptions import Subscriptions
from gateway.engines.redis.topology import TAGS, names, placed
from gateway.engines.redis.wire import Wire
from gateway.errors import OperatorError

SWEEP_EVERY: Final = 0.25  # seconds; how late a deadline may be noticed
RENEWALS_PER_LEASE: Final = 4  # three may fail before the lease is lost
LAST_WORDS: Final = 1.0  # seconds for the farewell of a node that stops


class RedisEngine:
    """One node's way to the others; see `contracts.engine.Engine`."""

    def __init__(self, url: str, *, sink: EngineSink, clock: Clock, options: EngineOptions) -> None:
        address = parse(url)
        library, envelope = Library(), Envelope()
        monotonic, recorder, timeout = clock.monotonic, options.recorder, options.command_timeout
        commands = Link(address, "command", clock=monotonic, timeout=timeout, recorder=recorder, prepare=library.load)
        pubsub = Link(address, "pubsub", clock=monotonic, timeout=timeout, recorder=recorder, prepare=_nothing)
        self.links: Mapping[Role, Link] = {"command": commands, "pubsub": pubsub}
        self._clock = clock
        self._options = options
        self._subscriptions = Subscriptions(pubsub, clock=monotonic, timeout=options.subscribe_timeout)
        self._chores = Chores()

        def partition(prefix: str) -> Partition:
            return Partition(names(prefix, TAGS[0], address.db), commands, self._subscriptions, library)

        partitions = [partition(options.prefix)]
        place = placed(partitions)
        self.node = options.node
        self.broker = RedisBroker(place, audience=sink, envelope=envelope, options=options)
        self.history = RedisHistory(place, envelope=envelope, recorder=recorder)
        self.presence = RedisPresence(place, partitions, envelope=envelope, options=options)
        self.control = RedisControl(
            placed([partition(f"{options.prefix}.control")]), sink=sink, clock=clock, envelope=envelope, options=options
        )
        commands.came_up = self._came_up

    @property
    def up(self) -> Mapping[Role, bool]:
        """Which links stand."""
        return {role: link.up for role, link in self.links.items()}

    def faults(self) -> Sequence[str]:
        """See the contract."""
        faults = dict.fromkeys(link.fault for link in self.links.values() if link.fault)
        if not faults and not self.control.ready:
            faults["redis: the control channel has not been read yet"] = None
        return [*faults, *self._chores.dead]

    async def open(self) -> None:
        """Start; with `wait_ready` raises OperatorError when there is no working server in time."""
        for link in self.links.values():
            self._chores.start(f"redis link {link.role}", link.run())
        self._chores.every(SWEEP_EVERY, "redis sweep", self._sweep)
        self._chores.every(self._options.presence_ttl / RENEWALS_PER_LEASE, "redis lease", self.presence.renew)
        self._chores.every(ANNOUNCED_EVERY, "redis announcements", self.control.announce)
        self._chores.every(1.0, "redis control", self.control.tick)
        if self._options.wait_ready:
            await self._wait_ready()

    async def aclose(self) -> None:
        """Say goodbye if there is somebody to say it to, and close; everything in flight ends in a fault."""
        self.control.close()
        self._subscriptions.close()
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.presence.retire(lambda _outcome: None if told.done() else told.set_result(None))
        with suppress(TimeoutError):
            await asyncio.wait_for(told, LAST_WORDS)
        await self._chores.aclose()

    # --- inside

    def _came_up(self) -> None:
        self.presence.renew()
        self.control.announce()
        self.control.tick()

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        for link in self.links.values():
            link.sweep(now)
        self._subscriptions.sweep(now)

    async def _wait_ready(self) -> None:
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                for link in self.links.values():
                    await link.stands()
                await self.control.stands()
        except TimeoutError:
            failed = [link.last_fault for link in self.links.values() if link.last_fault]
            why = (*failed, *self.faults(), "redis: not ready in time")[0].removesuffix("; retrying")
            raise OperatorError(f"{why}: start the server, or correct engine.url") from None


@asynccontextmanager
async def create(url: str, *, sink: EngineSink, clock: Clock, options: EngineOptions) -> AsyncIterator[RedisEngine]:
    """Connect to `redis://[user:password@]host[:port][/db]`; see `contracts.engine`. Raises OperatorError."""
    engine = RedisEngine(url, sink=sink, clock=clock, options=options)
    try:
        await engine.open()
        yield engine
    finally:
        await engine.aclose()


async def _nothing(_wire: Wire) -> None:
    """Prepare nothing: a pub/sub link needs no scripts, its table subscribes when it is up."""
