"""The comparison measures real servers in turn, and notices who does not deliver."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from loadtests.bench.rig import generator
from loadtests.bench.slices import Amount
from loadtests.compare.contestants import CEILING, OURS, Contestant, of_ours, of_peer
from loadtests.compare.measuring import Ring, fan_out, idle
from loadtests.identity import Issuer
from loadtests.peers.registry import C_LOOP
from tests.support.valkey import Valkey

pytestmark = pytest.mark.needs(f"peer {C_LOOP.name}")
TINY = Amount(runs=2, slices=1, seconds=0.1, share=0.02, quick=True)


@pytest.fixture(name="ring")
def _ring(valkey: Valkey) -> Ring:
    return Ring(valkey.url, TINY, lambda _: None, patience=0.3)


@pytest.fixture(name="ours")
def _ours() -> Iterator[Contestant]:
    issuer = Issuer()
    with issuer.serving() as jwks:
        yield of_ours(issuer, jwks)


@pytest.fixture(name="ceiling")
def _ceiling() -> Contestant:
    return of_peer(C_LOOP)


async def test_our_node_and_the_ceiling_deliver_all_that_is_published(
    ring: Ring, ours: Contestant, ceiling: Contestant
) -> None:
    """Both have runs at one and eight in flight; something was published, and nothing was lost or doubled."""
    rows = await fan_out([ours, ceiling], replace(ring, patience=10))
    expected = [(OURS, "one"), (CEILING, "one"), (OURS, "eight"), (CEILING, "eight")]
    assert expected == [(it.server, it.measure) for it in rows]
    assert all(len(it.runs) == TINY.runs for it in rows)
    assert {""} == {it.wrong for it in rows}


async def test_a_server_that_leaves_somebody_out_has_no_figure(ring: Ring, ceiling: Contestant) -> None:
    """One subscriber of twenty that gets nothing is told from the counts."""
    subscriber = ceiling.subscriber
    deaf = replace(
        ceiling,
        subscriber=lambda port, number: replace(
            subscriber(port, number), path="/publish" if number == 3 else "/subscribe"
        ),
    )
    rows = await fan_out([deaf], ring)
    assert all("were due" in it.wrong for it in rows)


async def test_a_server_that_does_not_start_is_named(ring: Ring, ceiling: Contestant) -> None:
    """What goes wrong says at whose server."""
    broken = replace(ceiling, running=replace(C_LOOP, command=lambda *_: ["false"]).running)
    with pytest.raises(RuntimeError, match="C loop: what should answer"):
        await fan_out([broken], ring)


async def test_idle_clients_are_weighed_and_timed(ring: Ring, ours: Contestant, ceiling: Contestant) -> None:
    """Memory and accepts have a run for each turn; a connection of ours weighs more than one of the C loop."""
    some = replace(ring, amount=replace(TINY, runs=1, share=0.05))  # few more would fit into memory that is there
    rows = {(it.server, it.measure): it.runs for it in await idle([ours, ceiling], some)}
    assert {(it, what) for it in (OURS, CEILING) for what in ("memory", "accepts")} == set(rows)
    [weight], [ceiling_weight] = rows[OURS, "memory"], rows[CEILING, "memory"]
    assert weight > ceiling_weight
    assert min(rows[OURS, "accepts"] + rows[CEILING, "accepts"]) > 0


async def test_what_is_on_its_way_is_waited_for(ceiling: Contestant, ring: Ring) -> None:
    """`settle` returns when all is there, at once when nothing is due, and gives up on what does not come."""
    with ceiling.running(ring.redis) as server:
        plan = [*(ceiling.subscriber(server.port, it) for it in range(10)), ceiling.publisher(server.port)]
        async with generator(plan) as load:
            assert (0, 0) == await asyncio.wait_for(load.settle(10, patience=100), 10)
            seen = await load.measure(seconds=0.1, window=4, channels=1, template=ceiling.publication)
            published, delivered = await asyncio.wait_for(load.settle(10, patience=100), 60)
            assert 10 * published == delivered
            assert published >= seen.acks * seen.seconds
            assert (published, delivered) == await load.settle(11, patience=0.1)
