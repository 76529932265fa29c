from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway.engines.redis.packing import Args
from gateway.engines.redis.partition import Partition
from gateway.engines.redis.reaper import Reaper
from gateway.engines.redis.topology import TAGS, names
from gateway.errors import EngineFault
from tests.support.recorder import MemoryRecorder


class Calls:
    """A partition that keeps what is asked; the test answers."""

    def __init__(self) -> None:
        self.names = names("test", TAGS[0])
        self.asked: list[tuple[str, Args, Callable[[Any], None]]] = []

    def run(self, script: str, keys: tuple[str, ...], args: Args, done: Callable[[Any], None]) -> None:
        """Keep it."""
        assert script == "reap"
        incarnation = args[0]
        assert isinstance(incarnation, str)
        assert keys == (self.names.nodes, self.names.owned + incarnation)
        self.asked.append((incarnation, args, done))

    def answer(self, reply: object) -> None:
        """Answer the oldest question."""
        self.asked.pop(0)[2](reply)

    @property
    def reaped(self) -> list[str]:
        """Return whose reaping is under way."""
        return [name for name, _, _ in self.asked]


@pytest.fixture(name="calls")
def _calls() -> Calls:
    return Calls()


@pytest.fixture(name="reaper")
def _reaper(calls: Calls, recorder: MemoryRecorder) -> Reaper:
    return Reaper(cast("Partition", calls), patience=3.0, recorder=recorder)


def test_only_who_stays_overdue_is_reaped(reaper: Reaper, calls: Calls) -> None:
    """Seen twice, three seconds apart, and each time between; who renewed meanwhile begins anew."""
    reaper.saw([b"dead", b"late"], 100.0)
    reaper.saw([b"dead"], 102.0)
    assert not reaper.impatient(102.0, 102.9)
    assert reaper.impatient(102.0, 103.0)
    assert not reaper.impatient(103.0, 104.0)
    reaper.saw([b"dead", b"late"], 102.9)
    assert [] == calls.reaped
    reaper.saw([b"dead", b"late"], 103.0)
    assert ["dead"] == calls.reaped
    reaper.saw([b"late"], 105.8)
    assert ["dead"] == calls.reaped
    reaper.saw([b"late"], 105.9)
    assert ["dead", "late"] == calls.reaped


def test_after_a_break_nobody_is_dead_yet(reaper: Reaper, calls: Calls) -> None:
    """When Redis did not answer for so long that the living could not renew, what was seen before does not count."""
    reaper.saw([b"dead"], 100.0)
    reaper.saw([b"dead", b"living"], 103.0)
    assert [] == calls.reaped
    reaper.saw([b"dead"], 105.0)
    reaper.saw([b"dead"], 106.0)
    assert ["dead"] == calls.reaped


def test_chunks_follow_each_other_until_nothing_is_left(reaper: Reaper, calls: Calls, recorder: MemoryRecorder) -> None:
    """One call at a time for an incarnation, however often it is seen; each counts what it took out."""
    reaper.saw([b"dead"], 100.0)
    for now in (102.0, 103.0, 104.0):
        reaper.saw([b"dead"], now)
    for reply in ([1, 64], [1, 50], [0, 7]):
        assert ["dead"] == calls.reaped
        calls.answer(reply)
    assert [] == calls.reaped
    assert 121 == recorder.counts["presence_expired", ""]


def test_who_lives_again_is_left_alone(reaper: Reaper, calls: Calls) -> None:
    """When the lease stands again the reaping ends, and a later one needs to see it overdue twice again."""
    reaper.saw([b"slow"], 100.0)
    reaper.saw([b"slow"], 102.0)
    reaper.saw([b"slow"], 103.0)
    calls.answer([-1, 0])
    reaper.saw([b"slow"], 104.0)
    assert [] == calls.reaped
    reaper.saw([b"slow"], 106.0)
    reaper.saw([b"slow"], 107.0)
    assert ["slow"] == calls.reaped


def test_a_call_that_failed_is_made_again(reaper: Reaper, calls: Calls, recorder: MemoryRecorder) -> None:
    """The next look finds the incarnation still there."""
    for now in (100.0, 102.0, 103.0):
        reaper.saw([b"dead"], now)
    calls.answer(EngineFault("timeout", "late"))
    assert [] == calls.reaped
    reaper.saw([b"dead"], 105.0)
    assert ["dead"] == calls.reaped
    assert 0 == recorder.counts["presence_expired", ""]


def test_an_own_incarnation_is_reaped_at_once_and_not_counted(
    reaper: Reaper, calls: Calls, recorder: MemoryRecorder
) -> None:
    """Its lease need not have run out, and nobody has expired; the caller hears when it is done."""
    told: list[str] = []
    for _ in range(2):
        reaper.reap("mine.1", own=True, finished=lambda: told.append("finished"))
    assert ["mine.1"] == calls.reaped
    assert 1 == calls.asked[0][1][-1]
    calls.answer([1, 64])
    assert [] == told
    calls.answer([0, 1])
    assert ["finished"] == told
    assert 0 == recorder.counts["presence_expired", ""]
