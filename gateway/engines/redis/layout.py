"""Which servers there are, and which partition lies on which: one server, or several that share by their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gateway.contracts.clock import Clock
from gateway.contracts.engine import EngineOptions
from gateway.engines.redis.address import Address
from gateway.engines.redis.chores import Chores
from gateway.engines.redis.library import Library
from gateway.engines.redis.link import Locate
from gateway.engines.redis.partition import Partition
from gateway.engines.redis.server import Server
from gateway.engines.redis.topology import TAGS, fnv1a, jump, names

CONTROL: Final = "control"  # follows the prefix in the names of the bus, so that no client can reach them


class Layout:
    """Servers and partitions that stay as they are. Others (`cluster.py`) move partitions as the servers say.

    `partitions` are those of channels, in the order of their tags; `control` is that of the control bus. `came_up` is
    called each time a server takes commands again.
    """

    def __init__(self, servers: Sequence[Server], partitions: Sequence[Partition], control: Partition) -> None:
        self.servers = list(servers)
        self.partitions = list(partitions)
        self.control = control
        self.came_up: Callable[[], None] = lambda: None
        for server in servers:
            self._adopt(server)

    def on(self, server: Server) -> Iterable[Partition]:
        """Return what lies on a server, the control bus's partition too."""
        return [it for it in (*self.partitions, self.control) if it.server is server]

    def open(self, chores: Chores) -> None:
        """Keep the links up, and this true, until the chores end."""
        for server in self.servers:
            chores.start(f"redis {server.name}", server.run())

    async def stands(self) -> None:
        """Wait until all links are up."""
        for server in list(self.servers):
            await server.stands()

    def outages(self) -> Sequence[str]:
        """Return what does not work right now, a line each."""
        return list(dict.fromkeys(line for server in self.servers for line in server.outages()))

    def sweep(self, now: float) -> None:
        """Enforce deadlines; call it a few times a second."""
        for server in self.servers:
            server.sweep(now)

    def close(self) -> None:
        """Fail everybody who still waits for a subscription."""
        for server in self.servers:
            server.subscriptions.close()

    def _adopt(self, server: Server) -> None:
        server.came_up = self._came_up
        server.hosted = lambda: [it.names for it in self.on(server)]

    def _came_up(self) -> None:
        self.came_up()


def fixed(addresses: Sequence[Address], *, clock: Clock, options: EngineOptions) -> Layout:
    """Lay everything out over these servers; the order of a list matters, one more at its end moves its share only."""
    library = Library()
    servers = [
        Server(str(address), always(address), library=library, clock=clock, options=options) for address in addresses
    ]
    tags = TAGS[:1] if len(servers) == 1 else TAGS
    dbs = [address.db for address in addresses]

    def partition(prefix: str, tag: str) -> Partition:
        index = jump(fnv1a(tag), len(servers))
        return Partition(names(prefix, tag, dbs[index]), servers[index])

    control = partition(f"{options.prefix}.{CONTROL}", TAGS[0])
    return Layout(servers, [partition(options.prefix, tag) for tag in tags], control)


def always(address: Address) -> Locate:
    """Return what finds a server that stays where it is."""

    async def locate() -> Address:
        return address

    return locate
