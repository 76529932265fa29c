"""A soak from beginning to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import ceil, inf
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

from loadtests.oracle import verify
from loadtests.soak.faults import rounds
from loadtests.soak.leftovers import baselines, complaints, left_over
from loadtests.soak.plateau import plateau
from loadtests.soak.report import Outcome, Times
from loadtests.soak.stage import PRESENT, Options, Stage, staged
from loadtests.soak.trial import Trial, perform, readings
from loadtests.soak.watch import Watch
from tests.support.crowd import Crowd
from tests.support.crowd_records import Records, percentile

SHOWN: Final = 3  # complaints of one log that are told

Say = Callable[[str], None]


async def soak(options: Options, logs: Path, say: Say) -> Outcome:
    """Run it, telling its progress; what was broken is in the outcome. `logs`: a folder for those of the processes.

    Raises if it could not be run at all.
    """
    async with staged(logs, options) as stage:
        say(f"{len(stage.nodes)} nodes are ready")
        version = stage.valkey.command("INFO", "server")
        outcome = Outcome(options=options, valkey=version.get("valkey_version") or version["redis_version"])
        before = await baselines(stage)
        lived = {it.name: it.pid for it in stage.nodes if it is not stage.mortal}
        await _crowd(stage, options, outcome, say)
        outcome.leftovers = await left_over(stage, before)
        _look_back(stage, lived, outcome)
    return outcome


async def _crowd(stage: Stage, options: Options, outcome: Outcome, say: Say) -> None:
    """Let the crowds come, harm the stage, let everybody come back, judge, and let them go."""
    async with stage.crowded(options):
        people = list(stage.crowds)
        for it in people:
            it.ledger.keys_lost = True  # a Valkey that comes back empty
        say(f"{stage.connected} clients are there")
        watch = Watch(stage)
        async with watch.watching():
            outcome.trials = await _faults(stage, options, watch, say)
        outcome.samples = watch.samples
        settled = await asyncio.gather(*(it.settled(options.settle) for it in people))
        say(f"everybody is there and has everything after {max(settled):.1f} s")
        for it in people:
            outcome.verdicts[it.load.namespace] = verify(it.ledger, it.logs, await it.tops())
            if it.load.namespace == PRESENT:
                outcome.failures += await _wrongly_present(it)
        for node, reading in (await readings(stage)).items():
            if bugs := reading.samples.value("gateway_errors_total"):
                outcome.failures.append(f"{node}: {bugs:g} bugs at run time")
        for it in people:
            outcome.failures += it.records.failures
            it.records.failures.clear()
    say("everybody has gone")
    _measure([it.records for it in people], watch, outcome)


async def _faults(stage: Stage, options: Options, watch: Watch, say: Say) -> list[Trial]:
    """Do one fault after the other, as many as the time is for; it takes longer where clients are slow to come back."""
    names = rounds(options.faults, Random(options.seed))
    trials: list[Trial] = []
    due = options.fault_every / 2
    for number in range(1, ceil(options.seconds / options.fault_every - 0.5) + 1):
        await asyncio.sleep(max(0.0, due - watch.now))
        trial = await perform(stage, watch, number, next(names))
        trials.append(trial)
        say(str(trial))
        due = max(due + options.fault_every, watch.now)
    await asyncio.sleep(max(0.0, options.seconds - watch.now))
    return trials


async def _wrongly_present(people: Crowd) -> list[str]:
    """Compare who presence says is there with who is, channel by channel; everybody is, by now."""
    wrong = []
    for channel in people.channels:
        there = sorted(it.name for it in people.clients if channel in it.logs)
        status, answer = await people.api.call(people.nodes[0], "presence", {"channel": channel})
        assert status == 200, (status, answer)
        said = sorted(info["user"] for info in answer["result"]["presence"].values())
        if there != said:
            missing, ghosts = sorted(set(there) - set(said)), sorted(set(said) - set(there))
            wrong.append(
                f"presence of {channel}: {len(said)} are there instead of {len(there)}; "
                f"missing {missing}, too many {ghosts}"
            )
    return wrong


def _look_back(stage: Stage, lived: dict[str, int], outcome: Outcome) -> None:
    """Judge memory and logs."""
    for node in stage.nodes:
        found = complaints(node.name, node.log)
        outcome.failures += found[:SHOWN]
        if len(found) > SHOWN:
            outcome.failures.append(f"{node.name}: {len(found) - SHOWN} more such lines")
        if lived.get(node.name, node.pid) != node.pid:
            outcome.failures.append(f"{node.name} did not live through")
    outcome.plateaus = [
        plateau(name, [(it.at, it.memory[name]) for it in outcome.samples if name in it.memory]) for name in lived
    ]


def _measure(records: Sequence[Records], watch: Watch, outcome: Outcome) -> None:
    """Put the measurements of the crowds together; it takes seconds."""
    outcome.delivery = Times(*(max(it.latency(share) for it in records) for share in (0.5, 0.99)))
    begins = [watch.began + it.at for it in outcome.trials]
    ends = [watch.began, *(begin + it.caught_up for begin, it in zip(begins, outcome.trials, strict=True))]
    outcome.quiet = median(
        it.latency(0.99, end, begin) for it in records for end, begin in zip(ends, [*begins, inf], strict=True)
    )
    took = [seconds for it in records for _, seconds in it.handshakes]
    outcome.handshake = Times(percentile(took, 0.5), percentile(took, 0.99))
    outcome.handshakes = len(took)
    for it in records:
        outcome.closes += it.codes()
