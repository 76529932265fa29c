"""The bench's own tools, on a small scale: that both generators see what is there, and that the reference is real."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Iterator

import pytest
from redis import Redis

from loadtests.bench.__main__ import TRIAL, run
from loadtests.bench.nodes import KEPT, PLAIN, audience, our_server, publication
from loadtests.bench.rig import generator, generator_command, python, valkey
from loadtests.bench.scenarios import SCENARIOS
from loadtests.bench.scenarios.one_to_one import REFERENCE
from loadtests.bench.scenarios.server_api import backend
from loadtests.bench.slices import Amount
from loadtests.bench.usage import family, usage
from loadtests.identity import Issuer
from loadtests.peers.registry import STOCK

GENERATORS = {"c": generator_command(), "python": python("-m", "loadtests.bench.generator")}
LANGUAGES = [
    pytest.param("c", marks=pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")),
    "python",
]


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    """Signs the tokens."""
    return Issuer()


@pytest.fixture(scope="module")
def jwks(issuer: Issuer) -> Iterator[str]:
    """Where its key is."""
    with issuer.serving() as url:
        yield url


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    """A Valkey for all nodes of this file."""
    with valkey() as url:
        yield url


@pytest.mark.parametrize("language", LANGUAGES)
async def test_generators_count_what_both_servers_deliver(language: str, issuer: Issuer, jwks: str, redis: str) -> None:
    """Each publication that is acknowledged reaches each of ten subscribers, at ours and at the stock server."""
    with our_server(jwks, redis) as us, STOCK.running(redis) as them:
        our_plan = audience(us.port, issuer, 10, lambda _: f"{PLAIN}:0")
        dialect = STOCK.dialect
        their_plan = [dialect.subscriber(them.port, it) for it in range(10)] + [dialect.publisher(them.port)]
        for plan, template in ((our_plan, publication()), (their_plan, dialect.publication)):
            async with generator(plan, command=GENERATORS[language]) as load:
                seen = await load.measure(seconds=2.0, window=4, channels=1, template=template)
            assert seen.acks > 5  # a second, on however busy a machine
            assert 0.8 < seen.deliveries / seen.acks / 10 < 1.25
        assert us.resident() > 20 << 20
        assert us.cpu() > 0


@pytest.mark.parametrize("language", LANGUAGES)
async def test_what_is_paced_keeps_its_schedule(language: str, issuer: Issuer, jwks: str, redis: str) -> None:
    """As many as the schedule says are sent, each delivery is timed, and those of the warm-up are not."""
    with our_server(jwks, redis) as us:
        plan = audience(us.port, issuer, 5, lambda it: f"{KEPT}:{it}")
        async with generator(plan, command=GENERATORS[language]) as load:
            seen = await load.pace(
                seconds=0.5, rate=100, channels=5, template=publication(KEPT, timed=True), warm_up=0.2
            )
    assert 50 == seen.sent == seen.acks == seen.latencies.total
    assert 0 < seen.latencies.quantile(0.5) <= seen.latencies.longest < 20e6


@pytest.mark.parametrize("stopped", ["server", "generator"])
@pytest.mark.parametrize("language", LANGUAGES)
async def test_time_on_the_way_counts_from_the_schedule(
    language: str, stopped: str, issuer: Issuer, jwks: str, redis: str
) -> None:
    """While the server stands still, or the generator itself, publications are due, and all their waiting counts."""
    seconds = 1.2
    with our_server(jwks, redis) as us:
        plan = audience(us.port, issuer, 1, lambda _: f"{PLAIN}:0")
        async with generator(plan, command=GENERATORS[language]) as load:
            pid = us.pid if stopped == "server" else load.process.pid
            pacing = asyncio.create_task(
                load.pace(seconds=2, rate=25, channels=1, template=publication(timed=True), warm_up=0.2)
            )
            await asyncio.sleep(0.6)  # early in what is measured, even if that begins late
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)  # the fault itself
            os.kill(pid, signal.SIGCONT)
            seen = await pacing
    assert 50 == seen.latencies.total
    assert seen.latencies.longest > 0.8 * seconds * 1e6
    assert seen.latencies.quantile(0.75) > 0.4 * seconds * 1e6  # one that waited its turn would see a single late one
    assert stopped == "server" or seen.late > 0.8 * seconds * 1e6


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_server_api_is_called_by_a_backend_with_kept_connections(
    language: str, issuer: Issuer, jwks: str, redis: str
) -> None:
    """Each broadcast that is answered reaches the subscribers of its channels."""
    channels = [f"{PLAIN}:{it}" for it in range(8)]
    call = json.dumps({"channels": channels, "data": {"v": 1}}, separators=(",", ":"))
    with our_server(jwks, redis) as us:
        plan = audience(us.port, issuer, 8, channels.__getitem__, speaker=False)
        plan += [backend(us.port, "broadcast") for _ in range(3)]
        async with generator(plan, command=GENERATORS[language]) as load:
            seen = await load.measure(seconds=2.0, window=3, channels=1, template=call)
    assert seen.acks > 5
    assert 0.8 < seen.deliveries / seen.acks / 8 < 1.25


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_refused_call_ends_the_measurement(language: str, issuer: Issuer, jwks: str, redis: str) -> None:
    """An error of the server API is no request that was served."""
    with our_server(jwks, redis) as us:
        plan = [*audience(us.port, issuer, 1, lambda _: f"{PLAIN}:0", speaker=False), backend(us.port, "publish")]
        async with generator(plan, command=GENERATORS[language]) as load:
            with pytest.raises(RuntimeError, match="cut off"):
                await load.measure(seconds=0.2, window=1, channels=1, template='{"channel":"unknown:1","data":{}}')


TINY = Amount(runs=1, slices=1, seconds=0.6, share=0.01, quick=True)
USUAL = ("fan-out", "api", "1:1-latency")
SIZES = [pytest.param(it, marks=() if it in USUAL else pytest.mark.soak) for it in SCENARIOS]


@pytest.mark.parametrize("name", SIZES)
async def test_a_scenario_measures_what_it_says(name: str) -> None:
    """Each row has a run above nothing, and none that are only a trial passes for a figure."""
    rows = [it async for it in run([name], TINY, 0.1)]
    assert rows
    for row in rows:
        assert row.void
        assert all(it > 0 for it in row.runs) or row.void != TRIAL or "rise" in row.name


async def test_the_reference_sends_commands_through_redis_py(issuer: Issuer, jwks: str, redis: str) -> None:
    """The node that ours is compared with publishes through redis-py's pipeline, with and without history."""
    with our_server(jwks, redis, program=REFERENCE) as node, Redis.from_url(redis) as valkey_client:
        plan = audience(node.port, issuer, 8, lambda it: f"{KEPT}:{it}")
        async with generator(plan) as load:
            seen = await load.measure(seconds=2.0, window=16, channels=8, template=publication(KEPT))
            plain = await load.measure(seconds=1.0, window=16, channels=1, template=publication(PLAIN))
            links = [
                it for it in valkey_client.client_list() if it["lib-name"] == "redis-py" and it["cmd"] == "publish"
            ]
    assert seen.acks > 5
    assert 0.8 < seen.deliveries / seen.acks < 1.25
    assert plain.acks > 5
    assert 1 == len(links)


async def test_what_a_family_of_processes_used_is_known() -> None:
    """CPU time is counted finely enough for short slices, and children are found."""
    child = await asyncio.create_subprocess_exec(
        *python("-c", "import sys; sys.stdin.read()"), stdin=asyncio.subprocess.PIPE
    )
    try:
        assert {os.getpid(), child.pid} <= set(family(os.getpid()))
        before = usage(os.getpid())
        sum(range(2_000_000))
        used = usage(os.getpid()) - before
        assert 0 < used.cpu < 20
    finally:
        child.kill()
        await child.wait()
