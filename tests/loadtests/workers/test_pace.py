"""When things are due."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from loadtests.scenarios.contract import Phase
from loadtests.workers import pace
from loadtests.workers.alarm import Alarm
from loadtests.workers.messages import Timing
from loadtests.workers.meters import now
from loadtests.workers.pace import Timetable

MS = 1000  # µs


@pytest.fixture(name="alarm")
async def _alarm() -> AsyncIterator[Alarm]:
    alarm = Alarm()
    yield alarm
    alarm.close()


@pytest.fixture(name="table")
async def _table(alarm: Alarm) -> Timetable:
    return Timetable(alarm)


def timing(*, measure: int = 0, settle: int = 60_000) -> Timing:
    """Return times that begin now; ms."""
    begin = now()
    return Timing(warm_up=begin, measure=begin + measure * MS, settle=begin + settle * MS)


async def test_sleepers_wake_in_their_order_and_not_too_early(alarm: Alarm) -> None:
    """Whoever sleeps first: the alarm is set anew for one who has to be up earlier."""
    begin, woken = now(), list[int]()

    async def sleep(wait: int) -> None:
        await alarm.until(begin + wait * MS)
        assert now() >= begin + wait * MS
        woken.append(wait)

    await asyncio.gather(*(sleep(it) for it in (8, 3, 12, 3, 0)))
    assert [0, 3, 3, 8, 12] == woken


async def test_a_ring_wakes_everybody(alarm: Alarm) -> None:
    """Also beside one who gave up."""
    sleepers = [asyncio.create_task(alarm.until(now() + 3_600_000 * MS)) for _ in range(3)]
    await asyncio.sleep(0)
    sleepers[0].cancel()
    await asyncio.sleep(0)
    alarm.ring()
    await asyncio.wait_for(asyncio.gather(*sleepers[1:]), 10)


async def test_where_no_such_clock_is_it_wakes_to_the_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another system."""
    monkeypatch.setattr("sys.platform", "darwin")
    alarm, begin = Alarm(), now()
    await alarm.until(begin + 5 * MS)
    assert now() >= begin + 3 * MS  # the loop rounds to whole ones, its clock and its timers
    alarm.close()


@pytest.mark.parametrize(
    ("moment", "phase"),
    [(99, "ramp"), (100, "warm-up"), (199, "warm-up"), (200, "measure"), (299, "measure"), (300, "settle")],
)
async def test_a_moment_belongs_to_one_phase(
    table: Timetable, monkeypatch: pytest.MonkeyPatch, moment: int, phase: Phase
) -> None:
    """Each begins with its first microsecond; a run that ends in its warm-up never measures."""
    monkeypatch.setattr(pace, "now", lambda: moment)
    assert table.phase == "ramp"
    table.tell(Timing(warm_up=100, measure=200, settle=300))
    assert phase == table.phase
    table.tell(Timing(warm_up=100, measure=200, settle=150))
    assert table.phase == ("settle" if moment >= 150 else phase)


async def test_phases_are_waited_for(table: Timetable) -> None:
    """Until the parent has told them, nothing begins; waiting for one that has passed takes no time."""
    waiting = asyncio.create_task(table.until("warm-up"))
    await asyncio.sleep(0)
    assert not waiting.done()
    table.tell(timing(measure=10, settle=30))
    await waiting
    for phase in pace.ORDER:
        await table.until(phase)
        assert pace.ORDER.index(table.phase) >= pace.ORDER.index(phase)
    await table.until("measure")


async def test_an_early_end_is_heard_by_who_sleeps(table: Timetable) -> None:
    """Whoever waits for a moment of the measure phase, or for the next event, hears that it is over."""
    table.tell(timing())
    waiting = [asyncio.create_task(it) for it in (table.at(50.0), table.until("settle"), _count(table, 0.1))]
    await table.at(0.0)
    assert not any(it.done() for it in waiting)
    table.tell(timing(measure=3000, settle=0))
    await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert table.phase == "settle"


async def test_a_schedule_has_all_its_events_at_their_times(table: Timetable, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the rate says, evenly, and none before it is due."""
    monkeypatch.setattr(pace, "GRACE", 3_600_000 * MS)
    table.tell(told := timing(settle=100))
    dues = []
    async for due in table.pace(1000.0, 0.5):
        assert now() >= due
        dues.append(due)
    assert dues == list(range(dues[0], told.settle, MS))
    assert dues[0] >= told.warm_up + MS // 2


async def test_who_comes_late_finds_everything_that_was_due(table: Timetable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stall moves nothing: what was due in it keeps its time."""
    monkeypatch.setattr(pace, "GRACE", 3_600_000 * MS)
    table.tell(told := timing(settle=200))
    dues: list[int] = []
    async for due in table.pace(1000.0, 0.0):
        if len(dues) == 10:
            spin(due + 60 * MS)
        dues.append(due)
    assert dues == list(range(dues[0], told.settle, MS))


async def test_what_is_hopelessly_late_is_counted(table: Timetable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends, even if its generator would need an hour more."""
    monkeypatch.setattr(pace, "GRACE", 0)
    table.tell(timing())
    end = 0
    dues: list[int] = []
    async for due in table.pace(100_000.0, 0.0):
        dues.append(due)
        if len(dues) == 1:
            spin(due + 20 * MS)
            end = now()
            table.tell(Timing(warm_up=0, measure=0, settle=end))
            spin(end)
    assert (1, len(range(dues[0] + 10, end, 10))) == (len(dues), table.behind)


def spin(until: int) -> None:
    """Keep the loop busy, as a collection of garbage does."""
    while now() <= until:
        pass


async def _count(table: Timetable, rate: float) -> None:
    async for _ in table.pace(rate, 0.5):
        pass
