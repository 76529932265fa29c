"""The subscribe race: publications at every step of `joining.py`, over real engines; nothing lost, doubled, reordered.

History and live delivery come by different ways. Here several connections join at once while publications, trimming,
removals and new epochs happen between the steps, and what each was told is compared with the engine's stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.contracts.engine import Engine, EngineOptions
from gateway.engines.redis.topology import TAGS, names
from gateway.resolver import engine_for
from gateway.types import Channel, NodeId
from tests.support.clock import ManualClock
from tests.support.engines import GENEROUS, RealClock
from tests.support.race import CHECKPOINTS, Action, Ears, Plan, Race
from tests.support.recorder import MemoryRecorder
from tests.support.valkey import Valkey

WHOLE: Final = 1000  # history size that keeps everything
SHORT: Final = 3  # one that trims all the time
SINCE: Final = ("none", "none", "start", "old", "top", "ahead", "invalid", "alien")
HARMLESS: Final = ("fire", "fire", "send", "turns")
LOSSY: Final = (*HARMLESS, "lose")
ROUGH: Final = (*LOSSY, "depart", "remove", "forget", "suspect")


@dataclass
class Arena:
    """One engine for all examples of a test, and its loop."""

    runner: asyncio.Runner
    engine: Engine
    ears: Ears
    forget: Callable[[Channel], None]
    cut: Callable[[], None]

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run one example."""
        self.runner.run(work)

    def race(self, size: int) -> Race:
        """Prepare one; to be called on the loop."""
        return Race(self.engine, self.ears, size=size, forget=self.forget, cut=self.cut)


@asynccontextmanager
async def _engine(url: str, prefix: str, ears: Ears) -> AsyncIterator[Engine]:
    clock = ManualClock() if url.startswith("memory") else RealClock()
    options = EngineOptions(
        node=NodeId(str(uuid4())),
        recorder=MemoryRecorder(),
        prefix=prefix,
        wait_ready=True,
        command_timeout=GENEROUS,  # a server that stands still for a while is late: nothing else was promised
        subscribe_timeout=GENEROUS,
    )
    async with engine_for(url)(url, sink=ears, clock=clock, options=options) as engine:
        yield engine


def _arena(
    url: str, make_forget: Callable[[Engine, str], Callable[[Channel], None]], cut: Callable[[], None]
) -> Iterator[Arena]:
    prefix = f"test-{uuid4().hex}"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()

        async def begin() -> tuple[Engine, Ears]:
            ears = Ears()
            return await stack.enter_async_context(_engine(url, prefix, ears)), ears

        engine, ears = runner.run(begin())
        yield Arena(runner, engine, ears, make_forget(engine, prefix), cut)
        runner.run(stack.aclose())


@pytest.fixture(scope="module", name="memory")
def _memory() -> Iterator[Arena]:
    def make_forget(engine: Any, _: str) -> Callable[[Channel], None]:
        def forget(channel: Channel) -> None:
            engine.history._streams._streams.pop(channel, None)

        return forget

    yield from _arena("memory://", make_forget, lambda: None)


@pytest.fixture(scope="module", name="redis")
def _redis(valkey: Valkey) -> Iterator[Arena]:
    def make_forget(_: Engine, prefix: str) -> Callable[[Channel], None]:
        meta = names(prefix, TAGS[0]).meta

        def forget(channel: Channel) -> None:
            valkey.command("DEL", meta + channel)

        return forget

    def cut() -> None:
        valkey.command("CLIENT", "KILL", "TYPE", "pubsub")

    yield from _arena(valkey.url, make_forget, cut)


# --- what may happen


def actions(kinds: tuple[str, ...], *, most: int = 2) -> st.SearchStrategy[list[Action]]:
    """Return what happens at one place."""
    return st.lists(st.tuples(st.sampled_from(kinds), st.integers(1, 3)), max_size=most)


def plans(kinds: tuple[str, ...], at_read: tuple[str, ...]) -> st.SearchStrategy[list[Plan]]:
    """Return up to five joiners. Waiting between a read's answer and its use happens nowhere else, hence `at_read`."""
    places = {name: actions(at_read if name == "read" else kinds) for name in CHECKPOINTS}
    one = st.builds(
        Plan,
        before=actions(("fire", "send", "turns"), most=3),
        since=st.sampled_from(SINCE),
        recent=st.sampled_from([0, 0, 3]),
        presence=st.booleans(),
        positioned=st.sampled_from([True, True, True, False]),
        at=st.fixed_dictionaries({}, optional=places),
    )
    return st.lists(one, min_size=1, max_size=5)


async def _harmless(arena: Arena, chosen: list[Plan]) -> None:
    race = arena.race(WHOLE)
    await race.run(chosen)
    race.check(quiet=True)
    await race.check_recovery()
    await race.end()


async def _trimmed(arena: Arena, chosen: list[Plan]) -> None:
    race = arena.race(SHORT)
    await race.run(chosen)
    race.check(quiet=True)
    await race.end()


async def _rough(arena: Arena, chosen: list[Plan], size: int) -> None:
    race = arena.race(size)
    await race.run(chosen)
    race.check(quiet=False)
    await race.end()


def sized(count: int) -> settings:
    """Return settings for so many examples; a failing one is what matters, not how long one takes."""
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


lossy = given(chosen=plans(LOSSY, at_read=("fire", "lose")))
harmless = given(chosen=plans(HARMLESS, at_read=("fire",)))
rough = given(chosen=plans(ROUGH, at_read=ROUGH), size=st.sampled_from([WHOLE, SHORT]))


@harmless
@sized(600)
def test_memory_nothing_is_lost_and_nobody_is_told(memory: Arena, chosen: list[Plan]) -> None:
    """Publications at every step: replies and logs are the stream, and every position is recovered from."""
    memory.run(_harmless(memory, chosen))


@harmless
@sized(400)
def test_memory_trimming_costs_recovery_only(memory: Arena, chosen: list[Plan]) -> None:
    """A short history may refuse a recovery; what is delivered is whole all the same."""
    memory.run(_trimmed(memory, chosen))


@lossy
@sized(400)
def test_memory_what_is_lost_on_the_way_is_mended_and_nobody_is_told(memory: Arena, chosen: list[Plan]) -> None:
    """Joins race with repairs: whoever has replied, waits or is live gets all of it from history, once."""
    memory.run(_harmless(memory, chosen))


@rough
@sized(600)
def test_memory_whatever_happens_logs_are_whole_or_their_readers_were_told(
    memory: Arena, chosen: list[Plan], size: int
) -> None:
    """Departures, removed history, new epochs and suspected losses at every step leave no quiet gap and no trace."""
    memory.run(_rough(memory, chosen, size))


@harmless
@sized(120)
def test_redis_nothing_is_lost_and_nobody_is_told(redis: Arena, chosen: list[Plan]) -> None:
    """The same over a real server, where history and live delivery come by two links."""
    redis.run(_harmless(redis, chosen))


@harmless
@sized(60)
def test_redis_trimming_costs_recovery_only(redis: Arena, chosen: list[Plan]) -> None:
    """The same over a real server, which trims by itself."""
    redis.run(_trimmed(redis, chosen))


@lossy
@sized(100)
def test_redis_what_is_lost_on_the_way_is_mended_and_nobody_is_told(redis: Arena, chosen: list[Plan]) -> None:
    """The same over a real server, where a repair reads by another link than publications come."""
    redis.run(_harmless(redis, chosen))


@rough
@sized(120)
def test_redis_whatever_happens_logs_are_whole_or_their_readers_were_told(
    redis: Arena, chosen: list[Plan], size: int
) -> None:
    """The same over a real server, whose metadata are deleted under our feet."""
    redis.run(_rough(redis, chosen, size))


@given(chosen=plans((*HARMLESS, "cut"), at_read=("fire", "cut")))
@sized(20)
def test_redis_a_link_that_is_cut_leaves_no_quiet_gap(redis: Arena, chosen: list[Plan]) -> None:
    """What is published while the pub/sub link is down is lost: everybody has it from history, or is told."""
    redis.run(_rough(redis, chosen, WHOLE))


@pytest.mark.soak
@pytest.mark.parametrize("name", ["memory", "redis"])
def test_for_long(name: str, request: pytest.FixtureRequest) -> None:
    """Thousands of races of every kind."""
    arena: Arena = request.getfixturevalue(name)
    count = 5000 if name == "memory" else 1000

    @harmless
    @sized(count)
    def run_harmless(chosen: list[Plan]) -> None:
        arena.run(_harmless(arena, chosen))
        arena.run(_trimmed(arena, chosen))

    @rough
    @sized(count)
    def run_rough(chosen: list[Plan], size: int) -> None:
        arena.run(_rough(arena, chosen, size))

    run_harmless()
    run_rough()
