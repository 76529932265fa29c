"""What the comparison knows of a server of others' making: how it starts, how clients speak to it, what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from gateway.demo.ports import free_port
from loadtests.bench.rig import Client, Server, server

CHANNEL: Final = "bench:0"
DATA: Final = '{"v":"' + "x" * 92 + '"}'  # 100 bytes
INFO: Final = '{"user":"u0","client":"00000000-0000-4000-8000-000000000000"}'  # who published
# Servers that pass on what they are given pass on this: what a subscriber of ours gets, but for the client's id.
PLAIN: Final = '{"push":{"channel":"' + CHANNEL + '","pub":{"data":' + DATA + ',"info":' + INFO + "}}}"
SOURCES: Final = 200  # addresses 127.0.0.x that clients come from: one alone runs out of ports


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What clients of a server say and hear; the words are those of `generator.c`."""

    subscribe_at: str = "/subscribe"
    publish_at: str = "/publish"
    subscribe: str = "-"  # a subscriber's first frame
    subscribed: str = "-"  # what the frame contains that says he will get all from now on; "-" = the upgrade says it
    connect: str = "-"  # the publisher's first frame
    connected: str = "-"
    publication: str = PLAIN
    ping: str = "{}"
    pong: str = "{}"
    ack: str = '{"id":'

    def subscriber(self, port: int, number: int) -> Client:
        """Return the subscriber with this number."""
        return self._client("S", port, number, self.subscribe_at, (self.subscribed, self.subscribe))

    def publisher(self, port: int) -> Client:
        """Return the publisher."""
        return self._client("P", port, 0, self.publish_at, (self.connected, self.connect))

    def _client(self, role: str, port: int, number: int, path: str, words: tuple[str, str]) -> Client:
        source = f"127.0.0.{2 + number % SOURCES}"
        spoken = {"ping": self.ping, "pong": self.pong, "ack": self.ack}
        return Client(role, port, path, *words, source=source, **spoken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server to compare with. `relayed`: publications go through Redis, and are acknowledged when it has answered."""

    name: str  # on the command line
    title: str  # in tables
    remark: str  # what a reader must know of how it is set up
    command: Callable[[int, str], Sequence[str]]  # for a port and Redis's URL
    missing: Callable[[], str]  # why it cannot run here; empty = it can
    versions: Callable[[], Mapping[str, str]]  # of what it is made of
    dialect: Dialect = field(default_factory=Dialect)
    environ: Mapping[str, str] = field(default_factory=dict)
    relayed: bool = True

    @contextmanager
    def running(self, redis: str) -> Iterator[Server]:
        """Run it on the server's core. Raises RuntimeError if it does not start."""
        port = free_port()
        command = self.command(port, redis)
        with server(command, port=port, ready="/", environ=self.environ) as running:
            yield running
