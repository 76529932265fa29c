"""A comparison as a run would leave it."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.compare.outcome import EIGHT, MEMORY, ONE, Comparison, Entrant, Row, row
from loadtests.kit.result import Machine

MACHINE = Machine(cores=2, model="A processor", system="Linux 6", python="CPython 3.11.7", memory=24 << 30)
TITLES = {"gateway": "this gateway", "ws": "Node ws", "c-loop": "C loop"}
ROWS = [
    row("gateway", ONE, [100_000, 110_000, 105_000], busy=0.5),
    row("ws", ONE, [90_000, 91_000, 90_500]),
    row("c-loop", ONE, [125_000, 137_500, 131_250]),
    row("gateway", EIGHT, [800_000, 810_000, 805_000]),
    row("ws", EIGHT, [90_000, 130_000, 95_000]),
    row("c-loop", EIGHT, [150_000, 151_000, 150_500]),
    row("gateway", MEMORY, [5.5, 5.4, 5.6]),
    row("ws", MEMORY, [11.7, 11.8, 11.9]),
]


def entrant(name: str) -> Entrant:
    """Return one that took part."""
    return Entrant(name=name, title=TITLES[name], remark=f"how {name} is set up", versions={name: "1.2"})


def comparison(rows: list[Row] | None = None, left_out: Mapping[str, str] | None = None) -> Comparison:
    """Return a comparison of three."""
    return Comparison(
        started="2026-11-22T20:00:00+00:00",
        command="python -m loadtests compare",
        machine=MACHINE,
        engine="Valkey 8.1.8",
        subscribers=1000,
        plateau=2000,
        quick=False,
        entrants=[entrant(name) for name in TITLES],
        left_out=dict(left_out or {}),
        rows=ROWS if rows is None else rows,
    )
