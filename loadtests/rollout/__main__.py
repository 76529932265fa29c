"""`python -m loadtests.rollout`: rehearse a rolling update, say what came out; 1 if anything was wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

from loadtests.rollout.report import FRONTS, page, picture
from loadtests.rollout.run import Outcome, rehearse
from loadtests.rollout.stage import Options


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearse as the command line says; return the exit code."""
    asked = _parser().parse_args(arguments)
    options = Options(
        clients=asked.clients, front=asked.front, delay=asked.delay, window=asked.window, publishes=asked.publishes
    )
    with tempfile.TemporaryDirectory(prefix="rollout-") as folder:
        outcome = uvloop.run(rehearse(options, Path(folder), say))
    if asked.report is not None:
        write(outcome, asked.report)
    say(f"{outcome.reconnects:.2f} reconnects a client, p99 {outcome.p99 * 1000:.0f} ms, lost: {outcome.verdict}")
    for offence in outcome.offences:
        say(f"OFFENCE: {offence}")
    return 1 if outcome.offences else 0


def say(line: str) -> None:
    """Tell the progress."""
    print(line, flush=True)


def write(outcome: Outcome, report: Path) -> None:
    """Write the page, and its figure into the folder of images beside it."""
    image = report.parent / "images" / f"{report.stem}.svg"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_text(picture(outcome), encoding="utf-8")
    report.write_text(page(outcome, f"images/{image.name}"), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    usual = Options()
    parser = argparse.ArgumentParser(prog="python -m loadtests.rollout", description=__doc__)
    parser.add_argument("--clients", type=int, default=usual.clients)
    parser.add_argument("--front", choices=sorted(FRONTS), default=usual.front)
    parser.add_argument("--delay", type=float, default=usual.delay, metavar="SECONDS")
    parser.add_argument("--window", type=float, default=usual.window, metavar="SECONDS")
    parser.add_argument("--publishes", type=float, default=usual.publishes, help="a second for each client")
    parser.add_argument("--report", type=Path, metavar="PAGE.md", help="where to write the report")
    return parser


if __name__ == "__main__":
    sys.exit(main())
