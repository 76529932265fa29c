"""One client for a whole run: how it lives through refusals, losses and its own leaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

import orjson
import pytest

from loadtests.clients import centrifuge
from loadtests.clients.centrifuge import CentrifugeClient
from loadtests.clients.dial import Dial
from loadtests.clients.ground import Ground
from loadtests.clients.link import HandshakeError
from loadtests.clients.publications import Hearsay, Stamp
from loadtests.oracle import Ledger
from loadtests.scenarios.contract import RefusedError
from loadtests.workers.meters import ProcessMeters

STAMP = Stamp("here", 60)
Answer = dict[str, Any] | None


class Wire:
    """A link whose server answers at once, by what was asked; None: it says nothing."""

    def __init__(self, server: Server, told: Callable[[bytes], None], ended: Callable[[int], None]) -> None:
        self.open = True
        self.heard = True
        self.reading = True
        self.lost = asyncio.get_running_loop().create_future()
        self.told = told
        self._server = server
        self._ended = ended

    def send(self, message: bytes) -> None:
        """Answer."""
        command = orjson.loads(message)
        self._server.asked.append(command)
        answer = self._server.answer(command)
        if answer is not None and "id" in command:
            asyncio.get_running_loop().call_soon(self.told, orjson.dumps({"id": command["id"], **answer}))

    def end(self, code: int) -> None:
        """Be gone, as a loop tells it: not from within the call that ended it."""
        if self.open:
            self.open = False
            asyncio.get_running_loop().call_soon(self._gone, code)

    def _gone(self, code: int) -> None:
        self._ended(code)
        self.lost.set_result(None)

    def cut(self) -> None:
        """End without a word."""
        self.end(1006)

    close = cut

    def read(self, on: bool) -> None:
        """Note it."""
        self.reading = on


class Server:
    """Answers to everything with success, unless told otherwise; `refusals` are raised by the next handshakes."""

    def __init__(self) -> None:
        self.links: list[Wire] = []
        self.asked: list[dict[str, Any]] = []
        self.refusals: list[Exception] = []
        self.answers: dict[str, list[Answer]] = {}

    async def open(
        self, number: int, *, told: Callable[[bytes], None], ended: Callable[[int], None], slow: bool = False
    ) -> Wire:
        """Let a client in."""
        del number, slow
        await asyncio.sleep(0.001)  # as long as no handshake takes less
        if self.refusals:
            raise self.refusals.pop(0)
        self.links.append(Wire(self, told, ended))
        return self.links[-1]

    def answer(self, command: dict[str, Any]) -> Answer:
        """Return the answer."""
        kind = next((it for it in command if it != "id"), "")
        if waiting := self.answers.get(kind):
            return waiting.pop(0)
        result = {"client": f"id{len(self.links)}", "ping": 1} if kind == "connect" else {}
        return {kind: result}


class World:
    """A client with its server."""

    def __init__(self, tasks: list[asyncio.Task[None]]) -> None:
        self.server = Server()
        self.meters = ProcessMeters()
        self._tasks = tasks
        self.ground = Ground(
            dial=cast("Dial", self.server),
            token=lambda user, _: user,
            meters=self.meters,
            ledger=Ledger(),
            rng=random.Random(1),
            stamp=STAMP,
            hearsay=Hearsay(STAMP),
            spawn=self._spawn,
            recovery=False,
            run="r",
        )

    def client(self, *channels: str, slow: bool = False) -> CentrifugeClient:
        """Return a client."""
        return CentrifugeClient(self.ground, 3, channels, slow=slow)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def counted(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return closes and refusals of this second."""
        tick = self.meters.tick(0, standing=0, clients=0, pending=0, played=False)
        return tick.closes, tick.refusals


@pytest.fixture(name="world")
async def _world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("loadtests.clients.backoff.LEAST", 0.0001)  # seconds: nobody learns from waiting here
    tasks: list[asyncio.Task[None]] = []
    yield World(tasks)
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError, RefusedError):
            await task


async def until(condition: Callable[[], object]) -> None:
    """Wait for something."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing would set an event
            await asyncio.sleep(0.001)


async def test_it_comes_tries_again_and_stands(world: World) -> None:
    """Refusals are counted by what they were; the first success counts as one connection."""
    world.server.refusals = [ConnectionRefusedError(), TimeoutError(), HandshakeError(503, "full"), HandshakeError(0)]
    world.server.answers["connect"] = [{"error": {"code": 100, "message": "", "temporary": True}}]
    client = world.client("a", "b")
    assert client.standing
    await client.open()
    assert (True, True, "id2") == (client.connected, client.standing, client.id)
    assert ["connect", "connect", "subscribe", "subscribe"] == [[*it][1] for it in world.server.asked]
    assert ({}, {"no connection": 1, "timeout": 1, "503": 1, "no answer": 1, "100": 1}) == world.counted()
    assert world.meters.connected == 1
    assert ([1, 2], 0) == (
        [sum(world.meters.run[it].counts.values()) for it in ("connect", "subscribe")],
        len(world.meters.run["recover"].counts),
    )


@pytest.mark.parametrize(
    ("kind", "error"), [("connect", {"code": 109, "message": "expired"}), ("subscribe", {"code": 103, "message": "no"})]
)
async def test_who_is_told_no_does_not_insist(world: World, kind: str, error: dict[str, Any]) -> None:
    """An error that will not go away is raised, and nobody comes back."""
    world.server.answers[kind] = [{"error": error}]
    client = world.client("a")
    with pytest.raises(RefusedError, match=str(error["code"])):
        await client.open()
    await asyncio.sleep(0.01)
    assert (1, False, 0) == (len(world.server.links), client.connected, world.meters.connected)
    assert client.standing  # where it is told to be
    assert ({} if kind == "connect" else {"103 no": 1}) == client.barred, "who was never there has missed nothing"


@pytest.mark.parametrize(("code", "comes_back"), [(1006, True), (3001, True), (3503, False), (4500, False)])
async def test_a_close_by_the_server_is_counted_and_obeyed(world: World, code: int, comes_back: bool) -> None:
    """It comes back unless the code says not to; the return is timed."""
    client = world.client("a")
    await client.open()
    world.server.links[0].end(code)
    await until(lambda: client.closes)
    assert ({str(code): 1}, {code: 1}) == (world.counted()[0], dict(client.closes))
    if comes_back:
        await client.open()  # who is on his way back is waited for
        assert client.connected
        assert sum(world.meters.run["recover"].counts.values()) == 1
    else:
        await asyncio.sleep(0.01)
        assert len(world.server.links) == 1
        with pytest.raises(RefusedError, match=str(code)):
            await client.open()


async def test_its_own_doings_are_no_closes(world: World) -> None:
    """Cut without a word it comes back by itself; cut to stay away, or gone in good order, when it is told to."""
    client = world.client("a")
    await client.open()
    client.cut()
    await until(lambda: len(world.server.links) == 2)
    await client.open()
    client.cut(stay_away=True)
    await until(lambda: not client.connected)
    assert client.standing
    await client.open()
    await client.leave()
    assert not client.connected
    await client.leave()
    await client.open()
    assert client.connected
    assert ({}, {}) == world.counted()
    assert sum(world.meters.run["recover"].counts.values()) == 3


async def test_who_is_cut_again_on_his_way_back_may_stay_away(world: World) -> None:
    """A return that was called off leaves nothing open."""
    client = world.client("a")
    await client.open()
    unanswered = world.server.answers["subscribe"] = [None]
    client.cut()
    await until(lambda: not unanswered)
    assert (2, True) == (len(world.server.links), client.connected)
    client.cut(stay_away=True)
    await until(lambda: not client.connected)
    await asyncio.sleep(0.01)
    assert (2, [False, False]) == (len(world.server.links), [it.open for it in world.server.links])


async def test_a_return_that_was_called_off_and_called_for_again_is_one(world: World) -> None:
    """However soon: nobody has two connections."""
    client = world.client("a")
    await client.open()
    unanswered = world.server.answers["subscribe"] = [None]
    client.cut()
    await until(lambda: not unanswered)
    assert (2, True) == (len(world.server.links), client.connected)
    client.cut(stay_away=True)
    await client.open()
    await asyncio.sleep(0.01)
    assert [False, False, True] == [it.open for it in world.server.links]
    assert (True, 1) == (client.standing, world.meters.connected)


async def test_what_cannot_be_sent_is_refused(world: World) -> None:
    """Nothing of it is in the ledger; asking says so."""
    client = world.client("a")
    assert not client.publish("a", 5)
    with pytest.raises(RefusedError, match="0 not connected"):
        await client.ask({"presence": {"channel": "a"}})
    assert ({}, {"not connected": 1}) == world.counted()
    await client.open()
    assert client.publish("a", 5)
    assert client.pending == 1
    await until(lambda: not client.pending)
    assert world.ground.ledger.count("acknowledged") == 1


async def test_what_a_lost_connection_swallows_was_due_all_the_same(world: World) -> None:
    """It counts as never arrived, unless the client is away by its own will."""
    world.meters.began, world.meters.ends = 0, 100
    client = world.client("a")
    await client.open()
    world.server.refusals = [HandshakeError(503, "full") for _ in range(1000)]
    world.server.links[0].end(1006)
    await until(lambda: not client.connected)
    assert (False, False) == (client.publish("a", 5), client.publish("a", 500))
    client.cut(stay_away=True)
    assert not client.publish("a", 6)
    endings = world.ground.ledger.page("a").endings
    assert (2, [(4 << 32) + 1]) == (endings.count("unsent"), endings.unanswered())
    assert (client.logs["a"].torn, 0) == (True, world.ground.ledger.count("acknowledged"))


async def test_subscriptions_come_and_go(world: World) -> None:
    """What was subscribed to later is subscribed to again, what was given up is not."""
    client = world.client("a")
    await client.open()
    await client.subscribe("b")
    await client.unsubscribe("a")
    assert [False, True] == [client.logs[it].listening for it in ("a", "b")]
    assert not client.logs["a"].torn, "it was its own doing"
    client.cut()
    await until(lambda: client.connected and client.standing and len(world.server.links) == 2)
    assert [False, True] == [client.logs[it].listening for it in ("a", "b")]
    assert await client.ask({"presence": {"channel": "b"}}) == {}


@pytest.mark.parametrize(("code", "again"), [(2500, True), (2000, False)])
async def test_a_lost_subscription_is_taken_up_again_if_it_may_be(world: World, code: int, again: bool) -> None:
    """And told to the log, if the server knows that something may be missing."""
    client = world.client("a")
    await client.open()
    world.server.answers["subscribe"] = [{"error": {"code": 100, "message": ""}}]
    client.unsubscribed("other", code)
    client.unsubscribed("a", code)
    assert not client.logs["a"].listening
    if again:
        await until(lambda: client.logs["a"].listening)
    assert int(again) == client.logs["a"].tells["unsubscribed"]
    assert ({} if again else {"unsubscribed with 2000": 1}) == client.barred
    assert client.standing
    assert world.counted()[1] == ({str(code): 1, "100": 1} if again else {str(code): 1})


async def test_a_subscription_that_is_refused_for_good_is_given_up(world: World) -> None:
    """The client stays."""
    client = world.client("a")
    await client.open()
    world.server.answers["subscribe"] = [{"error": {"code": 103, "message": "no"}}]
    client.unsubscribed("a", 2501)
    await until(lambda: client.standing)
    assert client.connected
    assert not client.logs["a"].listening
    assert {"103 no": 1} == client.barred


async def test_a_connection_that_went_silent_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a ping is overdue; bytes of any kind are a sign of life."""
    monkeypatch.setattr(centrifuge, "GRACE", 1.0)
    client = world.client("a")
    client.look()
    await client.open()
    (link,) = world.server.links
    for heard in (True, False, False, True, False, False, False):
        assert link.open
        link.heard = heard
        client.look()
    assert not link.open
    assert "no ping came" in next(iter(world.meters.remarks))


async def test_a_slow_client_reads_once_a_second_until_it_is_told_to_hurry(world: World) -> None:
    """One message at a time."""
    client = world.client("a", slow=True)
    await client.open()
    (link,) = world.server.links
    assert not link.reading
    client.look()
    assert link.reading
    link.told(b"{}")
    assert not link.reading
    client.hurry()
    assert link.reading
    link.told(b"{}")
    assert link.reading
