"""`make gate`: fail if a delivery costs over 15 % more CPU time than recorded; never for noise, which is no verdict.

Why it is made so: docs/decisions, "The gate compares CPU time with two references".
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Final

from loadtests.bench.gate.record import WRITES, Record, Round, read, recorded, write
from loadtests.bench.gate.rounds import SLICE, Kind, kinds, one_round
from loadtests.bench.gate.verdict import Judgement, Outcome, judge
from loadtests.bench.nodes import SERVE
from loadtests.peers.registry import C_LOOP
from loadtests.watching.machine import machine

LONGEST: Final = 45.0  # seconds of measuring; a quiet machine needs half of it
FOR_RECORD: Final = 40  # rounds


@dataclass(slots=True)
class Findings:
    """The rounds so far, and what they say."""

    record: Record
    rounds: list[Round] = field(default_factory=list)
    disturbed: Counter[str] = field(default_factory=Counter)

    def take(self, it: Round) -> None:
        """Count a round, or note that it was disturbed."""
        if it.disturbed:
            self.disturbed[it.disturbed] += 1
        else:
            self.rounds.append(it)

    @property
    def judgements(self) -> dict[str, Judgement]:
        """Each kind of load by itself: one may fall while the others hold."""
        bound = self.record.bound(self.rounds) if self.rounds else 0.0
        if self.rounds and not bound:
            foreign = Judgement(Outcome.OPEN, 0.0, why="the references are nothing like those of the record")
            return dict.fromkeys(WRITES, foreign)
        return {kind: judge(self.record.speeds(kind, self.rounds), bound) for kind in WRITES}

    @property
    def outcome(self) -> Outcome:
        """A fall of one is a fall; all must hold to hold."""
        found = {it.outcome for it in self.judgements.values()}
        if Outcome.FELL in found:
            return Outcome.FELL
        return Outcome.HOLDS if found == {Outcome.HOLDS} else Outcome.OPEN


async def gate(record: Record, *, program: Sequence[str] = SERVE, longest: float = LONGEST) -> Findings:
    """Measure until there is a verdict, or for `longest` seconds."""
    findings = Findings(record)
    async with kinds(program) as every:
        stop = time.monotonic() + longest
        while findings.outcome is Outcome.OPEN and time.monotonic() < stop:
            findings.take(await _timed_round(every))
            every.reverse()  # what comes first is another one each time
    return findings


async def record_anew(rounds: int) -> Record:
    """Measure so many undisturbed rounds. Raises TimeoutError: the machine is not quiet."""
    taken: list[Round] = []
    async with asyncio.timeout(rounds * 10), kinds() as every:
        while len(taken) < rounds:
            it = await _timed_round(every)
            if it.disturbed:
                print(f"a round does not count: {it.disturbed}", file=sys.stderr)
            else:
                taken.append(it)
    here = machine()
    about = (
        f"{datetime.now(UTC):%Y-%m-%d}, {here.model}, {platform.python_implementation()} {platform.python_version()}"
    )
    return recorded(taken, about)


async def _timed_round(every: Sequence[Kind]) -> Round:
    return await one_round(every, SLICE * len(every))


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 1 for a fall, 0 if speed holds or nothing can be said, which is printed; 2 without a record."""
    options = _parser().parse_args(arguments)
    if why := _impossible():
        print(f"gate: {Outcome.OPEN.value}: {why}")
        return 0
    if options.record:
        write(asyncio.run(record_anew(FOR_RECORD)))
        return 0
    try:
        record = read()
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        print(f"gate: there is no record to compare with ({error}): make gate ARGS=--record", file=sys.stderr)
        return 2
    return report(asyncio.run(gate(record, longest=options.seconds)))


def report(findings: Findings) -> int:
    """Print what was found; return the exit code."""
    print(f"gate: CPU time of a delivery beside {findings.record.about}; {len(findings.rounds)} rounds")
    if findings.rounds:
        bound = findings.record.bound(findings.rounds)
        likeness = findings.record.likeness(findings.rounds)
        print(f"  references differ from the record by a factor of {likeness:.2f}; a speed below {bound:.2f} is a fall")
        for kind, it in findings.judgements.items():
            cost = median(round_.costs[kind] for round_ in findings.rounds)
            span = f"{it.low:.2f} to {it.high:.2f}"
            print(
                f"  {kind:<8} {cost:7.2f} us   speed {it.middle:.2f} ({span})   {it.outcome.value}   {it.why}".rstrip()
            )
    for why, times in findings.disturbed.most_common(3):
        print(f"  {times} of {len(findings.rounds) + findings.disturbed.total()} rounds do not count: {why}")
    print(f"gate: {findings.outcome.value}")
    return 1 if findings.outcome is Outcome.FELL else 0


def _impossible() -> str:
    if (os.cpu_count() or 1) < 2:
        return "one core: the load would be measured with the server"
    return C_LOOP.missing()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make gate", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write down what this machine measures now")
    parser.add_argument("--seconds", type=float, default=LONGEST, help="how long to look for a verdict")
    return parser


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
