from __future__ import annotations

from typing import cast

import pytest

from gateway.engines.redis.probe import OVERDUE, Probe
from gateway.engines.redis.subscriptions import Subscriptions
from gateway.errors import EngineFault
from gateway.types import Channel
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder

OWN = Channel("own")
SWEEP = 0.25


class Table:
    """Notes what is subscribed."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def keep(self, name: str, _channel: Channel, _listener: Probe) -> None:
        """Note it."""
        self.asked.append(f"+{name}")

    def unsubscribe(self, name: str) -> None:
        """Note it."""
        self.asked.append(f"-{name}")


class Trial:
    """A probe, its time, and what it said."""

    def __init__(self, clock: ManualClock, recorder: MemoryRecorder) -> None:
        self.table = Table()
        self.clock = clock
        self.alarms = 0
        self.probe = Probe(
            cast("Subscriptions", self.table), clock=clock.monotonic, recorder=recorder, overdue=self._alarm
        )

    def _alarm(self) -> None:
        self.alarms += 1

    def begin(self) -> bytes:
        """Begin a probe that there must be."""
        probe = self.probe.begin()
        assert probe is not None
        return probe

    def wait(self, seconds: float) -> None:
        """Let time pass, swept as the engine does."""
        for _ in range(round(seconds / SWEEP)):
            self.clock.advance(SWEEP)
            self.probe.sweep(self.clock.monotonic())


@pytest.fixture(name="trial")
def _trial(clock: ManualClock, recorder: MemoryRecorder) -> Trial:
    return Trial(clock, recorder)


def test_a_probe_that_comes_in_is_measured(trial: Trial, recorder: MemoryRecorder) -> None:
    """From the server's answer to the arrival; then the next may go out."""
    probe = trial.begin()
    trial.probe.answered(probe, 0)
    trial.clock.advance(0.5)
    trial.probe.arrived(OWN, probe)
    trial.wait(OVERDUE)
    assert [("redis_pubsub_probe_rtt", 0.5)] == recorder.observations
    assert 0 == trial.alarms
    assert probe != trial.begin()


def test_a_probe_may_overtake_its_answer(trial: Trial, recorder: MemoryRecorder) -> None:
    """The two links do not wait for each other."""
    probe = trial.begin()
    trial.probe.arrived(OWN, probe)
    trial.probe.answered(probe, 0)
    trial.wait(OVERDUE)
    assert [("redis_pubsub_probe_rtt", 0.0)] == recorder.observations
    assert 0 == trial.alarms


def test_a_probe_that_does_not_come_in_is_told_once(trial: Trial, recorder: MemoryRecorder) -> None:
    """Counted from the answer; meanwhile none other goes out, afterwards one may."""
    probe = trial.begin()
    trial.wait(OVERDUE)
    trial.probe.answered(probe, 0)
    trial.wait(OVERDUE - SWEEP)
    assert 0 == trial.alarms
    assert trial.probe.begin() is None
    trial.wait(OVERDUE)
    assert 1 == trial.alarms
    assert 1 == recorder.counts["redis_pubsub_probe_timeouts", ""]
    trial.begin()


def test_no_answer_is_no_verdict(trial: Trial) -> None:
    """A server that does not answer, or refuses, is the command link's trouble."""
    trial.probe.answered(trial.begin(), EngineFault("timeout"))
    trial.wait(OVERDUE)
    trial.begin()
    trial.wait(2 * OVERDUE)
    assert 0 == trial.alarms


def test_time_in_which_our_own_loop_stood_still_does_not_count(trial: Trial) -> None:
    """However long a stall, it is nobody else's lateness: what came in meanwhile has not been read yet."""
    probe = trial.begin()
    trial.probe.answered(probe, 0)
    for _ in range(3):
        trial.clock.advance(4.0)
        trial.probe.sweep(trial.clock.monotonic())
    trial.probe.arrived(OWN, probe)
    trial.wait(OVERDUE)
    assert 0 == trial.alarms


def test_a_link_that_was_built_again_owes_nothing(trial: Trial) -> None:
    """A probe sent before the channel stands again may never come, and late words of the past change nothing."""
    probe = trial.begin()
    trial.probe.answered(probe, 0)
    trial.probe.suspect([OWN], "built again")
    trial.wait(OVERDUE)
    trial.probe.answered(probe, 0)
    trial.probe.arrived(OWN, probe)
    following = trial.begin()
    trial.probe.answered(probe, 0)
    trial.probe.arrived(OWN, probe)
    trial.probe.answered(following, 0)
    trial.wait(OVERDUE - SWEEP)
    assert 0 == trial.alarms
    trial.wait(SWEEP)
    assert 1 == trial.alarms


def test_the_channel_follows_the_partition(trial: Trial) -> None:
    """Where the partition that carries the probes changes, so does the channel; a probe in the old one is forgotten."""
    trial.probe.listen("a")
    trial.probe.listen("a")
    trial.begin()
    trial.probe.listen("b")
    assert ["+a", "-a", "+b"] == trial.table.asked
    trial.begin()
