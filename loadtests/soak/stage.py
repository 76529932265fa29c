"""What a soak plays on: one Valkey behind a proxy, three nodes, and two crowds that come and go all the time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.crowd import Crowd, crowd
from tests.support.crowd_life import Client, Load
from tests.support.faultproxy import FaultProxy, faultproxy
from tests.support.fleet import API_KEY, KEPT, SECRET, Fleet, Node, fleet
from tests.support.valkey import Valkey

NODES: Final = 3
KEPT_SHARE: Final = 0.6  # of the clients, in channels with history; the others are in channels with presence too
CLIENTS_A_CHANNEL: Final = 20
BACK_OFF_CAP: Final = 10.0  # seconds; what is measured is how fast the gateway is, not how patient its clients
JOIN_SECONDS: Final = 60.0  # for everybody to be there at the beginning
PRESENT: Final = "present"
GANG: Final = "gang"  # where the attackers listen: it has no history
NAMESPACES: Final = (
    {"name": "load", **KEPT},
    {"name": PRESENT, **KEPT, "presence": True, "join_leave": True, "force_push_join_leave": True},
    {"name": GANG, "allow_subscribe_for_client": True},
)
SETTINGS: Final[Mapping[str, str]] = {
    "CHANNEL__NAMESPACES": json.dumps(NAMESPACES),
    "HTTP_SERVER__CONNECTIONS_PER_IP": "400",  # the crowds share addresses, and two nodes may have to do
    "SHUTDOWN__DELAY": "1s",
    "SHUTDOWN__WINDOW": "10s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is told; times in seconds. `faults` empty: all kinds, round after round, each in a random order."""

    seconds: float = 600.0
    clients: int = 2000
    fault_every: float = 30.0
    seed: int = 0
    stay: tuple[float, float] = (5.0, 55.0)  # between which lies how long a client stays each time
    publishes: float = 0.1  # a second for each client
    settle: float = 40.0  # for everybody to come back when faults and publishing have ended
    faults: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)  # of the nodes, by variable name
    program: Sequence[str] = ()  # empty: the gateway

    def loads(self) -> Iterator[Load]:
        """Yield the crowds: one publishes through the server API and repeats itself, one with clients' commands."""
        many = round(self.clients * KEPT_SHARE)
        for namespace, clients, retry in (("load", many, True), (PRESENT, self.clients - many, False)):
            yield Load(
                clients=clients,
                channels=max(2, clients // CLIENTS_A_CHANNEL),
                publishes=clients * self.publishes,
                churn=1.0,
                stay=self.stay,
                namespace=namespace,
                cap=BACK_OFF_CAP,
                retry=retry,
                by_command=not retry,
            )


@dataclass(slots=True, kw_only=True)
class Stage:
    """Everything that a fault may harm; `crowds` is empty before they come and when they have gone."""

    valkey: Valkey
    proxy: FaultProxy
    fleet: Fleet
    dice: random.Random
    crowds: Sequence[Crowd] = ()

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes."""
        return self.fleet.nodes

    @property
    def mortal(self) -> Node:
        """The one that is killed and drained; the others live through, so that their memory can be judged."""
        return self.nodes[-1]

    @property
    def clients(self) -> Iterator[Client]:
        """Everybody of all crowds."""
        return (client for people in self.crowds for client in people.clients)

    @property
    def connected(self) -> int:
        """How many have a connection."""
        return sum(people.connected for people in self.crowds)

    def on(self, node: Node) -> int:
        """Count the clients on a node."""
        return sum(len(people.on(node.url)) for people in self.crowds)

    @asynccontextmanager
    async def unlisted(self, node: Node) -> AsyncIterator[None]:
        """Send nobody to this node while the body runs, as a load balancer does that saw it was not ready."""
        for people in self.crowds:
            people.nodes.remove(node.url)
        yield
        for people in self.crowds:
            people.nodes.append(node.url)

    @asynccontextmanager
    async def crowded(self, options: Options) -> AsyncIterator[None]:
        """Let the crowds come, and go at the end."""
        async with AsyncExitStack() as stack:
            people = [
                crowd(it, nodes=[node.url for node in self.nodes], secret=SECRET, api_key=API_KEY, within=JOIN_SECONDS)
                for it in options.loads()
            ]
            self.crowds = await asyncio.gather(*map(stack.enter_async_context, people))
            yield
        self.crowds = ()


@asynccontextmanager
async def staged(folder: Path, options: Options) -> AsyncIterator[Stage]:
    """Run Valkey, proxy and nodes; entered when all are ready. Logs go into the folder."""
    valkey = Valkey(folder)
    valkey.start()
    try:
        async with (
            faultproxy(valkey.port) as proxy,
            fleet(folder, [proxy.url], NODES, program=options.program, **{**SETTINGS, **options.settings}) as ships,
        ):
            yield Stage(valkey=valkey, proxy=proxy, fleet=ships, dice=random.Random(options.seed))
    finally:
        valkey.stop()
