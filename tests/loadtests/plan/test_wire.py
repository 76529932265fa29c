from __future__ import annotations

import json
from dataclasses import replace

import pytest

from loadtests.plan import wire
from loadtests.plan.wire import Both
from loadtests.plan.workload import Workload

QUIET = Workload(connections=1000, channels=1, subscribers=1000, rate=0, api=1.0)


def test_a_frame_is_as_long_as_the_protocol_makes_it() -> None:
    """The bytes around a publication are those of a push as the codec writes it."""
    data = '{"v":"' + "x" * 92 + '"}'
    push = {"push": {"channel": "c" * 20, "pub": {"data": json.loads(data)}}}
    text = json.dumps(push, separators=(",", ":"))
    assert wire.frame(replace(QUIET, size=len(data))) == len(text) + 4


@pytest.mark.parametrize(("payload", "header"), [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_headers(payload: int, header: int) -> None:
    """A WebSocket header grows where its length no longer fits."""
    assert wire.header(payload) == header


def test_packets_and_their_acknowledgements() -> None:
    """A write fills packets, TLS comes on top, and every other packet is acknowledged."""
    assert wire.packets(100, tls=False) == 152
    assert wire.packets(1448, tls=False) == 1500
    assert wire.packets(14480, tls=False) == 15000
    assert wire.packets(100, tls=True) == 174
    assert wire.packets(32_768, tls=True) == pytest.approx(32_812 * 1500 / 1448)
    assert wire.acks(100) == wire.acks(2000) == 52
    assert wire.acks(1448 * 10) == 5 * 52


def test_idle_clients_ping() -> None:
    """Who does nothing still costs a ping each 25 s: a few bytes in two packets each way."""
    both = wire.clients(QUIET, 1.0, tls=False)
    assert both.out == pytest.approx(8 * 1000 / 25 * (2 + 2 + 52 + 52))
    assert both.into == pytest.approx(8 * 1000 / 25 * (2 + 2 + 4 + 52 + 52))


def test_joined_frames_save_packets() -> None:
    """The same deliveries in fewer writes take fewer bytes, each way; TLS adds to both."""
    busy = replace(QUIET, rate=100)
    alone, joined = wire.clients(busy, 1.0, tls=False), wire.clients(busy, 4.0, tls=False)
    assert joined.out < alone.out
    assert joined.into < alone.into
    assert wire.clients(busy, 1.0, tls=True).out > alone.out
    assert alone.out > 8 * 100 * 1000 * wire.frame(busy)


def test_publications_of_clients_come_in_and_are_answered() -> None:
    """What clients send is on the way in; what backends send is not, but in their calls."""
    sent = replace(QUIET, rate=100, subscribers=0, api=0.0)
    assert wire.clients(sent, 1.0, tls=False).into > wire.clients(QUIET, 1.0, tls=False).into + 8 * 100 * 100
    assert wire.calls(sent) == Both(0, 0)
    called = replace(sent, api=1.0)
    assert wire.clients(called, 1.0, tls=False) == wire.clients(replace(QUIET, subscribers=0), 1.0, tls=False)
    assert wire.calls(called).into == 8 * 100 * (wire.REQUEST + 100)


def test_redis_sends_to_each_node_that_listens() -> None:
    """Out of Redis goes each publication once for each listening node, in comes it once."""
    busy = replace(QUIET, rate=1000)
    one, ten = (wire.redis(busy, nodes, 1.0, 0.0) for nodes in (1, 10))
    assert ten.out > 6 * one.out
    assert ten.into == pytest.approx(one.into, rel=0.05)
    assert Both(1, 5).wider == 5
    assert Both(1, 2) + Both(3, 4).times(2) == Both(7, 10)
