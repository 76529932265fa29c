"""Which attempts at what is not permitted are written down, so that a flood of them cannot fill a disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.protocol.limits import TokenBucket
from gateway.types import ConnectionId

BURST: Final = 5  # lines of one connection
PERIOD: Final = 60.0  # within so many seconds
NODE_RATE: Final = 10.0  # lines a second of all connections together, for whoever floods comes back under new ids
NODE_BURST: Final = 100.0


@dataclass(slots=True)
class _Attempts:
    since: float
    written: int = 0
    unwritten: int = 0
    total: int = 0


class Denials:
    """The attempts of the connections that made any. Times are monotonic seconds."""

    __slots__ = ("_bucket", "_by_client")

    def __init__(self) -> None:
        self._by_client: dict[ConnectionId, _Attempts] = {}
        self._bucket: TokenBucket | None = None

    def take(self, client: ConnectionId, now: float) -> int | None:
        """Count one more attempt. Return how many before it were not written down, None: nor is this one."""
        attempts = self._by_client.setdefault(client, _Attempts(now))
        attempts.total += 1
        if now - attempts.since >= PERIOD:
            attempts.since, attempts.written = now, 0
        if attempts.written >= BURST or not self._node_may(now):
            attempts.unwritten += 1
            return None
        attempts.written += 1
        unwritten, attempts.unwritten = attempts.unwritten, 0
        return unwritten

    def forget(self, client: ConnectionId) -> int:
        """Return how many attempts a connection made, which is gone now."""
        attempts = self._by_client.pop(client, None)
        return 0 if attempts is None else attempts.total

    def __len__(self) -> int:
        """Return how many connections are remembered."""
        return len(self._by_client)

    def _node_may(self, now: float) -> bool:
        if self._bucket is None:
            self._bucket = TokenBucket(rate=NODE_RATE, burst=NODE_BURST, now=now)
        return self._bucket.take(now)
