"""One real node under attack beside a healthy crowd: what it costs, what it counts, what it logs."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.healthy import CHANNELS, LISTENERS, SLICE, Healthy, Stretch, crowd
from tests.support.attackers import PATIENCE
from tests.support.exactness import within
from tests.support.fleet import SECRET, Node
from tests.support.rawsocket import RawSocket
from tests.support.valkey import Valkey

_LISTEN, _TIME_WAIT = "0A", "06"  # states in /proc/net/tcp
QUIET_SECONDS = 2.0
FLOOR = 0.025  # seconds; below it a ratio of latencies says more of the machine than of the node
STALL = 2.0  # seconds; nobody may wait so long for anything, whatever the median says
HICCUP = 0.5  # seconds of latency excused for each second that a process had to wait for a core in a second
GENEROUS = 20.0  # seconds; a test that waits so long has failed
MIB = 1024 * 1024
NAMESPACES = [
    {"name": "plain", "allow_subscribe_for_client": True, "allow_publish_for_client": True},
    {"name": "closed", "allow_subscribe_for_client": True},
    {
        "name": "watched",
        "allow_subscribe_for_client": True,
        "presence": True,
        "join_leave": True,
        "force_push_join_leave": True,
    },
]


@dataclass(slots=True)
class Cost:
    """What an attack cost the node, known when it is over."""

    rss: float = 0.0  # MiB at the peak, above what it was
    cpu: float = 0.0  # seconds
    seconds: float = 0.0


class Siege:
    """The node, its Valkey and its crowd."""

    def __init__(self, node: Node, valkey: Valkey, healthy: Healthy) -> None:
        self.node = node
        self.url = node.url
        self.valkey = valkey
        self.healthy = healthy
        time.sleep(QUIET_SECONDS)  # what is measured is this time
        self.quiet = self._last(QUIET_SECONDS)

    def _last(self, seconds: float) -> Stretch:
        now = time.monotonic()
        return self.healthy.stretch(now - seconds, now)

    def rss(self) -> float:
        """Return the memory of the node in MiB."""
        return self.node.resident / MIB

    def counters(self) -> dict[str, float]:
        """Return every series of the node, as `name` or `name{value,value}`."""
        answer = httpx.get(f"{self.url}/metrics", trust_env=False, timeout=10.0).raise_for_status()
        return {
            f"{sample.name}{{{','.join(sample.labels.values())}}}" if sample.labels else sample.name: sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def connections(self) -> float:
        """Return how many connections of any state there are."""
        return sum(value for name, value in self.counters().items() if name.startswith("gateway_connections{"))

    async def until(self, condition: Callable[[], object]) -> None:
        """Ask again and again until the answer is true: for what the node announces to nobody."""
        async with asyncio.timeout(GENEROUS):
            while not condition():  # noqa: ASYNC110 - another process would have to set the event
                await asyncio.sleep(0.05)

    def counted(self, series: str) -> float:
        """Return one series, 0 when it is not shown yet."""
        return self.counters().get(f"gateway_{series}", 0.0)

    def links(self) -> set[tuple[str, int]]:
        """Return the far ends of the node's sockets, those that the kernel keeps for it after a close included."""
        found = set()
        for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if int(local.rpartition(":")[2], 16) == self.node.port and state not in {_LISTEN, _TIME_WAIT}:
                address, _, port = remote.partition(":")
                found.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
        return found

    async def gone(self, clients: Iterable[RawSocket]) -> list[float]:
        """Wait until the node has got rid of each of them, which may never read that; return when (monotonic)."""
        left = {client.sock.getsockname() for client in clients}
        times: list[float] = []
        async with asyncio.timeout(PATIENCE):
            while left:
                gone = left - self.links()
                left -= gone
                times += [time.monotonic()] * len(gone)
                await asyncio.sleep(0.1)
        return times

    def log(self) -> list[dict[str, Any]]:
        """Return what the node logged; fails for a line that is no JSON object."""
        return [json.loads(line) for line in self.node.log.split("\n") if line]

    @asynccontextmanager
    async def attack(self, *, rss: float = 4.0, slower: float = 2.0, longest: float = STALL) -> AsyncIterator[Cost]:
        """Measure what happens inside; then the crowd must be well, the memory within `rss` MiB, and no bug met.

        Of the crowd, deliveries have become `slower` times as slow at most, and nobody has waited `longest` seconds.
        """
        cost, began, cpu, before = Cost(), time.monotonic(), self.node.cpu, self.rss()
        waited = self._waited()
        sampler = asyncio.ensure_future(self._sample(cost, before))
        try:
            yield cost
            await asyncio.sleep(SLICE - (time.monotonic() - began))  # what a short attack does is seen after it, too
        finally:
            sampler.cancel()
        cost.cpu, cost.seconds = self.node.cpu - cpu, time.monotonic() - began
        cost.rss = max(cost.rss, self.rss() - before)
        self.assert_crowd_is_well(began, slower, longest, HICCUP * (self._waited() - waited) / cost.seconds)
        assert cost.rss <= rss, f"{cost.rss:.1f} MiB more than before"
        assert self.counted("errors_total{frame}") + self.counted("errors_total{task}") == 0
        faults = [line for line in self.log() if "exception" in line or line["level"] in {"error", "critical"}]
        assert faults == [], faults[:3]

    def assert_crowd_is_well(self, since: float, slower: float, longest: float, excused: float) -> None:
        """Fail if deliveries since then were late or missing; `excused` seconds are the machine's fault."""
        during = self.healthy.stretch(since, time.monotonic())
        assert during.missing == 0, f"{during.missing} deliveries never came"
        assert during.worst < longest + excused, f"somebody waited {during.worst:.3f} s"
        allowed = max(slower * self.quiet.p99, within(FLOOR, otherwise=4.0)) + excused
        assert during.p99 <= allowed, f"p99 {during.p99:.4f} s, beside {self.quiet.p99:.4f} s when quiet"

    def _waited(self) -> float:
        """Return for how many seconds node and crowd could have run, and no core was free."""
        pids = (self.node.pid, self.healthy.pid)
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) for pid in pids) / 1e9

    async def _sample(self, cost: Cost, before: float) -> None:
        while True:
            cost.rss = max(cost.rss, self.rss() - before)
            await asyncio.sleep(0.05)


def token(user: str, **claims: Any) -> str:
    """Sign a token that the node accepts."""
    told = {"sub": user, "aud": "gateway", "exp": int(time.time()) + 3600, **claims}
    return jwt.encode(told, SECRET, "HS256")


@contextmanager
def siege(folder: Path, **settings: str) -> Iterator[Siege]:
    """Run a Valkey, a node and a crowd; settings by variable name without GATEWAY_."""
    valkey = Valkey(folder)
    valkey.start()
    chosen = {
        "ENGINE__URL": valkey.url,
        "CHANNEL__NAMESPACES": json.dumps(NAMESPACES),
        "CLIENT__CONNECTION_RATE_LIMIT": "0",  # which would keep attackers out for coming fast, whatever they do then
        **settings,
    }
    node = Node("node", folder, chosen)
    try:
        node.wait_until_ready()
        tokens = [token(f"healthy-{number}") for number in range(CHANNELS * LISTENERS + 1)]
        with crowd(folder, node.centrifuge_url, tokens) as healthy:
            yield Siege(node, valkey, healthy)
    finally:
        node.kill()
        valkey.stop()
