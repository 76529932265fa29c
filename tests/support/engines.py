"""A node for tests of engines: a sink that remembers, and ways to wait for what comes by callback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from gateway.contracts.clock import Clock
from gateway.contracts.engine import Engine, EngineOptions
from gateway.errors import EngineFault
from gateway.protocol.messages import ControlCommand, Survey
from gateway.protocol.values import NodeInfo
from gateway.resolver import engine_for
from gateway.types import Channel, ClientInfo, ConnectionId, NodeId, Publication, UserId
from tests.support.recorder import MemoryRecorder

GENEROUS = 30.0  # seconds; a test that waits so long has failed


class RealClock:
    """The time of the machine, for engines whose server lives in it too."""

    def monotonic(self) -> float:
        """Return the time for deadlines."""
        return time.monotonic()

    def wall(self) -> float:
        """Return the Unix time."""
        return time.time()


class SkippingClock(RealClock):
    """The time of the machine, and what a test adds to it so as not to wait."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def monotonic(self) -> float:
        """Return the time for deadlines."""
        return super().monotonic() + self._skipped

    def skip(self, seconds: float) -> None:
        """Let so much time have passed."""
        self._skipped += seconds


@dataclass
class RecordingSink:
    """Remembers everything an engine tells its node, and wakes whoever waits."""

    node: NodeId
    log: list[tuple[Any, ...]] = field(default_factory=list)
    answer: Callable[[Survey], bytes] = lambda _question: b"yes"
    entries: list[tuple[Channel, ClientInfo, bool]] = field(default_factory=list)
    poison: bytes | None = None  # data whose delivery raises
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    def _note(self, *what: Any) -> None:
        self.log.append(what)
        self._told.set()

    def published(self, channel: Channel, publication: Publication) -> None:
        """Note a publication, or break the contract."""
        if publication.data == self.poison:
            raise RuntimeError("a sink that breaks its contract")
        self._note("published", channel, publication)

    def joined(self, channel: Channel, who: ClientInfo, first: bool) -> None:
        """Note a join."""
        self._note("joined", channel, who.client, first)

    def left(self, channel: Channel, who: ClientInfo, last: bool) -> None:
        """Note a leave."""
        self._note("left", channel, who.client, last)

    def suspect(self, channels: Iterable[Channel], why: str) -> None:
        """Note a loss."""
        self._note("suspect", sorted(channels), why)

    def commanded(self, command: ControlCommand) -> None:
        """Note a command."""
        self._note("commanded", command)

    def surveyed(self, question: Survey) -> bytes:
        """Answer as the test says."""
        self._note("surveyed", question.op)
        return self.answer(question)

    def described(self) -> NodeInfo:
        """Describe this node."""
        return NodeInfo(self.node, "test", "0", num_clients=7)

    def present(self) -> Iterable[tuple[Channel, ClientInfo, bool]]:
        """Return what the test says this node holds."""
        return list(self.entries)

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        """Return what was noted of one kind."""
        return [entry[1:] for entry in self.log if entry[0] == kind]

    def data(self, channel: Channel) -> list[bytes]:
        """Return the data of all publications in a channel."""
        return [publication.data for name, publication in self.of("published") if name == channel]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds; looked at each time something is noted."""
        async with asyncio.timeout(GENEROUS):
            while not condition():
                self._told.clear()
                await self._told.wait()

    async def until_count(self, kind: str, count: int) -> None:
        """Wait until so many of a kind were noted."""
        looked, seen = 0, 0

        def enough() -> bool:  # each entry is looked at once: thousands of looks at thousands would hold up the loop
            nonlocal looked, seen
            seen += [entry[0] for entry in self.log[looked:]].count(kind)
            looked = len(self.log)
            return seen >= count

        await self.until(enough)


@dataclass
class Node:
    """One engine with its ears."""

    engine: Engine
    sink: RecordingSink
    recorder: MemoryRecorder


@asynccontextmanager
async def running(url: str, *, clock: Clock | None = None, **options: Any) -> AsyncIterator[Node]:
    """Run the engine of this URL's scheme; `options` as in `EngineOptions`. It is ready unless told otherwise."""
    node = NodeId(str(uuid4()))
    sink, recorder = RecordingSink(node), MemoryRecorder()
    create = engine_for(url)
    chosen = EngineOptions(node=node, recorder=recorder, **{"wait_ready": True, **options})
    async with create(url, sink=sink, clock=clock or RealClock(), options=chosen) as engine:
        yield Node(engine, sink, recorder)


async def outcome(call: Callable[..., None], *args: Any) -> Any:
    """Make a call that completes by callback; return what came, a fault too. Fails if it came inside the call."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    call(*args, answer.set_result)
    assert not answer.done(), "completed inside the call"
    return await asyncio.wait_for(answer, GENEROUS)


async def good(call: Callable[..., None], *args: Any) -> Any:
    """Make a call that must not fail."""
    came = await outcome(call, *args)
    assert not isinstance(came, EngineFault), came
    return came


async def eventually(condition: Callable[[], Awaitable[object]]) -> None:
    """Ask again and again until the answer is true: for state that nobody announces."""
    async with asyncio.timeout(GENEROUS):
        while not await condition():  # noqa: ASYNC110 - nothing would set an event
            await asyncio.sleep(0.01)


def client(user: str = "alice", info: bytes | None = None) -> ClientInfo:
    """Return a client with a new connection id."""
    return ClientInfo(UserId(user), ConnectionId(str(uuid4())), info, None)
