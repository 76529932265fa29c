"""One result of what all processes found."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.types import Position
from loadtests.kit.profile import Profile
from loadtests.kit.result import Machine, Result
from loadtests.oracle import SPEAKER, Ledger, Log
from loadtests.workers.distribution import Distribution
from loadtests.workers.gathering import Gathering
from loadtests.workers.messages import Failed, Findings, Tick, line, word
from loadtests.workers.outcome import Circumstances, result

PROFILE = Profile(scenario="fan-out", connections=2)
AROUND = Circumstances(
    target="x", command="y", started="now", machine=Machine(cores=1, model="", system="", python="", memory=1),
    versions={}, measured=1.0, nodes=[], remarks=["known before"],
)  # fmt: skip


def found(*numbers: int, heard: tuple[int, ...] = (), part: int = 0, **more: Any) -> Findings:
    """Return what a process found that published these numbers, and whose only client heard others."""
    ledger = Ledger()
    log = Log(f"client {part}", "c", ledger)
    log.subscribed(Position(0, ""), recovered=False, asked=False)
    log.attend()
    for number in numbers:
        ledger.publishing("c", number)
        ledger.acknowledged("c", number)
    for number in heard:
        log.publication(0, number)
    told = Distribution()
    told.add(1000 * (part + 1))
    findings = Findings(
        histograms={"delivery": told.encoded(), "connect": told.encoded()},
        pages=ledger.dump(),
        logs=[log.dump()],
        tops={"c": Position(0, "")},
        remarks=["said by all", f"said by {part}"],
        faults=[],
        figures={"back_seconds": float(part)},
        connections=1,
        lag=0.0,
    )
    said = word(line(msgspec.structs.replace(findings, **more)))  # on its way as it is in a run
    assert isinstance(said, Findings)
    return said


def judged(*findings: Findings, ticks: tuple[Tick, ...] = (), around: Circumstances = AROUND) -> Result:
    """Return the result."""
    gathering = Gathering(len(findings), lambda _: "measure")
    for tick in ticks:
        for part in range(len(findings)):
            gathering.take(part, tick)
    return result(PROFILE, gathering, findings, around)


ANN, BOB = 1 << SPEAKER, 2 << SPEAKER


def test_processes_are_judged_together() -> None:
    """What one published the other heard; distributions are merged, of figures the largest is kept."""
    all_of_it = (ANN + 1, BOB + 1, ANN + 2)
    told = judged(found(ANN + 1, ANN + 2, heard=all_of_it), found(BOB + 1, heard=all_of_it, part=1))
    assert (True, 3, 3, 6, 0) == (
        told.audit.clean, told.audit.published, told.audit.acknowledged, told.audit.delivered, told.audit.lost,
    )  # fmt: skip
    assert (2, {"back_seconds": 1.0}) == (told.delivery.count, told.figures)
    assert ["known before", "said by all", "said by 0", "said by 1"] == told.remarks
    assert told.passed
    assert "fan-out" == told.profile["scenario"]


def test_what_one_process_published_and_another_did_not_hear_is_lost() -> None:
    """It counts for each who lacks it, and the profile's expectation is broken."""
    told = judged(found(ANN + 1, ANN + 2, heard=(ANN + 1, ANN + 2)), found(heard=(ANN + 2,), part=1))
    assert (1, False, ["lost"]) == (told.audit.lost, told.audit.clean, [it.name for it in told.broken])
    assert ["silent gap: client 1 in c, offset 1 of epoch '' as speaker 1 counts: the channel has no history"] == (
        told.audit.offences
    )
    assert not told.passed


def test_many_offences_are_counted_and_few_are_named() -> None:
    """The first of each kind, and how many more there were."""
    losers = [found(heard=(), part=it) for it in range(1, 9)]
    told = judged(found(ANN + 1, heard=(ANN + 1,)), *losers)
    assert (8, 6, "... and 3 more of kind 'silent tail'") == (
        told.audit.lost, len(told.audit.offences), told.audit.offences[-1],
    )  # fmt: skip


def test_a_fault_of_a_scenario_fails_the_run() -> None:
    """What no log can show stands among the offences."""
    told = judged(found(faults=["presence lacks somebody"]))
    assert (False, ["presence lacks somebody"]) == (told.audit.clean, told.audit.offences)


def test_a_generator_that_was_the_bottleneck_makes_no_figures() -> None:
    """Its own CPU says so, or the time in which it waited for a core; a little of that is remarked upon."""
    assert judged(found(), ticks=(Tick(at=0, busy=0.9), Tick(at=1, busy=0.9))).saturated
    waited = judged(found(), ticks=(Tick(at=0, busy=0.49, starved=0.49),))
    assert (True, []) == (waited.saturated, [it for it in waited.remarks if "for a core" in it])
    assert (True, True) == ((late := judged(found(behind=7))).saturated, late.audit.clean)
    starved = judged(found(), ticks=(Tick(at=0, busy=0.2, starved=0.3),))
    assert not starved.saturated
    assert "waited for a core 30% of the time" in starved.remarks[-1]


class Process:
    """One process of a run: what is published in it, and its clients in one channel; `epoch` where there is history."""

    def __init__(self, epoch: str = "") -> None:
        self.ledger = Ledger()
        self.top = Position(0, epoch)
        self.logs: list[Log] = []
        self.arrived = Distribution()

    def listen(self, *, slow: bool = False) -> Log:
        """Let somebody subscribe, before anything is said."""
        log = Log(f"client {len(self.logs)}", "c", self.ledger, timed=not slow)
        log.subscribed(self.top, recovered=False, asked=False)
        self.logs.append(log)
        return log

    def say(self, *numbers: int, taken: bool = True, heard: bool = True, measured: bool = True) -> None:
        """Publish these, each delivered in 1 ms to all who listen if it is `heard`."""
        for number in numbers:
            self.ledger.publishing("c", number, measured=measured)
            if taken:
                self.ledger.acknowledged("c", number)
                self.top = Position(self.top.offset + bool(self.top.epoch), self.top.epoch)
            for log in self.logs:
                if heard and log.listening:
                    log.publication(self.top.offset, number)
                    self.arrived.add(1000)

    def found(self) -> Findings:
        """Return what it found."""
        histograms = {name: self.arrived.encoded() for name in ("delivery", "acknowledge")}
        return found(
            pages=self.ledger.dump(), logs=[it.dump() for it in self.logs], tops={"c": self.top}, histograms=histograms
        )


@pytest.mark.parametrize("epoch", ["", "e"])
def test_what_never_arrived_is_in_the_percentiles(epoch: str) -> None:
    """Of what was due while measuring: half of all came in time, the latest never. Slow clients do not count."""
    process = Process(epoch)
    process.listen().attend()
    process.listen(slow=True).attend()
    process.say(ANN + 1, measured=False)
    process.say(ANN + 2, ANN + 3, ANN + 4)
    process.say(ANN + 5, heard=False)
    told = judged(process.found())
    assert (8, 1, None) == (told.delivery.count, told.delivery.missing, told.delivery.max)
    assert told.delivery.p50 == pytest.approx(1.0, rel=0.001)
    assert any(it.startswith("1 of 9 deliveries that were due") for it in told.remarks)


def test_what_was_lost_before_measuring_is_no_latency() -> None:
    """It is lost all the same."""
    process = Process()
    process.listen().attend()
    process.say(ANN + 1, measured=False, heard=False)
    process.say(ANN + 2)
    told = judged(process.found())
    assert (1, 0, 1) == (told.delivery.count, told.delivery.missing, told.audit.lost)


@pytest.mark.parametrize("epoch", ["", "e"])
def test_what_a_frozen_server_never_answered_never_arrived(epoch: str) -> None:
    """Nothing of it is lost as far as anybody knows, and half of all deliveries did not come."""
    process = Process(epoch)
    for log in (process.listen(), process.listen()):
        log.attend()
    process.say(ANN + 1, ANN + 2)
    process.say(ANN + 3, ANN + 4, ANN + 5, taken=False, heard=False)
    told = judged(process.found())
    assert (4, 6, None) == (told.delivery.count, told.delivery.missing, told.delivery.p50)
    assert (3, None) == (told.acknowledge.missing, told.acknowledge.p99)
    assert 0 == told.audit.lost


def test_what_was_due_while_the_server_was_gone_never_arrived() -> None:
    """Neither what could not be sent, nor what others sent while a client had lost its connection."""
    process = Process()
    log = process.listen()
    log.attend()
    process.say(ANN + 1)
    log.away()
    process.say(ANN + 2)
    process.ledger.unsent("c", ANN + 3, measured=True)
    log.subscribed(Position(0, ""), recovered=False, asked=False)
    process.say(ANN + 4)
    told = judged(process.found())
    assert (2, 2, 1, 0) == (
        told.delivery.count, told.delivery.missing, told.acknowledge.missing, told.audit.lost,
    )  # fmt: skip
    log.publication(0, ANN + 2)  # it was on its way
    assert 1 == judged(process.found()).delivery.missing
    log.away()
    process.say(ANN + 5)
    assert 2 == judged(process.found()).delivery.missing, "nor for one who is not back"


@pytest.mark.parametrize("epoch", ["", "e"])
def test_who_stays_away_misses_nothing(epoch: str) -> None:
    """By its own will it leaves, and comes back."""
    process = Process(epoch)
    log = process.listen()
    log.attend()
    log.away(willing=True)
    process.say(ANN + 1)
    assert 0 == judged(process.found()).delivery.missing
    log.subscribed(process.top, recovered=False, asked=False)
    process.say(ANN + 2)
    assert (1, 0) == ((told := judged(process.found()).delivery).count, told.missing)


def test_a_refusal_is_an_answer() -> None:
    """What the server refused is counted as that, and was to arrive nowhere."""
    process = Process()
    process.listen().attend()
    process.say(ANN + 1, taken=False, heard=False)
    process.ledger.refused("c", ANN + 1)
    told = judged(process.found())
    assert (0, 0) == (told.delivery.missing, told.acknowledge.missing)


def test_a_dead_subscription_is_found_whoever_judges() -> None:
    """After a return nothing comes, in a channel without history: all that its own process said since is lost."""
    process = Process()
    log = process.listen()
    log.attend()
    process.say(ANN + 1)
    log.away()
    process.say(ANN + 2)
    log.subscribed(Position(0, ""), recovered=False, asked=False)
    process.say(ANN + 3, BOB + 1, heard=False)
    told = judged(process.found())
    assert (2, False) == (told.audit.lost, told.audit.clean), told.audit
    assert any("silent tail: client 0 in c, offset 3 " in it for it in told.audit.offences)


def test_repeats_are_counted() -> None:
    """In all, and those that no return excuses; the expectation of the profile is broken by these."""
    process = Process("e")
    log = process.listen()
    process.say(ANN + 1)
    log.away()
    log.subscribed(process.top, recovered=True, asked=True)
    log.publication(1, ANN + 1)
    assert (1, 0, []) == ((told := judged(process.found())).audit.repeats, told.audit.twice, told.broken)
    process.say(ANN + 2)
    log.publication(2, ANN + 2)
    told = judged(process.found())
    assert (2, 1, ["repeats"]) == (told.audit.repeats, told.audit.twice, [it.name for it in told.broken])


def test_processes_that_know_more_are_believed() -> None:
    """One process saw the stream further, another not at all: neither what is missing nor its epoch is forgotten."""
    ahead, behind = Process("e"), Process("e")
    behind.listen()
    ahead.say(ANN + 1, ANN + 2)
    pages = found(pages=ahead.ledger.dump(), logs=[], tops={"c": Position(2, "e")})
    late = behind.found()
    for order in ((pages, late), (late, pages)):
        assert 2 == judged(*order).audit.lost
    blind = found(pages={}, logs=[], tops={"c": Position(0, "")})
    assert 2 == judged(pages, late, blind).audit.lost


def test_two_epochs_are_reported() -> None:
    """Unless somebody was told that the stream began anew: then the new one counts."""
    one, other = Process("e"), Process("f")
    told = judged(one.found(), other.found())
    assert (1, False) == (len(told.audit.offences), told.audit.clean)
    assert "while another process saw the stream in" in told.audit.offences[0]
    log = one.listen()
    log.told("unsubscribed")
    log.subscribed(Position(0, "f"), recovered=False, asked=True)
    for order in ((one, other), (other, one)):
        assert judged(*(it.found() for it in order)).audit.clean


def test_a_run_that_ended_before_it_measured_says_so() -> None:
    """Its figures are of nothing."""
    around = Circumstances(**{name: getattr(AROUND, name) for name in AROUND.__slots__} | {"measured": 0.0})
    assert "nothing was measured" in judged(found(), around=around).remarks[-1]


def test_failures_are_said_as_they_are() -> None:
    """What a process says when it cannot go on."""
    assert Failed("why", bad=True) == word(line(Failed("why", bad=True)))
