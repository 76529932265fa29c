"""The server of all nodes is killed and comes back: empty, with the end of its log lost, or not for a long time."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.cluster.witness import (
    LOBBY,
    WITH_LOBBY,
    Guest,
    Meters,
    caught_up,
    clean,
    gauges,
    guests,
    lagged,
    operator,
    present,
    resubscribed,
    subscribed,
    tells,
    told,
    told_since,
    until,
    wanted,
)
from tests.support import scene as scenes
from tests.support.crowd_life import STANDARD, Load
from tests.support.exactness import within
from tests.support.fleet import READY_SECONDS, Fleet, Node
from tests.support.newcomers import newcomers
from tests.support.scene import Scene
from tests.support.valkey import Valkey

AWAY = 1.0  # seconds
BACK = within(5.0, otherwise=2.0)  # seconds from the open port until every channel is subscribed
FIRST = within(3.0, otherwise=2.0)  # ... until something new is delivered
MENDED = within(10.0, otherwise=2.0)  # ... until everybody has everything, or was told
LOADING = 2.0  # seconds

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(name="scene", scope="module", loop_scope="module")
async def _scene(tmp_path_factory: pytest.TempPathFactory, load: Load) -> AsyncIterator[Scene]:
    """Set a scene on a server that writes a log of what it is told; killed, it may lack the last second."""
    folder = tmp_path_factory.mktemp("dies")
    valkey = Valkey(folder, "--appendonly", "yes", "--appendfsync", "everysec")
    async with scenes.standing(folder, load, valkey=valkey, CHANNEL__NAMESPACES=WITH_LOBBY) as scene:
        yield scene


@pytest_asyncio.fixture(name="sitters", scope="module", loop_scope="module")
async def _sitters(scene: Scene) -> AsyncIterator[list[Guest]]:
    """Seat one guest on each node."""
    async with guests(scene.nodes, [LOBBY]) as people:
        yield people


async def _dies(scene: Scene, sitters: list[Guest], harm: Callable[[], None], first: float = FIRST) -> None:
    """Kill the server for a second, harm what it kept, and hold everybody to their times."""
    crowd, before, expected, nodes = scene.crowd, tells(scene), wanted(scene), scene.nodes
    meters = await Meters.begin(nodes)
    killed = await scene.kill_valkey()
    await crowd.until(lambda: _failed(scene, killed) > 3, 30.0, "publishes that fail")
    await asyncio.sleep(killed + AWAY - time.monotonic())
    assert crowd.records.outcomes(killed)["acknowledged"] == 0

    async def all_down() -> bool:
        return [0.0] * len(nodes) == await gauges(nodes, "gateway_redis_up")

    await until(all_down, MENDED, "every node to have noticed")
    harm()
    opened = await scene.restart_valkey()
    listening = await resubscribed(scene, expected, BACK)
    await crowd.until(lambda: crowd.records.first_delivery(opened) < float("inf"), first, "a first delivery")
    delivered = crowd.records.first_delivery(opened) - opened
    await caught_up(scene, MENDED - (time.monotonic() - opened))
    mended = time.monotonic() - opened
    told(f"after the restart: listening {listening:.2f} s, delivered {delivered:.2f} s, mended {mended:.2f} s")
    assert delivered <= first
    assert crowd.records.codes(killed).keys() <= {3010}, crowd.records.codes(killed)

    async def all_up() -> bool:
        return [2.0] * len(nodes) == await gauges(nodes, "gateway_redis_up")  # a link of each role

    await until(all_up, MENDED, "all links to be up")
    assert all(it >= 1 for it in await meters.rises("gateway_redis_reconnects_total", role="pubsub"))
    await _all_present(scene, sitters)
    await clean(scene)
    assert told_since(scene, before) == 1.0, "not everybody was told that the streams are others"


def _failed(scene: Scene, since: float) -> int:
    outcomes = scene.crowd.records.outcomes(since)
    return outcomes["doubtful"] + outcomes["refused"]


async def _all_present(scene: Scene, sitters: list[Guest]) -> None:
    """Wait until every node knows of every guest, who did nothing for it."""

    async def complete() -> bool:
        return [len(sitters)] * len(scene.nodes) == await present(scene)

    await until(complete, MENDED, "presence to be complete again")
    assert [0] * len(sitters) == [it.leaves for it in sitters], "somebody was announced as gone"
    assert not any(it.tells for it in sitters)


async def test_a_server_that_lost_acknowledged_writes_is_found_out(scene: Scene, sitters: list[Guest]) -> None:
    """Back from a log without its end, it uses offsets again: everybody is told that these mean something else now."""
    log = next(scene.fleet.folder.glob("appendonlydir/*.incr.aof"))
    await scene.moving()
    written = log.stat().st_size
    published = scene.crowd.records.outcomes()["acknowledged"]
    await scene.crowd.until(
        lambda: scene.crowd.records.outcomes()["acknowledged"] > published + 20, 30.0, "writes to be lost"
    )

    def lose() -> None:
        with log.open("r+b") as file:
            file.truncate(written)

    await _dies(scene, sitters, lose)


async def test_a_server_that_forgot_everything_is_made_up_for(scene: Scene, sitters: list[Guest]) -> None:
    """Back empty: channels are subscribed, presence is entered, and whoever missed something is told."""
    await scene.moving()
    await _dies(scene, sitters, lambda: shutil.rmtree(scene.fleet.folder / "appendonlydir"))


async def test_a_server_that_loads_its_data_is_waited_for(scene: Scene, sitters: list[Guest]) -> None:
    """It answers LOADING for two seconds: nobody is cut off, and all goes on as after any restart."""
    keys = 2000
    async with operator(scene.valkey) as redis:
        await redis.mset({f"load-me-{number}": "x" for number in range(keys)})
        await redis.bgrewriteaof()
        await until(lambda: _rewritten(redis), 30.0, "a new base of the log")

    def slow_down() -> None:
        delay = int(LOADING * 1e6 / keys)  # microseconds
        slowness = ["--key-load-delay", f"{delay}", "--loading-process-events-interval-bytes", "1024"]
        scene.valkey._command += slowness

    meters = await Meters.begin(scene.nodes)
    await _dies(scene, sitters, slow_down, first=BACK)  # a refusal is not answered with haste
    assert any("LOADING" in node.log for node in scene.nodes), "nobody met a server that loads"
    assert all(it == 1 for it in await meters.rises("gateway_redis_reconnects_total", role="command"))


async def _rewritten(redis: Redis) -> bool:
    found = await redis.info("persistence")
    return not found["aof_rewrite_in_progress"] and not found["aof_rewrite_scheduled"]


# --- many channels


async def test_many_channels_are_back_soon(tmp_path: Path, load: Load) -> None:
    """Every node subscribes thousands of channels again and reads what they missed, and neither it nor Redis gasps."""
    channels, each = (10_000, 500) if load is STANDARD else (2_000, 100)
    names = [f"load:wide-{number}" for number in range(channels)]
    scene_of_many = scenes.standing(tmp_path, load, CLIENT__CHANNEL_LIMIT=f"{each}", CLIENT__COMMAND_RATE="0")
    async with scene_of_many as scene, guests(scene.nodes, names, each) as people:
        assert {len(scene.nodes)} == set((await subscribed(scene.valkey, names)).values())
        meters = await Meters.begin(scene.nodes)
        for guest in people:
            guest.holding = True  # they are another storm
        await scene.kill_valkey()
        opened = await scene.restart_valkey()

        async def all_told() -> bool:  # a node does so when the channel is subscribed again, and history has been read
            return all(it.tells == len(it.channels) for it in people)

        await until(all_told, MENDED, "every channel to be back")
        back = time.monotonic() - opened
        late = await lagged(meters, load)
        command = await meters.percentile("gateway_redis_command_duration_seconds", 0.99)
        told(f"{channels} channels: back {back:.1f} s, command {command:g} s")
        await asyncio.gather(*(it.come_back() for it in people))

        async def all_back() -> bool:
            return all(len(it.epochs) == len(it.channels) for it in people)

        await until(all_back, 60.0, "all guests to sit again")
        await clean(scene)
    assert command <= within(0.1, otherwise=5.0)
    assert not late


# --- without a server


async def test_without_a_server_nodes_live(tmp_path: Path, load: Load) -> None:
    """Who was never connected is alive but not ready; who was stays ready, and lets clients in unless told not to."""
    outage = 60.0 if load is STANDARD else 2.0
    valkey, fleet = Valkey(tmp_path), Fleet(tmp_path, {})
    fleet.start("lenient", ENGINE__URL=valkey.url)
    fleet.start("strict", ENGINE__URL=valkey.url, CLIENT__CONNECT_WHEN_ENGINE_DOWN="false")
    lenient, strict = fleet.nodes
    try:
        await until(lambda: _all_say(fleet, "live", 200), READY_SECONDS, "nodes to live")
        await _stay(fleet, 503, outage)
        valkey.start()
        await fleet.ready()
        assert [101, 101] == [await _knock(lenient), await _knock(strict)]
        valkey.stop()
        await until(lambda: _all_say(fleet, "ready", 200, b"degraded"), 30.0, "nodes to notice")
        assert [101, 503] == [await _knock(lenient), await _knock(strict)]
        assert 2 <= int((await _ask(strict, "/connection/websocket")).headers["Retry-After"]) <= 10
        await _stay(fleet, 200, outage)
        valkey.start()
        await until(lambda: _all_say(fleet, "ready", 200, b'{"status":"ok"}'), BACK, "nodes to be well")
        assert 101 == await _knock(strict)
    finally:
        fleet.end()
        valkey.stop()


async def _ask(node: Node, path: str) -> httpx.Response:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} if "websocket" in path else {}
    async with httpx.AsyncClient(trust_env=False, timeout=30.0) as client:
        return await client.get(f"{node.url}{path}", headers=upgrade | key if key else {})


async def _knock(node: Node) -> int:
    with newcomers(node.url) as people:
        return await people.knock()


async def _all_say(fleet: Fleet, page: str, status: int, holding: bytes = b"") -> bool:
    """Whether every node answers so; who does not listen yet says nothing."""
    try:
        answers = [await _ask(node, f"/health/{page}") for node in fleet.nodes]
    except httpx.TransportError:
        return False
    return all(it.status_code == status and holding in it.content for it in answers)


async def _stay(fleet: Fleet, ready: int, seconds: float) -> None:
    """Look for so long whether all nodes live, and whether they call themselves ready."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        assert await _all_say(fleet, "live", 200), "a liveness probe would have restarted somebody"
        assert await _all_say(fleet, "ready", ready)
        await asyncio.sleep(0.1)
