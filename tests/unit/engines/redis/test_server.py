from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway.contracts.engine import EngineOptions
from gateway.engines.redis.address import Address
from gateway.engines.redis.library import Library
from gateway.engines.redis.link import Link
from gateway.engines.redis.packing import Args
from gateway.engines.redis.probe import OVERDUE
from gateway.engines.redis.server import PROBE_EVERY, ROLE_EVERY, STOOD_STILL, Server
from gateway.engines.redis.topology import TAGS, names
from gateway.engines.redis.wire import Wire
from gateway.errors import EngineFault
from gateway.types import NodeId
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder

PARTITIONS = [names("p", tag) for tag in TAGS[:3]]


class StandingLink:
    """A command link that works: keeps what is asked and when it was swept."""

    def __init__(self) -> None:
        self.up = self.answers = True
        self.asked: list[tuple[Args, Callable[[Any], None]]] = []
        self.swept: list[float] = []
        self.aborted: list[str] = []

    def call(self, args: Args, done: Callable[[Any], None]) -> None:
        """Keep it."""
        self.asked.append((args, done))

    def sweep(self, now: float) -> None:
        """Note it."""
        self.swept.append(now)

    def abort(self, reason: str) -> None:
        """Note it."""
        self.aborted.append(reason)

    def salts(self) -> list[Any]:
        """Return the keys of the salts that were asked for, and forget what was asked."""
        asked, self.asked = self.asked, []
        return [args[3] for args, _ in asked if args[0] == "EVALSHA"]


class ScriptedWire:
    """A new connection; `salts` says how the server answers for each salt."""

    def __init__(self, salts: dict[str, object]) -> None:
        self.salts = salts

    async def ask(self, *args: Any) -> Any:
        """Answer."""
        if args[:2] == ("SCRIPT", "LOAD"):
            return hashlib.sha1(args[2].encode(), usedforsecurity=False).hexdigest().encode()
        if args[0] == "INFO":
            return b"# Server\r\nrun_id:abc\r\n"
        reply = self.salts.get(args[3], 0)
        if isinstance(reply, EngineFault):
            raise reply
        return reply


class Trial:
    """A server whose command link is scripted."""

    def __init__(self, clock: ManualClock, recorder: MemoryRecorder) -> None:
        async def locate() -> Address:
            return Address("h", 1)

        options = EngineOptions(node=NodeId("n"), recorder=recorder)
        self.clock = clock
        self.link = StandingLink()
        self.server = Server("h:1", locate, library=Library(), clock=clock, options=options)
        self.server.commands = cast("Link", self.link)
        self.server.hosted = lambda: PARTITIONS

    def sweep(self, seconds: float) -> None:
        """Let time pass, and sweep."""
        self.clock.advance(seconds)
        self.server.sweep(self.clock.monotonic())

    async def connect(self, **salts: object) -> None:
        """Prepare a connection on which the server answers so; `a`, `b`, `c` stand for the partitions."""
        by_key = {PARTITIONS["abc".index(name)].salt: reply for name, reply in salts.items()}
        await self.server._prepare_commands(cast("Wire", ScriptedWire(by_key)))


@pytest.fixture(name="trial")
async def _trial(clock: ManualClock, recorder: MemoryRecorder) -> Trial:
    return Trial(clock, recorder)


async def test_after_a_stall_of_our_own_one_sweep_is_left_out(trial: Trial) -> None:
    """What came in meanwhile is read before anybody is called late; a loop that is always late sweeps all the same."""
    trial.sweep(STOOD_STILL)
    assert 1 == len(trial.link.swept)
    trial.sweep(4.0)
    assert 1 == len(trial.link.swept)
    trial.sweep(4.0)
    assert 2 == len(trial.link.swept)
    trial.sweep(0.25)
    assert 3 == len(trial.link.swept)


async def test_a_probe_goes_with_the_link_that_it_was_to_come_by(trial: Trial, recorder: MemoryRecorder) -> None:
    """It was answered, and the pub/sub link went before it came in: nobody waits for it or blames the next link."""
    pubsub = trial.server.pubsub
    trial.server.pubsub = cast("Link", StandingLink())
    trial.sweep(PROBE_EVERY / 2)
    trial.sweep(PROBE_EVERY / 2)
    for args, done in trial.link.asked:
        done(0 if args[0] == "EVALSHA" else [b"master"])
    pubsub.went_down("cut")
    for _ in range(int(OVERDUE / STOOD_STILL) + 4):
        trial.sweep(STOOD_STILL)
    assert 0 == recorder.counts["redis_pubsub_probe_timeouts", ""]


async def test_a_change_of_servers_is_counted_once(trial: Trial, recorder: MemoryRecorder) -> None:
    """However many of its partitions another server wrote to."""
    await trial.connect()
    assert 0 == recorder.counts["redis_epochs_begun", ""]
    await trial.connect(a=1, b=1)
    assert 1 == recorder.counts["redis_epochs_begun", ""]


@pytest.mark.parametrize(
    "fault",
    [EngineFault("refused"), EngineFault("readonly", "READONLY a replica"), EngineFault("oom"), EngineFault("lost")],
    ids=lambda fault: fault.kind,
)
async def test_a_salt_that_cannot_be_checked_refuses_the_link(trial: Trial, fault: EngineFault) -> None:
    """Commands of that partition could use offsets again."""
    with pytest.raises(EngineFault, match=fault.kind):
        await trial.connect(b=fault)


@pytest.mark.parametrize("why", ["NOREPLICAS Not enough good replicas", "MISCONF unable to persist to disk"])
async def test_a_server_without_writes_is_gone_on_with_but_for_its_streams(trial: Trial, why: str) -> None:
    """Those of the partition in question wait, also while its salt is asked for again, until that has been answered."""
    await trial.connect(b=EngineFault("readonly", why))
    assert [PARTITIONS[1]] == trial.server.unsalted
    for reply in (EngineFault("readonly", why), 1):
        trial.sweep(PROBE_EVERY / 2)
        trial.sweep(PROBE_EVERY / 2)
        assert [PARTITIONS[1]] == trial.server.unsalted
        [done] = [done for args, done in trial.link.asked if PARTITIONS[1].salt in args]
        trial.link.asked.clear()
        done(reply)
    assert not trial.server.unsalted


async def test_a_slot_on_its_way_is_checked_when_it_is_there(trial: Trial, recorder: MemoryRecorder) -> None:
    """The other partitions need not wait; it is asked for with each probe until it answers or lies elsewhere."""
    await trial.connect(b=EngineFault("moved", "ASK"), c=EngineFault("moved", "MOVED"))
    trial.sweep(PROBE_EVERY / 2)
    for args, done in trial.link.asked:
        done(EngineFault("moved") if PARTITIONS[0].salt not in args else 0)
    assert [it.salt for it in PARTITIONS] == trial.link.salts()
    trial.server.hosted = lambda: PARTITIONS[:2]
    trial.sweep(PROBE_EVERY / 2)
    trial.sweep(PROBE_EVERY / 2)
    for args, done in trial.link.asked:
        done(EngineFault("timeout") if PARTITIONS[2].salt in args else 1)
    assert [it.salt for it in PARTITIONS] == trial.link.salts()
    assert 1 <= recorder.counts["redis_epochs_begun", ""]
    trial.sweep(PROBE_EVERY / 2)
    trial.sweep(PROBE_EVERY / 2)
    assert [PARTITIONS[0].salt] == trial.link.salts()


async def test_what_is_handed_over_is_checked_before_anything_else(trial: Trial, recorder: MemoryRecorder) -> None:
    """Over a link that stands, at once: the server that lived is named, so that streams go on; one on its way waits."""
    before = Trial(trial.clock, recorder)
    await before.connect()
    trial.server.host(PARTITIONS[:1], before.server)
    trial.server.host(PARTITIONS[1:2], None)
    origins = [args[-1] for args, _ in trial.link.asked]
    assert ["abc", ""] == origins
    for _, done in trial.link.asked:
        done(EngineFault("moved", "ASK"))
    assert [it.salt for it in PARTITIONS[:2]] == trial.link.salts()
    trial.sweep(PROBE_EVERY / 2)
    assert [PARTITIONS[0].salt, *(it.salt for it in PARTITIONS[:2])] == trial.link.salts()


async def test_what_is_handed_over_to_a_link_that_is_down_waits_for_it(trial: Trial) -> None:
    """It is checked with all the rest when the link is built."""
    trial.link.up = False
    trial.server.host(PARTITIONS[:1], None)
    assert [] == trial.link.asked


async def test_a_server_that_holds_nothing_is_not_probed(trial: Trial) -> None:
    """There is no name that would lie there; its role is asked for all the same."""
    trial.server.hosted = list
    trial.sweep(0.25)
    assert ["ROLE"] == [args[0] for args, _ in trial.link.asked]


async def test_a_silent_server_is_asked_nothing(trial: Trial) -> None:
    """As long as a command is unanswered, others would only wait behind it."""
    trial.link.answers = False
    trial.sweep(0.25)
    assert [] == trial.link.asked


@pytest.mark.parametrize(
    ("reply", "aborted"), [([b"master", 0, []], 0), ([b"slave", b"h", 1, b"connected", 0], 1), (EngineFault("busy"), 0)]
)
async def test_the_role_is_asked_for_now_and_then(trial: Trial, reply: object, aborted: int) -> None:
    """A replica is left; an answer that is none changes nothing."""
    trial.server.hosted = list
    for _ in range(2):
        trial.sweep(0.25)
    ((_, done),) = trial.link.asked
    done(reply)
    assert aborted == len(trial.link.aborted)
    trial.clock.advance(ROLE_EVERY)
    trial.sweep(0.25)
    trial.sweep(0.25)
    assert 2 == len(trial.link.asked)
