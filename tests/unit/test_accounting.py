from __future__ import annotations

import pytest

from gateway import errors
from gateway.accounting import count_close, count_sent
from gateway.disconnects import SHUTDOWN, TOO_MANY_ERRORS, TOO_MANY_REQUESTS, Disconnect
from gateway.protocol.messages import PingPush, PublishResult, Push, Reply, SubscribeResult
from gateway.types import Channel, Publication
from tests.support.recorder import MemoryRecorder

ROOM = Channel("chat:lobby")


@pytest.mark.parametrize(
    ("message", "counts"),
    [
        (PingPush(), {("messages_sent", "ping")}),
        (Reply(1, PublishResult()), {("messages_sent", "reply")}),
        (Reply(1, errors.BAD_REQUEST), {("messages_sent", "error")}),
        (Reply(1, errors.TOO_MANY_REQUESTS), {("messages_sent", "error"), ("rate_limited", "command")}),
        (Reply(1, SubscribeResult(ROOM)), {("messages_sent", "reply")}),
        (Reply(1, SubscribeResult(ROOM, was_recovering=True)), {("messages_sent", "reply"), ("recoveries", "failed")}),
    ],
)
def test_what_is_sent_is_counted_by_its_kind(
    message: Reply | Push, counts: set[tuple[str, str]], recorder: MemoryRecorder
) -> None:
    """Operators see replies, errors, pushes, refusals for haste, and recoveries that failed."""
    count_sent(recorder, message)
    assert counts == set(recorder.counts)


@pytest.mark.parametrize(("publications", "label"), [((), "empty"), ((Publication(b"1"), Publication(b"2")), "full")])
def test_recoveries_are_counted_with_their_size(
    publications: tuple[Publication, ...], label: str, recorder: MemoryRecorder
) -> None:
    """A recovery that brought nothing is told from one that did."""
    result = SubscribeResult(ROOM, was_recovering=True, recovered=True, publications=publications)
    count_sent(recorder, Reply(1, result))
    assert recorder.counts["recoveries", label] == 1
    assert [("recovered_messages", len(publications))] == recorder.observations


@pytest.mark.parametrize(
    ("disconnect", "counts"),
    [
        (TOO_MANY_REQUESTS, {("rate_limited", "command")}),
        (TOO_MANY_ERRORS, {("rate_limited", "error")}),
        (SHUTDOWN, set()),
    ],
)
def test_closes_for_haste_are_counted(
    disconnect: Disconnect, counts: set[tuple[str, str]], recorder: MemoryRecorder
) -> None:
    """A flood that ends its connection is seen beside those that were only slowed down."""
    count_close(recorder, disconnect)
    assert counts == set(recorder.counts)
