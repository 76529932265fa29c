"""Accepts a second: handshake, EdDSA token, subscribe, presence; with tokens nobody has seen, then with the same."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from loadtests.bench.figures import Figure
from loadtests.bench.nodes import ROOM, audience
from loadtests.bench.rig import Client, Server, generator
from loadtests.bench.scenarios.contract import Bench, Scenario

CLIENTS: Final = 2000
ROOMS: Final = 100
AT_ONCE: Final = 64  # handshakes under way
DEPARTED: Final = re.compile(r"^gateway_connections\{.*\} ([1-9].*)$", re.MULTILINE)
PATIENCE: Final = 30.0


async def play(bench: Bench) -> list[Figure]:
    """Connect 2,000 clients with fresh tokens, let them go, connect them again; five times in turn."""
    number = bench.amount.clients(CLIENTS)
    found: dict[str, list[float]] = {"unseen": [], "cached": []}
    busy = 0.0
    with bench.node() as node:
        await _herd(node, _clients(bench, node, 1_000_000, number))  # the code is warm, and the key known
        for run in range(bench.amount.runs):
            plan = _clients(bench, node, run * number, number)
            for rates in found.values():
                rate, share = await _herd(node, plan)
                rates.append(rate)
                busy = max(busy, share)
            bench.told(".")
    return [
        Figure("accepts, each token unseen", found["unseen"], "accepts/s", 1300, busy=busy, goal=1800),
        Figure("accepts, each token cached", found["cached"], "accepts/s", 1800, busy=busy, goal=2400),
    ]


async def _herd(node: Server, plan: list[Client]) -> tuple[float, float]:
    """Connect all, and let them go; return the rate and the generator's share of a core."""
    async with generator(plan, concurrency=AT_ONCE) as load:
        rate, share = len(plan) / load.ready_seconds, load.ready_busy
    await _emptied(node)
    return rate, share


async def _emptied(node: Server) -> None:
    """Wait until the node has taken everybody's leave: nothing of it may be left for the next round."""
    async with asyncio.timeout(PATIENCE):
        while DEPARTED.search(await asyncio.to_thread(node.metrics)):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.1)


def _clients(bench: Bench, node: Server, first: int, number: int) -> list[Client]:
    return audience(node.port, bench.issuer, number, lambda it: f"{ROOM}:{it % ROOMS}", first=first, speaker=False)


SCENARIO: Final = Scenario("accepts", "accepts a second with EdDSA tokens, unseen and cached", play)
