"""`make bench`: this gateway beside a stock FastAPI server; server on one core, load and Valkey on the other.

Every connection has a token of its own; all checks and metrics are on. `client.command_rate` is 0 here, since one
publisher stands for many, and so is the limit of connections per address.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Final

from loadtests.figures import HEAD, Figure
from loadtests.identity import Issuer
from loadtests.rig import Client, Measured, Server, free_port, generator, generator_command, python, server, valkey

SUBSCRIBERS: Final = 1000
RUNS: Final = 5
SLICES: Final = 8  # of which a run consists, in turn with those of the other runs: the machine's moods hit all alike
SECONDS: Final = 0.5  # a slice
DATA: Final = "x" * 90  # with its JSON around it 100 bytes of data
STOCK: Final = "fan-out, stock FastAPI + redis-py"
CRIPPLED: Final = 40_000  # deliveries/s of the stock server below which the run says nothing
PUBLISH: Final = '{"id":@I,"publish":{"channel":"bench:@C","data":{"v":"' + DATA + '"}}}'
STOCK_PUBLISH: Final = '{"channel":"bench:@C","pub":{"data":{"v":"' + DATA + '"}}}'
NAMESPACE: Final = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
PLATEAU: Final = 2000


def config(jwks: str, redis: str) -> dict[str, object]:
    """Return the gateway's settings for a bench."""
    return {
        "engine": {"url": redis},
        "client": {"command_rate": 0, "token": {"jwks_public_endpoint": jwks}},
        "http_server": {"connections_per_ip": 0},
        "channel": {"namespaces": [{"name": "bench", **NAMESPACE}, {"name": "room", "presence": True, **NAMESPACE}]},
        "log": {"level": "warning", "format": "json"},
    }


@contextmanager
def our_server(jwks: str, redis: str) -> Iterator[Server]:
    """Run one node."""
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config(jwks, redis), file)
        file.flush()
        command = python("-m", "gateway.cli", "serve", "--port", str(port), "--config", file.name)
        with server(command, port=port, ready="/health/ready") as running:
            yield running


@contextmanager
def stock_server(redis: str) -> Iterator[Server]:
    """Run the tutorial's server."""
    port = free_port()
    command = python("-m", "loadtests.peers.stock_fastapi", str(port), redis)
    with server(command, port=port, ready="/") as running:
        yield running


def ours(port: int, issuer: Issuer, number: int, channel: str | None, role: str = "S") -> Client:
    """Return a Centrifuge client with its own token that subscribes to a channel (None: only connects)."""
    user = f"u{number}"
    first = f'{{"id":1,"connect":{{"token":"{issuer.token(user, number)}"}}}}'
    ready = '"id":1'
    if channel is not None:
        ready = '"id":2'
        first += f'\x1e{{"id":2,"subscribe":{{"channel":"{channel}"}}}}'
    return Client(role, port, "/connection/websocket", ready, first, _source(number))


def _source(number: int) -> str:
    return f"127.0.0.{2 + number % 200}"


async def interleaved(kinds: Mapping[str, Callable[[], Awaitable[Measured]]]) -> dict[str, list[Measured]]:
    """Run each kind five times: slices of all kinds and runs in turn, after a round that does not count."""
    slices: dict[str, list[list[Measured]]] = {name: [[] for _ in range(RUNS)] for name in kinds}
    for measure in kinds.values():
        await measure()
    for number in range(RUNS * SLICES):
        for name, measure in kinds.items():
            slices[name][number % RUNS].append(await measure())
        say(".")
    return {name: [_mean(run) for run in runs] for name, runs in slices.items()}


def _mean(run: Sequence[Measured]) -> Measured:
    return Measured(fmean(it.deliveries for it in run), fmean(it.acks for it in run), max(it.busy for it in run))


async def fan_out(issuer: Issuer, jwks: str, redis: str) -> list[Figure]:
    """1,000 subscribers of one channel, one publisher: both servers in turn, five times each."""
    with our_server(jwks, redis) as us, stock_server(redis) as them:
        our_plan = [ours(us.port, issuer, it, "bench:0") for it in range(SUBSCRIBERS)]
        our_plan.append(ours(us.port, issuer, SUBSCRIBERS, None, "P"))
        their_plan = [Client("S", them.port, "/subscribe", source=_source(it)) for it in range(SUBSCRIBERS)]
        their_plan.append(Client("P", them.port, "/publish"))
        async with generator(our_plan) as our_load, generator(their_plan) as their_load:
            us_with = partial(our_load.measure, seconds=SECONDS, channels=1, template=PUBLISH)
            them_with = partial(their_load.measure, seconds=SECONDS, channels=1, template=STOCK_PUBLISH)
            runs = await interleaved(
                {
                    "ours 1": partial(us_with, window=1),
                    "stock 1": partial(them_with, window=1),
                    "ours 8": partial(us_with, window=8),
                    "stock 8": partial(them_with, window=8),
                }
            )
    say("\n")
    stock = Figure(STOCK, _rates(runs["stock 1"]), "deliveries/s", CRIPPLED)
    stock8 = Figure("fan-out, stock, 8 in flight", _rates(runs["stock 8"]), "deliveries/s")
    one = [a.deliveries / b.deliveries for a, b in zip(runs["ours 1"], runs["stock 1"], strict=True)]
    eight = [a.deliveries / b.deliveries for a, b in zip(runs["ours 8"], runs["stock 8"], strict=True)]
    return [
        stock,
        stock8,
        Figure("fan-out, one in flight", _rates(runs["ours 1"]), "deliveries/s", busy=_busy(runs["ours 1"])),
        Figure("fan-out, 8 in flight", _rates(runs["ours 8"]), "deliveries/s", busy=_busy(runs["ours 8"])),
        Figure("  ratio to stock, one in flight", one, "times", 1.5),
        Figure("  ratio to stock, 8 in flight", eight, "times", 7),
    ]


async def one_to_one(issuer: Issuer, jwks: str, redis: str) -> list[Figure]:
    """1,000 channels with one subscriber each, one publisher with 128 in flight."""
    with our_server(jwks, redis) as us:
        plan = [ours(us.port, issuer, it, f"bench:{it}") for it in range(SUBSCRIBERS)]
        plan.append(ours(us.port, issuer, SUBSCRIBERS, None, "P"))
        async with generator(plan) as load:
            measure = partial(load.measure, seconds=SECONDS, window=128, channels=SUBSCRIBERS, template=PUBLISH)
            runs = (await interleaved({"1:1": measure}))["1:1"]
    say("\n")
    return [Figure("1:1 over 1,000 channels, one publisher", _rates(runs), "messages/s", 22_000, busy=_busy(runs))]


async def accepts(issuer: Issuer, jwks: str, redis: str) -> list[Figure]:
    """Handshake, EdDSA token, subscribe, presence: 2,000 clients whose tokens nobody has seen."""
    rates, busy = [], []
    for run in range(RUNS):
        with our_server(jwks, redis) as us:
            plan = [ours(us.port, issuer, run * 10_000 + it, f"room:{it % 100}") for it in range(PLATEAU)]
            async with generator(plan, concurrency=64) as load:
                rates.append(PLATEAU / load.ready_seconds)
                busy.append(load.ready_busy)
        say(".")
    say("\n")
    return [Figure("accepts with an EdDSA token each", rates, "accepts/s", 1000, busy=max(busy))]


async def memory(issuer: Issuer, jwks: str, redis: str) -> list[Figure]:
    """Resident memory between plateaus of 2,000 connections, each with a token, one channel and presence."""
    costs = []
    for run in range(RUNS):
        with our_server(jwks, redis) as us:
            before = 0
            plans = [
                [ours(us.port, issuer, run * 10_000 + step * PLATEAU + it, f"room:{it % 100}") for it in range(PLATEAU)]
                for step in range(2)
            ]
            async with generator(plans[0]):
                await asyncio.sleep(2)
                before = us.resident()
                async with generator(plans[1]):
                    await asyncio.sleep(2)
                    costs.append((us.resident() - before) / PLATEAU / 1024)
        say(".")
    say("\n")
    return [Figure("memory per idle connection", costs, "KiB resident", 14, least=True)]


SCENARIOS: Final = {"fan-out": fan_out, "1:1": one_to_one, "accepts": accepts, "memory": memory}


def _rates(runs: Sequence[Measured]) -> list[float]:
    return [it.deliveries for it in runs]


def _busy(runs: Sequence[Measured]) -> float:
    return max(it.busy for it in runs)


def say(text: str) -> None:
    """Show progress."""
    sys.stderr.write(text)
    sys.stderr.flush()


async def run(names: Sequence[str]) -> list[Figure]:
    """Measure; one scenario after the other, each with a Valkey of its own."""
    figures: list[Figure] = []
    issuer = Issuer()
    with issuer.serving() as jwks:
        for name in names:
            say(f"{name} ")
            with valkey() as redis:
                figures += await SCENARIOS[name](issuer, jwks, redis)
    return figures


def main() -> int:
    """Measure, print the table, return 1 if a floor was missed or a figure is void, 2 if the whole run is."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("scenario", nargs="*", choices=[*SCENARIOS, []], help="all, if none is named")
    parser.add_argument("--json", type=Path, help="also write the runs to this file")
    options = parser.parse_args()
    figures = asyncio.run(run(options.scenario or list(SCENARIOS)))
    language = "Python" if "loadtests.generator" in generator_command() else "C"
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, generator in {language}")
    print(HEAD)
    for figure in figures:
        print(figure.row())
    if options.json:
        options.json.write_text(json.dumps({it.name: list(it.runs) for it in figures}, indent=1))
    if any(it.name == STOCK and not it.met for it in figures):
        print(f"RUN VOID: below {CRIPPLED:,} deliveries/s the stock server is crippled and compares with nothing")
        return 2
    return 0 if all(it.met and not it.void for it in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
