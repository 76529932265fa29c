"""The figures of a crowd."""

from __future__ import annotations

import pytest

from tests.support import crowd_records
from tests.support.clock import ManualClock
from tests.support.crowd_records import Attempt, Close, Records, Refusal, Return, percentile


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentiles(share: float, value: float) -> None:
    """A share of the values lies below the percentile; nothing has none."""
    assert value == percentile(range(1, 101), share)
    assert percentile([], share) == 0.0


def test_the_busiest_second_is_any_second() -> None:
    """It is not bound to the clock's seconds, and other codes do not count."""
    records = Records()
    records.closes += [Close(at, 3001, "n") for at in (10.0, 10.9, 11.1, 11.2, 15.0)] + [Close(11.0, 1006, "n")]
    assert records.busiest_second(3001) == 3
    assert records.busiest_second(3001, since=14.0) == 1
    assert records.busiest_second(3010) == 0
    assert {3001: 5, 1006: 1} == records.codes()


def test_latencies_of_a_window(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each delivery counts from the publisher's call, in the window in which it arrived."""
    monkeypatch.setattr(crowd_records, "time", clock)
    records = Records()
    now = clock.monotonic()
    for age in (0.1, 0.2, 0.3):
        records.delivered(now - age)
    assert records.latency(1.0) == pytest.approx(0.3)
    assert records.deliveries() == 3
    assert records.deliveries(since=now + 1) == 0
    assert records.first_delivery(now) == float("inf")
    assert records.first_delivery(now - 0.25) == now
    assert records.newest_sent == now - 0.1


def test_calls_and_returns_are_counted_by_how_they_ended() -> None:
    """Attempts by outcome, refusals by status, returns by what they took."""
    records = Records()
    records.attempts += [Attempt(1.0, 0.1, "acknowledged", ""), Attempt(2.0, 5.0, "doubtful", "unanswered")]
    records.refusals += [Refusal(1.0, 503, "n"), Refusal(2.0, 0, "n"), Refusal(3.0, 503, "n")]
    records.handshakes += [(1.0, 0.1), (2.0, 0.4)]
    records.returns.append(Return(1.0, 3.5))
    assert {"acknowledged": 1, "doubtful": 1} == records.outcomes()
    assert records.publish_time(1.0, outcome="acknowledged") == 0.1
    assert records.publish_time(1.0, since=1.5) == 5.0
    assert records.handshake(1.0, since=1.5) == 0.4
    assert {503: 2, 0: 1} == records.statuses()
    assert records.returns[0].took == 2.5
    assert "refused 1 x 0, 2 x 503; 1 returns, p95 2.5 s" in str(records)
