"""The Redis engine when its server, its links or its data are not as they should be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import EngineFault, OperatorError
from gateway.protocol.messages import DisconnectClients
from gateway.protocol.values import HistoryQuery, PublishOptions
from gateway.types import Channel
from tests.support.engines import Node, client, eventually, good, outcome, running
from tests.support.exactness import within
from tests.support.ports import free_port
from tests.support.valkey import Valkey

ROOM = Channel("chat:lobby")
PLAIN = PublishOptions()
KEPT = PublishOptions(history_size=10, history_ttl=60.0, history_meta_ttl=600.0)


@pytest.fixture(name="own_valkey")
def _own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """Return a server that the test may stop and stall."""
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


def kill_links(server: Valkey, name: str) -> int:
    """Cut the links of this role as an operator would; return how many there were."""
    clients = [dict(part.split("=", 1) for part in line.split()) for line in _client_lines(server)]
    found = [entry["id"] for entry in clients if entry["name"] == name]
    return sum(server.command("CLIENT", "KILL", "ID", identity) for identity in found)


def _client_lines(server: Valkey) -> list[str]:
    listed = server.command("CLIENT", "LIST")
    text = listed.decode() if isinstance(listed, bytes) else str(listed)
    return text.splitlines()


async def stands(node: Node) -> None:
    """Wait until nothing is wrong."""

    async def no_faults() -> bool:
        return not node.engine.faults() and not node.engine.outages()

    await eventually(no_faults)


async def test_a_cut_pubsub_link_makes_its_channels_suspect(own_valkey: Valkey) -> None:
    """All channels are told to be suspect once they stand again, before anything else arrives, and then work."""
    channels = sorted(Channel(f"room:{n}") for n in range(1200))  # three batches
    async with running(own_valkey.url) as node:
        for channel in channels:
            node.engine.broker.subscribe(channel, _ignore)
        await good(node.engine.broker.subscribe, ROOM)
        assert kill_links(own_valkey, "gateway-pubsub") == 1
        await node.sink.until(lambda: _suspected(node) == {*channels, ROOM})
        await good(node.engine.broker.publish, ROOM, b"1", PLAIN)
        await node.sink.until(lambda: node.sink.data(ROOM))
        assert {"suspect"} == {entry[0] for entry in node.sink.log[:-1]}
        assert 1 == node.recorder.counts["redis_reconnects", "pubsub"]
        assert 0 == node.recorder.counts["redis_reconnects", "command"]


async def test_publications_after_a_cut_follow_the_suspicion(own_valkey: Valkey) -> None:
    """While another node publishes all the time, none arrives between the cut and `suspect`."""
    async with running(own_valkey.url) as node, running(own_valkey.url) as other:
        await good(node.engine.broker.subscribe, ROOM)

        async def chatter() -> None:
            for n in range(100_000):
                await good(other.engine.broker.publish, ROOM, b"%d" % n, PLAIN)

        talking = asyncio.create_task(chatter())
        await node.sink.until_count("published", 10)
        assert kill_links(own_valkey, "gateway-pubsub") == 2
        await node.sink.until(lambda: node.sink.of("suspect"))
        await node.sink.until_count("published", len(node.sink.of("published")) + 10)
        talking.cancel()
        at = [entry[0] for entry in node.sink.log].index("suspect")
        numbers = [int(entry[2].data) if entry[0] == "published" else -1 for entry in node.sink.log]
        assert numbers[:at] == list(range(numbers[0], numbers[0] + at)), "a gap before it was told"
        assert numbers[at + 1] > numbers[at - 1] + 1, "nothing was missed: the cut did not happen"


async def test_a_cut_command_link_answers_what_was_in_flight(own_valkey: Valkey) -> None:
    """Whatever waits for the server gets exactly one answer, `lost`, and nothing is sent again."""
    async with running(own_valkey.url) as node:
        own_valkey.stall()
        outcomes: list[Any] = []
        for _ in range(100):
            node.engine.broker.publish(ROOM, b"{}", KEPT, outcomes.append)
        await asyncio.sleep(0)  # the turn in which they are written
        await asyncio.sleep(0)
        own_valkey.stop()

        async def answered() -> bool:
            return len(outcomes) >= 100

        await eventually(answered)
        own_valkey.start()
        await stands(node)
        assert ["lost"] * 100 == [fault.kind for fault in outcomes]
        assert 100 <= node.recorder.counts["redis_errors", "lost"] <= 103, "ours, and what the node itself had asked"
        assert node.engine.history is not None
        assert 0 == (await good(node.engine.history.read, ROOM, HistoryQuery(-1))).top.offset


async def test_a_server_that_is_gone_fails_calls_at_once_and_comes_back(own_valkey: Valkey) -> None:
    """Down: every call fails at once, the fault is named; back: subscriptions stand again and calls succeed."""
    async with running(own_valkey.url) as node:
        await good(node.engine.broker.subscribe, ROOM)
        own_valkey.stop()
        line = f"redis: cannot connect to 127.0.0.1:{own_valkey.port} (connection refused); retrying"

        async def named() -> bool:
            return [line] == list(node.engine.outages())

        await eventually(named)
        assert node.engine.presence is not None
        assert node.engine.history is not None
        broker = node.engine.broker
        for call in (
            outcome(broker.publish, ROOM, b"{}", PLAIN),
            outcome(broker.publish, ROOM, b"{}", KEPT),
            outcome(broker.subscribe, ROOM),
            outcome(broker.claim, "k", 1.0),
            outcome(node.engine.history.read, ROOM, HistoryQuery()),
            outcome(node.engine.presence.add, ROOM, client(), True),
            outcome(node.engine.presence.members, ROOM),
            outcome(node.engine.control.send, DisconnectClients(id="1")),
        ):
            fault = await asyncio.wait_for(call, within(0.2, otherwise=5.0))
            assert isinstance(fault, EngineFault)
            assert "down" == fault.kind
        own_valkey.start()
        await node.sink.until(lambda: ROOM in _suspected(node))
        await stands(node)
        await good(broker.publish, ROOM, b"back", PLAIN)
        await good(broker.publish, ROOM, b"kept", KEPT)
        await node.sink.until_count("published", 2)
        assert [b"back", b"kept"] == node.sink.data(ROOM)


async def test_a_stalled_server_times_calls_out_and_their_late_answers_are_dropped(own_valkey: Valkey) -> None:
    """A call ends after `command_timeout`; afterwards every answer still belongs to its own call."""
    async with running(own_valkey.url, command_timeout=1.0) as node:
        own_valkey.stall()
        late = await outcome(node.engine.broker.claim, "k", 60.0)
        assert isinstance(late, EngineFault)
        assert "timeout" == late.kind
        own_valkey.go_on()
        await stands(node)
        assert False is await good(node.engine.broker.claim, "k", 60.0)  # it had happened all the same
        assert True is await good(node.engine.broker.claim, "l", 60.0)
        assert 0 == node.recorder.counts["redis_reconnects", "command"]


async def test_a_server_that_never_answers_is_given_up(own_valkey: Valkey) -> None:
    """A link without any answer for three timeouts is dropped, and found again when the server is."""
    async with running(own_valkey.url, command_timeout=0.7) as node:
        own_valkey.stall()
        await outcome(node.engine.broker.claim, "k", 60.0)

        async def dropped() -> bool:
            return any("no answer" in line or "cannot connect" in line for line in node.engine.outages())

        await eventually(dropped)
        own_valkey.go_on()
        await stands(node)
        assert True is await good(node.engine.broker.claim, "l", 60.0)


async def test_subscribing_is_not_taken_for_silence(own_valkey: Valkey) -> None:
    """SUBSCRIBE is answered by pushes; a link that sends nothing else is not given up for want of answers."""
    async with running(own_valkey.url, command_timeout=0.5) as node:
        await good(node.engine.broker.subscribe, ROOM)
        kept = asyncio.get_running_loop().time() + 2.5  # more than three timeouts and two sweeps

        async def over() -> bool:
            return asyncio.get_running_loop().time() > kept

        await eventually(over)
        assert [] == node.sink.of("suspect")
        assert 0 == node.recorder.counts["redis_reconnects", "pubsub"]


async def test_a_subscription_that_is_not_acknowledged_times_out(own_valkey: Valkey) -> None:
    """The waiter hears `timeout` and leaves no reference behind: later publications are not delivered."""
    async with running(own_valkey.url, subscribe_timeout=1.5) as node:
        own_valkey.stall()
        fault = await outcome(node.engine.broker.subscribe, ROOM)
        assert isinstance(fault, EngineFault)
        assert "timeout" == fault.kind
        own_valkey.go_on()

        async def unsubscribed() -> bool:
            return 0 == int(own_valkey.command("PUBSUB", "NUMSUB", f"gateway.client.{{53t}}.{ROOM}")[1])

        await good(node.engine.broker.subscribe, Channel("next"))  # FIFO: the late acknowledgement has come
        await eventually(unsubscribed)


async def test_lost_scripts_rebuild_the_link(own_valkey: Valkey) -> None:
    """After SCRIPT FLUSH one call is refused, never run out of order; the new link has the scripts again."""
    async with running(own_valkey.url) as node:
        own_valkey.command("SCRIPT", "FLUSH")
        fault = await outcome(node.engine.broker.publish, ROOM, b"{}", KEPT)
        assert isinstance(fault, EngineFault)
        assert "refused" == fault.kind
        await stands(node)

        async def works() -> bool:
            return not isinstance(await outcome(node.engine.broker.publish, ROOM, b"{}", KEPT), EngineFault)

        await eventually(works)
        assert 1 == node.recorder.counts["redis_reconnects", "command"]


async def test_a_replica_is_not_written_to(own_valkey: Valkey) -> None:
    """A server that turns replica is left, and named, until it is a primary again."""
    async with running(own_valkey.url) as node:
        own_valkey.command("REPLICAOF", "127.0.0.1", free_port())
        fault = await outcome(node.engine.broker.publish, ROOM, b"{}", KEPT)
        assert isinstance(fault, EngineFault)
        assert "readonly" == fault.kind

        async def named() -> bool:
            return any("is a replica" in line for line in node.engine.outages())

        await eventually(named)
        own_valkey.command("REPLICAOF", "NO", "ONE")
        await stands(node)
        await good(node.engine.broker.publish, ROOM, b"{}", KEPT)


async def test_a_full_server_refuses_and_says_so(own_valkey: Valkey) -> None:
    """Out of memory is an answer of its own kind, not a broken link."""
    async with running(own_valkey.url) as node:
        await good(node.engine.broker.publish, ROOM, b"1", KEPT)
        assert node.engine.history is not None
        assert node.engine.presence is not None
        own_valkey.command("CONFIG", "SET", "maxmemory", 1)
        for full in (
            outcome(node.engine.broker.publish, ROOM, b"2", KEPT),
            outcome(node.engine.broker.publish, Channel("new"), b"2", KEPT),
            outcome(node.engine.presence.add, ROOM, client(), True),
        ):
            fault = await full
            assert isinstance(fault, EngineFault)
            assert "oom" == fault.kind
        assert 3 <= node.recorder.counts["redis_errors", "oom"]
        await good(node.engine.broker.publish, ROOM, b"{}", PLAIN)
        page = await good(node.engine.history.read, ROOM, HistoryQuery(-1, meta_ttl=60.0))
        assert [b"1"] == [publication.data for publication in page.publications]
        own_valkey.command("CONFIG", "SET", "maxmemory", 0)
        await good(node.engine.broker.publish, ROOM, b"{}", KEPT)
        assert 0 == node.recorder.counts["redis_reconnects", "command"]


async def test_foreign_payloads_are_counted_and_dropped(valkey: Valkey, engine_prefix: str) -> None:
    """Garbage on a channel and in a stream reaches nobody and stops nothing."""
    name = f"{engine_prefix}.client.{{53t}}.{ROOM}"
    async with running(valkey.url, prefix=engine_prefix) as node:
        await good(node.engine.broker.subscribe, ROOM)
        garbage = (
            b"",
            b"{}",
            b"1:1:e",
            b"1:x:e:",
            b"2:1:e:\x91\xa1x",
            b"1:1:e:\xc1",
            b"1:1:\xff:\x91\xc4\x00",
            b"1j:1::\x90",
            b"1:-1:e:\x91\xc4\x00",
            b"1:9223372036854775808:e:\x91\xc4\x00",
            b"1:" + b"9" * 5000 + b":e:\x91\xc4\x00",
            b"1:1:e:\xdd\xff\xff\xff\xff\xc4\x00",  # an array, a string and a map that are said to be endless
            b"1:1:e:\x91\xc6\xff\xff\xff\xff",
            b"1:1:e:\x97\xc4\x00\x00\xc0\xa0\xc0\xc0\xdf\xff\xff\xff\xff",
            b"1:1:e:\x98\xc4\x00\x00\xc0\xa0\xc0\xc0\xc0" + b"\x91" * 200_000,  # arrays in arrays
            b"1j:1::\x95\xa0\xa0\xc0\xc0" + b"\x91" * 200_000,
        )
        for payload in garbage:
            assert 1 == valkey.command("PUBLISH", name, payload)
        await good(node.engine.broker.publish, ROOM, b"1", KEPT)
        await node.sink.until(lambda: node.sink.of("published"))
        assert [b"1"] == node.sink.data(ROOM)
        assert len(garbage) == node.recorder.counts["redis_foreign_payloads", ""]
        valkey.command("XADD", f"{engine_prefix}.stream.{{53t}}.{ROOM}", "2-0", "d", b"\xc1")
        assert node.engine.history is not None
        page = await good(node.engine.history.read, ROOM, HistoryQuery(-1))
        assert [b"1"] == [publication.data for publication in page.publications]
        assert len(garbage) + 1 == node.recorder.counts["redis_foreign_payloads", ""]


async def test_an_empty_restart_is_over_soon(own_valkey: Valkey) -> None:
    """Killed and started with nothing in store: something arrives within 3 s of the port opening, all within 5 s."""
    channels = sorted(Channel(f"room:{n}") for n in range(2000))
    async with running(own_valkey.url) as node, running(own_valkey.url) as other:
        for channel in channels[:-1]:
            node.engine.broker.subscribe(channel, _ignore)
        await good(node.engine.broker.subscribe, channels[-1])
        before = (await good(node.engine.broker.publish, ROOM, b"1", KEPT)).position
        own_valkey.stop()
        await asyncio.sleep(1.0)  # the nodes try again and again meanwhile
        own_valkey.start()
        opened = asyncio.get_running_loop().time()

        async def delivered() -> bool:
            other.engine.broker.publish(channels[0], b"{}", PLAIN, _ignore)
            return bool(node.sink.data(channels[0]))

        await eventually(delivered)
        assert asyncio.get_running_loop().time() - opened <= within(3.0, otherwise=3.0)
        await node.sink.until(lambda: _suspected(node) == set(channels))
        assert asyncio.get_running_loop().time() - opened <= within(5.0, otherwise=3.0)
        await stands(node)
        assert before.epoch != (await good(node.engine.broker.publish, ROOM, b"1", KEPT)).position.epoch


async def test_ten_thousand_channels(valkey: Valkey, engine_prefix: str) -> None:
    """As many subscriptions in one turn are acknowledged, and each channel delivers."""
    async with running(valkey.url, prefix=engine_prefix) as node:
        channels = [Channel(f"c{n}") for n in range(10_000)]
        for channel in channels[:-1]:
            node.engine.broker.subscribe(channel, _ignore)
        await good(node.engine.broker.subscribe, channels[-1])
        for channel in channels:
            node.engine.broker.publish(channel, b"{}", PLAIN, _ignore)
        await node.sink.until_count("published", 10_000)
        assert channels == [channel for channel, _ in node.sink.of("published")]


async def test_a_flushed_server_begins_another_epoch(own_valkey: Valkey) -> None:
    """Offsets start again under a new name, so that no position of before seems to fit."""
    async with running(own_valkey.url) as node:
        before = (await good(node.engine.broker.publish, ROOM, b"1", KEPT)).position
        own_valkey.command("FLUSHALL")
        after = (await good(node.engine.broker.publish, ROOM, b"1", KEPT)).position
        assert (1, 1) == (before.offset, after.offset)
        assert before.epoch != after.epoch


def _suspected(node: Node) -> set[Channel]:
    return {channel for channels, _ in node.sink.of("suspect") for channel in channels}


def _ignore(_outcome: object) -> None:
    """Take an outcome that does not matter."""


async def test_an_unreachable_server_is_one_clear_line() -> None:
    """With `wait_ready` the start fails, naming the address, the cause and the setting."""
    port = free_port()
    expected = (
        f"redis: cannot connect to 127.0.0.1:{port} (connection refused): start the server, or correct engine.url"
    )
    with pytest.raises(OperatorError) as caught:
        async with running(f"redis://127.0.0.1:{port}"):
            pytest.fail("entered")
    assert expected == str(caught.value)
