"""The page about a soak, in Markdown, and its figure."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from os import cpu_count
from typing import Final, NamedTuple

import psutil

import gateway
from loadtests.oracle import Verdict
from loadtests.reports.drawing import Line, Panel, course
from loadtests.soak.leftovers import Leftover, summed
from loadtests.soak.plateau import MOST, RISE, Plateau
from loadtests.soak.stage import BACK_OFF_CAP, KEPT_SHARE, NODES, Options
from loadtests.soak.trial import BACK, Trial
from loadtests.soak.watch import Sample

SHOWN: Final = 20  # offences on the page
HEAD: Final = """
<!-- Written by loadtests/soak. -->

# Soak

{clients:,} clients connect, subscribe, publish, go and come back, all the time, for {time}, and there is a fault
every {every:g} s. They take any of {nodes} nodes; one Valkey stands behind a proxy that can harm what passes.
{kept:.0%} of the clients are in channels with history, to which a backend publishes that repeats what was not
acknowledged; the others are in channels with history, presence, joins and leaves, to which clients publish. Every
message is numbered, and an oracle compares what was published with what each client saw. In the end everybody goes,
and nothing may be left over.
"""
FAULTS: Final = f"""
Times are seconds since the fault began. *Served*: until nobody was without service against their will, the clients'
back-off of up to {BACK_OFF_CAP:g} s between two tries included. *Caught up*: until all had everything the streams
held, looked at from the end of the fault on, and at most {BACK:g} s after it. *Repaired*: gaps that nodes mended,
clients noticing nothing. *Told*: clients that heard that something may be missing in one of their channels.
*Publishes*: attempts that were refused, and those without an answer that tells what came of them.
"""
ORACLE: Final = """
*Told* counts every time that a client heard that something may be missing: its stream began anew with a server that
was empty. Publishers that repeat themselves leave nothing refused or in doubt.
"""
MEMORY: Final = f"""
Medians of the resident memory in MiB. Allocators keep what they have, so plateaus are compared: no slice of the
second half may be more than {MOST:g} times the second quarter, in which nearly every kind of fault has been met, and
the straight line through the second half may rise by {RISE:.0%} of it at most.
"""
LEFT_OVER: Final = """
Summed over the nodes. Allowed are the tasks, timers and open files of nodes before anybody came, and the leases and
pub/sub channels of nodes that run. Histories and idempotency keys stay until their time to live is over.
"""
AGAIN: Final = """
```sh
make soak ARGS="--minutes {minutes:g} --clients {clients} --seed {seed} --report docs/soak.md"
```

The seed decides which faults come and whom they hit, not where the clock of a machine falls between them.
"""


class Times(NamedTuple):
    """Percentiles in seconds."""

    p50: float = 0.0
    p99: float = 0.0

    def __str__(self) -> str:
        """Return them in milliseconds."""
        return f"p50 {_ms(self.p50)}, p99 {_ms(self.p99)}"


@dataclass(slots=True, kw_only=True)
class Outcome:
    """All that came out of a run; `offences` empty: it was passed."""

    options: Options
    valkey: str = ""  # its version
    trials: Sequence[Trial] = ()
    samples: Sequence[Sample] = ()
    verdicts: dict[str, Verdict] = field(default_factory=dict)  # by namespace
    plateaus: Sequence[Plateau] = ()
    leftovers: Sequence[Leftover] = ()
    delivery: Times = field(default_factory=Times)
    quiet: float = 0.0  # p99 of deliveries in seconds, the median of the times between faults
    handshake: Times = field(default_factory=Times)
    handshakes: int = 0
    closes: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)  # whatever else went wrong

    @property
    def offences(self) -> list[str]:
        """Everything that should not have been."""
        return [
            *(it.offence for it in self.trials if it.offence),
            *(f"{name}: {verdict}" for name, verdict in self.verdicts.items() if not verdict.clean),
            *(it.offence for it in self.plateaus if it.offence),
            *(it.offence for it in self.leftovers if it.offence),
            *self.failures,
        ]


def page(outcome: Outcome, figure: str) -> str:
    """Return the report; `figure` is where its picture lies, as the page sees it."""
    options = outcome.options
    asked = {"clients": options.clients, "minutes": options.seconds / 60, "seed": options.seed}
    parts = [
        HEAD.format(kept=KEPT_SHARE, every=options.fault_every, nodes=NODES, time=_span(options.seconds), **asked),
        _result(outcome.offences),
        _facts(outcome),
        f"![Connections, deliveries and memory over time, with a mark for each fault]({figure})",
        "## Faults",
        FAULTS,
        _faults(outcome.trials),
        "## The oracle's verdict",
        ORACLE,
        _oracle(outcome),
        "## Memory of the nodes that lived through",
        MEMORY,
        *_memory(outcome.plateaus),
        "## Left over",
        LEFT_OVER,
        _left_over(outcome.leftovers),
        "## Again",
        AGAIN.format(**asked),
    ]
    return "\n\n".join(stripped for part in parts if (stripped := part.strip("\n"))) + "\n"


def picture(outcome: Outcome) -> str:
    """Return the figure."""
    samples = outcome.samples
    seconds = max((it.at for it in samples), default=1.0)
    memory = [
        Line(name, [(it.at, it.memory.get(name)) for it in samples])
        for name in sorted({name for it in samples for name in it.memory})
    ]
    panels = [
        Panel(title="connections", lines=[Line("connections", [(it.at, it.connections) for it in samples])]),
        Panel(title="deliveries a second", lines=[Line("deliveries", [(it.at, it.deliveries) for it in samples])]),
        Panel(title="memory of a node, MiB", lines=memory),
    ]
    told = f"Connections, deliveries a second and the memory of each node, with {len(outcome.trials)} faults marked."
    return course(panels, seconds=seconds, told=told, marks=[it.at for it in outcome.trials])


# --- inside


def _result(offences: Sequence[str]) -> str:
    if not offences:
        return "Result: **passed**, without an offence."
    named = "\n".join(f"- {it.splitlines()[0]}" for it in offences[:SHOWN])
    return f"Result: **failed**, with {len(offences)} offences:\n\n{named}"


def _facts(outcome: Outcome) -> str:
    memory = psutil.virtual_memory().total / 2**30
    deliveries = sum(it.deliveries for it in outcome.verdicts.values())
    machine = f"{cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}; everything runs on it"
    versions = f"gateway {gateway.__version__}, Python {platform.python_version()}, uvloop {version('uvloop')}"
    return _table(
        ("", ""),
        [
            ("machine", machine),
            ("versions", f"{versions}, Valkey {outcome.valkey}"),
            ("seed", str(outcome.options.seed)),
            ("handshakes", f"{outcome.handshakes:,}; {outcome.handshake}, the clients' own back-off aside"),
            (
                "deliveries",
                f"{deliveries:,}; {outcome.delivery} from call to client; p99 between faults {_ms(outcome.quiet)}",
            ),
            ("closes that clients saw", _counted(outcome.closes)),
        ],
    )


def _faults(trials: Iterable[Trial]) -> str:
    head = ("", "at", "fault", "lasted", "served", "caught up", "closes", "repaired", "told", "publishes")
    return _table(head, map(_row, trials))


def _row(trial: Trial) -> Sequence[str]:
    at = round(trial.at)
    publishes = ((trial.refused, "refused"), (trial.doubtful, "in doubt"))
    return (
        str(trial.number),
        f"{at // 60}:{at % 60:02}",
        f"**{trial.name}** {trial.detail}".strip(),
        f"{trial.lasted:.1f}",
        f"{trial.served:.1f}" if trial.served else "-",
        "**never**" if trial.offence else f"{trial.caught_up:.1f}",
        _counted(trial.closes),
        f"{trial.repairs:,}",
        f"{trial.told:,}",
        ", ".join(f"{count:,} {what}" for count, what in publishes if count) or "-",
    )


def _oracle(outcome: Outcome) -> str:
    head = ("channels", "verdict", "published", "refused", "in doubt", "deliveries", "repeated on the wire", "told")
    return _table((*head, "lost silently", "out of order", "twice"), (_judged(*it) for it in outcome.verdicts.items()))


def _judged(name: str, verdict: Verdict) -> Iterator[str]:
    yield f"`{name}:*` ({verdict.channels})"
    yield "clean" if verdict.clean else "**broken**"
    for count in (verdict.acknowledged, verdict.refused, verdict.doubtful, verdict.deliveries, verdict.repeats):
        yield f"{count:,}"
    yield f"{verdict.tells.total():,}"
    yield str(verdict.silent)
    yield str(verdict.count("inversion", "disordered stream"))
    yield str(verdict.count("duplicate", "two histories"))


def _memory(plateaus: Sequence[Plateau]) -> Iterable[str]:
    if not all(it.judged for it in plateaus):
        yield "This run was too short to judge it."
    rows = (
        (it.name, f"{it.first:.1f}", ", ".join(f"{value:.1f}" for value in it.slices), f"{it.rise:+.1f}")
        for it in plateaus
    )
    yield _table(("node", "second quarter", "slices of the second half", "rise of the second half"), rows)


def _left_over(found: Iterable[Leftover]) -> str:
    rows = ((it.where, it.what.replace("_", " "), f"{it.found:,.0f}", f"{it.allowed:,.0f}") for it in summed(found))
    return _table(("where", "what", "found", "allowed"), rows)


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(it) + " |" for it in lines)


def _counted(codes: Counter[int]) -> str:
    return ", ".join(f"{count:,} x {code}" for code, count in sorted(codes.items())) or "-"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def _span(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
