from __future__ import annotations

from gateway.denials import BURST, NODE_BURST, NODE_RATE, PERIOD, Denials
from gateway.types import ConnectionId

ONE, OTHER = ConnectionId("one"), ConnectionId("other")


def test_few_are_written_down() -> None:
    """Each of the first attempts of a connection is, and nothing is missing before it."""
    denials = Denials()
    assert [0] * BURST == [denials.take(ONE, 1000.0) for _ in range(BURST)]


def test_a_flood_of_one_connection_is_counted() -> None:
    """After the burst nothing is written for the rest of the minute; the next line says how many that were."""
    denials = Denials()
    for _ in range(BURST):
        denials.take(ONE, 1000.0)
    assert {None} == {denials.take(ONE, 1000.0 + n * PERIOD / 1000) for n in range(1000)}
    assert denials.take(ONE, 1000.0 + PERIOD) == 1000
    assert denials.take(ONE, 1000.0 + PERIOD) == 0


def test_connections_are_counted_apart() -> None:
    """A flood of one hides nothing of another."""
    denials = Denials()
    for _ in range(100):
        denials.take(ONE, 1000.0)
    assert denials.take(OTHER, 1000.0) == 0


def test_a_flood_of_many_connections_is_bounded_too() -> None:
    """Who comes back under a new id each time cannot write more than the node's own rate."""
    denials = Denials()
    tries = 20_000
    written = sum(denials.take(ConnectionId(str(n)), 1000.0 + n / 1000) is not None for n in range(tries))
    assert NODE_BURST + NODE_RATE * tries / 1000 >= written >= NODE_BURST
    assert denials.take(ConnectionId(str(tries - 1)), 2000.0) == 1


def test_who_is_gone_is_forgotten() -> None:
    """The line of its end tells all its attempts, and nothing is kept."""
    denials = Denials()
    for _ in range(100):
        denials.take(ONE, 1000.0)
    denials.take(OTHER, 1000.0)
    assert [100, 0] == [denials.forget(ONE), denials.forget(ONE)]
    assert len(denials) == 1
