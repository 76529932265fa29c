"""Partitions over the primaries of a Redis Cluster: followed as slots move and primaries change."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.contracts.clock import Clock
from gateway.contracts.engine import EngineOptions
from gateway.engines.redis.address import Address
from gateway.engines.redis.chores import Chores
from gateway.engines.redis.layout import CONTROL, Layout, always
from gateway.engines.redis.library import Library
from gateway.engines.redis.partition import Partition
from gateway.engines.redis.server import Server
from gateway.engines.redis.slots import Node, View, read, settle, slot
from gateway.engines.redis.topology import TAGS, names
from gateway.engines.redis.visit import canvass
from gateway.engines.redis.wire import Wire

LOOKED_AT_EVERY: Final = 10.0  # seconds, while nothing hints at a change
PAUSE: Final = 0.1  # seconds between two looks at least; doubles while they show nothing new
PAUSE_MAX: Final = 1.0
ASKED: Final = 5  # nodes per look
LINGERS: Final = 2  # so many command timeouts a server without partitions has, to answer what is in flight there

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """What moves as one: the partitions under one hash tag."""

    slot: int
    partitions: Sequence[Partition]

    @property
    def server(self) -> Server:
        """Where it lies."""
        return self.partitions[0].server


class Cluster(Layout):
    """64 partitions, each in one slot; a server for each primary that holds at least one.

    The map of slots is looked at on the start, when a server disowns a slot or stops answering, and every now and then.
    A partition that moves takes its subscriptions along; they are suspect when they stand again. Calls in flight are
    answered by the old server, or fail: sent again, they could overtake others.

    Until the map is known everything lies on `_nowhere`, a server that is never dialled.
    """

    def __init__(self, seeds: Sequence[Address], *, clock: Clock, options: EngineOptions) -> None:
        self._seeds = seeds
        self._clock = clock
        self._options = options
        self._library = Library(sharded=True)
        self._nowhere = self._server("the cluster", seeds[0])
        partitions = [Partition(names(options.prefix, tag), self._nowhere) for tag in TAGS]
        control = Partition(names(f"{options.prefix}.{CONTROL}", TAGS[0]), self._nowhere)
        super().__init__([self._nowhere], partitions, control)
        self._shares = [Share(slot(tag), [it]) for tag, it in zip(TAGS, partitions, strict=True)]
        self._shares[0] = Share(slot(TAGS[0]), [partitions[0], control])
        self._wanted = frozenset(share.slot for share in self._shares)
        self._trouble = f"redis: connecting to the cluster at {', '.join(map(str, seeds))}"
        self._known: set[tuple[str, int]] = {(it.host, it.port) for it in seeds}
        self._leading: frozenset[bytes] = frozenset()  # who were primaries at the last look, with slots or without
        self._standing: dict[tuple[str, int], Server] = {}
        self._ends: dict[Server, Callable[[], object]] = {}
        self._leaving: dict[Server, float] = {}  # until when
        self._hinted = asyncio.Event()
        self._mapped = asyncio.Event()  # each partition lies somewhere
        self._chores = Chores()

    def open(self, chores: Chores) -> None:
        """See the base."""
        self._chores = chores
        chores.start("redis cluster", self._follow())

    async def stands(self) -> None:
        """See the base."""
        await self._mapped.wait()
        await super().stands()

    def outages(self) -> Sequence[str]:
        """See the base."""
        lost = [self._trouble] if self._trouble else []
        standing = [line for server in self._standing.values() for line in server.outages()]
        return list(dict.fromkeys((*lost, *standing)))

    def sweep(self, now: float) -> None:
        """See the base."""
        for server in self._standing.values():
            server.sweep(now)
            if not all(link.up for link in server.links.values()):
                self._hinted.set()
        for server, until in list(self._leaving.items()):
            server.commands.sweep(now)
            if now >= until:
                del self._leaving[server]
                self._ends.pop(server)()

    # --- the map

    async def _follow(self) -> None:
        pause = PAUSE
        while True:
            self._hinted.clear()
            changed = await self._look()
            pause = PAUSE if changed else min(2 * pause, PAUSE_MAX)
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - not a secret: nodes apart
            if self._trouble:
                continue
            try:
                async with asyncio.timeout(LOOKED_AT_EVERY):
                    await self._hinted.wait()
            except TimeoutError:
                pause = PAUSE

    async def _look(self) -> bool:
        """Ask some nodes for the map and follow it; return whether anything has moved."""
        others = [self._seeds[0].at(*place) for place in self._known]
        try:
            words = await canvass(random.sample(others, min(ASKED, len(others))), self._view, self._options.recorder)
        except OSError as error:
            self._note(f"redis: no node of the cluster answers ({error}); retrying")
            return False
        views = [word.answer for word in words]
        self._known = {(it.host, it.port) for view in views for it in view.nodes} | {
            (it.host, it.port) for it in self._seeds
        }
        changed = self._arrange(settle(views))
        self._leading = frozenset(identity for view in views for identity in view.leading)
        unserved = sum(share.server is self._nowhere for share in self._shares)
        self._note(f"redis: {unserved} of {len(TAGS)} partitions are served by nobody; retrying" if unserved else "")
        return changed

    async def _view(self, wire: Wire, address: Address) -> View:
        slots, nodes = await asyncio.gather(wire.ask("CLUSTER", "SLOTS"), wire.ask("CLUSTER", "NODES"))
        return read(slots, nodes, address.host, self._wanted)

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("redis.cluster_trouble", why=trouble)
        self._trouble = trouble

    # --- what follows from it

    def _arrange(self, primaries: Mapping[int, Node]) -> bool:
        """Let each partition lie where its slot is served; one that nobody serves stays where it is."""
        moves: dict[tuple[Server, Server, bool], list[Partition]] = {}
        for share in self._shares:
            node = primaries.get(share.slot)
            target = share.server if node is None else self._at(node)
            if node is not None and target is not share.server:
                # Who led before got its new slots by migration; a replica that took over may lack the last writes.
                whole = node.identity in self._leading
                moves.setdefault((share.server, target, whole), []).extend(share.partitions)
        for (source, target, whole), partitions in moves.items():
            self._move(source, target, partitions, whole=whole)
        self._let_go()
        for server in self._standing.values():
            server.subscriptions.ask_again()
        return bool(moves)

    def _move(self, source: Server, target: Server, partitions: Sequence[Partition], *, whole: bool) -> None:
        given = source.subscriptions.give(tuple(it.names.client.encode() for it in partitions))
        for partition in partitions:
            partition.move(target)
        target.host((it.names for it in partitions), source if whole else None)
        target.subscriptions.take(given, f"moved from {source.name} to {target.name}")
        log.info("redis.partitions_moved", source=source.name, target=target.name, partitions=len(partitions))

    def _at(self, node: Node) -> Server:
        """Return the server of a node, a new one if need be."""
        place = (node.host, node.port)
        server = self._standing.get(place)
        if server is None:
            address = self._seeds[0].at(*place)
            server = self._standing[place] = self._server(str(address), address)
            server.commands.astray = server.subscriptions.strayed = self._hinted.set
            self._adopt(server)
            self._ends[server] = self._chores.start(f"redis {server.name}", server.run())
        return server

    def _let_go(self) -> None:
        """Take leave of servers that hold nothing any more."""
        used = {share.server for share in self._shares}
        now = self._clock.monotonic()
        for place, server in list(self._standing.items()):
            if server not in used:
                del self._standing[place]
                self._leaving[server] = now + LINGERS * self._options.command_timeout
        self.servers = [*self._standing.values()]
        if self._nowhere in used:
            self.servers.append(self._nowhere)
        else:
            self._mapped.set()

    def _server(self, name: str, address: Address) -> Server:
        return Server(name, always(address), library=self._library, clock=self._clock, options=self._options)
