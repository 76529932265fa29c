"""A rolling update as Kubernetes does it, behind a real proxy with TLS and under load: nobody notices but by 3001."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from loadtests.rollout.run import Outcome, rehearse
from loadtests.rollout.stage import Options, stand
from tests.support.exactness import within
from tests.support.scene import Scene

SMALL: Final = Options(clients=100, delay=3.0, window=2.0, noticed=0.5, around=0.5, publishes=0.4)
FEW: Final = Options(
    front="traefik", clients=60, nodes=2, replaced=1, delay=3.0, window=2.0, noticed=0.5, around=0.5, publishes=0.4
)
CUT: Final = 1006


async def passed(options: Options, folder: Path) -> Outcome:
    """Rehearse, and find nothing wrong."""
    outcome = await rehearse(options, folder)
    Scene.note(f"{outcome.reconnects:.2f} moves a client, p99 {outcome.p99 * 1000:.0f} ms, gap {outcome.gap:.2f} s")
    assert [] == outcome.offences
    assert outcome.newcomers > 0
    return outcome


async def test_three_nodes_are_replaced_behind_nginx(tmp_path: Path) -> None:
    """With newcomers in every second: nothing lost, nobody cut off or refused, at most two moves a client."""
    outcome = await passed(replace(SMALL, p99=within(SMALL.p99, otherwise=10)), tmp_path)
    assert ["node-1", "node-2", "node-3"] == [it.old for it in outcome.steps]


@pytest.mark.needs("deploy tools")
async def test_a_node_is_replaced_behind_traefik(tmp_path: Path) -> None:
    """The same with the file provider, which reads the new list of nodes while clients are moved."""
    await passed(replace(FEW, p99=within(FEW.p99, otherwise=10)), tmp_path)


async def test_nginx_reads_its_files_again_and_nobody_is_cut_off(tmp_path: Path) -> None:
    """Old workers keep what they have; who stays beyond the time that they are given comes back, and lacks nothing."""
    changes = {"worker_shutdown_timeout 1h;": "worker_shutdown_timeout 3s;"}
    async with stand(Options(clients=60, nodes=2, churn=0.0, publishes=0.4, changes=changes), tmp_path) as stage:
        people = stage.crowd
        first = time.monotonic()
        for _ in range(3):
            await asyncio.to_thread(stage.front.reload)
        await people.until(lambda: len(people.records.closes) >= 60, 30.0, "the old workers to end")
        verdict = await people.verdict()
    assert first + 3.0 <= min(it.at for it in people.records.closes), "a reload cut somebody off"
    assert {CUT: 60} == people.records.codes()
    assert verdict.clean, verdict


@pytest.mark.soak
async def test_three_nodes_are_replaced_under_two_thousand_clients(tmp_path: Path) -> None:
    """With the times of the manifests: two thousand clients, a hundred of whom come and go all the time."""
    await passed(Options(), tmp_path)
