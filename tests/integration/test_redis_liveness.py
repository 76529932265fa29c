"""The Redis engine notices a server or a link that is there and does nothing, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.engines.redis.commands import QUIET
from gateway.errors import EngineFault
from gateway.protocol.messages import DisconnectClients
from gateway.protocol.values import HistoryQuery, PublishOptions
from gateway.types import Channel
from tests.support.engines import Node, SkippingClock, eventually, good, outcome, running
from tests.support.exactness import within
from tests.support.faultproxy import COMMANDS, PUBSUB, Rule, faultproxy, publications
from tests.support.valkey import Valkey

ROOM = Channel("chat:lobby")
PLAIN = PublishOptions()
RTT = "redis_pubsub_probe_rtt"


@pytest.fixture(name="own_valkey")
def _own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """Return a server that the test may stall."""
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


async def probed(node: Node, times: int) -> None:
    """Wait until so many more probes have come in."""
    seen = [name for name, _ in node.recorder.observations].count(RTT)

    async def came() -> bool:
        return [name for name, _ in node.recorder.observations].count(RTT) >= seen + times

    await eventually(came)


async def works(node: Node) -> None:
    """Wait until there is no outage."""

    async def no_outage() -> bool:
        return not node.engine.outages()

    await eventually(no_outage)


def reconnects(node: Node) -> tuple[int, int]:
    """Return how often the links were built again: command, pub/sub."""
    return node.recorder.counts["redis_reconnects", "command"], node.recorder.counts["redis_reconnects", "pubsub"]


async def test_a_pubsub_link_that_carries_nothing_is_found(valkey: Valkey, engine_prefix: str) -> None:
    """No packet says that it is dead: within 5 s a probe does, the channels are suspect, and delivery goes on."""
    async with faultproxy(valkey.port) as proxy, running(proxy.url, prefix=engine_prefix) as node:
        await good(node.engine.broker.subscribe, ROOM)
        dead = proxy.chosen(PUBSUB)
        assert 1 == len(dead)
        with proxy.rule(Rule(way="down", pipes=dead, swallow=True)):
            began = time.monotonic()
            await good(node.engine.broker.publish, ROOM, b"lost", PLAIN)
            await node.sink.until(lambda: node.sink.of("suspect"))
            assert time.monotonic() - began <= within(5.0, otherwise=2.0)
        await good(node.engine.broker.publish, ROOM, b"heard", PLAIN)
        await node.sink.until(lambda: node.sink.data(ROOM))
        assert [b"heard"] == node.sink.data(ROOM)
        ((channels, why),) = node.sink.of("suspect")
        assert [ROOM] == channels
        assert "a probe did not come in" in why
        assert 1 == node.recorder.counts["redis_pubsub_probe_timeouts", ""]
        assert (0, 1) == reconnects(node)


async def test_a_short_stall_of_the_server_is_no_reason_to_reconnect(own_valkey: Valkey) -> None:
    """Calls fail within 2 s, then at once, what needs no answer works; after 3 s all goes on over the same links."""
    async with running(own_valkey.url) as node:
        broker = node.engine.broker
        await good(broker.subscribe, ROOM)
        began = time.monotonic()
        own_valkey.stall()
        fault = await outcome(broker.publish, ROOM, b"{}", PLAIN)
        assert isinstance(fault, EngineFault)
        assert "timeout" == fault.kind
        assert time.monotonic() - began <= within(2.0, otherwise=3.0)
        assert [f"redis: 127.0.0.1:{own_valkey.port} does not answer"] == list(node.engine.outages())
        assert [] == list(node.engine.faults()), "an outage that all nodes share makes none of them unfit"
        for _ in range(100):
            asked = time.monotonic()
            fault = await outcome(broker.publish, ROOM, b"{}", PLAIN)
            assert isinstance(fault, EngineFault)
            assert "down" == fault.kind
            assert time.monotonic() - asked <= within(0.1, otherwise=5.0)
        assert isinstance(await outcome(broker.claim, "ticket", 60.0), EngineFault), "a claim must fail closed"
        await good(broker.subscribe, ROOM)
        await asyncio.sleep(began + 3.0 - time.monotonic())
        own_valkey.go_on()
        await works(node)
        await good(broker.publish, ROOM, b"{}", PLAIN)
        await probed(node, 2)
        assert (0, 0) == reconnects(node)
        assert 0 == node.recorder.counts["redis_pubsub_probe_timeouts", ""]
        assert 100 <= node.recorder.counts["redis_errors", "down"]


async def test_a_long_stall_ends_within_5_s_of_the_server_going_on(own_valkey: Valkey) -> None:
    """By then the links were given up and dialling again had no answer either."""
    async with running(own_valkey.url, command_timeout=0.8) as node:
        own_valkey.stall()

        async def dialled() -> bool:
            return any("no answer within 3 s" in line for line in node.engine.outages())

        await eventually(dialled)
        own_valkey.go_on()
        async with asyncio.timeout(within(5.0, otherwise=2.0)):
            await works(node)
            await good(node.engine.broker.publish, ROOM, b"{}", PLAIN)
        assert 1 == reconnects(node)[0]


async def test_a_stall_of_our_own_is_blamed_on_nobody(valkey: Valkey, engine_prefix: str) -> None:
    """A process that was stopped for 4 s finds its answers waiting: nothing has timed out, both links stay."""
    async with running(valkey.url, prefix=engine_prefix) as node:
        outcomes: list[object] = []
        await probed(node, 1)
        node.engine.broker.publish(ROOM, b"{}", PLAIN, outcomes.append)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(4.0)  # noqa: ASYNC251 - this is the stall
        await probed(node, 2)
        assert [False] == [isinstance(it, EngineFault) for it in outcomes]
        assert 0 == node.recorder.counts["redis_errors", "timeout"]
        assert 0 == node.recorder.counts["redis_pubsub_probe_timeouts", ""]
        assert (0, 0) == reconnects(node)


async def test_a_command_whose_message_got_lost_is_carried_out(valkey: Valkey, engine_prefix: str) -> None:
    """Nothing came after it that would show the gap: half a minute of silence is reason enough to look."""
    clock = SkippingClock()
    async with (
        faultproxy(valkey.port) as proxy,
        running(proxy.url, prefix=engine_prefix, clock=clock) as node,
        running(valkey.url, prefix=engine_prefix) as other,
    ):
        loss = Rule(way="down", only=PUBSUB, drop=publications("commands"))

        async def lost() -> bool:
            return loss.hits == 1

        with proxy.rule(loss):
            await good(other.engine.control.send, DisconnectClients(id="unheard"))
            await eventually(lost)
        assert [] == node.sink.of("commanded")
        clock.skip(QUIET)
        await node.sink.until_count("commanded", 1)
        assert ["unheard"] == [command.id for (command,) in node.sink.of("commanded")]
        assert 0 == node.recorder.counts["redis_reconnects", "pubsub"]


async def test_a_publication_with_a_key_outlives_its_link(valkey: Valkey, engine_prefix: str) -> None:
    """It was published, the answer got lost with the link: asked again, the server knows it; nothing happens twice."""
    stream = f"{engine_prefix}.stream.{{53t}}.{ROOM}"
    async with faultproxy(valkey.port) as proxy, running(proxy.url, prefix=engine_prefix) as node:
        outcomes: list[Any] = []
        swallowing = Rule(way="down", pipes=proxy.chosen(COMMANDS), swallow=True)
        with proxy.rule(swallowing):
            for n in range(100):
                options = PublishOptions(history_size=1000, history_ttl=60.0, idempotency_key=f"k{n}")
                node.engine.broker.publish(ROOM, b"%d" % n, options, outcomes.append)

            async def published() -> bool:
                return swallowing.hits > 0 and 100 == int(valkey.command("XLEN", stream))

            await eventually(published)
            assert [] == outcomes
            proxy.cut(COMMANDS)

        async def answered() -> bool:
            return len(outcomes) == 100

        await eventually(answered)
        assert [(True, n + 1) for n in range(100)] == [(it.duplicate, it.position.offset) for it in outcomes]
        assert node.engine.history is not None
        page = await good(node.engine.history.read, ROOM, HistoryQuery(-1))
        assert [b"%d" % n for n in range(100)] == [publication.data for publication in page.publications]
        assert 100 <= node.recorder.counts["redis_errors", "lost"] <= 110  # the node asks for things of its own, too


async def test_a_publication_with_a_key_is_not_waited_for_for_ever(own_valkey: Valkey) -> None:
    """When the server does not come back within two timeouts, the publisher hears that nobody knows."""
    async with running(own_valkey.url, command_timeout=0.4) as node:
        own_valkey.stall()
        began = time.monotonic()
        fault = await outcome(node.engine.broker.publish, ROOM, b"{}", PublishOptions(idempotency_key="k"))
        assert isinstance(fault, EngineFault)
        assert "timeout" == fault.kind
        assert 0.8 <= time.monotonic() - began <= 0.8 + within(0.5, otherwise=6.0)
        own_valkey.go_on()
