"""The end of a node as its clients, its load balancer and the other nodes see it: real sockets, real Valkey."""

from __future__ import annotations

import asyncio
import json
import re
import time
from bisect import bisect_left
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from gateway import asking, leaving
from gateway.answers import answer
from gateway.errors import OperatorError
from gateway.types import Channel
from tests.support.exactness import within
from tests.support.rawsocket import DEADLINE, RawSocket, upgrade
from tests.support.serving import KEY, guest, serving
from tests.support.valkey import Valkey

ROOM = Channel("chat:room")


async def refuses(url: str) -> bool:
    """Say whether nobody listens there."""
    target = urlsplit(url)
    try:
        _, writer = await asyncio.open_connection(target.hostname, target.port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


# --- the order of things


async def test_a_node_ends_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ready, yet open; then closed to newcomers; then everybody moved in turn, with no 1006; then the end."""
    monkeypatch.setattr("gateway.draining.LEAST_RATE", 3.0)  # or some would be gone while it is looked at
    async with serving(delay="2s", window="3s") as node:
        assert (200, {"status": "ok"}) == await node.ready()
        guests = [await guest(node.url) for _ in range(8)]
        node.stop.ask()
        await node.until("waiting")
        assert (503, {"status": "not ready", "faults": ["draining"]}) == await node.ready()
        guests.append(await guest(node.url))  # as before
        assert 9 == len(node.made.node.connections)
        moving = asyncio.gather(*(it.moved() for it in guests))
        await node.until("moving")
        assert await refuses(node.url)
        assert 200 == (await node.http.get(f"{node.internal}/health/live")).status_code
        metrics = (await node.http.get(f"{node.internal}/metrics")).text
        assert "gateway_draining 1.0" in metrics
        (left,) = re.findall(r"^gateway_drain_remaining_connections (\d)\.0$", metrics, re.MULTILINE)
        assert 0 < int(left) <= 9
        assert [3001] * 9 == await moving
        await node.ended()
    times = sorted(it.closed_at for it in guests)
    assert times[-1] - times[0] >= 0.5  # three a second: not all at once
    assert [it.closed_at for it in guests] != times  # and not in the order in which they came
    assert await refuses(node.internal)


async def test_who_is_in_the_backlog_gets_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the delay and the closing of the port newcomers are told to come back."""
    monkeypatch.setattr("gateway.server.LAST_CALL", 10.0)
    async with serving() as node:
        late = await RawSocket.connect(node.url)
        node.stop.ask()
        async with asyncio.timeout(DEADLINE):
            while not node.made.admission.draining:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.005)
        await late.send(upgrade())
        refused = await late.head()
        assert 503 == refused.status
        assert int(refused.headers["retry-after"]) > 0
        await late.rest()
        again = await RawSocket.connect(node.url)
        await again.send(upgrade())
        assert 503 == (await again.head()).status
        await again.rest()


async def test_many_are_moved_in_turn() -> None:
    """As their clients see it: no second with more than twice the share, no link without a close frame."""
    count, window = 240, 4.0
    no_pings = {"insecure": True, "ping_interval": "0s"}  # guests do not answer them, and may be a while in coming
    async with serving(client=no_pings, window=f"{window:g}s") as node:
        guests = [await guest(node.url) for _ in range(count)]
        moving = asyncio.gather(*(it.moved() for it in guests))
        node.stop.ask()
        assert [3001] * count == await moving
        await node.ended()
    times = sorted(it.closed_at for it in guests)
    busiest = max(bisect_left(times, start + 1.0) - index for index, start in enumerate(times))
    assert busiest <= 2 * count / window
    assert window - 1.0 <= times[-1] - times[0]


async def test_a_second_signal_closes_everybody_at_once() -> None:
    """No more delay, no more turns, and still 3001."""
    async with serving(delay="300s", window="300s") as node:
        guests = [await guest(node.url) for _ in range(100)]
        node.stop.ask()
        await node.until("waiting")
        node.stop.ask()
        async with asyncio.timeout(9.0):  # in turns it would take ten seconds
            assert [3001] * 100 == await asyncio.gather(*(it.moved() for it in guests))
            await node.ended()


async def test_three_clients_that_do_not_answer_hold_nobody_up() -> None:
    """Ctrl-C on a node with three connections: their links are cut after the close timeout, and that is all."""
    async with serving() as node:
        guests = [await guest(node.url) for _ in range(3)]
        node.stop.ask()
        async with asyncio.timeout(within(3.5, otherwise=3.0)):
            await node.ending
        assert {3001} == {(await it.socket.frame()).code for it in guests}
        for it in guests:
            it.socket.close()


async def test_on_a_shared_port_nobody_is_refused() -> None:
    """While one of two nodes drains, whoever comes is served: by it if he came before, else by the other one."""
    async with serving(shared="any", window="2s") as leaving, serving(shared=leaving.url) as staying:

        async def visit() -> asyncio.Task[int]:
            """Come, and from then on be ready to be moved."""
            return asyncio.create_task((await guest(leaving.url)).moved())

        early = [asyncio.create_task(visit()) for _ in range(20)]
        await asyncio.gather(*early)
        leaving.stop.ask()
        late = []
        give_up = time.monotonic() + DEADLINE
        while not leaving.made.node.drain.over:
            assert not leaving.ending.done(), "the drain failed"
            assert time.monotonic() < give_up, "the drain does not end"
            late.append(asyncio.create_task(visit()))
            await asyncio.sleep(0.02)
            for it in [it for it in (*early, *late) if it.done()]:
                assert it.exception() is None
        everybody = [it.result() for it in early] + await asyncio.gather(*late)
        left = len(everybody) - len(staying.made.node.connections)
        assert 0 < left < len(everybody)
        await leaving.ended()
        staying.stop.ask()
        staying.stop.ask()
        assert {3001} == set(await asyncio.gather(*everybody))


# --- by a call


async def test_a_call_drains_and_the_node_waits_for_its_signal() -> None:
    """The first call begins, the second joins; drained it lives on, not ready; a signal then ends it at once."""
    async with serving(delay="2s", window="1s") as node:
        guests = [await guest(node.url) for _ in range(5)]
        moving = asyncio.gather(*(it.moved() for it in guests))
        begun = (await node.post({})).json()["result"]
        assert {"remaining": 5, "drained": False} == begun
        joined = await node.post({"wait": True})
        lines = [json.loads(line) for line in joined.text.splitlines()]
        assert "application/x-ndjson" == joined.headers["content-type"]
        assert ({"remaining": 0, "drained": True}, False) == (lines[-1], lines[0]["drained"])
        assert [3001] * 5 == await moving
        assert {"remaining": 0, "drained": True} == (await node.post({})).json()["result"]
        assert (503, ["draining"]) == ((ready := await node.ready())[0], ready[1]["faults"])
        assert 200 == (await node.http.get(f"{node.internal}/health/live")).status_code
        assert not node.ending.done()
        node.stop.ask()
        async with asyncio.timeout(within(1.0, otherwise=5.0)):
            await node.ending


async def test_on_one_port_the_answer_outlives_the_port() -> None:
    """Nobody can connect any more, and who waits for the drain still hears its end, though a signal comes meanwhile."""
    async with serving(split=False, window="1s") as node:
        guests = [await guest(node.url) for _ in range(8)]
        moving = asyncio.gather(*(it.moved() for it in guests))
        waiting = asyncio.create_task(node.post({"wait": True}))
        await node.until("moving")
        assert await refuses(node.url)
        node.stop.ask()
        assert [3001] * 8 == await moving
        lines = (await waiting).text.splitlines()
        assert {"remaining": 0, "drained": True} == json.loads(lines[-1])
        await node.ended()


class Terminal(StringIO):
    """Somebody looks."""

    def isatty(self) -> bool:
        """Be one."""
        return True


@pytest.mark.parametrize(
    ("out", "line"), [(StringIO(), "5 connections left\n"), (Terminal(), "\r\x1b[K5 connections left")]
)
async def test_the_command_tells_how_it_goes(out: StringIO, line: str) -> None:
    """A line each second, on a terminal over the one before it; then the end."""
    async with serving(delay="4s") as node:  # the second line is said after one
        moving = asyncio.gather(*[(await guest(node.url)).moved() for _ in range(5)])
        errand = leaving.Errand(node.internal, KEY, wait=True, timeout=60.0)
        await asyncio.to_thread(leaving.drain, [errand], out)
        assert [3001] * 5 == await moving
    told = out.getvalue()
    assert told.startswith(line * 2)
    assert told.endswith("drained\n")


async def test_a_node_that_drains_is_alive_and_not_ready() -> None:
    """`gateway health` says so, as the container's health check."""
    async with serving(delay="300s") as node:
        await node.until_ready()
        await asyncio.to_thread(asking.ask, [node.internal], live=False, timeout=DEADLINE)
        node.stop.ask()
        await node.until("waiting")
        await asyncio.to_thread(asking.ask, [node.internal], live=True, timeout=DEADLINE)
        with pytest.raises(OperatorError, match="is not ready: draining"):
            await asyncio.to_thread(asking.ask, [node.internal], live=False, timeout=DEADLINE)


async def test_the_command_returns_when_the_drain_has_begun() -> None:
    """Unless it is to wait."""
    async with serving(delay="300s") as node:
        out = StringIO()
        errand = leaving.Errand(node.internal, KEY, wait=False, timeout=60.0)
        await asyncio.to_thread(leaving.drain, [errand], out)
        assert "0 connections left\n" == out.getvalue()
        assert "waiting" == node.made.node.drain.stage.value


async def test_the_command_says_what_is_wrong() -> None:
    """A wrong key, the public port, a drain that takes too long, and a node that goes away meanwhile."""
    async with serving(delay="300s") as node:
        out = StringIO()

        def fault(url: str, key: str = KEY, timeout: float = 60.0) -> str:
            errand = leaving.Errand(url, key, wait=True, timeout=timeout)
            with pytest.raises(OperatorError) as raised:
                leaving.drain([errand], out)
            return str(raised.value)

        assert "does not accept the key" in await asyncio.to_thread(fault, node.internal, "wrong")
        assert "internal port" in await asyncio.to_thread(fault, node.url)
        assert "" == out.getvalue()
        assert "0 connections are left after 0 s" in await asyncio.to_thread(fault, node.internal, KEY, 0.0)
        told = out.getvalue()
        going = asyncio.create_task(asyncio.to_thread(fault, node.internal))
        async with asyncio.timeout(DEADLINE):
            while told == out.getvalue():  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)
        for _ in range(3):
            node.stop.ask()
        assert "went away before it was drained; 0 connections were left" in await going


# --- nothing is lost


@pytest.fixture(name="own_valkey")
def _own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """Run a server that the test may stall."""
    valkey = Valkey(tmp_path)
    valkey.start()
    yield valkey
    valkey.stop()


async def test_what_a_client_has_published_is_answered_before_it_is_moved(
    own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is slow right when the signal comes: the others go, and this one has its answer before the close."""
    monkeypatch.setattr("gateway.draining.ANSWER_SECONDS", DEADLINE)  # a busy machine is not what is tested
    async with serving(engine=own_valkey.url, command_timeout=DEADLINE, window="1s") as node:
        await node.until_ready()
        one = await guest(node.url, room=ROOM)
        (connection,) = node.made.node.connections.values()
        others = [await guest(node.url) for _ in range(2)]
        own_valkey.stall()
        await one.socket.send(one.ask(id=3, publish={"channel": ROOM, "data": "last words"}))
        async with asyncio.timeout(DEADLINE):
            while not connection.in_flight:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.005)
        node.stop.ask()
        assert [3001] * 2 == await asyncio.gather(*(it.moved() for it in others))
        moving = asyncio.create_task(one.moved())
        await asyncio.wait({moving}, timeout=0.4)
        assert not connection.gone
        own_valkey.go_on()
        assert 3001 == await moving
        await node.ended()
    assert [3] == [it["id"] for it in one.messages() if "publish" in it]


async def test_the_node_does_not_end_before_presence_is_removed(
    own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is slow when everybody has gone: the engine is not closed before it has answered."""
    monkeypatch.setattr("gateway.node.DEPARTURE_SECONDS", DEADLINE)  # a busy machine is not what is tested
    async with serving(engine=own_valkey.url, command_timeout=DEADLINE, window="0s") as node:
        await node.until_ready()
        one = await guest(node.url, room=ROOM)
        own_valkey.stall()
        node.stop.ask()
        assert 3001 == await one.moved()
        await asyncio.wait({node.ending}, timeout=0.4)
        assert "closing" == node.made.node.drain.stage.value
        own_valkey.go_on()
        await node.ended()
        assert 0 == node.made.node.departures.calls


async def test_other_nodes_see_who_left_before_the_process_ends(redis_url: str) -> None:
    """A leave for each of the connections that were moved, long before the lease of the node would have run out."""
    prefix = f"t{uuid4().hex[:8]}"
    async with serving(engine=redis_url, prefix=prefix) as staying:
        async with serving(engine=redis_url, prefix=prefix, window="0s") as going:
            for node in (staying, going):
                await node.until_ready()
            watcher = await guest(staying.url, room=ROOM)
            guests = [await guest(going.url, room=ROOM) for _ in range(20)]
            presence = staying.made.node.engine.presence
            assert presence is not None
            assert 21 == len(await answer(presence.members, ROOM))
            going.stop.ask()
            moving = asyncio.gather(*(it.moved() for it in guests))
            await going.ended()
            assert 1 == len(await answer(presence.members, ROOM))
            assert [3001] * 20 == await moving
        async with asyncio.timeout(DEADLINE):
            while 20 > sum("leave" in it.get("push", {}) for it in watcher.messages()):
                watcher.frames.append(await watcher.socket.frame())
        watcher.socket.close()
