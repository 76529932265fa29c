from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from structlog.testing import capture_logs

from gateway.departures import Departures


@dataclass(eq=False)
class Asker:
    """A connection that waits for answers."""

    in_flight: int


async def test_what_is_under_way_is_waited_for() -> None:
    """Answers to who has gone, removals and tasks: the end comes with the last of them."""
    departures, asker = Departures(), Asker(2)
    done = departures.expect()
    departures.left(asker)
    departures.left(Asker(0))
    release = asyncio.Event()
    tasks = {asyncio.ensure_future(_until(release))}
    tasks.copy().pop().add_done_callback(tasks.discard)
    settling = asyncio.ensure_future(departures.settled(tasks, 10.0))
    steps: list[Callable[[], object]] = [partial(done, None), release.set, partial(setattr, asker, "in_flight", 0)]
    for step in steps:
        await asyncio.wait({settling}, timeout=0.05)
        assert not settling.done()
        step()
    with capture_logs() as logs:
        await asyncio.wait_for(settling, 5.0)
    assert ([], 0) == (logs, departures.calls)


async def test_it_is_waited_for_no_longer_than_that() -> None:
    """Then tasks are cancelled, and the log says what may be lost."""
    departures = Departures()
    departures.expect()
    departures.left(Asker(3))
    task = asyncio.ensure_future(asyncio.sleep(3600.0))
    with capture_logs() as logs:
        await departures.settled({task}, 0.01)
    assert task.cancelled()
    assert [("node.departures_unsettled", 1, 4)] == [(it["event"], it["tasks"], it["calls"]) for it in logs]


def test_who_has_been_answered_is_forgotten() -> None:
    """Connections that go while the engine is slow are not kept for good."""
    departures = Departures()
    askers = [Asker(1) for _ in range(100)]
    for asker in askers:
        departures.left(asker)
        asker.in_flight = 0
    assert len(departures._unanswered) == 1
    assert 0 == departures.calls


def test_one_that_is_never_answered_keeps_nobody_else() -> None:
    """Whatever one of them waits for, the others are forgotten once they have their answers."""
    departures = Departures()
    departures.left(Asker(1))
    for _ in range(100):
        asker = Asker(1)
        departures.left(asker)
        asker.in_flight = 0
    assert 3 >= len(departures._unanswered)
    assert 1 == departures.calls


def test_a_burst_of_leavers_is_let_go_by_those_who_leave_after_it() -> None:
    """Whoever leaves, with calls under way or without, makes room: the last of a burst stay for nobody like them."""
    departures = Departures()
    askers = [Asker(1) for _ in range(100)]
    for asker in askers:
        departures.left(asker)
    for asker in askers:
        asker.in_flight = 0
    for _ in range(50):
        departures.left(Asker(0))
    assert 0 == len(departures._unanswered)


async def _until(event: asyncio.Event) -> None:
    await event.wait()
