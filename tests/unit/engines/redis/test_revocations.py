"""How the set of a server and what a node holds become one, whatever fails on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec
import pytest

from gateway.engines.redis.partition import Partition
from gateway.engines.redis.revocations import BATCH, Revocations
from gateway.engines.redis.topology import TAGS, names
from gateway.errors import EngineFault
from gateway.protocol.messages import Revoke
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder

END = b"0"


class ScriptedPartition:
    """Keeps what is asked; the test answers, one by one."""

    def __init__(self) -> None:
        self.names = names("p", TAGS[0])
        self.commands = self
        self.asked: list[tuple[str, tuple[Any, ...], Callable[[Any], None]]] = []

    def run(self, script: str, _keys: tuple[str, ...], args: tuple[Any, ...], done: Callable[[Any], None]) -> None:
        """Keep a script: a write, or a purge if there is nothing to write."""
        assert script == "revoke"
        self.asked.append(("write" if args[2:] else "purge", args[2:], done))

    def call(self, args: tuple[Any, ...], done: Callable[[Any], None]) -> None:
        """Keep a command: the next page."""
        assert "ZSCAN" == args[0]
        self.asked.append(("scan", args[2:3], done))

    def answer(self, kind: str, reply: Any) -> tuple[Any, ...]:
        """Answer the only question; return what it was about."""
        [(asked, args, done)], self.asked = self.asked, []
        assert kind == asked
        done(reply)
        return args

    def page(self, revocations: Iterable[Revoke], cursor: bytes = END) -> None:
        """Answer with a page."""
        self.answer("scan", [cursor, [it for one in revocations for it in (as_stored(one), b"1")]])


class Set:
    """The subject and all around it."""

    def __init__(self, clock: ManualClock) -> None:
        self.server = ScriptedPartition()
        self.told: list[str] = []
        self.wrote = 0
        self.revocations = Revocations(
            cast("Partition", self.server),
            carry_out=lambda it: self.told.append(it.session_id),
            wall=clock.wall,
            recorder=MemoryRecorder(),
        )
        self.revocations.wrote = self._note

    def _note(self) -> None:
        self.wrote += 1

    def read(self, *revocations: Revoke) -> None:
        """Read the set, in one page."""
        self.revocations.doubt()
        self.revocations.catch_up()
        self.server.answer("purge", 0)
        self.server.page(revocations)

    def hold(self, *revocations: Revoke) -> None:
        """Have learnt these from commands."""
        for one in revocations:
            assert self.revocations.learn(one, as_stored(one))


def revoke(number: int, until: float = 1_900_000_000.0) -> Revoke:
    """Return a revocation."""
    return Revoke(id=f"i{number}", until=until, session_id=f"s{number}")


def as_stored(one: Revoke) -> bytes:
    """Return what stands in the set."""
    return msgspec.json.encode(one)


@pytest.fixture(name="subject")
async def _subject(clock: ManualClock) -> Set:
    return Set(clock)


async def test_the_first_read_makes_a_node_ready(subject: Set) -> None:
    """Page by page; what was read does not have to be read again."""
    assert not subject.revocations.started
    subject.revocations.catch_up()
    subject.revocations.catch_up()
    subject.server.answer("purge", 0)
    subject.server.page([revoke(1), revoke(2)], cursor=b"17")
    assert not subject.revocations.started
    assert (b"17",) == subject.server.asked[0][1]
    subject.server.page([revoke(2), revoke(3)])
    assert ["s1", "s2", "s3"] == subject.told
    assert subject.revocations.started
    assert subject.revocations.caught_up.is_set()
    subject.revocations.catch_up()
    assert [] == subject.server.asked
    assert 0 == subject.wrote


@pytest.mark.parametrize("fails", ["purge", "scan"])
async def test_a_read_that_fails_is_tried_again(subject: Set, fails: str) -> None:
    """From the beginning, by whoever calls next; until then the node is not caught up."""
    subject.revocations.catch_up()
    if fails == "scan":
        subject.server.answer("purge", 0)
        subject.server.page([revoke(1)], cursor=b"5")
    subject.server.answer(fails, EngineFault("lost"))
    assert [] == subject.server.asked
    assert not subject.revocations.caught_up.is_set()
    subject.revocations.catch_up()
    subject.server.answer("purge", 0)
    assert (b"0",) == subject.server.asked[0][1]
    subject.server.page([revoke(1), revoke(2)])
    assert ["s1", "s2"] == subject.told
    assert subject.revocations.caught_up.is_set()


async def test_doubt_during_a_read_asks_for_another(subject: Set) -> None:
    """What was read may be older than the doubt."""
    subject.revocations.catch_up()
    subject.server.answer("purge", 0)
    subject.revocations.doubt()
    subject.server.page([])
    assert not subject.revocations.caught_up.is_set()
    subject.server.answer("purge", 0)
    subject.server.page([revoke(1)])
    assert ["s1"] == subject.told
    assert subject.revocations.caught_up.is_set()


async def test_what_the_server_lacks_is_given_back_in_batches(subject: Set) -> None:
    """All of it and nothing else; the others hear of it once, when it is done."""
    subject.hold(*(revoke(n) for n in range(BATCH + 10)))
    subject.read(revoke(3))
    first = subject.server.answer("write", BATCH)
    assert 0 == subject.wrote
    second = subject.server.answer("write", 9)
    assert 1 == subject.wrote
    assert {as_stored(revoke(n)) for n in range(BATCH + 10) if n != 3} == {*first[1::2], *second[1::2]}
    assert "1900000000.0" == first[0]
    assert [] == subject.server.asked


async def test_what_others_gave_back_before_is_no_news(subject: Set) -> None:
    """The second of two nodes adds nothing, and calls nobody."""
    subject.hold(revoke(1))
    subject.read()
    subject.server.answer("write", 0)
    assert 0 == subject.wrote


@pytest.mark.parametrize("unknown", ["timeout", "lost"])
async def test_what_could_not_be_given_back_is_tried_again(subject: Set, unknown: str) -> None:
    """Without another read; if nobody knows whether it was stored, the others read once too often."""
    subject.hold(revoke(1))
    subject.read()
    subject.server.answer("write", EngineFault("oom"))
    assert [] == subject.server.asked
    subject.revocations.catch_up()
    subject.server.answer("write", EngineFault(unknown))
    subject.revocations.catch_up()
    assert as_stored(revoke(1)) == subject.server.answer("write", 0)[1]
    assert 1 == subject.wrote
    subject.revocations.catch_up()
    assert [] == subject.server.asked


async def test_doubt_while_giving_back_asks_for_another_read(subject: Set) -> None:
    """The server may have been restarted once more."""
    subject.hold(revoke(1))
    subject.read()
    subject.revocations.doubt()
    subject.server.answer("write", 1)
    subject.server.answer("purge", 0)
    subject.server.page([revoke(1)])
    assert subject.revocations.caught_up.is_set()
    assert 1 == subject.wrote


async def test_what_has_ended_is_neither_held_nor_given_back(subject: Set, clock: ManualClock) -> None:
    """Nor told, if the server still has it."""
    soon, later = revoke(1, until=clock.wall() + 10), revoke(2, until=clock.wall() + 20)
    subject.hold(soon, later)
    clock.advance(10)
    subject.read()
    assert (repr(later.until), as_stored(later)) == subject.server.answer("write", 1)
    subject.read(later, revoke(3, until=clock.wall()))
    assert [] == subject.told
    assert [] == subject.server.asked
    clock.advance(10)
    subject.revocations.expire()
    assert {} == subject.revocations._held
    assert [] == subject.revocations._ends


async def test_what_ends_before_it_is_given_back_is_left_out(subject: Set, clock: ManualClock) -> None:
    """There may be a pause between two tries."""
    subject.hold(revoke(1, until=clock.wall() + 10))
    subject.read()
    subject.server.answer("write", EngineFault("oom"))
    clock.advance(10)
    subject.revocations.expire()
    subject.revocations.catch_up()
    assert [] == subject.server.asked
