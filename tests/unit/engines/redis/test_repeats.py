from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gateway.engines.redis.partition import Partition
from gateway.engines.redis.repeats import Repeats
from gateway.engines.redis.wire import Answered
from gateway.errors import EngineFault
from tests.support.clock import ManualClock

PATIENCE = 3.0


@dataclass
class Way:
    """A partition, as far as a repetition looks at it."""

    answers: bool = True

    @property
    def commands(self) -> Way:
        """Its link."""
        return self


@dataclass
class Trial:
    """Repeats, what they sent and where, and what they answered."""

    clock: ManualClock
    repeats: Repeats
    way: Way = field(default_factory=Way)
    sent: list[tuple[Way, Answered]] = field(default_factory=list)
    outcomes: list[Any] = field(default_factory=list)

    def send(self) -> None:
        """Send one publication."""
        self.repeats.send(lambda: cast("Partition", self.way), self._put, self.outcomes.append)

    def sweep(self, seconds: float = 0.0) -> None:
        """Let time pass, and sweep."""
        self.clock.advance(seconds)
        self.repeats.sweep(self.clock.monotonic())

    def answer(self, reply: Any) -> None:
        """Answer what was sent last."""
        self.sent[-1][1](reply)

    def _put(self, partition: Partition, answered: Answered) -> None:
        self.sent.append((cast("Way", partition), answered))


@pytest.fixture(name="trial")
def _trial(clock: ManualClock) -> Trial:
    return Trial(clock, Repeats(clock=clock.monotonic, patience=PATIENCE))


@pytest.mark.parametrize("reply", ["ok", EngineFault("down"), EngineFault("refused"), EngineFault("oom")])
def test_what_is_known_is_not_repeated(trial: Trial, reply: object) -> None:
    """A reply, and a fault that says that nothing was published, go out at once."""
    trial.send()
    trial.answer(reply)
    trial.sweep()
    assert [reply] == trial.outcomes
    assert 1 == len(trial.sent)


@pytest.mark.parametrize("kind", ["lost", "timeout"])
def test_what_nobody_knows_is_repeated_once_the_server_answers(trial: Trial, kind: str) -> None:
    """It goes where its channel lies by then, and the reply to it is the answer."""
    trial.send()
    first, trial.way = trial.way, Way(answers=False)
    trial.answer(EngineFault(kind))
    trial.sweep(1.0)
    assert 1 == len(trial.sent)
    trial.way.answers = True
    trial.sweep(0.5)
    trial.sweep(0.5)
    assert [first, trial.way] == [way for way, _ in trial.sent]
    assert [] == trial.outcomes
    trial.answer("ok")
    trial.sweep(PATIENCE)
    assert ["ok"] == trial.outcomes


def test_patience_ends(trial: Trial) -> None:
    """When the server does not come back in time the first fault goes out, and nothing more is sent."""
    trial.way.answers = False
    trial.send()
    trial.answer(EngineFault("lost"))
    trial.sweep(PATIENCE)
    trial.way.answers = True
    trial.sweep()
    assert ["lost"] == [fault.kind for fault in trial.outcomes]
    assert 1 == len(trial.sent)


def test_a_repetition_without_answer_ends_in_the_first_fault(trial: Trial) -> None:
    """Its own answer, when it comes after all, is dropped."""
    trial.send()
    trial.answer(EngineFault("timeout"))
    trial.sweep(1.0)
    trial.sweep(PATIENCE)
    trial.answer("late")
    assert ["timeout"] == [fault.kind for fault in trial.outcomes]


def test_a_repetition_that_fails_ends_in_the_first_fault(trial: Trial) -> None:
    """Whatever became of the second, the first may have been published: no third is sent."""
    trial.send()
    trial.answer(EngineFault("lost"))
    trial.sweep()
    trial.answer(EngineFault("down"))
    trial.sweep()
    assert ["lost"] == [fault.kind for fault in trial.outcomes]
    assert 2 == len(trial.sent)


def test_closing_answers_everybody(trial: Trial) -> None:
    """Who waits for a repetition hears the fault, once."""
    trial.way.answers = False
    trial.send()
    trial.answer(EngineFault("lost"))
    trial.repeats.close()
    trial.sweep(PATIENCE)
    assert ["lost"] == [fault.kind for fault in trial.outcomes]
