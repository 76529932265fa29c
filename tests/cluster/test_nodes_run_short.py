"""Nodes that run out of memory or of files: newcomers go elsewhere, and who is there notices nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from gateway.transports.headroom import LOOK_SECONDS, MEMORY_SHARE, RESERVE
from tests.cluster.conftest import Standing
from tests.support.exactness import within
from tests.support.fleet import Node
from tests.support.newcomers import Newcomers, newcomers
from tests.support.scene import Scene

MIB = 1 << 20
LET_IN, FULL = 101, 503
MARGIN = 4 * MIB  # that newcomers may fill
ROOM = 20  # connections
KNOCKS = 25  # a second
BUSY = 0.2  # of a core


async def test_memory_runs_short(standing: Standing) -> None:
    """Twice as many come as fit: the others get 503 long before the limit, and nobody who is there is closed."""
    async with standing(nodes=1, churn=0.0) as scene:
        limit = int((scene.nodes[0].resident + MARGIN) / MEMORY_SHARE)
        rules = {"HTTP_SERVER__MEMORY_LIMIT": str(limit), "CLIENT__CONNECTION_RATE_LIMIT": "0"}  # that is a 503, too
        node = scene.fleet.start("node-2", **rules)
        await node.ready()
        for client in (movers := scene.crowd.clients[::2]):
            scene.crowd.move([client], node.url, client.make_socket)
        await scene.crowd.until(lambda: len(scene.crowd.on(node.url)) == len(movers), 20.0, "the move")
        at = time.monotonic()
        with newcomers(node.url) as people:
            while not (answers := await people.knock_often(50))[FULL]:
                assert node.resident < limit
                assert len(people.held) < 5000, f"no end of room: {node.resident} of {limit}"
            fitted = len(people.held)
            again = await people.knock_often(max(fitted, 200))
            peak = node.resident
            await scene.moving()
            assert not any(link.lost.done() for link in people.held)
        verdict = await scene.verdict()
    scene.note(f"{fitted} fitted, then {again}; {peak / MIB:.1f} of {limit / MIB:.1f} MiB")
    assert {FULL} == set(again) - {LET_IN}  # who comes while there is a little memory again gets in
    assert again[FULL] >= 0.5 * again.total()
    assert peak < limit
    assert not scene.crowd.records.codes(since=at)
    assert answers[FULL]
    assert verdict.clean, verdict


async def knock_for(people: Newcomers, node: Node, seconds: float) -> tuple[Counter[int], float]:
    """Knock at a steady pace; return the answers and the share of a core that the node used."""
    answers: Counter[int] = Counter()
    start, cpu = time.monotonic(), node.cpu
    while (now := time.monotonic() - start) < seconds:
        answers[await people.knock()] += 1
        await asyncio.sleep(max(0.0, 1 / KNOCKS - (time.monotonic() - start - now)))
    return answers, (node.cpu - cpu) / (time.monotonic() - start)


async def let_in_again(people: Newcomers) -> float:
    """Knock until somebody is let in; return the seconds that took."""
    start = time.monotonic()
    while await people.knock() != LET_IN:
        assert time.monotonic() - start < 30.0, "nobody is let in any more"
        await asyncio.sleep(0.02)
    return time.monotonic() - start


async def without_reserve(scene: Scene, node: Node, people: Newcomers) -> None:
    """Fill the node up to its reserve; then newcomers get 503, and get in when files are free again."""
    node.file_limit = node.files + RESERVE + ROOM
    await asyncio.sleep(LOOK_SECONDS)  # until then the node goes by the limit it knows
    filled = await people.knock_often(ROOM * 2)
    assert ROOM / 2 < filled[LET_IN] <= ROOM + 2, filled
    assert {LET_IN, FULL} == set(filled)
    answers, cpu = await knock_for(people, node, 2.0)
    assert {FULL} == set(answers)
    people.go()
    took = await let_in_again(people)
    scene.note(f"reserve reached: {answers}, {cpu:.0%} of a core, let in again after {took:.2f} s")
    assert cpu <= BUSY
    assert took <= within(1.0, otherwise=4.0)


async def without_files(scene: Scene, node: Node, people: Newcomers) -> None:
    """Leave the node no file at all: it does not spin, and lets in again when it has some."""
    before = node.file_limit
    node.file_limit = node.files
    answers, cpu = await knock_for(people, node, 2.0)
    assert answers[LET_IN] <= 1, answers  # a file that was being closed when we counted
    node.file_limit = before + ROOM
    took = await let_in_again(people)
    scene.note(f"no files: {answers}, {cpu:.0%} of a core, let in again after {took:.2f} s")
    assert cpu <= BUSY
    assert took <= LOOK_SECONDS + within(0.5, otherwise=4.0)


async def test_files_run_short(standing: Standing) -> None:
    """Without files the node neither spins nor closes anybody, and it goes on within a second of having some."""
    async with standing(nodes=1, churn=0.0) as scene:
        node = scene.nodes[0]
        await scene.crowd.hush()  # what the node uses now is for the newcomers
        before = node.file_limit
        with newcomers(node.url) as people:
            await without_reserve(scene, node, people)
            await without_files(scene, node, people)
        node.file_limit = before
        scene.crowd.speak()
        await scene.moving()
        verdict = await scene.verdict()
    assert not scene.crowd.records.closes
    assert verdict.clean, verdict
