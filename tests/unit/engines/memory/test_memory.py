from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from gateway.engines.memory.broker import MemoryBroker
from gateway.engines.memory.streams import Streams
from gateway.errors import OperatorError
from gateway.protocol.values import HistoryQuery, PublishOptions
from gateway.types import Channel, Publication
from tests.support.clock import ManualClock
from tests.support.engines import RecordingSink, good, running

ROOM = Channel("chat:lobby")


async def test_starting_says_that_it_is_for_one_process() -> None:
    """Two processes would be two islands: the log warns."""
    with capture_logs() as logs:
        async with running("memory://"):
            pass
    assert [("engine.memory", "warning")] == [(entry["event"], entry["log_level"]) for entry in logs]


async def test_an_address_is_refused() -> None:
    """Whoever gives this engine an address expects something that it cannot do."""
    with pytest.raises(OperatorError, match=r"memory:// takes nothing after it"):
        async with running("memory://cache:6379"):
            pytest.fail("entered")


async def test_two_engines_share_nothing() -> None:
    """No module-level state: the second engine of a process knows nothing of the first."""
    options = PublishOptions(history_size=1, history_ttl=60.0, idempotency_key="k")
    async with running("memory://") as one, running("memory://") as two:
        first = await good(one.engine.broker.publish, ROOM, b"1", options)
        second = await good(two.engine.broker.publish, ROOM, b"1", options)
        assert not second.duplicate
        assert first.position.epoch != second.position.epoch


def test_expired_streams_are_freed(clock: ManualClock) -> None:
    """Publications go after their time, the identity after its own, without anybody reading."""
    streams = Streams(clock.monotonic)
    options = PublishOptions(history_size=5, history_ttl=10.0, history_meta_ttl=100.0)
    streams.append(ROOM, Publication(b"{}"), options)
    streams.append(Channel("for ever"), Publication(b"{}"), PublishOptions(history_size=5))
    clock.advance(10.0)
    streams.sweep()
    assert 0 == len(streams._streams[ROOM].publications)
    clock.advance(90.0)
    streams.sweep()
    assert {"for ever"} == set(streams._streams)
    assert 1 == len(streams.read(Channel("for ever"), HistoryQuery(-1)).publications)


async def test_expired_keys_are_freed(clock: ManualClock) -> None:
    """Idempotency keys and claims do not pile up."""
    sink = RecordingSink(node=None)  # type: ignore[arg-type]  # never asked
    broker = MemoryBroker(Streams(clock.monotonic), sink=sink, clock=clock, idempotency_ttl=300.0)
    await good(broker.publish, ROOM, b"{}", PublishOptions(idempotency_key="k"))
    await good(broker.claim, "c", 60.0)
    clock.advance(60.0)
    broker.sweep()
    assert (1, 0) == (len(broker._results), len(broker._claims))
    clock.advance(240.0)
    broker.sweep()
    assert (0, 0) == (len(broker._results), len(broker._claims))
