"""How much a client may ask for: a token bucket that knows for how long it has been refusing."""

from __future__ import annotations

PAUSE = 1.0  # seconds without a refusal end a streak; a flood at twice the rate is refused far more often


class TokenBucket:
    """`rate` per second on average, `burst` at once; starts full. `now` is in seconds and never goes back."""

    __slots__ = ("_at", "_burst", "_rate", "_refused_at", "_refused_since", "_tokens")

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = self._tokens = max(burst, 1.0)  # a bucket that never holds one token would refuse for ever
        self._at = now
        self._refused_since: float | None = None
        self._refused_at = now

    def take(self, now: float) -> bool:
        """Take one token; False when there is none."""
        tokens = self._tokens + (now - self._at) * self._rate
        self._at = now
        tokens = min(tokens, self._burst)
        if tokens < 1.0:
            self._tokens = tokens
            self._refuse(now)
            return False
        self._tokens = tokens - 1.0
        return True

    def refusing(self, now: float) -> float:
        """Return for how many seconds on end, up to `now`, some were refused; 0 before the first refusal."""
        return 0.0 if self._refused_since is None else now - self._refused_since

    def _refuse(self, now: float) -> None:
        if self._refused_since is None or now - self._refused_at > PAUSE:
            self._refused_since = now
        self._refused_at = now


class RecentCount:
    """Tells when something happened `limit` times within `period` seconds; keeps the last `limit` times, no more."""

    __slots__ = ("_limit", "_period", "_times")

    def __init__(self, *, limit: int, period: float) -> None:
        self._limit = limit
        self._period = period
        self._times: list[float] = []

    def add(self, now: float) -> bool:
        """Count one more; True when that reached the limit."""
        self._times = [at for at in self._times if now - at < self._period]
        self._times.append(now)
        return len(self._times) >= self._limit
