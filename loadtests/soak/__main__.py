"""`make soak`: run a soak, say what came out of it, and end with 1 if anything was broken."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from loadtests.soak.faults import FAULTS
from loadtests.soak.report import Outcome, page, picture
from loadtests.soak.run import soak
from loadtests.soak.stage import Options

IMAGES: Final = "images"  # beside the page
MOST_SEED: Final = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak as the command line says; return the exit code."""
    asked = _parser().parse_args(arguments)
    options = Options(
        seconds=asked.minutes * 60,
        clients=asked.clients,
        fault_every=asked.fault_every,
        seed=secrets.randbelow(MOST_SEED) if asked.seed is None else asked.seed,
        faults=asked.fault,
    )
    say(f"soak: {options.clients} clients for {asked.minutes:g} min, seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        logs = asked.logs or Path(folder)
        logs.mkdir(parents=True, exist_ok=True)
        outcome = uvloop.run(soak(options, logs, say))
    if asked.report is not None:
        write(outcome, asked.report)
        say(f"wrote {asked.report}")
    summarize(outcome)
    return 1 if outcome.offences else 0


def say(line: str) -> None:
    """Tell the progress."""
    print(line, flush=True)


def summarize(outcome: Outcome) -> None:
    """Say what came out."""
    for name, verdict in outcome.verdicts.items():
        say(f"{name}: {verdict}")
    for it in outcome.plateaus:
        slices = ", ".join(f"{value:.1f}" for value in it.slices)
        say(f"{it.name}: memory {it.first:.1f} MiB, then {slices} MiB, a rise of {it.rise:+.1f} MiB")
    offences = outcome.offences
    for offence in offences:
        say(f"OFFENCE: {offence}")
    say(f"{len(outcome.trials)} faults, {outcome.handshakes} handshakes: {len(offences)} offences")


def write(outcome: Outcome, report: Path) -> None:
    """Write the page, and its figure into the folder of images beside it."""
    image = report.parent / IMAGES / f"{report.stem}.svg"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_text(picture(outcome), encoding="utf-8")
    report.write_text(page(outcome, f"{IMAGES}/{image.name}"), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--fault-every", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, help="of an earlier run, for the same faults in the same order")
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), help="only this; may be given repeatedly")
    parser.add_argument("--report", type=Path, metavar="PAGE.md", help="where to write the report")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="where to keep the logs of nodes and Valkey")
    parser.set_defaults(fault=[])
    return parser


if __name__ == "__main__":
    sys.exit(main())
