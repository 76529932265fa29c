"""The server API: publications a second through `/api/publish`, deliveries a second through `/api/broadcast`."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from loadtests.bench.figures import Figure
from loadtests.bench.nodes import API_KEY, DATA, PLAIN, audience
from loadtests.bench.rig import Client, generator
from loadtests.bench.scenarios.contract import Bench, Scenario, busiest, rates

CHANNELS: Final = 1000
LINKS: Final = 16  # kept connections of the backend, one call in flight on each
CALLERS: Final = 4  # who broadcast; each call is a thousand publications


async def play(bench: Bench) -> list[Figure]:
    """Publish to nobody's channel, then broadcast to 1,000 channels with one subscriber each; slices in turn."""
    channels = bench.amount.clients(CHANNELS)
    publish = json.dumps({"channel": f"{PLAIN}:nobody", "data": {"v": DATA}}, separators=(",", ":"))
    everybody = [f"{PLAIN}:{it}" for it in range(channels)]
    broadcast = json.dumps({"channels": everybody, "data": {"v": DATA}}, separators=(",", ":"))
    async with AsyncExitStack() as stack:
        node = stack.enter_context(bench.node())
        callers = [backend(node.port, "publish") for _ in range(LINKS)]
        calls = await stack.enter_async_context(generator(callers))
        plan = audience(node.port, bench.issuer, channels, everybody.__getitem__, speaker=False)
        spread = await stack.enter_async_context(
            generator([*plan, *(backend(node.port, "broadcast") for _ in range(CALLERS))])
        )
        seconds = bench.amount.seconds
        runs = await bench.measured(
            {
                "publish": partial(calls.measure, seconds=seconds, window=LINKS, channels=1, template=publish),
                "broadcast": partial(spread.measure, seconds=seconds, window=CALLERS, channels=1, template=broadcast),
            }
        )
    calls_a_second = [it.acks for it in runs["publish"]]
    spoken, heard = busiest(runs["publish"]), busiest(runs["broadcast"])
    return [
        Figure("/api/publish, 16 links", calls_a_second, "requests/s", 4500, busy=spoken, goal=6000),
        Figure(
            "/api/broadcast, 1,000 channels", rates(runs["broadcast"]), "deliveries/s", 60_000, busy=heard, goal=80_000
        ),
    ]


def backend(port: int, method: str) -> Client:
    """Return a backend that calls a method of the server API on a connection that is kept."""
    return Client("H", port, f"/api/{method}", first=f"X-API-Key: {API_KEY}", ack='{"result":')


SCENARIO: Final = Scenario("api", "/api/publish requests and /api/broadcast deliveries a second", play)
