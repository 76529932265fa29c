from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.answers import answer
from gateway.contracts.broker import Done
from gateway.contracts.engine import EngineOptions
from gateway.disconnects import SERVER_ERROR
from gateway.errors import EngineFault
from gateway.joining import SharedReads, join, leave
from gateway.protocol.effects import Join, Joined
from gateway.protocol.repair import HELD_LIMIT
from gateway.protocol.values import HistoryPage, HistoryQuery, PublishOptions
from gateway.resolver import engine_for
from gateway.types import Channel, ClientInfo, NodeId, Position, Publication, UserId
from tests.support.clock import ManualClock
from tests.support.race import Action, Ears, Plan, Race, Racer
from tests.support.recorder import MemoryRecorder


class Stage(Race):
    """A race with joiners that are started one by one."""

    async def publish(self, count: int = 1) -> None:
        """Publish and let it arrive."""
        for _ in range(count):
            await answer(self._publish)
        await self.turns()

    async def turns(self) -> None:
        """Let everything that is under way come to its end."""
        for _ in range(20):
            await asyncio.sleep(0)

    def racer(self, since: str = "none", recent: int = 0, **at: list[Action]) -> Racer:
        """Prepare a joiner."""
        plan = Plan([], since, recent, presence=True, positioned=True, at=at)
        racer = Racer(self.world, plan, self.tools, f"racer-{len(self.racers)}")
        self.racers.append(racer)
        return racer

    def start(self, racer: Racer) -> asyncio.Task[None]:
        """Let it begin."""
        task = asyncio.create_task(self._race(racer))
        self.by_task[task] = racer
        return task

    async def joined(self, since: str = "none", recent: int = 0, **at: list[Action]) -> Racer:
        """Let one join, undisturbed but for what happens at its own checkpoints."""
        racer = self.racer(since, recent, **at)
        await self.start(racer)
        await self.turns()
        return racer


@asynccontextmanager
async def staged(size: int = 100) -> AsyncIterator[Stage]:
    """Run a memory engine with one channel."""
    ears = Ears()
    options = EngineOptions(node=NodeId("n"), recorder=MemoryRecorder())
    async with engine_for("memory://")("memory://", sink=ears, clock=ManualClock(), options=options) as engine:
        history: Any = engine.history

        def forget(channel: Channel) -> None:
            history._streams._streams.pop(channel, None)

        yield Stage(engine, ears, size=size, forget=forget)


@pytest.fixture(name="stage")
async def _stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


def outcome(racer: Racer) -> Joined:
    """Return what came of a join that went well."""
    assert isinstance(racer.outcome, Joined)
    return racer.outcome


def offsets(racer: Racer) -> list[int]:
    """Return the offsets that came with the reply."""
    return [it.offset for it in outcome(racer).publications]


# --- what the reply holds


async def test_a_plain_join_begins_at_the_top(stage: Stage) -> None:
    """Without recovery and recent ones the reply holds a position only."""
    await stage.publish(3)
    racer = await stage.joined()
    assert (3, [], False) == (outcome(racer).position.offset, offsets(racer), outcome(racer).recovered)  # type: ignore[union-attr] # history
    await stage.publish()
    assert ["reply", "p4:4"] == racer.heard[:1] + racer.heard[-1:]


async def test_recent_ones_come_in_order_and_with_what_was_held(stage: Stage) -> None:
    """The newest few are read newest first and given oldest first; what arrives meanwhile joins them."""
    await stage.publish(5)
    racer = await stage.joined(recent=2, subscribed=[("send", 1)])
    assert [5, 6] == offsets(racer)
    racer = await stage.joined(recent=2, read=[("send", 1)])
    assert [5, 6, 7] == offsets(racer)


async def test_recovery_gives_what_was_missed(stage: Stage) -> None:
    """From an old position exactly what follows it."""
    await stage.publish(5)
    racer = await stage.joined("old", recent=3)
    assert ([3, 4, 5], True) == (offsets(racer), outcome(racer).recovered)


async def test_what_cannot_be_recovered_falls_back_to_recent_ones(stage: Stage) -> None:
    """A position of another stream: the newest few instead, if they were asked for."""
    await stage.publish(5)
    racer = await stage.joined("alien", recent=2)
    assert ([4, 5], False) == (offsets(racer), outcome(racer).recovered)
    racer = await stage.joined("alien")
    assert ([], False) == (offsets(racer), outcome(racer).recovered)


async def test_a_channel_without_history_reads_nothing(stage: Stage) -> None:
    """The reply holds no position."""
    racer = stage.racer()
    want = Join(1, stage.channel, ClientInfo(UserId("u"), racer.id))
    stage.tools.checkpoint = None
    assert Joined(None, [], recovered=False) == await join(want, racer, stage.tools)


# --- reading again


@pytest.mark.parametrize("since", ["old", "none"])
async def test_a_loss_while_history_is_read_is_read_again(stage: Stage, since: str) -> None:
    """A link that is rebuilt between the read and its answer costs a second read and nothing else."""
    await stage.publish(5)
    reads = count_reads(stage)
    racer = stage.racer(since, reading=[("suspect", 1)])
    once(racer)
    await stage.start(racer)
    await stage.publish()
    assert 2 == len(reads)
    assert [] == racer.missed
    assert "p6:6" == racer.heard[-1]
    assert outcome(racer).recovered is (since == "old")


async def test_a_loss_before_history_is_read_costs_nothing(stage: Stage) -> None:
    """What is read afterwards makes good what was lost before."""
    await stage.publish(5)
    reads = count_reads(stage)
    racer = await stage.joined("old", subscribed=[("suspect", 1)], present=[("suspect", 1)])
    assert 1 == len(reads)
    assert ([3, 4, 5], []) == (offsets(racer), racer.missed)


async def test_two_losses_are_told(stage: Stage) -> None:
    """There is no third read: whoever is so unlucky is told, and comes again."""
    await stage.publish(5)
    reads = count_reads(stage)
    racer = await stage.joined("old", reading=[("suspect", 1)])
    assert 2 == len(reads)
    assert 1 == len(racer.missed)
    assert {} == racer.seats


async def test_a_new_stream_while_history_is_read_is_read_again(stage: Stage) -> None:
    """Publications of another epoch among the held make the page stale."""
    await stage.publish(5)
    reads = count_reads(stage)
    racer = stage.racer("old", read=[("forget", 1), ("send", 2), ("turns", 3)])
    once(racer)
    await stage.start(racer)
    await stage.publish()
    assert 2 == len(reads)
    assert ([], False, []) == (offsets(racer), outcome(racer).recovered, racer.missed)
    assert "p3:8" == racer.heard[-1]


async def test_more_than_can_be_held_is_read_again(stage: Stage) -> None:
    """A flood while joining is bounded in memory and still complete."""
    await stage.publish(1)
    racer = stage.racer("old")
    await flood_at(stage, "reading")
    await stage.start(racer)
    await stage.publish()
    assert [] == racer.missed
    assert outcome(racer).recovered
    assert list(range(1, len(offsets(racer)) + 1)) == offsets(racer)


async def test_a_hole_that_stays_begins_at_the_top(stage: Stage) -> None:
    """If reading again does not help, the reply says that it does not continue the client's position."""
    await stage.publish(5)
    racer = stage.racer("old")
    history: Any = stage.history
    read = history.read

    def with_hole(channel: Channel, query: HistoryQuery, done: Done[HistoryPage]) -> None:
        def arrived(page: HistoryPage) -> None:
            stage.relay.published(channel, Publication(b":99", page.top.offset + 2, page.top.epoch))
            done(page)

        read(channel, query, arrived)

    history.read = with_hole
    await stage.start(racer)
    assert ([], False) == (offsets(racer), outcome(racer).recovered)
    assert 1 == len(racer.missed)  # by what was held: it does not follow the reply


# --- another stream than the channel's


async def test_a_reader_of_a_new_stream_stays_and_the_others_are_told(stage: Stage) -> None:
    """The stream began anew and nobody published since: who read it knows first, and is not punished for it."""
    await stage.publish(5)
    old = await stage.joined()
    stage.forget(stage.channel)
    new = await stage.joined()
    assert [(stage.channel, outcome(old).position)] == old.missed
    assert [] == new.missed
    interest = stage.world.hub.interests[stage.channel]
    assert outcome(new).position == interest.position
    await stage.publish()
    assert ["reply", "p1:6"] == [it for it in new.heard if it[:2] not in {"j:", "l:"}]


# --- giving back


@pytest.mark.parametrize("step", ["subscribe", "add", "read"])
async def test_a_fault_at_any_step_gives_everything_back(stage: Stage, step: str) -> None:
    """The fault is the outcome, and hub, broker and presence forget the joiner.

    Only of a subscription nobody knows what became of it: the connection ends, since a new one is clean.
    """
    engine: Any = stage.engine
    place = {"subscribe": engine.broker, "add": engine.presence, "read": engine.history}[step]
    whole = getattr(place, step)
    fault = EngineFault("timeout")
    setattr(place, step, lambda *args: asyncio.get_running_loop().call_soon(args[-1], fault))
    racer = await stage.joined()
    assert (SERVER_ERROR if step == "subscribe" else fault) is racer.outcome
    await assert_nothing_left(stage, racer)
    setattr(place, step, whole)


@pytest.mark.parametrize("step", ["subscribed", "present", "reading", "read"])
async def test_whoever_goes_at_any_step_leaves_nothing(stage: Stage, step: str) -> None:
    """The join itself notices, at the latest before it would be done."""
    racer = stage.racer()
    racer.plan.at = {step: [("depart", 1)]}
    await stage.start(racer)
    assert racer.outcome is None
    await assert_nothing_left(stage, racer)


@pytest.mark.parametrize("step", ["subscribed", "present", "reading", "read"])
async def test_cancelling_at_any_step_gives_everything_back(stage: Stage, step: str) -> None:
    """At the end of the process nothing is left behind by a join that was cut off."""
    there = asyncio.Event()

    async def hold(name: str, _: Channel) -> None:
        if name == step:
            there.set()
            await asyncio.Event().wait()

    stage.tools.checkpoint = hold
    racer = stage.racer()
    task = stage.start(racer)
    async with asyncio.timeout(5.0):
        await there.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_nothing_left(stage, racer)


@pytest.mark.parametrize("late", [None, EngineFault("timeout")])
async def test_an_acknowledgement_after_cancelling_is_given_back(stage: Stage, late: EngineFault | None) -> None:
    """A reference that comes when nobody waits for it any more is dropped; a fault leaves none behind."""
    broker: Any = stage.engine.broker
    other = await stage.joined()
    subscribe = broker.subscribe
    asked: list[Done[None]] = []

    def later(channel: Channel, done: Done[None]) -> None:
        if late is None:
            subscribe(channel, lambda _: None)
        asked.append(done)

    broker.subscribe = later
    task = stage.start(stage.racer())
    await stage.turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    asked[0](late)
    broker.subscribe = subscribe
    assert {stage.channel: 1} == dict(broker._refs)
    other.depart()
    await assert_nothing_left(stage, other)


# --- shared reads


class Slow:
    """A history whose answers the test gives."""

    def __init__(self) -> None:
        self.asked: list[tuple[HistoryQuery, Done[HistoryPage]]] = []

    def read(self, channel: Channel, query: HistoryQuery, done: Done[HistoryPage]) -> None:
        """Note it."""
        del channel
        self.asked.append((query, done))

    def remove(self, channel: Channel, done: Done[None]) -> None:
        """Nobody asks for that."""
        raise AssertionError(channel, done)


def page(offset: int) -> HistoryPage:
    """Return a page with this top."""
    return HistoryPage([], Position(offset, "e"))


def test_a_read_that_was_sent_is_not_shared_any_more() -> None:
    """Who asks later shares the next read: one in flight, one waiting, whoever many there are."""
    slow = Slow()
    reads = SharedReads(slow)
    got: dict[str, Any] = {}

    def ask(name: str, **query: Any) -> None:
        reads.read(Channel("c"), HistoryQuery(**query), lambda it: got.__setitem__(name, it))

    ask("a")
    ask("b")
    ask("c")
    assert 1 == len(slow.asked)
    slow.asked[0][1](page(1))
    assert {"a": page(1)} == got
    assert 2 == len(slow.asked)
    ask("d")
    slow.asked[1][1](page(2))
    assert {"a": page(1), "b": page(2), "c": page(2)} == got
    slow.asked[2][1](EngineFault("lost"))
    assert "lost" == got["d"].kind
    ask("e")
    assert 4 == len(slow.asked)


def test_only_the_same_question_is_shared() -> None:
    """Channel, position, limit and direction make the question."""
    slow = Slow()
    reads = SharedReads(slow)
    since = Position(1, "e")
    for channel, query in (
        ("c", HistoryQuery()),
        ("d", HistoryQuery()),
        ("c", HistoryQuery(limit=1)),
        ("c", HistoryQuery(limit=1, reverse=True)),
        ("c", HistoryQuery(limit=1, since=since)),
        ("c", HistoryQuery(limit=1, since=Position(1, "f"))),
        ("c", HistoryQuery(limit=1, since=Position(1, "e"))),
    ):
        reads.read(Channel(channel), query, lambda _: None)
    assert 6 == len(slow.asked)
    since.offset = 2  # who asked may change its position later
    slow.asked[4][1](page(1))
    assert 7 == len(slow.asked)


# --- ways to do it


def count_reads(stage: Stage) -> list[HistoryQuery]:
    """Note every read that is sent."""
    history: Any = stage.history
    read = history.read
    queries: list[HistoryQuery] = []

    def counting(channel: Channel, query: HistoryQuery, done: Done[HistoryPage]) -> None:
        queries.append(query)
        read(channel, query, done)

    history.read = counting
    return queries


def once(racer: Racer) -> None:
    """Let what happens at the checkpoints happen the first time only."""
    at = dict(racer.plan.at)
    racer.plan.at = Once(at)


class Once(dict[str, list[Action]]):
    """Gives each list of actions once."""

    def get(self, name: str, default: Any = None) -> Any:
        """Take it out."""
        return self.pop(name, default)


async def flood_at(stage: Stage, name: str) -> None:
    """Publish more than may be held, once, at this checkpoint."""
    whole: Callable[..., Any] | None = stage.tools.checkpoint
    assert whole is not None
    data = b":1" + b" " * (HELD_LIMIT // 3)
    options = PublishOptions(history_size=100, history_ttl=60.0, history_meta_ttl=60.0)
    flooded: list[str] = []

    async def checkpoint(step: str, channel: Channel) -> None:
        if step == name and not flooded:
            flooded.append(step)
            for _ in range(4):
                await answer(stage.engine.broker.publish, channel, data, options)

    stage.tools.checkpoint = checkpoint


async def assert_nothing_left(stage: Stage, racer: Racer) -> None:
    """Fail if anybody still knows of the joiner."""
    await stage.turns()
    assert {} == racer.seats
    assert {} == stage.world.hub.interests
    broker: Any = stage.engine.broker
    assert {} == dict(broker._refs)
    presence: Any = stage.engine.presence
    assert {} == await answer(presence.members, stage.channel)


async def test_joins_go_straight_through_without_checkpoints_and_may_be_left_twice(stage: Stage) -> None:
    """In production nobody waits between the steps; leaving what was left does nothing."""
    await stage.publish(5)
    stage.tools.checkpoint = None
    racer = await stage.joined(recent=2)
    assert [4, 5] == offsets(racer)
    leave(stage.channel, racer, stage.tools)
    leave(stage.channel, racer, stage.tools)
    await assert_nothing_left(stage, racer)
