"""Presence of several nodes on one real server, whose links and time are turned by hand: any interleaving at will."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from redis.exceptions import ResponseError

from gateway.contracts.engine import EngineOptions, EngineSink
from gateway.engines.redis.address import Address
from gateway.engines.redis.envelope import Envelope
from gateway.engines.redis.library import Library
from gateway.engines.redis.link import Link
from gateway.engines.redis.packing import Args
from gateway.engines.redis.partition import Partition
from gateway.engines.redis.presence import RedisPresence
from gateway.engines.redis.server import Server
from gateway.engines.redis.topology import TAGS, names, placed
from gateway.engines.redis.wire import Answered, Wire
from gateway.errors import EngineFault
from gateway.types import Channel, ClientInfo, ConnectionId, NodeId, UserId
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder

PATIENCE = 30.0  # seconds for an announcement

Key = tuple[Channel, ConnectionId]
LOUD = Channel("chat:loud")  # joins and leaves are announced here
QUIET = Channel("#quiet")  # and not here


@dataclass(eq=False)
class HandLink:
    """A command link whose commands are executed, answered and lost when the test says so."""

    execute: Callable[[Args], Any]
    up: bool = True
    built: int = 1
    refusing: str = ""  # a kind of fault: the next command is refused with it
    queue: deque[tuple[Args, Answered]] = field(default_factory=deque)
    late: deque[Args] = field(default_factory=deque)  # sent over connections that are gone; still to be executed
    aborted: int = 0

    @property
    def answers(self) -> bool:
        """Whether commands are taken."""
        return self.up

    def call(self, args: Args, done: Answered) -> None:
        """Queue a command; without a connection it fails in the next turn."""
        if self.up:
            self.queue.append((args, done))
        else:
            asyncio.get_running_loop().call_soon(done, EngineFault("down", "down"))

    def abort(self, _why: str) -> None:
        """Count it: nothing here depends on a pub/sub link."""
        self.aborted += 1

    def serve(self, count: int) -> None:
        """Execute so many commands, and answer them."""
        for _ in range(min(count, len(self.queue))):
            args, done = self.queue.popleft()
            if self.refusing:
                fault, self.refusing = EngineFault(self.refusing, "refused"), ""
                done(fault)
            else:
                done(self.execute(args))

    def give_up(self) -> None:
        """Let everything under way time out; it is executed in its turn, and then nobody listens."""
        given_up, self.queue = self.queue, deque((args, _ignore) for args, _ in self.queue)
        for _, done in given_up:
            done(EngineFault("timeout", "late"))

    def cut(self) -> None:
        """Lose the connection. What was under way may still be executed, at any time."""
        self.up = False
        lost, self.queue = self.queue, deque()
        self.late.extend(args for args, _ in lost)
        for _, done in lost:
            done(EngineFault("lost", "cut"))

    def build(self) -> None:
        """Build it again."""
        self.up, self.built = True, self.built + 1

    def execute_late(self, count: int) -> None:
        """Let commands of connections that are gone take effect."""
        for _ in range(min(count, len(self.late))):
            self.execute(self.late.popleft())


@dataclass(eq=False)
class Seats:
    """A node as its presence store sees it: what it holds, and what a join does that fails."""

    name: str
    link: HandLink
    clock: ManualClock
    recorder: MemoryRecorder
    presence: RedisPresence = field(init=False)
    held: dict[Key, tuple[ClientInfo, object]] = field(default_factory=dict)
    alive: bool = True
    stopped: bool = False  # as by SIGSTOP

    def present(self) -> Iterable[tuple[Channel, ClientInfo, bool]]:
        """See `EngineSink.present`."""
        for (channel, _), (who, _) in self.held.items():
            yield channel, who, channel == LOUD

    def join(self, channel: Channel, number: int) -> None:
        """Enter a connection; leave again if that fails, as `gateway.joining` does. Of three, two are one user's."""
        who = ClientInfo(UserId(f"user{number // 2}"), ConnectionId(f"{self.name}-{number}"))
        key, token = (channel, who.client), object()

        def done(outcome: EngineFault | None) -> None:
            if outcome is not None and self.held.get(key, (who, None))[1] is token:
                self.leave(*key)

        if key not in self.held:
            self.held[key] = who, token
            self.presence.add(channel, who, channel == LOUD, done)

    def leave(self, channel: Channel, client: ConnectionId) -> None:
        """Take a connection out; nobody looks at the answer."""
        if self.held.pop((channel, client), None) is not None:
            self.presence.remove(channel, client, channel == LOUD, _ignore)


class House:
    """One server, its nodes, and all that is announced. `partitions` of one channel each would show nothing more."""

    def __init__(self, redis: Any, prefix: str) -> None:
        self.redis = redis  # Any: its types allow for answers that it never gives to us
        self.names = names(prefix, TAGS[0])
        self.library = Library()
        self.nodes: list[Seats] = []
        self.began_again = 0  # how often all data were lost
        self._prefix = prefix
        self._ears: Any = self.redis.pubsub(ignore_subscribe_messages=True)
        self._ears.subscribe(self.names.client + LOUD, self.names.client + QUIET, prefix)

    async def open(self) -> None:
        """Load the scripts."""
        await self.library.load(cast("Wire", self))

    async def ask(self, *args: str | bytes | int) -> Any:
        """Execute a command, as a wire does."""
        return self.execute(args)

    def close(self) -> None:
        """Forget everything."""
        self._ears.close()
        if keys := self.redis.keys(f"{self._prefix}*"):
            self.redis.delete(*keys)

    def execute(self, args: Args) -> Any:
        """Execute a command on the real server."""
        try:
            return self.redis.execute_command(*args)
        except ResponseError as error:
            raise AssertionError(f"{args}: {error}") from error

    def add_node(self) -> Seats:
        """Let a node begin; to be called on the loop."""
        recorder = MemoryRecorder()
        options = EngineOptions(node=NodeId(f"n{len(self.nodes)}"), recorder=recorder)
        seats = Seats(options.node, HandLink(self.execute), ManualClock(), recorder)
        server = Server("by hand", _nowhere, library=self.library, clock=seats.clock, options=options)
        server.commands = server.pubsub = cast("Link", seats.link)
        partition = Partition(self.names, server)
        seats.presence = RedisPresence(
            placed([partition]),
            [partition],
            sink=cast("EngineSink", seats),
            clock=seats.clock.monotonic,
            envelope=Envelope(),
            options=options,
        )
        self.nodes.append(seats)
        return seats

    def pass_time(self, seconds: float) -> None:
        """Let time pass, here and at the server: what remains of each lease becomes shorter."""
        for incarnation in self.redis.zrange(self.names.nodes, 0, -1):
            self.redis.zincrby(self.names.nodes, -seconds * 1000, incarnation)
        for node in self.nodes:
            node.clock.advance(seconds)

    def tick(self) -> None:
        """Let every node that runs look at the time."""
        for node in self.nodes:
            if node.alive and not node.stopped:
                node.presence.tick()

    def lose_everything(self) -> None:
        """Do what an empty restart does to the data."""
        self.began_again += 1
        self.redis.delete(*self.redis.keys(f"{self._prefix}*"), b"-")

    def settled(self) -> bool:
        """Whether nothing is under way."""
        return not any(node.link.queue for node in self.nodes if node.alive)

    def entries(self, channel: Channel) -> dict[str, int]:
        """Return who is there, each with the number of times that a node holds it (1, or something is wrong)."""
        found = {client.decode(): 0 for client in self.redis.hkeys(self.names.presence + channel)}
        for node in self.nodes:
            for where, client in node.held:
                if node.alive and where == channel:
                    found[client] = found.get(client, -1) + 1
        return found

    def users(self, channel: Channel) -> dict[str, int]:
        """Return the counts of users."""
        counts = self.redis.hgetall(self.names.users + channel)
        return {user.decode(): int(count) for user, count in counts.items()}

    def announced(self) -> list[tuple[str, bool, str, str]]:
        """Return what was told since the last time: j or l, first or last, user, client."""
        self.redis.publish(self._prefix, b"end")
        heard: list[tuple[str, bool, str, str]] = []
        until = time.monotonic() + PATIENCE
        while (message := self._ears.get_message(timeout=5.0)) is None or message["data"] != b"end":
            if message is None:
                assert time.monotonic() < until, "the end was lost: the link was built again meanwhile"
                continue
            assert message["channel"].decode() == self.names.client + LOUD, "announced in the wrong channel"
            head, edge, _, blob = message["data"].split(b":", 3)
            who = Envelope().read_client(blob)
            heard.append((head[1:].decode(), edge == b"1", who.user, who.client))
        return heard


async def _nowhere() -> Address:
    raise AssertionError("nobody dials")


def _ignore(_outcome: object) -> None:
    """Take an answer that does not matter."""
