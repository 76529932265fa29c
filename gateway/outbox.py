"""One connection's bounded outgoing queue, and the flush of all of them once per turn of the loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from math import inf
from typing import Final, Protocol

from gateway.contracts.transport import Transport
from gateway.disconnects import SLOW, Disconnect
from gateway.types import Channel

TURN_CONNECTIONS: Final = 512  # writes per turn: 10,000 in one turn held the loop for 129 ms, in slices for 7 ms
TURN_SECONDS: Final = 0.002
LOOK_SECONDS: Final = 1.0  # how often a blocked transport is asked what the client has taken
FAIR_BYTES: Final = 16_384  # what a client must take in a stall timeout; a link of 256 kbit/s takes twenty times that


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
        "owed",
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
        self.blocked_since = inf  # when the client last had taken enough
        self.owed = 0  # bytes it has to take from then on
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
        self._expect()

    def unblock(self) -> None:
        """Write again."""
        self.blocked = False
        self.blocked_since = self.looked_at = inf
        if self.frames and not self.marked:
            self.flusher.mark(self)

    def look_at(self, timeout: float) -> float:
        """Return when to ask `stalled` next; inf while not blocked."""
        return min(self.looked_at + min(LOOK_SECONDS, timeout / 4), self.blocked_since + timeout)

    def stalled(self, now: float, timeout: float) -> bool:
        """Say whether the client has not taken enough within `timeout` seconds: FAIR_BYTES, or all that there was.

        Whatever it took since the last look counts as taken right after that look. What the transport writes of its
        own, answers to pings, looks like so much not taken. When the look itself comes late, this process was held
        up and wrote to nobody: that time is not the client's.
        """
        late = now - self.look_at(timeout)
        if late > LOOK_SECONDS:
            self.blocked_since += late
            self.looked_at += late
        backlog = self.transport.backlog()
        self.owed -= max(0, self.backlog - backlog)
        self.backlog = backlog
        if self.owed <= 0:
            self.blocked_since = self.looked_at
            self._expect()
        self.looked_at = now
        return now - self.blocked_since >= timeout

    def _expect(self) -> None:
        self.owed = max(1, min(FAIR_BYTES, self.backlog))


class Full(Protocol):
    """An outbox over its limit, as the flusher sees it."""

    def relieve(self) -> Disconnect | None:
        """Write it, or say why not."""

    def close(self, disconnect: Disconnect) -> None:
        """End its connection."""


class Source(Protocol):
    """Something that collects frames for many outboxes during a turn."""

    __slots__ = ()

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
        self.call_soon = call_soon
        self.now = now
        self._flushed = flushed
        self._scheduled = False
        self.written = 0  # bytes, for who counts them
        self.sources: dict[Channel, Source] = {}
        self.queue: list[Outbox] = []
        self._full: deque[Full] = deque()
        self._relieving = False

    def mark(self, outbox: Outbox) -> None:
        """Have an outbox written at the end of this turn."""
        outbox.marked = True
        self.queue.append(outbox)
        if not self._scheduled:
            self._scheduled = True
            self.call_soon(self.run)

    def mark_source(self, channel: Channel, source: Source) -> None:
        """Have a source spilt at the end of this turn."""
        self.sources[channel] = source
        if not self._scheduled:
            self._scheduled = True
            self.call_soon(self.run)

    def relieve(self, full: Iterable[Full]) -> None:
        """Write who is over the limit, or close them.

        Who is closed leaves channels, which spills them and may find others who are full. They have their turn here
        behind the first ones: inside one another, some hundreds of them would be deeper than Python goes.
        """
        waiting = self._full
        waiting.extend(full)
        if self._relieving:
            return
        self._relieving = True
        try:
            while waiting:
                outbox = waiting.popleft()
                if (disconnect := outbox.relieve()) is not None:
                    outbox.close(disconnect)
        finally:
            self._relieving = False
            waiting.clear()  # some are left only if one has raised; the next spill finds them again

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
                self.call_soon(self.run)
        self._flushed()

    def _spill(self) -> None:
        sources, self.sources = self.sources, {}
        spilt = 0
        try:
            for source in sources.values():
                spilt += 1
                source.spill()
        finally:
            self.sources.update(islice(sources.items(), spilt, None))  # some are left only if one has raised

    def _write(self) -> None:
        stop = self.now() + TURN_SECONDS
        written = 0
        try:
            for outbox in self.queue[:TURN_CONNECTIONS]:
                written += 1
                outbox.marked = False
                outbox.flush()
                if written & 31 == 0 and self.now() > stop:  # the clock costs as much as a small write
                    break
        finally:
            del self.queue[:written]
