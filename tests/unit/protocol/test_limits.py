from __future__ import annotations

import pytest

from gateway.protocol.limits import RecentCount, TokenBucket


def test_burst_then_rate() -> None:
    """A full bucket gives its burst at once, afterwards one token per 1/rate seconds, never more than the burst."""
    bucket = TokenBucket(rate=2.0, burst=3.0, now=0.0)
    assert [True, True, True, False] == [bucket.take(0.0) for _ in range(4)]
    assert not bucket.take(0.25)
    assert bucket.take(0.5)
    assert not bucket.take(0.5)
    assert [True, True, True, False] == [bucket.take(1000.0) for _ in range(4)]


@pytest.mark.parametrize("burst", [0.0, 0.5])
def test_a_bucket_holds_one_token_at_least(burst: float) -> None:
    """A burst below one would refuse for ever; it counts as one."""
    bucket = TokenBucket(rate=1.0, burst=burst, now=0.0)
    assert bucket.take(0.0)
    assert not bucket.take(0.0)
    assert bucket.take(1.0)


def test_refusing_lasts_while_refusals_come_close_together() -> None:
    """A flood at twice the rate, half of it let through, is one streak; a second without refusal ends it."""
    bucket = TokenBucket(rate=10.0, burst=1.0, now=0.0)
    assert bucket.refusing(0.0) == 0.0
    for step in range(1, 60):
        bucket.take(step * 0.05)
    assert bucket.refusing(2.95) == pytest.approx(2.9, abs=0.1)
    assert bucket.take(5.0)
    assert not bucket.take(5.0)
    assert bucket.refusing(5.0) == 0.0


def test_recent_count_looks_at_any_stretch_of_time() -> None:
    """Only what lies within one period counts together, wherever the period begins."""
    count = RecentCount(limit=3, period=10.0)
    assert [False, False, False, True] == [count.add(at) for at in (0.0, 9.0, 10.0, 18.9)]
