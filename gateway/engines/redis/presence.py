"""Who is in which channel, held under this node's lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from gateway.contracts.broker import Done
from gateway.contracts.engine import EngineOptions, EngineSink
from gateway.engines.redis.envelope import Envelope
from gateway.engines.redis.lease import Lease
from gateway.engines.redis.partition import Partition, Place
from gateway.errors import EngineFault
from gateway.protocol.values import PresenceStats
from gateway.types import Channel, ClientInfo, ConnectionId

log = structlog.get_logger(__name__)


ENTERING: Final = "redis: entering presence anew"
NOT_TAKEN: Final = "redis: presence is not taken"


class RedisPresence:
    """See `contracts.presence.PresenceStore`. The lease is per node and partition, never per entry.

    `clock` returns monotonic seconds; `tick` is called several times a second, and when a link has come up.
    """

    def __init__(
        self,
        place: Place,
        partitions: Sequence[Partition],
        *,
        sink: EngineSink,
        clock: Callable[[], float],
        envelope: Envelope,
        options: EngineOptions,
    ) -> None:
        self._place = place
        self._sink = sink
        self._clock = clock
        self._envelope = envelope
        self._recorder = options.recorder
        self._loop = asyncio.get_running_loop()
        self._leases = {
            partition: Lease(partition, clock=clock, envelope=envelope, options=options, broke=self._broke)
            for partition in partitions
        }
        self._booked = False

    def add(self, channel: Channel, who: ClientInfo, announce: bool, done: Done[None]) -> None:
        """See the contract."""
        self._lease(channel).add(channel, who, announce, done)

    def remove(self, channel: Channel, client: ConnectionId, announce: bool, done: Done[None]) -> None:
        """See the contract."""
        self._lease(channel).remove(channel, client, announce, done)

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

        names = partition.names
        partition.run("stats", (names.presence + channel, names.users + channel), (), answered)

    def tick(self) -> None:
        """Renew leases in time, begin anew where one was lost, and look after dead nodes."""
        self._mend()
        now = self._clock()
        for lease in self._leases.values():
            if lease.due(now):
                lease.renew()

    def faults(self) -> Sequence[str]:
        """Say whether this node is entering anew what had been lost; an outage meanwhile is not its own."""
        return [ENTERING] if any(lease.lost and not lease.refused for lease in self._asking()) else []

    def outages(self) -> Sequence[str]:
        """Say why Redis takes no entries, if it does not: every node that has something to enter meets the same."""
        return [f"{NOT_TAKEN} ({why})" for why in sorted({lease.refused for lease in self._asking()} - {""})]

    def retire(self, done: Done[None]) -> None:
        """Give the leases back, where no entry is held under them any more; `done` after the last answer."""
        pending = 0

        def answered(_reply: object) -> None:
            nonlocal pending
            pending -= 1
            if not pending:
                done(None)

        pending = sum(lease.retire(answered) for lease in self._leases.values())
        if not pending:
            self._loop.call_soon(done, None)

    # --- inside

    def _asking(self) -> Sequence[Lease]:
        """Return the leases where Redis answers; elsewhere the outage is the link's."""
        return [lease for lease in self._leases.values() if lease.partition.commands.answers]

    def _lease(self, channel: Channel) -> Lease:
        lease = self._leases[self._place(channel)]
        if lease.broken():
            self._mend()
        return lease

    def _broke(self) -> None:
        if not self._booked:
            self._booked = True
            self._loop.call_soon(self._mend)

    def _mend(self) -> None:
        """Begin the next incarnation wherever one must, with a single look at what the node holds."""
        self._booked = False
        broken = {lease: why for lease in self._leases.values() if (why := lease.broken())}
        if not broken:
            return
        for lease, why in broken.items():
            lease.begin(why)
        for channel, who, announce in self._sink.present():
            lease = self._leases[self._place(channel)]
            if lease in broken:
                lease.hold(channel, who, announce)
        for lease in broken:
            lease.renew()
        log.warning("redis.presence_anew", why=sorted(set(broken.values())), partitions=len(broken))
        self._rebuild([lease for lease in broken if lease.lost])

    def _rebuild(self, lost: Sequence[Lease]) -> None:
        """Whoever lost a lease was away for so long that publications may be missing too."""
        if lost:
            self._recorder.count("presence_refresh_failures")
        for server in {lease.partition.server: None for lease in lost}:
            server.pubsub.abort("the lease of presence was lost")

    def _members(self, channel: Channel, reply: Mapping[bytes, bytes]) -> Mapping[ConnectionId, ClientInfo]:
        members: dict[ConnectionId, ClientInfo] = {}
        for client, value in reply.items():
            try:
                members[ConnectionId(client.decode())] = self._envelope.read_client(_blob(value))
            except ValueError as error:
                self._recorder.count("redis_foreign_payloads")
                log.warning("redis.foreign_member", channel=channel, why=str(error))
        return members


def _blob(value: bytes) -> bytes:
    """Return what follows incarnation and user (see scripts/presence.lua)."""
    incarnation, user, _announced, rest = value.split(b":", 3)
    return rest[int(incarnation) + int(user) :]
