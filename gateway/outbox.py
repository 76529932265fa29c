"""One connection's bounded outgoing queue, and the flush of all of them once per turn of the loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from gateway.contracts.transport import Transport
from gateway.disconnects import SLOW, Disconnect
from gateway.types import Channel

TURN_CONNECTIONS: Final = 512  # writes per turn: 10,000 in one turn held the loop for 129 ms, in slices for 7 ms
TURN_SECONDS: Final = 0.002


class Outbox:
    """The queue itself, as the base of a connection: no object of its own per connection.

    Frames are complete wire bytes; `queued` counts them. While the transport is `blocked`, they stay here.
    """

    __slots__ = ("blocked", "flusher", "frames", "limit", "marked", "queued", "transport")

    def __init__(self, *, transport: Transport, flusher: Flusher, limit: int) -> None:
        self.transport = transport
        self.flusher = flusher
        self.limit = limit
        self.frames: list[bytes] = []
        self.queued = 0
        self.marked = False
        self.blocked = False

    def put(self, frame: bytes) -> Disconnect | None:
        """Append whole frames, which leave at the end of the turn. SLOW: over the limit, close it."""
        self.frames.append(frame)
        self.queued += len(frame)
        if not self.marked:
            self.flusher.mark(self)
        return SLOW if self.queued > self.limit else None

    def flush(self) -> None:
        """Hand everything to the transport in one write, unless it has asked us to wait."""
        frames = self.frames
        if self.blocked or not frames:
            return
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        frames.clear()
        self.queued = 0
        self.transport.write(data)

    def discard(self) -> None:
        """Drop what is queued."""
        self.frames.clear()
        self.queued = 0


class Flushable(Protocol):
    """An outbox, as the flusher sees it."""

    marked: bool

    def flush(self) -> None:
        """Write what is queued."""


class Source(Protocol):
    """Something that collects frames for many outboxes during a turn."""

    def spill(self) -> None:
        """Append what was collected to the outboxes."""


class Flusher:
    """Once per turn: the sources spill, then the outboxes are written, within a budget.

    Order within a connection is its outbox's; a connection that did not get its turn gets it in the next one.
    """

    def __init__(
        self,
        *,
        call_soon: Callable[[Callable[[], None]], object],
        now: Callable[[], float],
        flushed: Callable[[], None],
    ) -> None:
        self._call_soon = call_soon
        self._now = now
        self._flushed = flushed
        self._scheduled = False
        self.sources: dict[Channel, Source] = {}
        self.queue: deque[Flushable] = deque()

    def mark(self, outbox: Flushable) -> None:
        """Have an outbox written at the end of this turn."""
        outbox.marked = True
        self.queue.append(outbox)
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self.run)

    def mark_source(self, channel: Channel, source: Source) -> None:
        """Have a source spilt at the end of this turn."""
        self.sources[channel] = source
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self.run)

    def run(self) -> None:
        """Spill and write; book the next turn if the budget is spent.

        What raises loses its own turn: the others get theirs in the next one.
        """
        try:
            self._spill()
            self._write()
        finally:
            self._scheduled = bool(self.queue or self.sources)
            if self._scheduled:
                self._call_soon(self.run)
        self._flushed()

    def _spill(self) -> None:
        sources, self.sources = self.sources, {}
        remaining = iter(sources.items())
        try:
            for _, source in remaining:
                source.spill()
        finally:
            self.sources.update(remaining)  # some are left only if one has raised

    def _write(self) -> None:
        queue = self.queue
        stop = self._now() + TURN_SECONDS
        for written in range(min(len(queue), TURN_CONNECTIONS)):
            outbox = queue.popleft()
            outbox.marked = False
            outbox.flush()
            if written & 31 == 31 and self._now() > stop:  # noqa: PLR2004 - the clock costs as much as a small write
                break
