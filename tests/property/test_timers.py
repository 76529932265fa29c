"""The timer wheel, however few it may look at in one call."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from gateway.timers import SLOTS, TICK, TimerWheel

HORIZON = SLOTS * TICK
times = st.floats(-1.0, 2 * HORIZON)
steps = st.one_of(
    st.tuples(st.just("book"), st.integers(0, 7), times),
    st.tuples(st.just("forget"), st.integers(0, 7), st.none()),
    st.tuples(st.just("advance"), st.integers(0, 5), st.floats(0.0, 2 * HORIZON) | st.floats(0.0, 3 * TICK)),
)


class Entry:
    """Knows when it wants to be looked at."""

    def __init__(self) -> None:
        self.timer_tick = 0
        self.at = inf  # inf = it is not booked
        self.since = 0.0  # when it was booked

    def due(self, now: float) -> float:
        """Be looked at: too early, and it says again when, or in time; never without a booking."""
        assert self.at < inf, "it was forgotten, or looked at already"
        if self.at <= now:
            self.at = inf
        return self.at


@given(st.lists(steps, max_size=40))
def test_whatever_is_booked_is_looked_at_in_time_however_few_at_a_time(script: list[tuple[str, int, float]]) -> None:
    """No entry is lost, looked at in vain, or kept waiting for longer than a tick once all were looked at."""
    now, wheel = 0.0, TimerWheel(0.0)
    entries = [Entry() for _ in range(8)]
    for what, number, time in script:
        if what == "book":
            entry = entries[number]
            entry.at, entry.since = min(entry.at, now + time), now
            wheel.schedule(now + time, entry)
        elif what == "forget":
            entries[number].at = inf
            wheel.forget(entries[number])
        else:
            now += time
            if wheel.advance(now, number):
                continue
            late = [it.at for it in entries if max(it.at, it.since) + 2 * TICK < now]
            assert [] == late
        assert len(wheel) == sum(it.at < inf for it in entries) == sum(it.timer_tick > 0 for it in entries)
