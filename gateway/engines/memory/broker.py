"""Publications within one process."""

from __future__ import annotations

import asyncio
from collections import Counter

from gateway.contracts.broker import Done
from gateway.contracts.clock import Clock
from gateway.contracts.engine import EngineSink
from gateway.engines.memory.streams import Streams
from gateway.protocol.values import HistoryPage, HistoryQuery, Published, PublishOptions
from gateway.types import Channel, Position, Publication


class MemoryBroker:
    """See `contracts.broker.Broker`. Everything is done at once and told on the next turn."""

    def __init__(self, streams: Streams, *, sink: EngineSink, clock: Clock, idempotency_ttl: float) -> None:
        self._streams = streams
        self._sink = sink
        self._clock = clock
        self._idempotency_ttl = idempotency_ttl
        self._loop = asyncio.get_running_loop()
        self._refs: Counter[Channel] = Counter()
        self._results: dict[tuple[Channel, str], tuple[float, Position | None]] = {}  # (known until, where)
        self._claims: dict[str, float] = {}  # until when

    def publish(self, channel: Channel, data: bytes, options: PublishOptions, done: Done[Published]) -> None:
        """See the contract."""
        known = self._results.get((channel, options.idempotency_key)) if options.idempotency_key else None
        if known is not None and known[0] > self._clock.monotonic():
            self._loop.call_soon(done, Published(known[1], duplicate=True))
            return
        tags = dict(options.tags) if options.tags else None
        publication = Publication(data, info=options.info, time_ms=options.time_ms, tags=tags)
        position = None
        if options.history_size:
            publication = self._streams.append(channel, publication, options)
            position = Position(publication.offset, publication.epoch)
        if options.idempotency_key:
            until = self._clock.monotonic() + self._idempotency_ttl
            self._results[channel, options.idempotency_key] = (until, position)
        if self.wanted(channel):
            self._loop.call_soon(self._sink.published, channel, publication)
        self._loop.call_soon(done, Published(position))

    def subscribe(self, channel: Channel, done: Done[None]) -> None:
        """See the contract."""
        self._refs[channel] += 1
        self._loop.call_soon(done, None)

    def unsubscribe(self, channel: Channel) -> None:
        """See the contract."""
        self._refs[channel] -= 1
        if self._refs[channel] <= 0:
            del self._refs[channel]

    def claim(self, key: str, ttl: float, done: Done[bool]) -> None:
        """See the contract."""
        now = self._clock.monotonic()
        free = self._claims.get(key, now) <= now
        if free:
            self._claims[key] = now + ttl
        self._loop.call_soon(done, free)

    def wanted(self, channel: Channel) -> bool:
        """Whether anybody listens."""
        return channel in self._refs

    def sweep(self) -> None:
        """Free what has expired."""
        now = self._clock.monotonic()
        self._results = {key: result for key, result in self._results.items() if result[0] > now}
        self._claims = {key: until for key, until in self._claims.items() if until > now}


class MemoryHistory:
    """See `contracts.broker.History`."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._loop = asyncio.get_running_loop()

    def read(self, channel: Channel, query: HistoryQuery, done: Done[HistoryPage]) -> None:
        """See the contract."""
        self._loop.call_soon(done, self._streams.read(channel, query))

    def remove(self, channel: Channel, done: Done[None]) -> None:
        """See the contract."""
        self._streams.remove(channel)
        self._loop.call_soon(done, None)
