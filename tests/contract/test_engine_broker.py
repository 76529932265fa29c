"""Every engine's broker keeps `contracts.broker.Broker`."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.protocol.values import Published, PublishOptions
from gateway.types import Channel, Publication
from tests.support.clock import ManualClock
from tests.support.engines import Node, client, eventually, good

ROOM = Channel("chat:lobby")
PLAIN = PublishOptions()
KEPT = PublishOptions(history_size=10, history_ttl=60.0, history_meta_ttl=600.0)


async def test_a_publication_arrives_whole(node: Node) -> None:
    """Data, publisher, infos, tags and time arrive as they were handed over."""
    who = client("älice", info=b'{"name":"\xc3\x84"}')
    options = PublishOptions(info=who, tags={"k": "v"}, time_ms=1_800_000_000_123)
    await good(node.engine.broker.subscribe, ROOM)
    assert Published() == await good(node.engine.broker.publish, ROOM, b'{"a":1}', options)
    await node.sink.until(lambda: node.sink.of("published"))
    expected = Publication(b'{"a":1}', 0, "", who, 1_800_000_000_123, tags={"k": "v"})
    assert [(ROOM, expected)] == node.sink.of("published")


async def test_any_bytes_and_names_pass(node: Node) -> None:
    """Nothing in data or a channel's name can break the framing of an engine."""
    channel = Channel("a:b{c}.d e\r\n#1,2&*$ü")
    data = bytes(range(256)) + b":" * 10
    await good(node.engine.broker.subscribe, channel)
    await good(node.engine.broker.publish, channel, data, PLAIN)
    await good(node.engine.broker.publish, channel, data, KEPT)
    await node.sink.until(lambda: len(node.sink.of("published")) == 2)
    assert [data, data] == node.sink.data(channel)


async def test_order_holds_with_many_in_flight(node: Node) -> None:
    """Publications of one node in one channel arrive in the order they were handed over, kept or not."""
    await good(node.engine.broker.subscribe, ROOM)
    for n in range(1000):
        node.engine.broker.publish(ROOM, b"%d" % n, KEPT if n % 3 else PLAIN, _ignore)
    await node.sink.until(lambda: len(node.sink.of("published")) == 1000)
    assert [b"%d" % n for n in range(1000)] == node.sink.data(ROOM)


async def test_done_is_called_once_and_never_inside_the_call(node: Node) -> None:
    """Each of many calls of every kind completes exactly once, on a later turn."""
    calls = _Calls()
    engine = node.engine
    assert engine.history is not None
    assert engine.presence is not None
    for n in range(50):
        calls.make(engine.broker.publish, ROOM, b"{}", PLAIN)
        calls.make(engine.broker.publish, ROOM, b"{}", KEPT)
        calls.make(engine.broker.subscribe, Channel(f"c{n % 5}"))
        calls.make(engine.broker.claim, f"k{n}", 5.0)
        calls.make(engine.history.remove, ROOM)
        calls.make(engine.presence.stats, ROOM)
    await asyncio.wait_for(calls.complete.wait(), 10)
    await good(engine.broker.publish, ROOM, b"{}", PLAIN)  # FIFO: whatever came twice has come by now
    assert [1] * 300 == calls.completed


async def test_a_reference_is_needed_to_hear(node: Node) -> None:
    """A channel nobody subscribed to is not delivered."""
    await good(node.engine.broker.subscribe, ROOM)
    await good(node.engine.broker.publish, Channel("elsewhere"), b"{}", PLAIN)
    await good(node.engine.broker.publish, ROOM, b"{}", PLAIN)
    await node.sink.until(lambda: node.sink.data(ROOM))
    assert [ROOM] == [channel for channel, _ in node.sink.of("published")]


async def test_references_are_counted(node: Node) -> None:
    """A publication arrives once however many references there are, until the last is dropped."""
    broker = node.engine.broker
    await good(broker.subscribe, ROOM)
    await good(broker.subscribe, ROOM)
    broker.unsubscribe(ROOM)
    await good(broker.publish, ROOM, b"1", PLAIN)
    await node.sink.until(lambda: node.sink.data(ROOM))
    assert [b"1"] == node.sink.data(ROOM)


async def test_an_unsubscribed_channel_falls_silent(node: Node) -> None:
    """Without references the broker stops delivering after a while, and a new reference hears again."""
    broker = node.engine.broker
    await good(broker.subscribe, ROOM)
    broker.unsubscribe(ROOM)
    broker.unsubscribe(ROOM)  # one too many does no harm
    control = Channel("still:103")  # in the same of 64 partitions as the room: only so what comes first is certain
    await good(broker.subscribe, control)

    async def silent() -> bool:
        before, seen = len(node.sink.data(ROOM)), len(node.sink.data(control))
        await good(broker.publish, ROOM, b"1", PLAIN)
        await good(broker.publish, control, b"1", PLAIN)
        await node.sink.until(lambda: len(node.sink.data(control)) > seen)
        return len(node.sink.data(ROOM)) == before

    await eventually(silent)
    node.sink.log.clear()
    await good(broker.subscribe, ROOM)
    await good(broker.publish, ROOM, b"2", PLAIN)
    await node.sink.until(lambda: node.sink.data(ROOM))
    assert [b"2"] == node.sink.data(ROOM)


async def test_an_idempotency_key_publishes_once(node: Node) -> None:
    """The second publication under a key answers with the first's position and is not delivered, kept or not."""
    broker = node.engine.broker
    await good(broker.subscribe, ROOM)
    kept = PublishOptions(history_size=10, history_ttl=60.0, idempotency_key="k")
    plain = PublishOptions(idempotency_key="p")
    first = await good(broker.publish, ROOM, b"1", kept)
    assert Published(first.position, duplicate=True) == await good(broker.publish, ROOM, b"2", kept)
    assert Published() == await good(broker.publish, ROOM, b"3", plain)
    assert Published(duplicate=True) == await good(broker.publish, ROOM, b"4", plain)
    await good(broker.publish, ROOM, b"end", PLAIN)
    await node.sink.until(lambda: b"end" in node.sink.data(ROOM))
    assert [b"1", b"3", b"end"] == node.sink.data(ROOM)


async def test_an_idempotency_key_belongs_to_its_channel(node: Node) -> None:
    """Channel and key are not run together: "a.b" with "c" is not "a" with "b.c"."""
    broker = node.engine.broker
    assert Published() == await good(broker.publish, Channel("a.b"), b"1", PublishOptions(idempotency_key="c"))
    assert Published() == await good(broker.publish, Channel("a"), b"1", PublishOptions(idempotency_key="b.c"))


async def test_a_claim_is_granted_once(node: Node) -> None:
    """The first caller gets a key, later ones do not; another key is free."""
    broker = node.engine.broker
    assert True is await good(broker.claim, "ticket", 60.0)
    assert False is await good(broker.claim, "ticket", 60.0)
    assert True is await good(broker.claim, "other", 60.0)


async def test_a_claim_lapses(node: Node, clock: ManualClock) -> None:
    """After its time a key can be claimed again."""
    broker = node.engine.broker
    assert True is await good(broker.claim, "ticket", 0.05)
    clock.advance(0.1)
    await eventually(lambda: good(broker.claim, "ticket", 60.0))


async def test_a_sink_that_raises_harms_nobody(node: Node) -> None:
    """A publication whose delivery or completion raises is lost alone; those behind it arrive."""
    await good(node.engine.broker.subscribe, ROOM)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # some engines report there; it is not what is tested
    node.sink.poison = b"1"
    node.engine.broker.publish(ROOM, b"1", PLAIN, _raise)
    await good(node.engine.broker.publish, ROOM, b"2", PLAIN)
    await node.sink.until(lambda: node.sink.data(ROOM))
    assert [b"2"] == node.sink.data(ROOM)
    assert [] == list(node.engine.faults())


class _Calls:
    """Counts how often each call completed."""

    def __init__(self) -> None:
        self.completed: list[int] = []
        self.complete = asyncio.Event()

    def make(self, call: Any, *args: Any) -> None:
        index = len(self.completed)
        self.completed.append(0)

        def done(_outcome: object) -> None:
            self.completed[index] += 1
            if all(self.completed):
                self.complete.set()

        call(*args, done)
        assert self.completed[index] == 0, "completed inside the call"


def _ignore(_outcome: object) -> None:
    """Take an outcome that does not matter."""


def _raise(_outcome: object) -> None:
    raise RuntimeError("a callback that breaks its contract")
