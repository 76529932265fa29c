"""One process's stage: who comes when, who speaks, and what is said when nobody can."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from gateway.types import Position
from loadtests.clients.link import HandshakeError
from loadtests.kit.profile import Profile
from loadtests.scenarios.contract import Client, Share
from loadtests.workers import stage as module
from loadtests.workers.alarm import Alarm
from loadtests.workers.distribution import LONGEST
from loadtests.workers.messages import Timing
from loadtests.workers.meters import now
from loadtests.workers.pace import Timetable
from loadtests.workers.stage import HopelessError, ProcessStage
from tests.loadtests.clients.test_centrifuge import World


class Play:
    """A stage with its server and its times."""

    def __init__(self, world: World, alarm: Alarm, **fields: Any) -> None:
        told = {"scenario": "x", "connections": 6, "ramp": 0.01, "namespace": "n"} | fields
        self.server = world.server
        self.meters = world.meters
        self.table = Timetable(alarm)
        self.stage = ProcessStage(
            Profile.model_validate(told), Share(1, 2), ground=world.ground, meters=world.meters, timetable=self.table
        )

    def begin(self, seconds: float) -> None:
        """Let the measure phase begin now."""
        begin = now()
        self.table.tell(Timing(warm_up=begin, measure=begin, settle=begin + int(seconds * 1e6)))


@pytest.fixture(name="alarm")
async def _alarm() -> AsyncIterator[Alarm]:
    alarm = Alarm()
    yield alarm
    alarm.close()


@pytest.fixture(name="world")
async def _world() -> AsyncIterator[World]:
    tasks: list[asyncio.Task[None]] = []
    yield World(tasks)
    for task in tasks:
        task.cancel()


async def test_a_process_opens_its_share(world: World, alarm: Alarm) -> None:
    """Every number belongs to one process; channels have the namespace and a name of this run."""
    stage = Play(world, alarm).stage
    crowd = await stage.crowd(lambda number: [stage.channel(number // 2)])
    more = await stage.crowd(lambda _: (), 3, first=6, slow=lambda number: number == 1)
    assert ([1, 3, 5], [7]) == ([it.number for it in crowd], [it.number for it in more])
    assert ["n:r-0", "n:r-1", "n:r-2"] == [next(iter(it.logs)) for it in crowd]
    assert [*crowd, *more] == stage.clients
    assert [False, False, False, True] == [it.slow for it in stage.clients]
    assert (4, 0) == (stage.standing(), stage.pending())


async def test_when_nobody_can_come_it_says_why(world: World, alarm: Alarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """After all patience, with the reasons and the settings that may be to blame."""
    monkeypatch.setattr(module, "PATIENCE", 2.0)  # seconds: each is refused at least once, also on a loop that stalls
    world.server.refusals = [HandshakeError(503, "full") for _ in range(1000)]
    with pytest.raises(HopelessError, match=r"3 of 3 clients .*\(3 x 503 full\).*connection_rate_limit"):
        await Play(world, alarm).stage.crowd(lambda _: ())


async def test_when_one_is_told_no_it_says_who(world: World, alarm: Alarm) -> None:
    """And with which error: patience would not help."""
    world.server.answers["subscribe"] = [{"error": {"code": 103, "message": "permission denied"}}]
    with pytest.raises(HopelessError, match=r"load-r-\d was refused .*: 103 permission denied"):
        await Play(world, alarm).stage.crowd(lambda _: ["n:1"])


async def test_speakers_take_turns(world: World, alarm: Alarm) -> None:
    """Each as often as the others, at their share of everybody's rate; each counts for itself."""
    play = Play(world, alarm, rate=200.0)
    speakers = await play.stage.crowd(lambda _: ())
    asked: list[tuple[int, int]] = []

    def channel_of(speaker: Client, turn: int) -> str:
        asked.append((speaker.number, turn))
        return "n:r-0"

    speaking = asyncio.create_task(play.stage.speak(speakers, 6, channel_of))
    play.begin(1.0)
    await speaking
    assert asked == [(1 + 2 * (it % 3), it // 3) for it in range(len(asked))]
    assert 0 < len(asked) <= 100
    sent = [it["publish"]["data"] for it in play.server.asked if "publish" in it]
    assert Counter(it["n"] >> 32 for it in sent) == Counter(number + 1 for number, _ in asked)
    dues = [it["t"] for it in sent]
    assert {10_000} >= {b - a for a, b in pairwise(dues)}


@pytest.mark.parametrize("rate", [0.0, 5.0])
async def test_without_a_rate_or_a_speaker_nobody_speaks(world: World, alarm: Alarm, rate: float) -> None:
    """They wait for the settling."""
    play = Play(world, alarm, rate=rate)
    play.begin(0.01)
    await play.stage.speak([] if rate else [play.stage.client(9)], 6, lambda *_: "c")
    assert play.stage.phase == "settle"


async def test_who_listens_from_the_beginning_is_to_hear_everything(world: World, alarm: Alarm) -> None:
    """Ready is said before anything is published anywhere."""
    play = Play(world, alarm)
    (first, *_) = await play.stage.crowd(lambda _: ["n:1"])
    waiting = asyncio.create_task(play.stage.ramped())
    await asyncio.wait_for(play.stage.ready.wait(), 10)
    assert first.logs["n:1"].hearing.attentive
    assert (False, "ramp") == (waiting.done(), play.stage.phase)
    play.begin(1.0)
    await waiting


async def test_streams_are_asked_where_they_stand(world: World, alarm: Alarm) -> None:
    """By a connection of its own, which is none of the clients; channels without history stand nowhere."""
    play = Play(world, alarm)
    world.server.answers["subscribe"] = [
        {"subscribe": {"epoch": "e", "offset": 3, "recoverable": True}},
        {"subscribe": {}},
        {"subscribe": {}},
        {"subscribe": {"epoch": "e", "offset": 9, "recoverable": True}},
    ]
    clients = await play.stage.crowd(lambda number: [f"n:{number}"])
    kept, *plain = (
        next(iter(it.logs)) for it in sorted(clients, key=lambda it: not it.logs[f"n:{it.number}"].epochs[0])
    )
    assert {kept: Position(9, "e"), **dict.fromkeys(plain, Position(0, ""))} == await play.stage.tops()
    assert 3 == len(play.stage.clients)


async def test_a_stream_that_nobody_can_ask_for_is_left_out(world: World, alarm: Alarm) -> None:
    """And a fault: without it nobody can say that nothing is missing at the end."""
    play = Play(world, alarm)
    world.server.answers["subscribe"] = [{"subscribe": {"epoch": "e", "offset": 3}} for _ in range(3)]
    await play.stage.crowd(lambda number: [f"n:{number}"])
    world.server.answers["subscribe"] = [{"error": {"code": 103, "message": "permission denied"}}]
    assert await play.stage.tops() == {}
    assert "103 permission denied" in next(iter(play.meters.faults))


async def test_what_was_waited_for_in_vain_is_told(world: World, alarm: Alarm) -> None:
    """Answers that never came, and clients that did not come back: nothing else shows a server that froze."""
    stage = Play(world, alarm).stage
    speaker, away, left = await stage.crowd(lambda number: [f"n:{number}"])
    await left.leave()
    assert [] == stage.unfinished()
    world.server.answers["publish"] = [None]
    speaker.publish("n:1", now())
    world.server.refusals = [HandshakeError(503, "full") for _ in range(1000)]
    away.cut()
    await asyncio.wait_for(lost(away), 10)
    pending, gone = stage.unfinished()
    assert ("1 publications", "1 clients") == (pending[:14], gone[:9])


async def test_who_was_sent_away_for_good_is_told(world: World, alarm: Alarm) -> None:
    """By an error when it came back, or from one channel: it stands where it was told to, which no run may pass by."""
    stage = Play(world, alarm).stage
    barred, banned, _ = await stage.crowd(lambda number: [f"n:{number}"])
    world.server.answers["connect"] = [{"error": {"code": 109, "message": "expired"}}]
    barred.cut()
    async with asyncio.timeout(10):
        while not stage.clients[0].barred:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
    stage.clients[1].unsubscribed(next(iter(banned.logs)), 2000)
    assert [
        "clients of one process were refused for good after they had come, 1 times: 109 expired",
        "clients of one process were refused for good after they had come, 1 times: unsubscribed with 2000",
    ] == stage.unfinished()


async def test_damaged_publications_are_told(world: World, alarm: Alarm) -> None:
    """What came with other data than was sent is a fault, whatever its number says; so is a latency beyond belief."""
    stage = Play(world, alarm).stage
    world.ground.stamp.damaged = 3
    assert ["3 publications came to one process with other data than was sent"] == stage.unfinished()
    world.ground.stamp.damaged = 0
    world.meters.took("recover", 2 * LONGEST)
    assert ["1 latencies (recover) were longer than a day, and are shown as a day"] == stage.unfinished()


async def test_who_never_was_in_a_channel_knows_nothing_of_it(world: World, alarm: Alarm) -> None:
    """A process whose clients never stood does not say that a channel has no history: others know better."""
    play = Play(world, alarm)
    play.stage.client(1, ["n:1"])
    assert {} == await play.stage.tops()


async def lost(client: Client) -> None:
    """Wait until a client has no connection."""
    while client.connected:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.001)
