"""A real cluster on free ports of 127.0.0.1: three primaries that share the slots, and a replica of each if wanted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from tests.support.ports import free_port
from tests.support.sentinel import hosts, made, wait_until
from tests.support.tlsredis import TlsRedis
from tests.support.valkey import Valkey

SLOTS: Final = 16384
PRIMARIES: Final = 3
HANDED_OVER: Final = 100  # keys in one MIGRATE


@dataclass(frozen=True)
class Member:
    """A server as the others of its cluster reach it."""

    server: Valkey
    port: int
    bus_port: int

    @property
    def identity(self) -> str:
        """Return its id."""
        return str(self.server.command("CLUSTER", "MYID").decode())

    def belongs(self, size: int) -> bool:
        """Whether it knows all others, by the names that they keep, and all is well."""
        state = self.server.command("CLUSTER", "INFO").split()
        met = b"handshake" not in self.server.command("CLUSTER", "NODES")
        return met and {b"cluster_state:ok", b"cluster_known_nodes:%d" % size} <= set(state)


class RedisCluster:
    """`timeout`: seconds until a silent node is taken for dead. The first three members begin as the primaries."""

    def __init__(self, folder: Path, *, replicas: bool = False, timeout: float = 1.0) -> None:
        self.members = [
            _plain(made(folder / str(number)), timeout) for number in range(PRIMARIES * (2 if replicas else 1))
        ]

    @property
    def url(self) -> str:
        """Return its address as `engine.url`."""
        return f"redis+cluster://{hosts(self.servers)}"

    @property
    def servers(self) -> Sequence[Valkey]:
        """Return the processes."""
        return [member.server for member in self.members]

    def start(self) -> None:
        """Start everything, and wait until a failover would succeed."""
        for server in self.servers:
            server.start()
        join(self.members)

    def stop(self) -> None:
        """Kill everything."""
        for server in self.servers:
            server.stop()

    def settle(self) -> None:
        """Wait until all know each other, and replicas follow their primaries."""
        settle(self.members)

    def owner(self, slot: int) -> Member:
        """Return the primary of a slot, as the first member that runs knows it."""
        witness = next(it for it in self.members if it.server.answers())
        for first, last, primary, *_ in witness.server.command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(it for it in self.members if it.port == primary[1])
        raise LookupError(slot)

    def replica_of(self, primary: Member) -> Member:
        """Return the member that follows this one."""
        return next(it for it in self.members if _follows(it, primary))

    def hand_over(self, slot: int, target: Member, lingers: float = 0.0) -> None:
        """Move a slot with all keys, as `--cluster reshard` does; the first one so many seconds before the others."""
        source = self.owner(slot)
        target.server.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.identity)
        source.server.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.identity)
        count = 1 if lingers else HANDED_OVER
        while keys := source.server.command("CLUSTER", "GETKEYSINSLOT", slot, count):
            source.server.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            time.sleep(lingers)
            count, lingers = HANDED_OVER, 0.0
        for member in (target, source):
            member.server.command("CLUSTER", "SETSLOT", slot, "NODE", target.identity)


class TlsCluster:
    """Three primaries, everything over TLS."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self._servers = [
            TlsRedis(made(folder / str(n)), "--tls-cluster", "yes", authority=authority) for n in range(PRIMARIES)
        ]
        self._members: list[Member] = []
        for server in self._servers:
            member = Member(server, server.tls_port, free_port())
            server.configure(*as_node(member.bus_port, timeout=5.0))
            self._members.append(member)

    @property
    def url(self) -> str:
        """Return its address as `engine.url`."""
        seed = self._servers[0]
        return f"rediss+cluster://localhost:{seed.tls_port}?{seed.trust}"

    def start(self) -> None:
        """Start everything."""
        for server in self._servers:
            server.start()
        join(self._members)

    def stop(self) -> None:
        """Kill everything."""
        for server in self._servers:
            server.stop()


def as_node(bus_port: int, timeout: float) -> Sequence[str]:
    """Return what makes a server a node."""
    settings = {
        "cluster-enabled": "yes",
        "cluster-port": str(bus_port),
        "cluster-node-timeout": str(round(timeout * 1000)),
        "cluster-require-full-coverage": "no",  # or one primary's death would stop all others until its replica leads
        "repl-diskless-sync-delay": "0",  # its default alone is 5 s
    }
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def join(members: Sequence[Member]) -> None:
    """Make a cluster of them."""
    share = SLOTS // PRIMARIES + 1
    for number, member in enumerate(members):
        member.server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        if number:
            members[0].server.command("CLUSTER", "MEET", "127.0.0.1", member.port, member.bus_port)
    for number, member in enumerate(members[:PRIMARIES]):
        last = min((number + 1) * share, SLOTS) - 1
        member.server.command("CLUSTER", "ADDSLOTSRANGE", number * share, last)
    wait_until(lambda: all(it.belongs(len(members)) for it in members), "the nodes do not meet")
    for primary, replica in zip(members, members[PRIMARIES:], strict=False):
        replica.server.command("CLUSTER", "REPLICATE", primary.identity)
    settle(members)


def settle(members: Sequence[Member]) -> None:
    """Wait until all know each other, and replicas follow their primaries."""

    def settled() -> bool:
        replications = [it.server.command("INFO", "replication") for it in members]
        links = [row["master_link_status"] for row in replications if row["role"] == "slave"]
        return (
            all(it.belongs(len(members)) for it in members)
            and links == ["up"] * (len(members) - PRIMARIES)
            and len({tuple(_primaries(it)) for it in members}) == 1
        )

    wait_until(settled, "the cluster does not settle")


def _primaries(member: Member) -> Sequence[tuple[int, int, int]]:
    return sorted((first, last, primary[1]) for first, last, primary, *_ in member.server.command("CLUSTER", "SLOTS"))


def _plain(folder: Path, timeout: float) -> Member:
    bus_port = free_port()
    server = Valkey(folder, *as_node(bus_port, timeout))
    return Member(server, server.port, bus_port)


def _follows(member: Member, primary: Member) -> bool:
    if not member.server.answers():
        return False
    row = member.server.command("INFO", "replication")
    return bool(row["role"] == "slave" and row["master_port"] == primary.port)
