"""Who is in which channel, within one process: the lease of the only node never ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from gateway.contracts.broker import Done
from gateway.contracts.engine import EngineSink
from gateway.engines.memory.broker import MemoryBroker
from gateway.protocol.values import PresenceStats
from gateway.types import Channel, ClientInfo, ConnectionId, UserId


class MemoryPresence:
    """See `contracts.presence.PresenceStore`."""

    def __init__(self, broker: MemoryBroker, *, sink: EngineSink) -> None:
        self._broker = broker
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._members: dict[Channel, dict[ConnectionId, ClientInfo]] = {}
        self._users: dict[Channel, Counter[UserId]] = {}

    def add(self, channel: Channel, who: ClientInfo, announce: bool, done: Done[None]) -> None:
        """See the contract."""
        members = self._members.setdefault(channel, {})
        users = self._users.setdefault(channel, Counter())
        old = members.get(who.client)
        members[who.client] = who
        if old is not None:
            self._uncount(channel, old.user)
        users[who.user] += 1
        if announce and old is None and self._broker.wanted(channel):
            self._loop.call_soon(self._sink.joined, channel, who, users[who.user] == 1)
        self._loop.call_soon(done, None)

    def remove(self, channel: Channel, client: ConnectionId, announce: bool, done: Done[None]) -> None:
        """See the contract."""
        members = self._members.get(channel, {})
        who = members.pop(client, None)
        if who is not None:
            last = self._uncount(channel, who.user)
            if announce and self._broker.wanted(channel):
                self._loop.call_soon(self._sink.left, channel, who, last)
            if not members:
                del self._members[channel], self._users[channel]
        self._loop.call_soon(done, None)

    def members(self, channel: Channel, done: Done[Mapping[ConnectionId, ClientInfo]]) -> None:
        """See the contract."""
        self._loop.call_soon(done, dict(self._members.get(channel, {})))

    def stats(self, channel: Channel, done: Done[PresenceStats]) -> None:
        """See the contract."""
        stats = PresenceStats(len(self._members.get(channel, ())), len(self._users.get(channel, ())))
        self._loop.call_soon(done, stats)

    def _uncount(self, channel: Channel, user: UserId) -> bool:
        """Take one connection off a user's count; whether it was the last."""
        users = self._users[channel]
        users[user] -= 1
        if users[user]:
            return False
        del users[user]
        return True
