"""Joins that race with publications over a real engine, and the check of what each of them was told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from gateway.answers import answer
from gateway.contracts.engine import Engine
from gateway.disconnects import Disconnect
from gateway.errors import EngineFault
from gateway.hub import Hub
from gateway.joining import JoinTools, SharedReads, join, leave
from gateway.protocol.effects import Join, Joined
from gateway.protocol.messages import ControlCommand, Survey
from gateway.protocol.values import HistoryQuery, NodeInfo, Published, PublishOptions
from gateway.relay import Relay
from gateway.timers import TimerWheel
from gateway.types import Channel, ClientInfo, NodeId, Position, Publication, UserId
from tests.support.clock import ManualClock
from tests.support.engines import eventually
from tests.support.listening import Listener, World
from tests.support.recorder import MemoryRecorder

CHECKPOINTS: Final = ("subscribed", "present", "reading", "read", "joined")
GENEROUS: Final = 30.0  # seconds; who waits so long has failed
AGAIN: Final = 0.2  # seconds; what was published while the link was down does not come
Action = tuple[str, int]


@dataclass
class Plan:
    """One joiner: what happens before it starts, what it asks for, and what happens at its checkpoints."""

    before: list[Action]
    since: str  # none, start, old, top, ahead, invalid, alien
    recent: int
    presence: bool
    positioned: bool
    at: Mapping[str, list[Action]]


@dataclass
class Ears:
    """An engine's sink that a new race can take over, so that one engine serves many."""

    relay: Relay | None = None
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    last: tuple[str, bytes] = ("", b"")  # channel and data
    losing: int = 0  # so many of the next publications are lost on the way

    def published(self, channel: Channel, publication: Publication) -> None:
        """Pass on, and let whoever waits see the last one."""
        if self.losing:
            self.losing -= 1
            return
        if self.relay is not None:
            self.relay.published(channel, publication)
        self.last = (channel, publication.data)
        self.heard.set()

    def joined(self, channel: Channel, who: ClientInfo, first: bool) -> None:
        """Pass on."""
        if self.relay is not None:
            self.relay.joined(channel, who, first)

    def left(self, channel: Channel, who: ClientInfo, last: bool) -> None:
        """Pass on."""
        if self.relay is not None:
            self.relay.left(channel, who, last)

    def suspect(self, channels: Iterable[Channel], why: str) -> None:
        """Pass on."""
        if self.relay is not None:
            self.relay.suspect(channels, why)

    def commanded(self, command: ControlCommand) -> None:
        """Nobody commands here."""

    def surveyed(self, question: Survey) -> bytes:
        """Nobody asks here."""
        del question
        return b""

    def described(self) -> NodeInfo:
        """Return nothing of interest."""
        return NodeInfo(NodeId("race"), "race", "0")


class Racer(Listener):
    """A connection that joins once."""

    __slots__ = ("outcome", "plan", "reply", "since", "tools")

    def __init__(self, world: World, plan: Plan, tools: JoinTools, name: str) -> None:
        super().__init__(world, name)
        self.plan = plan
        self.tools = tools
        self.since: Position | None = None
        self.outcome: Joined | EngineFault | Disconnect | None = None
        self.reply: Position | None = None

    def positioned(self, channel: Channel) -> bool:
        """As it was planned."""
        del channel
        return self.plan.positioned

    def insufficient(self, channel: Channel, position: Position | None) -> None:
        """Note it, and leave as a session asks for."""
        self.missed.append((channel, position))
        leave(channel, self, self.tools)

    def depart(self) -> None:
        """Go, once, as a connection does: what is still being joined must notice by itself."""
        if self.gone:
            return
        self.gone = True
        for channel, seat in tuple(self.seats.items()):
            if not seat.joining:
                leave(channel, self, self.tools)
        self.discard()


class Race:
    """One channel, its publications, and its joiners."""

    def __init__(
        self,
        engine: Engine,
        ears: Ears,
        *,
        size: int,
        forget: Callable[[Channel], None],
        cut: Callable[[], None] = lambda: None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.world = World(ManualClock(), loop.call_soon)
        self.channel = Channel(f"race:{uuid4().hex}")
        self.engine = engine
        self.ears = ears
        self.forget = forget
        self.cut = cut
        self.was_cut = False
        self.options = PublishOptions(history_size=size, history_ttl=300.0, history_meta_ttl=3000.0)
        hub: Hub = self.world.hub
        clock = self.world.clock
        ears.relay = self.relay = Relay(
            hub=hub, clock=clock, recorder=MemoryRecorder(), wheel=TimerWheel(clock.monotonic())
        )
        assert engine.history is not None
        self.history = engine.history
        self.relay.connect(self.history)
        self.tools = JoinTools(hub, self.relay, engine, SharedReads(engine.history), self._checkpoint)
        self.number = 0
        self.sent: dict[int, Position] = {}
        self.racers: list[Racer] = []
        self.by_task: dict[asyncio.Task[Any], Racer] = {}

    async def run(self, plans: list[Plan]) -> None:
        """Start every joiner in its time, wait for all, and publish once more, which everyone left must get."""
        await eventually(self._ready)
        tasks = []
        for number, plan in enumerate(plans):
            racer = Racer(self.world, plan, self.tools, f"racer-{number}")
            self.racers.append(racer)
            for action in plan.before:
                await self._act(action, racer)
            task = asyncio.create_task(self._race(racer))
            self.by_task[task] = racer
            tasks.append(task)
        async with asyncio.timeout(GENEROUS):
            await asyncio.gather(*tasks)
            await self._everything_arrived()

    async def end(self) -> None:
        """Let everybody leave, and see that nothing is left."""
        for racer in self.racers:
            racer.depart()
            assert {} == racer.seats
        assert {} == self.world.hub.interests
        presence = self.engine.presence
        assert presence is not None
        assert {} == await answer(presence.members, self.channel)
        self.ears.relay = None

    async def _ready(self) -> bool:
        return not self.engine.faults() and not self.engine.outages()  # an earlier race may have cut the link

    # --- what happens

    async def _race(self, racer: Racer) -> None:
        plan = racer.plan
        racer.since = self._since(plan.since)
        want = Join(
            ref=1,
            channel=self.channel,
            who=ClientInfo(UserId("u"), racer.id),
            positioned=plan.positioned,
            presence=plan.presence,
            join_leave=plan.presence,
            watch=plan.presence,
            since=racer.since,
            recent=plan.recent,
            history=True,
            history_meta_ttl=3000.0,
        )
        racer.outcome = outcome = await join(want, racer, self.tools)
        if not isinstance(outcome, Joined):
            return
        assert outcome.position is not None
        held = racer.seats[self.channel].held
        assert held is not None
        racer.reply = Position(outcome.position.offset, outcome.position.epoch)
        for action in plan.at.get("joined", ()):  # as a subscription made at connect, which waits for the others
            await self._act(action, racer)
        if not racer.gone:
            racer.put(b"t:reply\n")
            if not self.world.hub.interests[self.channel].release(held):
                racer.insufficient(self.channel, held.position)

    async def _checkpoint(self, name: str, _: Channel) -> None:
        task = asyncio.current_task()
        assert task is not None
        racer = self.by_task[task]
        for action in racer.plan.at.get(name, ()):
            await self._act(action, racer)

    async def _act(self, action: Action, racer: Racer) -> None:
        kind, count = action
        for _ in range(count):
            match kind:
                case "fire":
                    self._publish(lambda _: None)
                case "send":
                    await answer(self._publish)
                case "turns":
                    await asyncio.sleep(0)
                case _:
                    await self._trouble(kind, racer)

    async def _trouble(self, kind: str, racer: Racer) -> None:
        match kind:
            case "depart":
                racer.depart()
            case "remove":
                await answer(self.history.remove, self.channel)
            case "forget":
                self.forget(self.channel)
            case "cut":
                self.was_cut = True
                self.cut()
            case "lose":
                self.ears.losing += 1
            case "suspect":
                self.relay.suspect([self.channel], "link")
            case _:
                raise AssertionError(kind)

    def _publish(self, done: Callable[[Any], None]) -> None:
        self.number += 1
        number = self.number

        def published(outcome: Published | EngineFault) -> None:
            if isinstance(outcome, Published):
                assert outcome.position is not None
                self.sent[number] = outcome.position
            done(outcome)  # a fault is raised where it is awaited: raised here, nobody would be woken

        self.engine.broker.publish(self.channel, b":%d" % number, self.options, published)

    def _since(self, kind: str) -> Position | None:
        top = self.sent[max(self.sent)] if self.sent else Position(0, "")
        match kind:
            case "none":
                return None
            case "start":
                return Position(0, "")
            case "old":
                return Position(max(0, top.offset - 3), top.epoch)
            case "ahead":
                return Position(top.offset + 1000, top.epoch)
            case "invalid":
                return Position(0, "_")
            case "alien":
                return Position(top.offset, "alien")
            case _:
                return Position(top.offset, top.epoch)

    async def _everything_arrived(self) -> None:
        """Publish until this node has heard it, and let the turn end."""
        self.ears.losing = 0
        while self.world.hub.interests:
            await answer(self._publish)
            try:
                async with asyncio.timeout(AGAIN if self.was_cut else GENEROUS):
                    while self.ears.last != (self.channel, b":%d" % self.number):
                        self.ears.heard.clear()
                        await self.ears.heard.wait()
            except TimeoutError:
                assert self.was_cut
                continue  # it was lost: the link stands again a moment later
            break
        await eventually(self._mended)
        for _ in range(3):
            await asyncio.sleep(0)

    async def _mended(self) -> bool:
        return all(it.repair is None for it in self.world.hub.interests.values())

    # --- what must hold

    def check(self, *, quiet: bool) -> None:
        """Compare everyone's reply and log with the stream; `quiet`: nothing happened that anybody may be told of."""
        stream = {(it.epoch, it.offset): number for number, it in self.sent.items()}
        for racer in self.racers:
            if isinstance(racer.outcome, EngineFault):
                assert self.was_cut, racer.outcome
                assert "down" == racer.outcome.kind
                assert {} == racer.seats
            elif isinstance(racer.outcome, Joined) and racer.reply is not None:
                self._check_reply(racer, racer.outcome, stream)
                self._check_log(racer, quiet=quiet)
            else:
                assert racer.gone
                assert [] == racer.heard
        if quiet:
            assert all(not racer.missed for racer in self.racers)

    def _check_reply(self, racer: Racer, outcome: Joined, stream: Mapping[tuple[str, int], int]) -> None:
        """The reply's publications are the stream's, without a hole, up to its position."""
        assert racer.reply is not None
        top, came = racer.reply, outcome.publications
        offsets = [it.offset for it in came]
        assert list(range(top.offset - len(came) + 1, top.offset + 1)) == offsets
        assert [b":%d" % stream[top.epoch, it] for it in offsets] == [it.data for it in came]
        assert {top.epoch} >= {it.epoch for it in came}
        if outcome.recovered:
            assert racer.since is not None
            assert racer.since.epoch in {"", top.epoch}
            assert len(came) == top.offset - racer.since.offset
        elif not racer.plan.recent:
            assert [] == came

    def _check_log(self, racer: Racer, *, quiet: bool) -> None:
        """What followed the reply continues it, to the last publication unless the reader was told or has gone."""
        assert racer.reply is not None
        heard = racer.heard
        if not heard:
            assert racer.gone
            return
        assert "reply" == heard[0]
        kept = [self.sent[int(word.partition(":")[2])] for word in heard if word.startswith("p")]
        if racer.plan.positioned or quiet:
            start = racer.reply
            assert [Position(start.offset + 1 + n, start.epoch) for n in range(len(kept))] == kept
            if not racer.gone and not racer.missed:
                assert self.sent[self.number] == (kept[-1] if kept else start)
        else:
            assert len({(it.epoch, it.offset) for it in kept}) == len(kept)

    async def check_recovery(self) -> None:
        """With nothing trimmed, every position of this stream was recovered from, and recent ones came along."""
        page = await answer(self.history.read, self.channel, HistoryQuery(limit=-1))
        assert [it.offset for it in page.publications] == list(range(1, page.top.offset + 1))
        for racer in self.racers:
            if not isinstance(racer.outcome, Joined) or racer.reply is None:
                continue
            came, top = racer.outcome.publications, racer.reply.offset
            assert racer.outcome.recovered is (racer.plan.since in {"start", "old", "top"})
            if not racer.outcome.recovered:
                assert len(came) >= min(racer.plan.recent, top)
