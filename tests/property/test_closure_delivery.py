"""Orders to the gateway under whatever happens to it and to us."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from auth_service.telling import closures as module
from tests.support.clock import ManualClock
from tests.support.teller import LIFE, Mute, Sessions, Teller, left, opened

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.integers(1, 10)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.1, 1.0, 7.0, 45.0, 700.0])),
        st.tuples(st.just("down"), st.just(0)),
        st.tuples(st.just("up"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("another"), st.sampled_from([0.0, 3.0])),
    ),
    max_size=15,
)


class World:
    """Rows, one or two processes that deliver them, and a gateway that comes and goes."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.clock = ManualClock()
        self.gateway = Mute()
        self.tellers = [self.teller()]
        self.made: dict[str, float] = {}
        self.told_at: dict[str, float] = {}

    def teller(self) -> Teller:
        """Return one more process."""
        return Teller(self.sessions, self.gateway, self.clock)

    async def step(self, what: str, how: float) -> None:
        """Do one thing."""
        match what:
            case "enter":
                for _ in range(int(how)):
                    name = f"s{len(self.made)}"
                    await self.tellers[0].enter(name)
                    self.made[name] = self.clock.wall()
            case "wait":
                await self.pass_time(self.tellers[0], how)
            case "another":
                await self.pass_time(self.teller(), how)
            case "restart":
                self.tellers = [self.teller()]
            case _:
                self.gateway.up = what == "up"

    async def pass_time(self, teller: Teller, seconds: float) -> None:
        """Let time go by; what is told meanwhile is told in due time, or never."""
        up, before = self.gateway.up, self.clock.wall()
        seen = len(self.gateway.tries)
        await teller.run(seconds)
        for name, arrived in self.gateway.tries[seen:]:
            if arrived:
                assert name not in self.told_at, "told twice"
                self.told_at[name] = self.clock.wall()
        waiting = [name for name, made in self.made.items() if name not in self.told_at and made + LIFE > before]
        if up and seconds >= module.PATIENT_PAUSE:
            assert [] == waiting, "the gateway is there, and was not told"
        failed = sum(not arrived for _, arrived in self.gateway.tries[seen:])
        assert failed <= module.AT_ONCE + 8 + seconds / module.LONGEST_PAUSE, "tried too often"


@settings(max_examples=30, deadline=None)
@given(steps=STEPS)
def test_whatever_happens_each_row_is_told_or_has_ended(steps: Sequence[tuple[str, float]]) -> None:
    """Down, up, restarts and a second process in any order: none is lost, told twice, or tried without end."""

    async def play() -> None:
        engine, sessions = await opened("sqlite+aiosqlite://")
        try:
            world = World(sessions)
            for what, how in steps:
                await world.step(what, how)
            world.gateway.up = True
            await world.pass_time(world.tellers[0], module.PATIENT_PAUSE)
            assert 0 == await left(sessions)
        finally:
            await engine.dispose()

    asyncio.run(play())
