from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.engines.redis.broker import RedisBroker
from gateway.engines.redis.commands import QUIET, REMEMBERED, Commands
from gateway.engines.redis.history import RedisHistory
from gateway.engines.redis.revocations import Revocations, Rewritten
from gateway.errors import EngineFault
from gateway.protocol.messages import DisconnectClients, Revoke
from gateway.protocol.values import HistoryPage, HistoryQuery
from gateway.types import Channel, Position, Publication
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder


class ScriptedHistory:
    """Keeps what is asked; the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[HistoryQuery, Callable[[Any], None]]] = []

    def read(self, _channel: Channel, query: HistoryQuery, done: Callable[[Any], None]) -> None:
        """Keep it."""
        self.asked.append((query, done))

    def answer(self, top: Position, *offsets: int) -> None:
        """Answer the last question with commands at these offsets."""
        self.asked[-1][1](HistoryPage([stored(offset, top.epoch) for offset in offsets], top))


class CountedRevocations:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.doubts = self.reads = 0
        self.learnt: list[bytes] = []
        self.wrote: Callable[[], None]

    def doubt(self) -> None:
        """Count it."""
        self.doubts += 1

    def catch_up(self) -> None:
        """Count it."""
        self.reads += 1

    def learn(self, revocation: Revoke, stored: bytes) -> bool:
        """Know all that end in a zero."""
        self.learnt.append(stored)
        return not revocation.session_id.endswith("0")


class Bus:
    """The commands under test and all around them."""

    def __init__(self, clock: ManualClock, recorder: MemoryRecorder) -> None:
        self.history = ScriptedHistory()
        self.revocations = CountedRevocations()
        self.done: list[str] = []
        self.commands = Commands(
            cast("RedisBroker", None),
            cast("RedisHistory", self.history),
            cast("Revocations", self.revocations),
            carry_out=lambda command: self.done.append(command.id),
            clock=clock.monotonic,
            recorder=recorder,
        )

    def at(self, offset: int) -> None:
        """Find the place in the stream."""
        self.commands.fall_behind()
        self.commands.catch_up()
        self.history.answer(Position(offset, "e"))


def stored(offset: int, epoch: str = "e", identity: str = "") -> Publication:
    """Return a command at a place."""
    command = DisconnectClients(id=identity or f"{epoch}{offset}")
    return Publication(msgspec.json.encode(command), offset, epoch)


@pytest.fixture(name="bus")
async def _bus(clock: ManualClock, recorder: MemoryRecorder) -> Bus:
    return Bus(clock, recorder)


async def test_the_start_reads_only_where_the_stream_stands(bus: Bus) -> None:
    """Old commands are not for a new node; those that arrive while it asks are."""
    bus.commands.fall_behind()
    bus.commands.catch_up()
    bus.commands.arrived(stored(6))
    assert (0, None) == (bus.history.asked[0][0].limit, bus.history.asked[0][0].since)
    assert not bus.commands.started
    bus.history.answer(Position(5, "e"))
    assert bus.commands.started
    assert ["e6"] == bus.done


async def test_commands_that_follow_each_other_need_no_read(bus: Bus) -> None:
    """Each is carried out as it comes, one that comes again is not."""
    bus.at(5)
    for offset in (6, 7, 7, 6, 8):
        bus.commands.arrived(stored(offset))
    assert ["e6", "e7", "e8"] == bus.done
    assert 1 == len(bus.history.asked)


async def test_a_gap_is_read(bus: Bus) -> None:
    """What a gap hides is read from the last position on, and carried out once."""
    bus.at(5)
    bus.commands.arrived(stored(8))
    assert Position(5, "e") == bus.history.asked[-1][0].since
    assert not bus.commands.caught_up.is_set()
    bus.history.answer(Position(8, "e"), 6, 7, 8)
    assert ["e8", "e6", "e7"] == bus.done
    assert bus.commands.caught_up.is_set()


async def test_a_loss_during_a_read_asks_for_another(bus: Bus) -> None:
    """A read sent before the link was rebuilt does not settle what was missed since."""
    bus.at(5)
    bus.commands.fall_behind()
    bus.commands.catch_up()
    bus.commands.fall_behind()
    bus.commands.catch_up()
    assert 2 == len(bus.history.asked)
    bus.history.answer(Position(6, "e"), 6)
    assert 3 == len(bus.history.asked)
    assert not bus.commands.caught_up.is_set()
    bus.history.answer(Position(7, "e"), 7)
    assert bus.commands.caught_up.is_set()
    assert ["e6", "e7"] == bus.done


async def test_a_failed_read_is_tried_again(bus: Bus) -> None:
    """A fault leaves the node behind until somebody asks again; caught up, asking is free."""
    bus.commands.fall_behind()
    bus.commands.catch_up()
    bus.history.asked[-1][1](EngineFault("timeout"))
    assert not bus.commands.started
    bus.commands.catch_up()
    bus.history.answer(Position(5, "e"))
    bus.commands.catch_up()
    assert 2 == len(bus.history.asked)


async def test_a_new_stream_is_read_whole(bus: Bus) -> None:
    """Another epoch means that all of it came after us."""
    bus.at(5)
    bus.commands.arrived(stored(2, "f"))
    bus.history.answer(Position(2, "f"))
    assert Position(0, "f") == bus.history.asked[-1][0].since
    bus.history.answer(Position(2, "f"), 1, 2)
    assert ["f2", "f1"] == bus.done
    bus.commands.arrived(stored(3, "f"))
    assert ["f2", "f1", "f3"] == bus.done


async def test_commands_that_are_lost_are_logged(bus: Bus) -> None:
    """When the stream no longer holds what was missed, the operator is told how many."""
    bus.at(5)
    bus.commands.arrived(stored(10))
    with capture_logs() as logs:
        bus.history.answer(Position(10, "e"), 9, 10)
    assert [("redis.commands_lost", 3)] == [(entry["event"], entry["missed"]) for entry in logs]


async def test_what_is_remembered_is_bounded(bus: Bus) -> None:
    """The oldest id is forgotten first."""
    bus.at(0)
    for offset in range(1, REMEMBERED + 2):
        bus.commands.arrived(stored(offset))
    assert REMEMBERED == len(bus.commands._seen)
    bus.commands.arrived(stored(2, identity="e2"))
    assert REMEMBERED + 1 == len(bus.done)
    bus.commands.arrived(stored(1, identity="e1"))
    assert REMEMBERED + 2 == len(bus.done)


async def test_a_silence_that_lasts_is_checked(bus: Bus, clock: ManualClock) -> None:
    """A command whose message got lost, with none after it, is found in the stream; a word in time spares the read."""
    bus.at(5)
    clock.advance(QUIET - 1)
    bus.commands.arrived(stored(6))
    clock.advance(QUIET - 1)
    bus.commands.check()
    bus.commands.catch_up()
    assert 1 == len(bus.history.asked)
    clock.advance(1)
    bus.commands.check()
    bus.commands.catch_up()
    bus.history.answer(Position(7, "e"), 7)
    assert ["e6", "e7"] == bus.done
    clock.advance(QUIET - 1)
    bus.commands.check()
    bus.commands.catch_up()
    assert 2 == len(bus.history.asked)


async def test_a_silent_node_that_has_not_started_asks_for_the_top_only(bus: Bus, clock: ManualClock) -> None:
    """Before this node knows its place there is nothing to check."""
    bus.commands.fall_behind()
    bus.commands.catch_up()
    clock.advance(10 * QUIET)
    bus.commands.check()
    bus.history.answer(Position(5, "e"))
    assert bus.commands.caught_up.is_set()


# --- revocations


async def test_a_revocation_that_is_known_is_not_carried_out_again(bus: Bus) -> None:
    """The set may have told it before; it is looked up as it was stored, whatever fields a newer release adds."""
    bus.at(5)
    as_stored = [msgspec.json.encode(Revoke(id=it, until=1.0, session_id=it)) for it in ("s1", "s0", "s2")]
    for offset, one in enumerate(as_stored, start=6):
        bus.commands.arrived(Publication(one, offset, "e"))
    assert ["s1", "s2"] == bus.done
    assert as_stored == bus.revocations.learnt


async def test_the_set_is_read_when_no_command_can_be_missed_any_more(bus: Bus) -> None:
    """A read before the place in the stream is known could miss what was revoked between the two."""
    bus.commands.fall_behind()
    bus.commands.catch_up()
    assert 0 == bus.revocations.reads
    bus.history.answer(Position(5, "e"))
    assert 1 == bus.revocations.reads
    bus.commands.catch_up()
    assert 2 == bus.revocations.reads, "what failed is tried again; what is done costs nothing"


async def test_a_new_stream_or_a_loss_casts_doubt_on_the_set(bus: Bus) -> None:
    """A server that lost its commands has lost the set, too; commands that are gone may have been revocations."""
    bus.at(5)
    assert 0 == bus.revocations.doubts
    bus.commands.arrived(stored(2, "f"))
    bus.history.answer(Position(2, "f"))
    assert 1 == bus.revocations.doubts
    bus.history.answer(Position(9, "f"), 8, 9)
    assert 2 == bus.revocations.doubts


async def test_the_set_is_read_again_when_somebody_has_mended_it(bus: Bus) -> None:
    """At once if this node stands in the stream, else as soon as it does."""
    bus.at(5)
    before = bus.revocations.reads
    bus.commands.arrived(Publication(msgspec.json.encode(Rewritten(id="r1")), 6, "e"))
    assert (1, before + 1) == (bus.revocations.doubts, bus.revocations.reads)
    bus.commands.fall_behind()
    bus.commands.arrived(Publication(msgspec.json.encode(Rewritten(id="r2")), 7, "e"))
    assert (2, before + 1) == (bus.revocations.doubts, bus.revocations.reads)
    assert [] == bus.done
