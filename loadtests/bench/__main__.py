"""`make bench`: what one core does, each row beside its reference in one run; server on one core, load on the other.

A row is the median of five runs of slices that take turns with those of its reference; a spread over 15 % voids it.
Progress: . a round was taken, ~ repeated since a core was slow for a while (a neighbour), ! taken all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from loadtests.bench import shipped
from loadtests.bench.figures import HEAD, Figure
from loadtests.bench.rig import generator_command, valkey
from loadtests.bench.scenarios import SCENARIOS
from loadtests.bench.scenarios.contract import Bench
from loadtests.bench.slices import FULL, QUICK, Amount
from loadtests.identity import Issuer
from loadtests.peers.registry import STOCK

LIST: Final = "list"
TRIAL: Final = "only a trial"
REFERENCE: Final = f"fan-out, {STOCK.title}"
EPILOG: Final = """\
examples:
  python -m loadtests.bench                       every row but those that must be named; about 25 minutes
  python -m loadtests.bench fan-out 1:1           some of them
  python -m loadtests.bench crowd --minutes 10    18,000 connections on one node
  LOAD_INTERPRETED=1 python -m loadtests.bench    the gateway as it is written, even if `make compiled` was run
  python -m loadtests.bench --quick               see that everything works; what is printed are no figures
"""


def say(text: str) -> None:
    """Show progress."""
    sys.stderr.write(text)
    sys.stderr.flush()


async def run(names: Sequence[str], amount: Amount, minutes: float = 0.0) -> AsyncIterator[Figure]:
    """Yield the rows as they are measured; one scenario after the other, each with a Valkey of its own."""
    issuer = Issuer()
    with issuer.serving() as jwks:
        for name in names:
            say(f"{name} ")
            with valkey() as redis:
                figures = await SCENARIOS[name].play(Bench(issuer, jwks, redis, amount, say, minutes))
            say("\n")
            for it in figures:
                yield replace(it, wrong=it.wrong or TRIAL) if amount.quick else it


async def _table(figures: AsyncIterator[Figure]) -> list[Figure]:
    """Print each row when it is there: what has been measured is not lost when something later fails."""
    print(_machine())
    print(HEAD, flush=True)
    rows = []
    async for figure in figures:
        print(figure.row(), flush=True)
        rows.append(figure)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; 1 if a floor was missed or a figure is void, 2 if the whole run is, 0 if --quick."""
    options = _parser().parse_args(arguments)
    if options.scenario == [LIST]:
        return _listed()
    names = options.scenario or [it.name for it in SCENARIOS.values() if not it.asked]
    figures = asyncio.run(_table(run(names, QUICK if options.quick else FULL, options.minutes)))
    if options.json:
        options.json.write_text(json.dumps([it.told() for it in figures], indent=1), encoding="utf-8")
    return 0 if options.quick else _verdict(figures)


def _verdict(figures: Sequence[Figure]) -> int:
    if any(it.name == REFERENCE and not it.met for it in figures):
        print("RUN VOID: the stock server is crippled on this machine now, and compares with nothing")
        return 2
    return 0 if all(it.met and not it.void for it in figures) else 1


def _machine() -> str:
    language = "Python" if "loadtests.bench.generator" in generator_command() else "C"
    where = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{where}, gateway {shipped.how()}, generator in {language}"


def _listed() -> int:
    for it in SCENARIOS.values():
        print(f"{it.name:<14} {it.about}{' (only if named)' if it.asked else ''}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "scenario", nargs="*", choices=[*SCENARIOS, LIST, []], metavar="scenario", help="`list` shows them; none: all"
    )
    parser.add_argument("--quick", action="store_true", help="few and short slices with few clients: no figures")
    parser.add_argument("--minutes", type=float, default=0.0, help="length of a scenario whose length is its point")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write rows and runs to this file")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
