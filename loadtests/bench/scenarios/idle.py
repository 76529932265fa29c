"""What connections cost that do nothing: memory, and the CPU time of pings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

from loadtests.bench.figures import Figure
from loadtests.bench.nodes import ROOM, audience
from loadtests.bench.rig import Client, Server, generator
from loadtests.bench.scenarios.contract import Bench, Scenario

PLATEAU: Final = 2000
ROOMS: Final = 100
SETTLE: Final = 2.0  # seconds
PING: Final = 25.0
PONG: Final = 8.0
PERIODS: Final = 2  # of pings, a run


async def play_memory(bench: Bench) -> list[Figure]:
    """Resident memory between plateaus of 2,000 connections, each with a token, one channel and presence."""
    costs = []
    plateau = bench.amount.clients(PLATEAU)
    for run in range(bench.amount.runs):
        with bench.node() as node:
            firsts = ((2 * run + step) * plateau for step in range(2))
            plans = [_members(bench, node, plateau, first=it, speaker=False) for it in firsts]
            async with generator(plans[0]):
                await asyncio.sleep(SETTLE)
                before = node.resident()
                async with generator(plans[1]):
                    await asyncio.sleep(SETTLE)
                    costs.append((node.resident() - before) / plateau / 1024)
        bench.told(".")
    return [Figure("memory per idle connection", costs, "KiB resident", 8, least=True, goal=5.5)]


async def play_cpu(bench: Bench) -> list[Figure]:
    """CPU of 4,000 connections that only answer pings, and of none; what the node does for itself is included."""
    clients = bench.amount.clients(2 * PLATEAU)
    ping = bench.amount.span(PING)
    async with AsyncExitStack() as stack:
        node = stack.enter_context(bench.node(changes=_pings(ping)))
        alone = [await _share(node, PERIODS * ping) for _ in range(bench.amount.runs)]
        load = await stack.enter_async_context(generator(_members(bench, node, clients, first=0, speaker=True)))
        await asyncio.sleep(ping)  # until the first pings are spread over the whole period
        shares = []
        for _ in range(bench.amount.runs):
            shares.append(await _share(node, PERIODS * ping))
            bench.told(".")
        await load.measure(seconds=0.1, window=0, channels=1, template="")  # raises if anybody was cut off
    thousands = clients / 1000
    note = f"{clients} connections, pings each {ping:g} s"
    return [
        Figure("idle CPU of a node without connections", [100 * it for it in alone], "% of a core"),
        Figure(
            "idle CPU per 1,000 connections, node included",
            [100 * it / thousands for it in shares],
            "% of a core",
            0.3,
            least=True,
            goal=0.15,
            note=note,
        ),
    ]


def _pings(every: float) -> Mapping[str, Mapping[str, object]]:
    return {"client": {"ping_interval": every, "pong_timeout": min(PONG, every / 2)}}


async def _share(node: Server, seconds: float) -> float:
    """Return the share of a core that the node used for some time."""
    used, start = node.cpu(), time.monotonic()
    await asyncio.sleep(seconds)
    return (node.cpu() - used) / (time.monotonic() - start)


def _members(bench: Bench, node: Server, number: int, *, first: int, speaker: bool) -> list[Client]:
    return audience(node.port, bench.issuer, number, lambda it: f"{ROOM}:{it % ROOMS}", first=first, speaker=speaker)


MEMORY: Final = Scenario("memory", "resident memory of an idle connection", play_memory)
CPU: Final = Scenario("idle", "CPU of idle connections that answer pings", play_cpu)
