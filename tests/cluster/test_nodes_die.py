"""Nodes that die without a word, under load: everybody is back in time, ghosts go, and a herd is let in at a pace."""

from __future__ import annotations

import time
from collections.abc import Iterable

from gateway.engines.redis.library import Library
from tests.cluster.conftest import Standing
from tests.support.crowd_life import STANDARD, Load
from tests.support.exactness import within
from tests.support.monitor import Asked, densest, monitor
from tests.support.scene import Scene
from tests.support.watcher import watching

HISTORY = str(Library().call("history", (), ())[1])  # as EVALSHA names it
CANDIDATE = 6  # the word of a history read that is new each time: EVALSHA, SHA-1, 3, three keys, then this
LEAVE_SECONDS = within(15.0, otherwise=2.0)
SAME = 0.1  # seconds


async def ghosts(scene: Scene) -> tuple[float, dict[str, str], float]:
    """Kill the first node; return when, whom it held as presence says, and after how long all were back."""
    dead, other = scene.nodes[0], scene.nodes[1]
    held = {client.name for client in scene.crowd.on(dead.url)}
    present = await scene.present(other)
    at = await scene.kill(dead)
    soon = await scene.crowd.back(0.95, 10.0)
    late = await scene.crowd.back(0.999, 35.0)
    scene.note(f"{len(held)} lost their node; 95 % back after {soon:.1f} s, 99.9 % after {soon + late:.1f} s")
    return at, {client: user for client, user in present.items() if user in held}, soon + late


async def test_one_of_three_nodes_dies(standing: Standing, load: Load) -> None:
    """Its clients come back elsewhere and miss nothing, and the others see them, and only them, leave."""
    cap = load.cap if load == STANDARD else 4.0  # one straggler is more than a thousandth of a small crowd
    async with standing(namespace="present", churn=0.0, cap=cap) as scene:
        other = scene.nodes[1]
        async with watching(other.centrifuge_url, scene.crowd.channels) as watcher:
            at, dead, _ = await ghosts(scene)
            await scene.crowd.until(
                lambda: dead.keys() <= watcher.left(at).keys(), at + LEAVE_SECONDS - time.monotonic(), "the leaves"
            )
            verdict = await scene.verdict()
            gone = watcher.left(at)
            present = await scene.present(other)
    scene.note(f"{len(gone)} leaves, the last after {max(it.at for it in gone.values()) - at:.1f} s")
    assert dead.keys() == gone.keys()
    assert {client.name for client in scene.crowd.clients} == set(present.values())
    assert len(scene.crowd.clients) == len(present)
    assert {1006} == set(scene.crowd.records.codes())
    assert verdict.clean, verdict


def recoveries(reads: Iterable[Asked]) -> list[Asked]:
    """Return the reads of publications; the tests themselves ask where a stream stands, which has the limit 0."""
    return [it for it in reads if int(it.words[CANDIDATE + 2])]


def query(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a read asks for."""
    return words[:CANDIDATE] + words[CANDIDATE + 1 :]


async def share_reads(scene: Scene, reads: list[Asked]) -> None:
    """Let everybody recover at once while the Valkey does not answer: whoever wants the same shares one read."""
    crowd = scene.crowd
    await crowd.hush()
    async with scene.stalled(scene.valkey):
        links = {client.link for client in crowd.clients}
        for link in links:
            assert link is not None
            link.cut()
        links.add(None)
        await crowd.until(lambda: all(it.link not in links for it in crowd.clients), 30.0, "everybody to connect anew")
    await crowd.back(1.0, 10.0)
    found = recoveries(reads)
    dense = densest(found, 60.0, query)
    scene.note(f"{len(found)} reads for {len(crowd.clients)} recoveries, at most {dense} of the same")
    assert 1 <= dense <= 2  # one in flight, and one for those who came after it was sent
    crowd.speak()


async def test_all_nodes_die_at_once(standing: Standing, load: Load) -> None:
    """A herd comes back to nodes that let in so many a second: the rest gets 503, nobody waits, nobody is lost."""
    rate, cap = (30, load.cap) if load == STANDARD else (8, 1.0)
    async with standing(churn=0.0, cap=cap, ENGINE__COMMAND_TIMEOUT="6s") as scene:
        async with monitor(scene.valkey.port, HISTORY) as reads:
            await share_reads(scene, reads)
        crowd, at = scene.crowd, time.monotonic()
        for node in scene.nodes:
            node.kill()
        assert time.monotonic() - at < within(1.0, otherwise=4.0)
        await crowd.until(lambda: not crowd.connected, 30.0, "everybody to be cut off")
        async with monitor(scene.valkey.port, HISTORY) as reads:
            for node in scene.nodes:
                node.set(CLIENT__CONNECTION_RATE_LIMIT=str(rate))
                node.restart()
            await scene.fleet.ready()
            started = time.monotonic()
            await crowd.back(1.0, within(60.0, otherwise=2.0) - (started - at))
            took = time.monotonic() - at
            asked = recoveries(reads)
        verdict = await scene.verdict()
    shed, slowest = crowd.records.statuses(since=at)[503], crowd.records.handshake(0.99, since=at)
    dense = densest(asked, SAME, query)
    scene.note(f"back after {took:.1f} s ({started - at:.1f} s to start), handshake p99 {slowest:.2f} s, {shed} x 503")
    scene.note(f"{len(asked)} history reads, {dense} of the same within {SAME:g} s")
    assert shed > 0, "nobody was told to come later: there was no herd"
    assert slowest <= within(2.0, otherwise=3.0)
    assert 0 < len(asked) <= len(crowd.clients) * 1.2  # one for each return; those who share one make it fewer
    assert set(crowd.records.statuses(since=at)) <= {0, 503}
    assert verdict.clean, verdict
