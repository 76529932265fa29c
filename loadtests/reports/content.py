"""All that a report says in words, in its order: the terminal and the page show the same. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from loadtests.kit.expectations import measured
from loadtests.kit.result import Machine, Result, Second
from loadtests.reports import words
from loadtests.reports.tables import Table, by_node, tables
from loadtests.reports.verdict import Verdict, verdict

MEASURE: Final = "measure"
SHORT: Final = 0.98  # share of the planned time below which a run was ended early
ABOUT: Final = ("scenario", "about")  # of the profile: said elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFigure:
    """One number, and what makes it understood."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One report. `facts` and `profile` are pairs of a name and what it is."""

    title: str
    about: str
    verdict: Verdict
    key: list[KeyFigure]
    tables: list[Table]
    remarks: list[str]
    profile: list[tuple[str, str]]
    facts: list[tuple[str, str]]
    command: str


def content(result: Result) -> Content:
    """Return what is to be said of a run; of a void one no latency and no rate."""
    judged = verdict(result)
    void = judged.kind == "void"
    return Content(
        title=result.scenario,
        about=str(result.profile.get("about") or ""),
        verdict=judged,
        key=[] if void else list(_key(result)),
        tables=list(tables(result, void=void)),
        remarks=result.remarks,
        profile=list(_fields(result.profile)),
        facts=list(_facts(result)),
        command=result.command,
    )


# --- inside


def _key(result: Result) -> Iterator[KeyFigure]:
    seconds = [it for it in result.seconds if it.phase == MEASURE]
    yield from _throughput(result, seconds)
    it = result.delivery
    if it.count or it.missing:
        yield KeyFigure(label="delivery, p50", value=words.latency(it.p50), note=f"p90 {words.latency(it.p90)}")
        rest = f"p99.9 {words.latency(it.p999)}, max {words.latency(it.max)}"
        yield KeyFigure(label="delivery, p99", value=words.latency(it.p99), note=rest)
    if result.recover.count:
        it = result.recover
        yield KeyFigure(label="recovery, p99", value=words.latency(it.p99), note=f"p50 {words.latency(it.p50)}")
    if seconds:
        most = max(it.connected for it in seconds)
        note = f"connecting took p99 {words.latency(result.connect.p99)}" if result.connect.count else ""
        yield KeyFigure(label="connections", value=words.count(most), note=note)
    yield from _cost(result)
    if result.audit.published:
        note = f"of {words.count(result.audit.published)} published"
        yield KeyFigure(label="lost", value=words.count(result.audit.lost), note=note)
    if result.delivery.missing:
        note = f"of {words.count(result.delivery.count + result.delivery.missing)} that were due while measuring"
        yield KeyFigure(label="never delivered", value=words.count(result.delivery.missing), note=note)
    for name, value in result.figures.items():
        label, told = words.named(name, value)
        yield KeyFigure(label=label, value=told)


def _throughput(result: Result, seconds: list[Second]) -> Iterator[KeyFigure]:
    delivered = sum(it.delivered for it in seconds)
    published = sum(it.published for it in seconds)
    if delivered:
        best = f"best second {words.count(max(it.delivered for it in seconds))}"
        yield KeyFigure(label="deliveries/s", value=words.rate(delivered / result.measured), note=best)
    if published:
        asked = words.field(result.profile, "rate")
        note = f"{words.rate(asked)} asked for" if asked else ""
        yield KeyFigure(label="publications/s", value=words.rate(published / result.measured), note=note)


def _cost(result: Result) -> Iterator[KeyFigure]:
    """Yield what the nodes used; CPU of all together, memory of the largest."""
    courses = by_node(measured(result)).values()
    if not courses:
        return
    cpu = sum(sum(it.cpu for it in course) / len(course) for course in courses)
    of = f"{len(courses)} nodes together" if len(courses) > 1 else "of a core"
    yield KeyFigure(
        label="CPU of the nodes" if len(courses) > 1 else "CPU of the node", value=words.share(cpu), note=of
    )
    largest = max(courses, key=lambda course: course[-1].resident)
    grown = largest[-1].resident - largest[0].resident
    sign = "+" if grown >= 0 else ""
    label = "memory of the largest node" if len(courses) > 1 else "memory of the node"
    note = f"{sign}{words.size(grown)} while measuring"
    yield KeyFigure(label=label, value=words.size(largest[-1].resident), note=note)


def _fields(profile: Mapping[str, Any], folder: str = "") -> Iterator[tuple[str, str]]:
    for name, value in profile.items():
        if isinstance(value, Mapping):
            yield from _fields(value, f"{folder}{name}.")
        elif value is not None and name not in ABOUT:
            yield f"{folder}{name}", _value(value)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,g}" if isinstance(value, float) else str(value)


def _facts(result: Result) -> Iterator[tuple[str, str]]:
    yield "target", result.target
    yield "started", result.started
    yield "measured", _measured(result)
    yield "generator", _machine(result.machine)
    yield "versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())


def _measured(result: Result) -> str:
    planned = words.field(result.profile, "duration")
    early = result.measured < SHORT * planned
    return words.span(result.measured) + (f" of {words.span(planned)}: ended early" if early else "")


def _machine(it: Machine) -> str:
    return f"{it.cores} cores, {it.model}, {words.size(it.memory)}, {it.system}, {it.python}"
