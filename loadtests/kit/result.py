"""What a run of the kit leaves behind: the one shape of its JSON, its tables and its page.

Times are seconds and latencies milliseconds unless a name says otherwise. A histogram travels as the library's own
compressed text, so that runs can be merged and drawn later.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

VERSION: Final = 1  # of the JSON
SATURATED: Final = 0.85  # share of a second, computing or waiting for a core, from which on the generator is measured
TOLERATED: Final = 0.01  # share of the seconds that may be so: what the 99th percentile does not see


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """One distribution, in milliseconds; all 0 when nothing was due. `hdr`: the whole histogram, in microseconds.

    `missing`: what was due and never came. Percentiles are of both together, the missing later than everything: one
    that falls among them is None, never. Without them a server that stops answering would look fast: only what it
    answered in time would be counted. To give no figure at all for one lost publication of a million would say less.
    """

    count: int = 0
    p50: float | None = 0.0
    p90: float | None = 0.0
    p99: float | None = 0.0
    p999: float | None = 0.0
    max: float | None = 0.0
    hdr: str = ""
    missing: int = 0


class NodeSample(msgspec.Struct, frozen=True, kw_only=True):
    """One node at one moment, as its `/metrics` tells; `at` since the beginning of the run."""

    node: str
    at: float
    cpu: float = 0.0  # share of a core since the sample before
    resident: int = 0  # bytes
    lag: float = 0.0  # p99 of the loop lag since the sample before, ms
    connections: int = 0
    queue: int = 0  # bytes that wait for slow clients
    slow: int = 0  # clients closed for not reading, since the sample before


class Second(msgspec.Struct, frozen=True, kw_only=True):
    """All generator processes together, in one second of the run; counts are of this second alone."""

    at: int
    phase: str  # ramp, warm-up, measure, settle
    connected: int = 0  # at its end
    published: int = 0
    acknowledged: int = 0
    delivered: int = 0
    errors: int = 0
    closes: int = 0
    delivery: Percentiles = Percentiles()
    busy: float = 0.0  # share of a core that the process computed which had the least time to spare
    starved: float = 0.0  # share of the second in which that one waited for a core

    @property
    def saturated(self) -> bool:
        """Whether a process had no time to spare in it."""
        return self.busy + self.starved > SATURATED


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What the oracle found; counts of the whole run."""

    published: int = 0
    acknowledged: int = 0
    refused: int = 0
    doubtful: int = 0
    delivered: int = 0
    repeats: int = 0  # on the wire, those after a return included
    twice: int = 0  # of these, what one subscription got twice without a return between
    lost: int = 0  # never delivered and nobody told, channels without history included
    inverted: int = 0
    told: dict[str, int] = {}  # unrecovered, unsubscribed, disconnected
    offences: list[str] = []  # the first of each kind
    clean: bool = True


class GeneratorProcess(msgspec.Struct, frozen=True, kw_only=True):
    """What one process of the generator cost: shares of a core while measuring, its loop's lag p99 in ms."""

    process: int
    connections: int
    mean: float
    peak: float
    lag: float
    starved: float = 0.0  # share of the time in which it waited for a core
    over: float = 0.0  # share of the seconds in which it had no time to spare
    behind: int = 0  # publications that it was to send and never did, since it came too late

    @property
    def saturated(self) -> bool:
        """Whether it may be what was measured. A process that waits for a core is as late as one that computes."""
        return self.mean + self.starved > SATURATED or self.over > TOLERATED or self.behind > 0


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the generator ran."""

    cores: int
    model: str
    system: str
    python: str
    memory: int  # bytes


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """An expectation of the profile that did not hold."""

    name: str  # as in the profile: p99, lost, refused, ...
    wanted: float
    seen: float
    why: str = ""  # where the figures alone do not say it


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `profile`: as it was played, all defaults filled in."""

    scenario: str
    profile: dict[str, Any]
    target: str
    command: str  # that repeats it
    started: str  # ISO 8601, UTC
    machine: Machine
    versions: dict[str, str]
    measured: float  # seconds of the measure phase
    seconds: list[Second]
    nodes: list[NodeSample]
    connect: Percentiles  # from the first byte to the reply to connect
    subscribe: Percentiles
    acknowledge: Percentiles  # from when a publication should have been sent
    delivery: Percentiles  # likewise: a stalled generator or server cannot hide
    recover: Percentiles  # from the cut to the last missed publication
    audit: Audit
    closes: dict[str, int]  # by code
    refusals: dict[str, int]  # by HTTP status or error code
    generators: list[GeneratorProcess]
    broken: list[Broken]
    figures: dict[str, float] = {}  # of this scenario alone, the unit in the name: back_95_seconds, ...
    remarks: list[str]  # what a reader must know of this run: no metrics were readable, clocks differ, ...
    version: int = VERSION

    @property
    def saturated(self) -> bool:
        """Whether the generator was the bottleneck: then its figures are none."""
        return any(it.saturated for it in self.generators)

    @property
    def empty(self) -> str:
        """Return what should have happened and did not happen once: nothing is wrong with what never was."""
        rate = self.profile.get("rate")
        speaks = isinstance(rate, int | float) and rate * self.measured > max(1, len(self.generators))
        if self.measured <= 0:
            return "nothing was measured"
        if not self.connect.count:
            return "no client was ever connected"
        if speaks and not self.acknowledge.count:
            return f"{rate:,g} publications a second were due, and none was acknowledged while measuring"
        if speaks and not self.audit.delivered:
            return f"{rate:,g} publications a second were due, and nothing was delivered"
        return ""

    @property
    def passed(self) -> bool:
        """Whether it is a figure, and all that was expected held."""
        return not self.saturated and not self.broken and self.audit.clean and not self.empty
