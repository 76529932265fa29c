"""The kept publications of all channels, with the lifetimes they would have in Redis."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from gateway.protocol.values import HistoryPage, HistoryQuery, PublishOptions
from gateway.types import Channel, Position, Publication


@dataclass(slots=True)
class _Stream:
    """One channel; times are monotonic seconds. The identity (epoch, top) outlives the publications."""

    epoch: str
    top: int = 0
    forgotten_at: float = inf
    publications: deque[Publication] = field(default_factory=deque)
    expires_at: float = inf


class Streams:
    """Appends and reads; `clock` returns monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._streams: dict[Channel, _Stream] = {}

    def append(self, channel: Channel, publication: Publication, options: PublishOptions) -> Publication:
        """Keep a publication and return it with its place; times to live of 0 are for ever."""
        stream = self._open(channel, options.history_meta_ttl)
        stream.top += 1
        it = publication
        placed = Publication(it.data, stream.top, stream.epoch, it.info, it.time_ms, tags=it.tags)
        stream.publications.append(placed)
        while len(stream.publications) > options.history_size:
            stream.publications.popleft()
        stream.expires_at = self._until(options.history_ttl)
        return placed

    def read(self, channel: Channel, query: HistoryQuery) -> HistoryPage:
        """Answer as `contracts.broker.History.read`."""
        stream = self._open(channel, query.meta_ttl)
        return HistoryPage(_page(stream.publications, query), Position(stream.top, stream.epoch))

    def remove(self, channel: Channel) -> None:
        """Forget the publications, keep the identity."""
        stream = self._streams.get(channel)
        if stream is not None:
            stream.publications.clear()

    def sweep(self) -> None:
        """Free what has expired."""
        for channel in list(self._streams):
            self._live(channel)

    # --- inside

    def _open(self, channel: Channel, meta_ttl: float) -> _Stream:
        stream = self._live(channel)
        if stream is None:
            epoch = f"{random.getrandbits(32):08x}"
            stream = self._streams[channel] = _Stream(epoch)
        if meta_ttl > 0:
            stream.forgotten_at = self._until(meta_ttl)
        return stream

    def _live(self, channel: Channel) -> _Stream | None:
        """Return a stream if there is one, without what has expired of it."""
        stream = self._streams.get(channel)
        if stream is None:
            return None
        now = self._clock()
        if stream.forgotten_at <= now:
            del self._streams[channel]
            return None
        if stream.expires_at <= now:
            stream.publications.clear()
        return stream

    def _until(self, ttl: float) -> float:
        return self._clock() + ttl if ttl > 0 else inf


def _page(kept: deque[Publication], query: HistoryQuery) -> Sequence[Publication]:
    if query.limit == 0:
        return ()
    since = query.since
    found: list[Publication]
    if query.reverse:
        found = [it for it in reversed(kept) if since is None or it.offset < since.offset]
    else:
        found = [it for it in kept if since is None or it.offset > since.offset]
    return found if query.limit < 0 else found[: query.limit]
