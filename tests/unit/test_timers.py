from __future__ import annotations

from math import inf

import pytest

from gateway.timers import SLOTS, TICK, TimerWheel


class Entry:
    """Looks due at one time, then says `again`."""

    def __init__(self, at: float = inf) -> None:
        self.timer_tick = 0
        self.at = at
        self.again = inf
        self.looks: list[float] = []

    def due(self, now: float) -> float:
        """Note the look; if it was time, go on to `again`."""
        self.looks.append(now)
        if now >= self.at:
            self.at = self.again
        return self.at


class Raising(Entry):
    """Its deadline cannot be kept."""

    def due(self, now: float) -> float:
        """Raise."""
        super().due(now)
        raise RuntimeError("broken deadline")


class Ending(Entry):
    """Has the other one forgotten."""

    def __init__(self, wheel: TimerWheel) -> None:
        super().__init__(1.0)
        self.wheel = wheel
        self.other: Entry = self

    def due(self, now: float) -> float:
        """Look, and end the other."""
        self.wheel.forget(self.other)
        return super().due(now)


def run(wheel: TimerWheel, until: float, start: float = 0.0) -> None:
    """Advance tick by tick."""
    for tick in range(round(start / TICK) + 1, round(until / TICK) + 1):
        wheel.advance(tick * TICK)


def test_an_entry_is_looked_at_once_its_time_has_come_and_no_later_than_a_tick_after() -> None:
    """Deadlines within the horizon cost one look each, never early."""
    wheel = TimerWheel(0.0)
    entries = [Entry(at / 100) for at in range(1, 2000, 7)]
    for entry in entries:
        wheel.schedule(entry.at, entry)
    for tick in range(1, 230):
        wheel.advance(tick * TICK)
    for entry, at in zip(entries, range(1, 2000, 7), strict=True):
        [look] = entry.looks
        assert at / 100 <= look < at / 100 + 2 * TICK
    assert 0 == len(wheel)


def test_never_is_not_scheduled() -> None:
    """An entry without deadline costs nothing."""
    wheel = TimerWheel(0.0)
    wheel.schedule(inf, Entry())
    assert 0 == len(wheel)


def test_a_far_deadline_is_asked_again_at_the_horizon() -> None:
    """A deadline beyond the wheel is looked at early, and kept all the same."""
    wheel = TimerWheel(0.0)
    entry = Entry(60.0)
    wheel.schedule(60.0, entry)
    run(wheel, 59.9)
    assert 2 == len(entry.looks)
    run(wheel, 60.2, start=59.9)
    assert 60.0 <= entry.looks[-1] < 60.2
    assert 0 == len(wheel)


def test_an_earlier_deadline_overtakes_and_leaves_no_second_entry() -> None:
    """Booking an earlier time moves the entry."""
    wheel = TimerWheel(0.0)
    entry = Entry(1.0)
    wheel.schedule(5.0, entry)
    wheel.schedule(1.0, entry)
    assert 1 == len(wheel)
    run(wheel, 10.0)
    assert 1 == len(entry.looks)
    assert 0 == len(wheel)


def test_what_is_forgotten_is_looked_at_no_more_and_let_go() -> None:
    """A connection that has ended is not kept until its deadline; whoever was never booked may be forgotten too."""
    wheel = TimerWheel(0.0)
    entry = Entry(1.0)
    wheel.forget(entry)
    wheel.schedule(1.0, entry)
    wheel.forget(entry)
    assert 0 == len(wheel)
    run(wheel, 2.0)
    assert [] == entry.looks
    wheel.schedule(3.0, entry)
    run(wheel, 3.2, start=2.0)
    assert 1 == len(entry.looks)


def test_what_is_forgotten_by_its_neighbour_in_the_same_tick_is_not_looked_at() -> None:
    """One entry's look may end another that is due at the same time."""
    wheel = TimerWheel(0.0)
    pair = [Ending(wheel), Ending(wheel)]
    for entry, other in zip(pair, reversed(pair), strict=True):
        entry.other = other
        wheel.schedule(1.0, entry)
    run(wheel, 2.0)
    assert 1 == sum(len(entry.looks) for entry in pair)


def test_a_later_deadline_adds_nothing() -> None:
    """An entry that is looked at earlier anyway says then when to look again."""
    wheel = TimerWheel(0.0)
    entry = Entry(1.0)
    wheel.schedule(1.0, entry)
    entry.at = 2.0
    wheel.schedule(2.0, entry)
    assert 1 == len(wheel)
    run(wheel, 3.0)
    assert 2 == len(entry.looks)
    assert entry.looks[-1] >= 2.0


def test_a_deadline_in_the_past_is_looked_at_on_the_next_tick() -> None:
    """What is overdue already waits for the next tick, not for a turn of the wheel."""
    wheel = TimerWheel(100.0)
    entry = Entry(3.0)
    wheel.schedule(3.0, entry)
    wheel.advance(100.0 + TICK * 1.01)
    assert 1 == len(entry.looks)


def test_an_entry_that_stays_due_is_looked_at_each_tick_and_no_more() -> None:
    """A `due` that answers with the past cannot hold the loop."""
    wheel = TimerWheel(0.0)
    entry = Entry(0.0)
    entry.again = 0.0
    wheel.schedule(0.0, entry)
    run(wheel, 1.0)
    assert 10 == len(entry.looks)


def test_a_pause_longer_than_the_wheel_looks_at_everything_once() -> None:
    """After the process stood still for minutes, every entry is looked at, in one go."""
    wheel = TimerWheel(0.0)
    entries = [Entry(slot * TICK) for slot in range(1, SLOTS - 1)]
    for entry in entries:
        wheel.schedule(entry.at, entry)
    wheel.advance(1000.0)
    assert [1] * len(entries) == [len(entry.looks) for entry in entries]
    late = Entry(1000.5)
    wheel.schedule(1000.5, late)
    run(wheel, 1000.7, start=1000.0)
    assert 1 == len(late.looks)


def test_advancing_to_the_same_time_does_nothing() -> None:
    """Neither a second call within a tick nor a clock that stands still turns the wheel."""
    wheel = TimerWheel(0.0)
    entry = Entry(TICK)
    wheel.schedule(TICK, entry)
    wheel.advance(0.0)
    wheel.advance(TICK * 0.99)
    assert [] == entry.looks
    wheel.advance(TICK * 1.01)
    wheel.advance(TICK * 1.01)
    assert 1 == len(entry.looks)


def test_a_raise_costs_only_its_own_entry_and_is_raised_last() -> None:
    """Everybody else is looked at; the first error is the one that is told."""
    wheel = TimerWheel(0.0)
    first, second, good = Raising(TICK), Raising(TICK), Entry(TICK)
    for entry in (first, second, good):
        wheel.schedule(TICK, entry)
    with pytest.raises(RuntimeError, match="broken deadline"):
        wheel.advance(2 * TICK)
    assert [1, 1, 1] == [len(entry.looks) for entry in (first, second, good)]
    assert 0 == len(wheel)
    wheel.schedule(1.0, first)
    assert 1 == len(wheel)


# --- some at a time


def test_some_are_looked_at_in_each_call_and_each_once() -> None:
    """A call looks at no more than it may; the rest waits for the next ones, of all ticks that are due."""
    wheel = TimerWheel(0.0)
    entries = [Entry(at) for at in (TICK, 2 * TICK, 50.0) for _ in range(5)]
    for entry in entries:
        wheel.schedule(entry.at, entry)
    calls = [wheel.advance(60.0, 4) for _ in range(4)]
    assert [True, True, True, False] == calls
    assert [[60.0]] * 15 == [entry.looks for entry in entries]
    assert 0 == len(wheel)


def test_a_call_that_looked_at_the_last_one_leaves_nothing() -> None:
    """The number that it may look at is enough: nobody is to call again."""
    wheel = TimerWheel(0.0)
    for entry in (Entry(), Entry()):
        wheel.schedule(TICK, entry)
    assert not wheel.advance(2 * TICK, 2)


def test_what_waits_for_the_next_call_can_be_forgotten() -> None:
    """It is let go at once, and may be booked anew."""
    wheel = TimerWheel(0.0)
    entries = [Entry() for _ in range(3)]
    for entry in entries:
        wheel.schedule(TICK, entry)
    assert wheel.advance(2 * TICK, 1)
    gone, back = [entry for entry in entries if not entry.looks]
    for entry in (gone, back):
        wheel.forget(entry)
    assert 0 == len(wheel)
    wheel.schedule(1.0, back)
    assert not wheel.advance(2 * TICK, 1)
    run(wheel, 2.0, start=2 * TICK)
    assert [0, 1, 1] == sorted(len(entry.looks) for entry in entries)
    assert [] == gone.looks


def test_what_waits_for_the_next_call_is_not_put_off_by_a_later_deadline() -> None:
    """Its time has come, whoever books it between."""
    wheel = TimerWheel(0.0)
    entries = [Entry() for _ in range(3)]
    for entry in entries:
        wheel.schedule(TICK, entry)
    assert wheel.advance(2 * TICK, 1)
    for entry in entries:
        if not entry.looks:
            wheel.schedule(10.0, entry)
    assert not wheel.advance(2 * TICK, 2)
    assert [1, 1, 1] == [len(entry.looks) for entry in entries]


def test_a_raise_leaves_the_rest_to_the_next_call() -> None:
    """Nobody loses a deadline to it, and each error is told."""
    wheel = TimerWheel(0.0)
    entries = [Raising(TICK), Raising(TICK), Raising(TICK)]
    for entry in entries:
        wheel.schedule(TICK, entry)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="broken deadline"):
            wheel.advance(2 * TICK, 1)
    assert not wheel.advance(2 * TICK, 1)
    assert [1, 1, 1] == [len(entry.looks) for entry in entries]


def test_time_goes_on_between_two_calls() -> None:
    """What falls due meanwhile, or is booked meanwhile, is looked at after what was due before, and none is lost."""
    wheel = TimerWheel(0.0)
    early, late, booked = [[Entry(at) for _ in range(3)] for at in (TICK, 3 * TICK, 2 * TICK)]
    for entry in (*early, *late):
        wheel.schedule(entry.at, entry)
    assert wheel.advance(TICK * 1.1, 2)
    for entry in booked:
        wheel.schedule(entry.at, entry)
    assert wheel.advance(SLOTS * TICK * 3.01, 1)
    assert [1, 1, 1] == [len(entry.looks) for entry in early]
    assert not wheel.advance(SLOTS * TICK * 3.01, 6)
    assert [1] * 9 == [len(entry.looks) for entry in (*early, *late, *booked)]
