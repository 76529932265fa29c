"""The server forgets, trims, evicts, refuses or is demoted: what is gone is told, what is refused was not promised."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.cluster.witness import Meters, caught_up, clean, gauges, operator, subscribed, tells, told, told_since, until
from tests.support import scene as scenes
from tests.support.crowd import crowd
from tests.support.crowd_life import STANDARD, Client, Load
from tests.support.exactness import within
from tests.support.fleet import API_KEY, KEPT, NAMESPACES, SECRET
from tests.support.ports import free_port
from tests.support.scene import Scene

BACK = within(3.0, otherwise=2.0)  # seconds from the mending of the fault until something is delivered
MENDED = within(10.0, otherwise=2.0)  # ... until everybody has everything, or was told
FORGETFUL = {"name": "forgetful", **KEPT, "history_size": 10}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(name="scene", scope="module", loop_scope="module")
async def _scene(tmp_path_factory: pytest.TempPathFactory, load: Load) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("data")
    namespaces = json.dumps([*NAMESPACES, FORGETFUL])
    async with scenes.standing(folder, load, CHANNEL__NAMESPACES=namespaces) as scene:
        yield scene


def _names(scene: Scene, part: str) -> list[str]:
    return [f"gateway.{part}.{{53t}}.{channel}" for channel in scene.crowd.channels]


async def _busy(scene: Scene) -> None:
    """Wait until every channel has something to lose."""
    numbers = [it.number for it in scene.crowd.publishers]
    pairs = list(zip(scene.crowd.publishers, numbers, strict=True))
    await scene.crowd.until(lambda: all(it.number > number + 2 for it, number in pairs), 30.0, "publications")


async def test_streams_that_are_gone_are_missed_by_nobody_who_is_there(scene: Scene) -> None:
    """Their offsets go on, since another key keeps them: who is connected has everything, who was away is told."""
    crowd = scene.crowd
    await _busy(scene)
    goers = {it.name for it in crowd.clients if it.churns}
    away = [it for it in crowd.clients if not it.churns][-10:]
    _send_away(away)
    await crowd.until(lambda: not any(it.link for it in away), 30.0, "some to be away")
    await _busy(scene)
    async with operator(scene.valkey) as redis:
        assert await redis.delete(*_names(scene, "stream")) == len(crowd.channels)
    await _busy(scene)
    for client in away:
        client.nodes = []
    verdict = await clean(scene)
    everybody = {who for who, _ in verdict.told}
    assert everybody - goers == {it.name for it in away}


def _send_away(clients: Iterable[Client]) -> None:
    """Cut clients off, and let them find nobody until their `nodes` are empty again."""
    for client in clients:
        client.nodes = [f"http://127.0.0.1:{free_port()}"]
        assert client.link is not None
        client.link.cut()


@pytest.mark.parametrize("how", ["meta keys", "everything"])
async def test_positions_that_are_gone_are_told(scene: Scene, how: str) -> None:
    """Without the keys that name streams and count, or without any key, all is another stream: everybody is told."""
    await _busy(scene)
    before, start = tells(scene), time.monotonic()
    async with operator(scene.valkey) as redis:
        if how == "everything":
            assert await redis.flushall()
        else:
            assert await redis.delete(*_names(scene, "meta")) == len(scene.crowd.channels)
    await caught_up(scene, MENDED)
    await clean(scene)
    assert told_since(scene, before) == 1.0
    assert scene.crowd.records.codes(start).keys() <= {3010}


async def test_keys_that_are_evicted_are_missed_by_nobody_in_silence(scene: Scene) -> None:
    """A server that evicts keys takes streams and counters at will: whoever lost something is told."""
    await _busy(scene)
    start = time.monotonic()
    async with operator(scene.valkey) as redis:
        await redis.config_set(
            "maxmemory-policy", "allkeys-random"
        )  # harsher than lru, which would spare what is in use
        room = int((await redis.info("memory"))["used_memory"])
        await redis.config_set("maxmemory", room - await _size(redis) // 2)
        try:
            await until(lambda: _has_evicted(redis, 2), 30.0, "keys to be evicted")
            await _busy(scene)
        finally:
            await redis.config_set("maxmemory", 0)
        told(f"{(await redis.info('stats'))['evicted_keys']} keys evicted")
    await caught_up(scene, MENDED)
    await clean(scene)
    assert scene.crowd.records.codes(start).keys() <= {3010}


async def _size(redis: Redis) -> int:
    """Return how many bytes all keys take."""
    return sum([int(await redis.memory_usage(key) or 0) async for key in redis.scan_iter()])


async def _has_evicted(redis: Redis, count: int) -> bool:
    return int((await redis.info("stats"))["evicted_keys"]) >= count


async def test_history_that_was_trimmed_meanwhile_is_told_never_half(scene: Scene) -> None:
    """Five times as much was published as is kept while clients were away: each is told, and gets nothing of it."""
    load = dataclasses.replace(
        scene.crowd.load, clients=24, channels=2, publishes=40.0, namespace="forgetful", churn=0.0, cap=0.5
    )
    async with crowd(load, nodes=scene.fleet.urls, secret=SECRET, api_key=API_KEY) as people:
        await people.until(lambda: people.records.deliveries() > 100, 30.0, "deliveries")
        _send_away(people.clients)
        await people.until(lambda: not people.connected, 30.0, "everybody to be away")
        numbers = [it.number for it in people.publishers]
        pairs = list(zip(people.publishers, numbers, strict=True))
        await people.until(lambda: all(it.number >= number + 50 for it, number in pairs), 20.0, "publications")
        for client in people.clients:
            client.nodes = []
        await people.back(1.0, 10.0)
        verdict = await people.verdict()
    assert verdict.clean, verdict
    assert [1] * len(people.clients) == list(verdict.told.values())
    assert {"unrecovered": len(people.clients)} == verdict.tells


async def test_a_full_server_takes_nothing_and_passes_on_what_it_need_not_keep(scene: Scene) -> None:
    """Publishes with history fail, none of them in truth; those without go on; nobody is cut off, nothing breaks."""
    load = dataclasses.replace(
        scene.crowd.load, clients=24, channels=2, publishes=20.0, namespace="fleeting", churn=0.0
    )
    await _busy(scene)
    meters, start = await Meters.begin(scene.nodes), time.monotonic()
    async with operator(scene.valkey) as redis:
        await redis.config_set("maxmemory-policy", "noeviction")
        await redis.config_set("maxmemory", 1)
        full = time.monotonic()
        failed = scene.crowd.records.outcomes
        await scene.crowd.until(lambda: failed(full)["doubtful"] > 50, 30.0, "publishes that fail")
        assert failed(full + 0.5)["acknowledged"] == 0
        async with crowd(load, nodes=scene.fleet.urls, secret=SECRET, api_key=API_KEY) as people:
            await people.until(lambda: people.records.deliveries() > 200, 30.0, "deliveries without history")
            await people.hush()
        assert failed(full + 0.5)["acknowledged"] == 0
        assert people.records.outcomes().keys() == {"acknowledged"}
        await redis.config_set("maxmemory", 0)
    await scene.moving(BACK)
    await clean(scene)
    assert min(await meters.rises("gateway_redis_errors_total", kind="oom")) > 0
    assert [0] * len(scene.nodes) == await meters.rises("gateway_errors_total")
    assert not scene.crowd.records.codes(start)
    assert all(node.alive for node in scene.nodes)


async def test_a_primary_that_is_demoted_is_told_nothing_that_would_be_lost(scene: Scene) -> None:
    """From then on nothing is acknowledged; within 3 s of its being a primary again all goes on."""
    await _busy(scene)
    start = time.monotonic()
    async with operator(scene.valkey) as redis:
        assert await redis.replicaof("127.0.0.1", free_port())
        demoted = time.monotonic()
        await until(lambda: _all_left(scene), within(3.0, otherwise=4.0), "every node to leave it")
        await scene.crowd.until(lambda: scene.crowd.records.outcomes(demoted)["doubtful"] > 20, 30.0, "failures")
        assert scene.crowd.records.outcomes(demoted)["acknowledged"] == 0
        assert await redis.replicaof("NO", "ONE")
    took = await scene.moving(BACK)
    told(f"delivered {took:.2f} s after it was a primary again")
    await caught_up(scene, MENDED)
    await clean(scene)
    assert not scene.crowd.records.codes(start)


async def _all_left(scene: Scene) -> bool:
    return not any((await subscribed(scene.valkey, scene.crowd.channels)).values())


async def test_a_server_that_is_full_of_clients_is_not_pressed(scene: Scene, load: Load) -> None:
    """Who is refused at the door tries once a second at most, links that stand are used, and all is well afterwards."""
    seconds, nodes = (30.0 if load is STANDARD else 5.0), len(scene.nodes)
    await _busy(scene)
    start = time.monotonic()
    async with operator(scene.valkey) as redis:
        await redis.config_set("maxclients", 1)
        for kind in ("pubsub", "normal"):
            await redis.client_kill_filter(_type=kind, skipme=True)
        await until(lambda: _refused(redis, 2 * nodes), 30.0, "every link to be refused")
        began, first = time.monotonic(), await _rejected(redis)
        await asyncio.sleep(seconds)
        tries = await _rejected(redis) - first
        assert 0 < tries <= nodes * (time.monotonic() - began)
        assert [0.0] * nodes == await gauges(scene.nodes, "gateway_redis_up")
        await redis.config_set("maxclients", 1000)
    told(f"{tries} tries of {nodes} nodes in {seconds:g} s")
    await scene.moving(within(5.0, otherwise=2.0))
    await clean(scene)
    assert not scene.crowd.records.codes(start)


async def _rejected(redis: Redis) -> int:
    return int((await redis.info("stats"))["rejected_connections"])


async def _refused(redis: Redis, count: int) -> bool:
    return await _rejected(redis) >= count
