"""One connection's bounded outgoing queue, and the flush of all of them once per turn of the loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final, Protocol

from gateway.contracts.transport import Transport
from gateway.disconnects import SLOW, Disconnect
from gateway.types import Channel

TURN_CONNECTIONS: Final = 512  # writes per turn: 10,000 in one turn held the loop for 129 ms, in slices for 7 ms
TURN_SECONDS: Final = 0.002
LOOK_SECONDS: Final = 1.0  # how often a blocked transport is asked whether the client takes anything


class Outbox:
    """The queue itself, as the base of a connection: no object of its own per connection.

    Frames are complete wire bytes; `queued` counts them. While the transport is `blocked`, they stay here.
    """

    __slots__ = (
        "backlog",
        "blocked",
        "blocked_since",
        "flusher",
        "frames",
        "limit",
        "looked_at",
        "marked",
        "queued",
        "transport",
    )

    def __init__(self, *, transport: Transport, flusher: Flusher, limit: int) -> None:
        self.transport = transport
        self.flusher = flusher
        self.limit = limit
        self.frames: list[bytes] = []
        self.queued = 0
        self.marked = False
        self.blocked = False
        self.blocked_since = inf  # without the client taking a byte
        self.looked_at = inf
        self.backlog = 0  # at that look

    def put(self, frame: bytes) -> Disconnect | None:
        """Append whole frames, which leave at the end of the turn. SLOW: the client does not keep up, close it."""
        self.frames.append(frame)
        self.queued += len(frame)
        if not self.marked:
            self.flusher.mark(self)
        return self.relieve() if self.queued > self.limit else None

    def relieve(self) -> Disconnect | None:
        """Over the limit: hand over what is queued. SLOW: the transport has asked us to wait.

        One page of history, or what comes in one turn, may be larger than the limit; that makes no client slow.
        """
        if self.blocked:
            return SLOW
        self.flush()
        return None

    def flush(self) -> None:
        """Hand everything to the transport in one write, unless it has asked us to wait."""
        frames = self.frames
        if self.blocked or not frames:
            return
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        frames.clear()
        self.queued = 0
        self.flusher.written += len(data)
        self.transport.write(data)

    def discard(self) -> None:
        """Drop what is queued."""
        self.frames.clear()
        self.queued = 0

    def block(self, now: float) -> None:
        """Keep frames here: the transport has asked us to wait."""
        self.blocked = True
        self.blocked_since = self.looked_at = now
        self.backlog = self.transport.backlog()

    def unblock(self) -> None:
        """Write again."""
        self.blocked = False
        self.blocked_since = self.looked_at = inf
        if self.frames and not self.marked:
            self.flusher.mark(self)

    def look_at(self, timeout: float) -> float:
        """Return when to ask `stalled` next; inf while not blocked."""
        return min(self.looked_at + LOOK_SECONDS, self.blocked_since + timeout)

    def stalled(self, now: float, timeout: float) -> bool:
        """Say whether the client has taken nothing for `timeout` seconds.

        Whatever it took since the last look counts as taken right after that look.
        """
        backlog = self.transport.backlog()
        if backlog < self.backlog:
            self.blocked_since = self.looked_at
        self.backlog = backlog
        self.looked_at = now
        return now - self.blocked_since >= timeout


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
        self.written = 0  # bytes, for who counts them
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
