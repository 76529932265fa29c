"""Who is in which channel, held under this node's lease."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from gateway.contracts.broker import Done
from gateway.contracts.engine import EngineOptions
from gateway.engines.redis.envelope import Envelope
from gateway.engines.redis.partition import Partition, Place, milliseconds
from gateway.errors import EngineFault
from gateway.protocol.values import PresenceStats
from gateway.types import Channel, ClientInfo, ConnectionId

log = structlog.get_logger(__name__)


class RedisPresence:
    """See `contracts.presence.PresenceStore`. The lease is per node and partition, never per entry."""

    def __init__(
        self, place: Place, partitions: list[Partition], *, envelope: Envelope, options: EngineOptions
    ) -> None:
        self.incarnation = f"{options.node}.1"
        self._place = place
        self._partitions = partitions
        self._envelope = envelope
        self._options = options

    def add(self, channel: Channel, who: ClientInfo, announce: bool, done: Done[None]) -> None:
        """See the contract."""
        partition = self._place(channel)
        args = (
            partition.names.client + channel,
            who.client,
            self.incarnation,
            who.user,
            self._envelope.client(who),
            f"{who.client} {channel}",
            int(announce),
        )
        partition.run("add", self._keys(partition, channel), args, _silent(done))

    def remove(self, channel: Channel, client: ConnectionId, announce: bool, done: Done[None]) -> None:
        """See the contract."""
        partition = self._place(channel)
        name = partition.names.client + channel
        args = (name, client, self.incarnation, f"{client} {channel}", int(announce))
        partition.run("remove", self._keys(partition, channel), args, _silent(done))

    def members(self, channel: Channel, done: Done[Mapping[ConnectionId, ClientInfo]]) -> None:
        """See the contract."""
        partition = self._place(channel)

        def answered(reply: Any) -> None:
            done(reply if isinstance(reply, EngineFault) else self._members(channel, reply))

        partition.commands.call(("HGETALL", partition.names.presence + channel), answered)

    def stats(self, channel: Channel, done: Done[PresenceStats]) -> None:
        """See the contract."""
        partition = self._place(channel)

        def answered(reply: Any) -> None:
            done(reply if isinstance(reply, EngineFault) else PresenceStats(*reply))

        partition.run("stats", self._keys(partition, channel)[:2], (), answered)

    def renew(self) -> None:
        """Renew this node's lease everywhere; call it well within `presence_ttl`."""
        for partition in self._partitions:
            if not partition.commands.up:
                continue
            args = (self.incarnation, milliseconds(self._options.presence_ttl))
            partition.run("renew", (partition.names.nodes,), args, _nothing)

    def retire(self, done: Done[None]) -> None:
        """Give the lease back, where no entry is held under it any more; `done` after the last answer."""
        pending = len(self._partitions)

        def answered(_reply: object) -> None:
            nonlocal pending
            pending -= 1
            if not pending:
                done(None)

        for partition in self._partitions:
            names = partition.names
            partition.run("retire", (names.nodes, names.owned + self.incarnation), (self.incarnation,), answered)

    # --- inside

    def _keys(self, partition: Partition, channel: Channel) -> tuple[str, str, str]:
        names = partition.names
        return names.presence + channel, names.users + channel, names.owned + self.incarnation

    def _members(self, channel: Channel, reply: Mapping[bytes, bytes]) -> Mapping[ConnectionId, ClientInfo]:
        members: dict[ConnectionId, ClientInfo] = {}
        for client, value in reply.items():
            try:
                members[ConnectionId(client.decode())] = self._envelope.read_client(_blob(value))
            except ValueError as error:
                self._options.recorder.count("redis_foreign_payloads")
                log.warning("redis.foreign_member", channel=channel, why=str(error))
        return members


def _nothing(_reply: object) -> None:
    """Take an answer that needs no action: faults are counted by the wire."""


def _silent(done: Done[None]) -> Done[Any]:
    """Turn any good answer into None."""

    def answered(reply: Any) -> None:
        done(reply if isinstance(reply, EngineFault) else None)

    return answered


def _blob(value: bytes) -> bytes:
    """Return what follows incarnation and user (see scripts/presence.lua)."""
    incarnation, user, rest = value.split(b":", 2)
    return rest[int(incarnation) + int(user) :]
