"""`make dashboard`: put load on a gateway, let Prometheus look, and draw the dashboard from what it answers."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from loadtests.dashboard.answers import Answered, ask
from loadtests.dashboard.drawing import picture
from loadtests.dashboard.panels import EVERYTHING, panels
from loadtests.dashboard.stage import LOAD, Stage, staged
from tests.support.crowd_life import Load
from tests.support.prometheus import Prometheus

DASHBOARD: Final = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards" / "gateway.json"
SCRAPES: Final = 4  # that a rate is taken of: what Grafana calls $__rate_interval


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and write the picture; return the exit code: 1 if a panel stayed empty."""
    parser = argparse.ArgumentParser(prog="make dashboard", description=__doc__)
    parser.add_argument("--image", type=Path, default=Path("docs/images/dashboard.svg"), metavar="FILE.svg")
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--all", action="store_true", help="rows that are folded, too")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="dashboard-") as folder:
        answered, marks = uvloop.run(run(Path(folder), asked.seconds))
    shown = [it for it in answered if asked.all or not it.panel.collapsed]
    asked.image.write_text(picture(shown, marks), encoding="utf-8")
    print(f"wrote {asked.image}")
    silent = [line for it in answered for line in it.silent()]
    print("\n".join(f"EMPTY: {line}" for line in silent) or f"{len(answered)} panels, none is empty")
    return 1 if silent else 0


async def run(folder: Path, seconds: float, load: Load = LOAD) -> tuple[list[Answered], Mapping[str, float]]:
    """Let so many seconds pass under load, with a fault after a third and a drain after half of them.

    Return what every panel was answered, and when (Unix time) something happened.
    """
    async with staged(folder, load) as stage:
        begin = time.time()
        marks = {"pub/sub links cut": begin + seconds / 3, "a node drained and started again": begin + seconds / 2}
        for at, deed in zip(marks.values(), (_cut, _drain), strict=True):
            await asyncio.sleep(max(0.0, at - time.time()))
            await deed(stage)
        await asyncio.sleep(max(0.0, begin + seconds - time.time()))
        for alert in await stage.prometheus.fired(begin):
            print(f"fired: {alert}")
        return await everything(stage.prometheus, begin, time.time()), marks


async def everything(prometheus: Prometheus, begin: float, end: float) -> list[Answered]:
    """Ask what all panels ask of the time between two moments."""
    return [await ask(prometheus, it, begin, end) for it in panels(read(), choices(prometheus))]


def choices(prometheus: Prometheus) -> Mapping[str, str]:
    """Return what is chosen on a dashboard that was just opened, with rates over as many scrapes as Grafana takes."""
    return {**EVERYTHING, "__rate_interval": f"{round(1000 * SCRAPES * prometheus.interval)}ms"}


def read() -> Mapping[str, Any]:
    """Return the dashboard as Grafana gets it."""
    found: Mapping[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


async def _cut(stage: Stage) -> None:
    await stage.cut_pubsub()


async def _drain(stage: Stage) -> None:
    await stage.drain_last()


if __name__ == "__main__":
    sys.exit(main())
