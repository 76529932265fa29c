from __future__ import annotations

from signal import SIGKILL, SIGTERM

import pytest

from gateway.workers.supervision import Action, Patience, Send, Stage, Start, Supervision
from tests.support.clock import ManualClock


def running(count: int, clock: ManualClock) -> Supervision:
    """Return a supervision all of whose workers are up."""
    supervision = Supervision(count)
    supervision.begin()
    for index in range(count):
        supervision.up(index, clock.monotonic())
    return supervision


def stages(supervision: Supervision) -> list[Stage]:
    """Return how far each worker has come."""
    return [it.stage for it in supervision.workers]


def test_the_first_one_starts_alone(clock: ManualClock) -> None:
    """What is wrong with all of them is found by one; once it is up the others start, each once."""
    supervision = Supervision(3)
    assert [Start(0)] == supervision.begin()
    assert [Start(1), Start(2)] == supervision.up(0, clock.monotonic())
    assert [] == supervision.up(1, clock.monotonic())
    assert [] == supervision.up(2, clock.monotonic())
    assert (None, None) == (supervision.code, supervision.next_due)


@pytest.mark.parametrize(("status", "code"), [(1, 1), (3, 3), (-9, 137)])
def test_who_cannot_start_at_all_ends_the_parent_with_his_code(status: int, code: int, clock: ManualClock) -> None:
    """Nothing is tried again: the same settings would fail again."""
    supervision = Supervision(2)
    supervision.begin()
    assert [] == supervision.ended(0, status, clock.monotonic())
    assert code == supervision.code


def test_a_later_one_that_cannot_start_takes_the_others_along(clock: ManualClock) -> None:
    """They are asked to drain, and the code is that of the fault, whatever they end with."""
    supervision = Supervision(3)
    supervision.begin()
    supervision.up(0, clock.monotonic())
    supervision.up(1, clock.monotonic())
    assert [Send(0, SIGTERM), Send(1, SIGTERM)] == supervision.ended(2, 1, clock.monotonic())
    assert supervision.stopping
    supervision.ended(0, 7, clock.monotonic())
    assert supervision.code is None
    supervision.ended(1, 0, clock.monotonic())
    assert 1 == supervision.code


def test_who_dies_is_started_again_later_and_later(clock: ManualClock) -> None:
    """The pause doubles up to its longest; meanwhile nothing is due."""
    supervision = running(2, clock)
    pauses = []
    for _ in range(9):
        now = clock.monotonic()
        assert [] == supervision.ended(1, -9, now)
        assert supervision.next_due is not None
        pauses.append(supervision.next_due - now)
        assert [] == supervision.due(supervision.next_due - 0.001)
        clock.advance(pauses[-1])
        assert [Start(1)] == supervision.due(clock.monotonic())
        assert supervision.next_due is None
        supervision.up(1, clock.monotonic())
    assert [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] == pauses


def test_who_dies_all_day_is_started_again_all_day(clock: ManualClock) -> None:
    """However often in a row: the pause stays at its longest, while another worker serves."""
    supervision = running(2, clock)
    for _ in range(3_000):
        supervision.ended(1, 1, clock.monotonic())
        clock.advance(30.0)
        assert [Start(1)] == supervision.due(clock.monotonic())
    assert [Stage.UP, Stage.STARTING] == stages(supervision)


def test_a_long_life_makes_up_for_deaths(clock: ManualClock) -> None:
    """Who was up for a minute is started again as soon as who never died."""
    supervision = running(2, clock)
    for _ in range(3):
        supervision.ended(1, 1, clock.monotonic())
        clock.advance(10.0)
        supervision.due(clock.monotonic())
        supervision.up(1, clock.monotonic())
    clock.advance(60.0)
    supervision.ended(1, 1, clock.monotonic())
    assert clock.monotonic() + 0.5 == supervision.next_due


def test_who_was_asked_to_go_is_replaced_at_once(clock: ManualClock) -> None:
    """A worker that somebody drained ends with 0: that is no death, and makes up for none either way of counting."""
    supervision = running(2, clock)
    for _ in range(10):
        supervision.ended(0, 0, clock.monotonic())
        assert [Start(0)] == supervision.due(clock.monotonic())
        supervision.up(0, clock.monotonic())
    assert 0 == supervision.workers[0].deaths


def test_who_ends_well_before_he_was_up_is_tried_again_with_a_pause(clock: ManualClock) -> None:
    """Somebody stopped it while it started; without a pause it could be a loop."""
    supervision = Supervision(2)
    supervision.begin()
    supervision.ended(0, 0, clock.monotonic())
    assert clock.monotonic() + 0.5 == supervision.next_due
    assert supervision.code is None


def fail_to_start(supervision: Supervision, index: int, clock: ManualClock, status: int = 1) -> list[Action]:
    """Let a worker die, come to nothing whenever it is started; return what the parent does after the last time."""
    done: list[Action] = []
    for _ in range(Patience().attempts):
        done = supervision.ended(index, status, clock.monotonic())
        if (due := supervision.next_due) is not None:
            clock.advance(due - clock.monotonic())
            supervision.due(clock.monotonic())
    return done


def test_a_parent_without_any_worker_gives_up(clock: ManualClock) -> None:
    """When starts come to nothing again and again and nobody serves, whoever watches the parent must see it."""
    supervision = running(1, clock)
    assert [] == fail_to_start(supervision, 0, clock, status=-9)
    assert 137 == supervision.code


def test_the_parent_does_not_give_up_while_somebody_serves(clock: ManualClock) -> None:
    """One that cannot come back is tried for as long as another one is up."""
    supervision = running(2, clock)
    for _ in range(3):
        assert [] == fail_to_start(supervision, 0, clock)
    assert [Stage.STARTING, Stage.UP] == stages(supervision)
    supervision.ended(1, 1, clock.monotonic())
    assert [Send(1, SIGTERM)] == _after_restart(supervision, clock)
    supervision.ended(1, -15, clock.monotonic())
    assert 1 == supervision.code


def _after_restart(supervision: Supervision, clock: ManualClock) -> list[Action]:
    """Start the other one again, then let the first one fail once more."""
    clock.advance(0.5)
    assert [Start(1)] == supervision.due(clock.monotonic())
    return supervision.ended(0, 1, clock.monotonic())


def test_giving_up_on_nothing_is_a_fault_all_the_same(clock: ManualClock) -> None:
    """Starts that end with 0 again and again are no success."""
    supervision = Supervision(1)
    supervision.begin()
    fail_to_start(supervision, 0, clock, status=0)
    assert 1 == supervision.code


def test_all_stop_when_asked(clock: ManualClock) -> None:
    """Each gets the signal, each is waited for, nobody is started again, and the code is 0."""
    supervision = running(2, clock)
    assert [Send(0, SIGTERM), Send(1, SIGTERM)] == supervision.asked()
    assert [] == supervision.ended(1, 0, clock.monotonic())
    assert (None, None) == (supervision.code, supervision.next_due)
    assert [] == supervision.ended(0, 0, clock.monotonic())
    assert 0 == supervision.code


def test_asked_again_they_are_asked_again_and_killed_at_last(clock: ManualClock) -> None:
    """The nodes know three steps themselves; who is still there hears nothing. Those who are gone get nothing."""
    supervision = running(3, clock)
    supervision.asked()
    supervision.ended(0, 0, clock.monotonic())
    assert [Send(1, SIGTERM), Send(2, SIGTERM)] == supervision.asked()
    assert [Send(1, SIGTERM), Send(2, SIGTERM)] == supervision.asked()
    supervision.ended(1, 0, clock.monotonic())
    assert [Send(2, SIGKILL)] == supervision.asked()
    supervision.ended(2, -9, clock.monotonic())
    assert 137 == supervision.code


def test_stopping_forgets_who_waits(clock: ManualClock) -> None:
    """Who is due later, and who was never started, is not started any more."""
    waiting = running(2, clock)
    waiting.ended(0, 1, clock.monotonic())
    assert [Send(1, SIGTERM)] == waiting.asked()
    clock.advance(60.0)
    assert [] == waiting.due(clock.monotonic())
    starting = Supervision(2)
    starting.begin()
    assert [Send(0, SIGTERM)] == starting.asked()
    assert [] == starting.up(0, clock.monotonic())
    starting.ended(0, 0, clock.monotonic())
    assert 0 == starting.code


def test_with_nobody_there_asking_is_the_end(clock: ManualClock) -> None:
    """A parent whose only worker waits for its next start has nothing to wait for."""
    supervision = running(1, clock)
    supervision.ended(0, -11, clock.monotonic())
    assert [] == supervision.asked()
    assert 0 == supervision.code


def test_a_start_that_was_cut_short_is_no_fault(clock: ManualClock) -> None:
    """A worker that does not listen to signals yet ends by ours; one that dies otherwise while it stops is a fault."""
    cut_short = Supervision(2)
    cut_short.begin()
    cut_short.asked()
    cut_short.ended(0, -15, clock.monotonic())
    assert 0 == cut_short.code
    crashed = running(2, clock)
    crashed.asked()
    crashed.ended(0, -11, clock.monotonic())
    crashed.ended(1, 4, clock.monotonic())
    assert 139 == crashed.code
