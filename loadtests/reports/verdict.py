"""What a report says first: passed, what was broken, or why there are no figures and what to do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from loadtests.kit.result import SATURATED, Broken, GeneratorProcess, Result
from loadtests.reports import words

TIMES: Final = frozenset(
    {"p50", "p99", "connect_p99", "recover_p99", "lag_p99"}
)  # no figures where the generator was what was measured
EXPECTED: Final[Mapping[str, tuple[str, Callable[[float], str]]]] = {
    "p50": ("delivery, p50", words.latency),
    "p99": ("delivery, p99", words.latency),
    "connect_p99": ("connecting, p99", words.latency),
    "recover_p99": ("coming back, p99", words.latency),
    "lost": ("publications lost", words.count),
    "repeats": ("publications that a subscription got twice", words.count),
    "refused": ("refusals", words.count),
    "closed": ("connections closed without being part of the plan", words.count),
    "lag_p99": ("loop lag of a node, p99", words.latency),
    "resident_growth": ("growth of a node's memory", lambda mib: words.size(mib * (1 << 20))),
}
SHOWN: Final = 12  # offences


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a run ended; `points`: what was broken or is wrong with it, `advice`: what to do about it."""

    kind: Literal["passed", "failed", "void"]
    headline: str
    points: list[str]
    advice: list[str]


def verdict(result: Result) -> Verdict:
    """Judge a run."""
    offences = list(_offences(result))
    if result.saturated:
        return Verdict(
            kind="void",
            headline="VOID: the generator was saturated, so there are no figures",
            points=[_saturation(result), *offences],
            advice=list(_relief(result)),
        )
    if result.measured <= 0:
        headline = "VOID: nothing was measured"
        return Verdict(kind="void", headline=headline, points=[*_too_short(result), *offences], advice=[])
    if not result.passed:
        wrong = "1 thing" if len(offences) == 1 else f"{len(offences)} things"
        return Verdict(kind="failed", headline=f"FAILED: {wrong} did not hold", points=offences, advice=[])
    return Verdict(kind="passed", headline="PASSED: all that was expected held", points=[], advice=[])


# --- inside


def _offences(result: Result) -> Iterator[str]:
    hidden = TIMES if result.saturated else frozenset()
    yield from (_broken(it) for it in result.broken if it.name not in hidden)
    if result.empty and not result.saturated:
        yield result.empty
    if not result.audit.clean:
        found = result.audit.offences or ["the audit of what was published and delivered found faults"]
        yield from found[:SHOWN]
        if len(found) > SHOWN:
            yield f"and {len(found) - SHOWN} more that the audit found"


def _broken(it: Broken) -> str:
    name, write = EXPECTED.get(it.name, (it.name.replace("_", " "), words.number))
    if it.why:
        return f"{name}: at most {write(it.wanted)} was expected, but {it.why}"
    return f"{name}: {write(it.seen)}, at most {write(it.wanted)} was expected"


def _saturation(result: Result) -> str:
    over = [it for it in result.generators if it.saturated]
    most, waited = max(it.mean for it in over), max(it.starved for it in over)
    text = (
        f"{len(over)} of {len(result.generators)} generator processes used up to {words.share(most)} of a core while "
        f"measuring, and waited for one up to {words.share(waited)} of the time; over {words.share(SATURATED)} "
        f"together in up to {words.share(max(it.over for it in over))} of the seconds."
    )
    if behind := sum(it.behind for it in over):
        text += f" {words.count(behind)} publications came so late that they were never sent."
    return f"{text} So latencies and rates may be the generator's own: none are shown."


def _relief(result: Result) -> Iterator[str]:
    processes, cores = len(result.generators), result.machine.cores
    if waited := any(_waits(it) for it in result.generators):
        yield "Let nothing else run on the generator's cores: it waited for them longer than it used them."
    if processes < cores and not waited:  # one that found no core finds none for two
        more = min(cores, 2 * processes)
        yield f"Spread the load over more processes: --processes {more} (this run had {processes})."
    yield f"Use a machine with more cores (this one has {cores}), or several machines, each with a part of the load."
    yield "Keep the servers off the generator's cores: put them on other machines, or give it cores with --cores."
    if rate := words.field(result.profile, "rate"):
        yield f"Or ask for less: --set rate={rate / 2:g}."


def _waits(it: GeneratorProcess) -> bool:
    return it.saturated and it.starved > it.mean


def _too_short(result: Result) -> Iterator[str]:
    before = sum(words.field(result.profile, it) for it in ("ramp", "warm_up"))
    yield f"The run ended before its measure phase, which begins after {words.span(before)} of ramp and warm-up."
