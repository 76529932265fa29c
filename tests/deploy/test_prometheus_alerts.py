"""A real Prometheus with our rules looks at nodes under load: silent while all is well, in time when something dies.

In the usual run its time passes 15 times as fast: five minutes are twenty seconds. `make soak` takes ten real ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.crowd_life import Load
from tests.support.prometheus import Firing, Prometheus, watching
from tests.support.scene import Scene, standing

FAST: Final = 15.0
LOAD: Final = Load(clients=120, channels=12, publishes=40.0, churn=0.1, stay=(3.0, 10.0))
SOAKED: Final = Load(clients=400, channels=40, publishes=100.0, churn=0.1, stay=(30.0, 90.0))
SLACK, SLACK_OF_SECONDS = 4.0, 20.0  # that a machine may take that does other things, too; where minutes are seconds
OF_SLOWNESS: Final = {  # of the machine, where minutes are seconds and scrapes may take less than one
    "GatewayLoopLag",
    "GatewayDeliverySlow",
    "GatewayNodeDown",
    "GatewayMetricsAbsent",
}
LATE: Final = 0.05  # seconds that this process is kept waiting by a machine that does other things
CONSEQUENCES: Final = {"GatewayStreamsBegunAnew", "GatewayGapsUnrepaired"}  # of a Redis that comes back empty

pytestmark = pytest.mark.needs("prometheus")


@asynccontextmanager
async def timed() -> AsyncIterator[set[str]]:
    """Run the body; the set then has what is no fault of the nodes where this process, too, was kept waiting."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.02)
            late.append(time.monotonic() - before - 0.02)

    task, excused = asyncio.create_task(tick()), set[str]()
    try:
        yield excused
    finally:
        task.cancel()
        if sum(it > LATE for it in late) > len(late) / 100:
            excused |= OF_SLOWNESS


@asynccontextmanager
async def watched(folder: Path, load: Load, speed: float) -> AsyncIterator[tuple[Scene, Prometheus]]:
    """Set a scene that a Prometheus looks at."""
    async with standing(folder, load, nodes=3, HTTP_SERVER__MEMORY_LIMIT="2000000000") as scene:
        targets = {"gateway": [f"{it.host}:{it.port}" for it in scene.nodes]}
        async with watching(folder / "prometheus", targets, speed) as prometheus:
            yield scene, prometheus


def slack(prometheus: Prometheus) -> float:
    """Return the seconds that are nobody's fault."""
    return SLACK if prometheus.speed == 1.0 else SLACK_OF_SECONDS


async def is_silent(prometheus: Prometheus, scene: Scene, lasting: str) -> None:
    """See that nothing fires for so long under load."""
    began, before = time.time(), time.monotonic()
    async with timed() as excused:
        await asyncio.sleep(prometheus.lasting(lasting))
    fired = await prometheus.fired(began)
    assert [] == [str(it) for it in fired if prometheus.speed == 1.0 or it.name not in excused]
    assert scene.crowd.records.deliveries(before) > 0
    seen = await prometheus.query("sum(gateway_connections) > 0 and sum(rate(gateway_messages_sent_total[1m])) > 0")
    assert seen, "it looked at nothing"


async def named(prometheus: Prometheus, name: str, since: float, waits: str, many: int = 1) -> Sequence[Firing]:
    """Wait for an alert about so many; see that it came in time: what it waits for, a look, and a scrape before it."""
    least, looks = prometheus.lasting(waits), 2 * prometheus.interval
    await prometheus.until(lambda it: name in it, least + looks + slack(prometheus), name)
    while len(found := [it for it in await prometheus.fired(since) if it.name == name]) < many:
        assert time.time() - since < least + looks + slack(prometheus), [str(it) for it in found]
        await asyncio.sleep(prometheus.interval / 2)
    return found


async def texts_are_whole(prometheus: Prometheus) -> None:
    """See that what people read was filled in."""
    for alert in await prometheus.alerts():
        text = " ".join(alert["annotations"].values())
        assert "<error" not in text, text
        assert "<no value>" not in text, text
        assert "{{" not in text, text


async def harmed(prometheus: Prometheus, scene: Scene) -> None:
    """Kill the Valkey, then a node: what is named fires in time, and is over when all is well again."""
    began = time.time()
    await scene.kill_valkey()
    down = await named(prometheus, "GatewayRedisDown", began, "30s", many=2 * len(scene.nodes))
    links = {(it.labels["instance"], it.labels["role"]) for it in down}
    assert {(f"{it.host}:{it.port}", role) for it in scene.nodes for role in ("command", "pubsub")} == links
    lasting = {"GatewayPublishesFail"} if prometheus.speed == 1.0 else set()  # it takes its time to come and to go
    for name in lasting:
        await named(prometheus, name, began, "2m")
    await texts_are_whole(prometheus)
    await scene.restart_valkey()
    await named(prometheus, "GatewayStreamsBegunAnew", time.time(), "0s")
    over = {"GatewayRedisDown"} | lasting
    await prometheus.until(lambda it: not it & over, prometheus.lasting("6m") + slack(prometheus), "its end")

    fallen, killed = scene.nodes[-1], time.time()
    await scene.kill(fallen)
    down = await named(prometheus, "GatewayNodeDown", killed, "1m")
    assert f"{fallen.host}:{fallen.port}" in {it.labels["instance"] for it in down}
    await texts_are_whole(prometheus)
    await scene.restart(fallen)
    await prometheus.until(
        lambda it: "GatewayNodeDown" not in it, prometheus.lasting("1m") + slack(prometheus), "its end"
    )
    expected = {*over, "GatewayNodeDown"}
    beside = CONSEQUENCES if prometheus.speed == 1.0 else CONSEQUENCES | OF_SLOWNESS | {"GatewayPublishesFail"}
    assert expected == {it.name for it in await prometheus.fired(began)} - (beside - expected)


async def test_silent_while_all_is_well_and_in_time_when_not(tmp_path: Path) -> None:
    """What would be five minutes of load fires nothing; a killed Valkey and a killed node fire what names them."""
    async with watched(tmp_path, LOAD, FAST) as (scene, prometheus):
        await is_silent(prometheus, scene, "5m")
        await harmed(prometheus, scene)


@pytest.mark.soak
async def test_ten_real_minutes_of_load_fire_nothing(tmp_path: Path) -> None:
    """At the pace of the rules as they are written."""
    async with watched(tmp_path, SOAKED, 1.0) as (scene, prometheus):
        await is_silent(prometheus, scene, "10m")


@pytest.mark.soak
async def test_deaths_fire_in_real_time(tmp_path: Path) -> None:
    """At the pace of the rules as they are written."""
    async with watched(tmp_path, SOAKED, 1.0) as (scene, prometheus):
        await harmed(prometheus, scene)
