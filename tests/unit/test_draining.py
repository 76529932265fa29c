from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.disconnects import SHUTDOWN, Disconnect
from gateway.draining import ANSWER_SECONDS, LEAST_RATE, Drain, DrainRules, Mover, Stage
from gateway.timers import TICK
from tests.support.transport import RecordingTransport


@dataclass(eq=False)
class Guest:
    """Somebody to be moved away; its link goes with the close if it is `polite`."""

    number: int
    crowd: dict[int, Guest]
    closed: Callable[[Guest], None] = lambda _: None
    unanswered: bool = False
    gone: bool = False
    polite: bool = True
    transport: RecordingTransport = field(default_factory=RecordingTransport)

    def read_no_more(self) -> None:
        """Be held."""
        self.transport.hold_reading(True)

    def close(self, disconnect: Disconnect) -> None:
        """Go, as a connection does: once."""
        if self.gone:
            return
        self.gone = True
        self.transport.close(disconnect, 2.0)
        self.closed(self)
        if self.polite:
            self.leave()

    def leave(self) -> None:
        """Be lost."""
        self.gone = True
        self.crowd.pop(self.number, None)


def crowd_of(count: int, closed: Callable[[Guest], None] = lambda _: None) -> dict[int, Guest]:
    """Return guests by number."""
    crowd: dict[int, Guest] = {}
    crowd.update((number, Guest(number, crowd, closed)) for number in range(count))
    return crowd


def most_in_a_second(times: list[float]) -> int:
    """Return the largest number of times, which are in order, within any second."""
    return max((bisect_left(times, start + 1.0) - index for index, start in enumerate(times)), default=0)


# --- the pace


class Emptying:
    """A mover in time that the test turns."""

    def __init__(self, count: int, window: float, seed: int = 0) -> None:
        self.now = 100.0
        self.closes: list[tuple[float, int]] = []
        self.crowd = crowd_of(count, lambda guest: self.closes.append((self.now, guest.number)))
        self.mover = Mover(self.crowd, window=window, now=self.now, chance=random.Random(seed))

    def step(self, seconds: float = TICK) -> bool:
        """Let time pass and look once."""
        self.now += seconds
        return self.mover.step(self.now)

    def finish(self) -> float:
        """Look every tick until nobody is left; return how long that took."""
        began = self.now
        while self.step():
            assert self.now < began + 1000.0, "it does not end"
        return self.now - began

    @property
    def times(self) -> list[float]:
        """Return when somebody was closed."""
        return [at for at, _ in self.closes]


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(0, 1000),
    window=st.floats(1.0, 100.0),
    stalls=st.lists(st.floats(0.0, 5.0), max_size=4),
    seed=st.integers(0, 1 << 16),
)
def test_whatever_the_crowd_and_the_window_no_second_sees_more_than_twice_its_share(
    count: int, window: float, stalls: list[float], seed: int
) -> None:
    """Everybody is closed once with 3001, at a rate that stays in bounds even if the loop stalls."""
    emptying = Emptying(count, window, seed)
    guests = list(emptying.crowd.values())
    for stall in stalls:
        emptying.step()
        emptying.step(stall)
    took = emptying.finish()
    share = max(count / window, LEAST_RATE)
    assert most_in_a_second(emptying.times) <= 2 * share
    assert [[SHUTDOWN]] * count == [it.transport.closings for it in guests]
    assert took <= count / share + 3 * TICK
    assert count == emptying.mover.moved


def test_a_large_crowd_takes_the_window_and_is_spread_evenly() -> None:
    """2,000 over 30 s: every tick has its share, and the last one goes as the window ends."""
    emptying = Emptying(2000, 30.0)
    assert 29.5 <= emptying.finish() <= 30.5
    for second in range(1, 29):
        closed = sum(100.0 + second <= it < 100.999 + second for it in emptying.times)
        assert 55 <= closed <= 75, second


def test_a_small_crowd_does_not_take_the_window() -> None:
    """Three connections are gone within a second, not in thirty."""
    assert Emptying(3, 30.0).finish() <= 0.6


def test_the_order_is_another_each_time() -> None:
    """Clients that came together do not go together."""
    orders = []
    for seed in (1, 2):
        emptying = Emptying(50, 1.0, seed)
        emptying.finish()
        orders.append([number for _, number in emptying.closes])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))
    assert len({tuple(range(50)), *map(tuple, orders)}) == 3


def test_nodes_that_drain_together_do_not_close_in_step() -> None:
    """The first close comes at a random time."""
    firsts = set()
    for seed in range(20):
        emptying = Emptying(150, 10.0, seed)
        emptying.finish()
        firsts.add(round(emptying.times[0], 1))
    assert len(firsts) > 1


def test_who_goes_by_itself_takes_no_turn() -> None:
    """Whoever has left meanwhile costs no time, be it chosen already or not."""
    emptying = Emptying(100, 10.0)
    chosen = [it for it in emptying.crowd.values() if it.transport.reading_held]
    assert chosen
    for guest in [*chosen, *list(emptying.crowd.values())[:80]]:
        guest.leave()
    left = len(emptying.crowd)
    assert emptying.finish() <= 2.5
    assert left == emptying.mover.moved


def test_who_comes_meanwhile_has_a_turn_after_the_others() -> None:
    """A handshake that was under way is moved away as well."""
    emptying = Emptying(20, 1.0)
    emptying.step()
    late = emptying.crowd[99] = Guest(99, emptying.crowd, emptying.crowd[0].closed)
    emptying.finish()
    assert [SHUTDOWN] == late.transport.closings
    assert 99 == emptying.closes[-1][1]


# --- answers


def test_before_its_turn_a_connection_is_no_longer_read_and_gets_its_answers() -> None:
    """The close waits for what the client has asked for; others go meanwhile."""
    emptying = Emptying(2, 1.0)
    busy, idle = emptying.crowd[0], emptying.crowd[1]
    busy.unanswered = True
    for _ in range(10):
        emptying.step()
    assert busy.transport.reading_held
    assert ([], [SHUTDOWN]) == (busy.transport.closings, idle.transport.closings)
    busy.unanswered = False
    assert not emptying.step()
    assert [SHUTDOWN] == busy.transport.closings


def test_an_answer_that_never_comes_holds_nobody_for_long() -> None:
    """After two seconds a connection goes without."""
    emptying = Emptying(1, 1.0)
    emptying.crowd[0].unanswered = True
    assert ANSWER_SECONDS <= emptying.finish() <= ANSWER_SECONDS + 2 * TICK


def test_answers_that_come_late_for_all_make_no_burst() -> None:
    """While the engine stalls nobody goes; then they go at the pace."""
    emptying = Emptying(400, 10.0)
    for guest in emptying.crowd.values():
        guest.unanswered = True
    for _ in range(15):
        emptying.step()
    assert [] == emptying.closes
    for guest in emptying.crowd.values():
        guest.unanswered = False
    emptying.finish()
    assert most_in_a_second(emptying.times) <= 2 * 40


# --- the whole


async def test_a_drain_goes_from_stage_to_stage() -> None:
    """Newcomers are refused after the delay, and before anybody is closed; traces are removed last."""
    story: list[str] = []
    crowd = crowd_of(3, lambda _: story.append(f"close {drain.stage.value}"))

    async def refuse() -> None:
        story.append(f"refuse {drain.stage.value}")

    async def settle() -> None:
        story.append(f"settle {drain.stage.value}")

    drain = Drain(crowd, rules=DrainRules(delay=0.05, window=1.0), settle=settle)
    drain.refuse = refuse
    assert (False, 0, False) == (drain.begun, drain.remaining, await drain.ended())
    with capture_logs() as logs:
        drain.begin()
        drain.begin()
        assert (True, 3, Stage.WAITING) == (drain.begun, drain.remaining, drain.stage)
        assert await drain.ended()
    assert ["refuse waiting", *["close moving"] * 3, "settle closing"] == story
    assert (Stage.DRAINED, 0, True) == (drain.stage, drain.remaining, drain.over)
    assert ["node.draining", "node.drained"] == [it["event"] for it in logs]
    assert (3, 0.05, 1.0) == (logs[0]["connections"], logs[0]["delay"], logs[0]["window"])
    assert 3 == logs[1]["connections"]
    assert logs[1]["seconds"] >= 0.05


async def test_haste_ends_the_delay_and_the_turns() -> None:
    """Everybody is closed at once, the many in slices; the rest is as usual."""
    settled: list[bool] = []

    async def settle() -> None:
        settled.append(True)

    crowd = crowd_of(1100)
    guests = list(crowd.values())
    drain = Drain(crowd, rules=DrainRules(delay=3600.0, window=300.0), settle=settle)
    drain.begin()
    drain.hurry()
    async with asyncio.timeout(5.0):
        assert await drain.ended()
    assert [[SHUTDOWN]] * 1100 == [it.transport.closings for it in guests]
    assert [True] == settled


async def test_haste_comes_while_turns_are_taken() -> None:
    """Who had no turn yet is closed then."""
    moved = asyncio.Event()
    crowd = crowd_of(1000, lambda _: moved.set())
    drain = Drain(crowd, rules=DrainRules(window=100.0))
    drain.begin()
    async with asyncio.timeout(5.0):
        await moved.wait()
        drain.hurry()
        assert await drain.ended()
    assert {} == crowd


async def test_without_a_window_all_go_at_once() -> None:
    """As with haste."""
    crowd = crowd_of(100)
    drain = Drain(crowd, rules=DrainRules(window=0.0))
    async with asyncio.timeout(5.0):
        drain.begin()
        assert await drain.ended()
    assert {} == crowd


async def test_who_does_not_answer_the_close_is_cut_off() -> None:
    """The drain is bounded in time, says how many, and has ended all the same."""
    crowd = crowd_of(2)
    stubborn = crowd[1]
    stubborn.polite = False
    drain = Drain(crowd, rules=DrainRules(window=0.0, timeout=0.05))
    with capture_logs() as logs:
        await drain.at_once()
    assert stubborn.transport.aborted
    assert [1] == [it["left"] for it in logs if it["event"] == "node.drain_timeout"]
    assert Stage.DRAINED is drain.stage


async def test_a_drain_that_fails_says_so_and_still_settles() -> None:
    """Nobody waits for ever, and it does not count as over."""
    settled: list[bool] = []

    async def settle() -> None:
        settled.append(True)

    def broken(_: Guest) -> None:
        raise LookupError("on purpose")

    drain = Drain(crowd_of(1, broken), rules=DrainRules(), settle=settle)
    with capture_logs() as logs:
        drain.begin()
        assert not await drain.ended()
    assert "node.drain_failed" in [it["event"] for it in logs]
    assert ([True], False) == (settled, drain.over)


async def test_progress_is_told_until_the_end() -> None:
    """Now, at each interval, and no more when it has ended; without a drain there is none."""
    crowd = crowd_of(5)
    drain = Drain(crowd, rules=DrainRules())
    assert [] == [it async for it in drain.progress(0.01)]
    drain.begin()
    told = [it async for it in drain.progress(0.01)]
    assert 5 == told[0]
    assert told == sorted(told, reverse=True)
    assert len(told) > 5
    assert Stage.DRAINED is drain.stage


async def test_who_waits_and_gives_up_does_not_stop_the_drain() -> None:
    """Cancelling one of those who wait leaves it to the others."""
    crowd = crowd_of(5)
    drain = Drain(crowd, rules=DrainRules())
    drain.begin()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(drain.ended(), 0.01)
    assert await drain.ended()
    assert {} == crowd
