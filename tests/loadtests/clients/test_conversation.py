"""What one connection says and is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, cast

import orjson
import pytest

from gateway.types import Position
from loadtests.clients.conversation import Conversation
from loadtests.clients.dial import Dial, trusting
from loadtests.clients.ground import Ground
from loadtests.clients.link import Link
from loadtests.clients.publications import Hearsay, Stamp
from loadtests.oracle import Ledger, Log
from loadtests.scenarios.contract import RefusedError
from loadtests.workers.meters import ProcessMeters

STAMP = Stamp("here", 60)


class Wire:
    """In place of a link: what was sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, message: bytes) -> None:
        """Note it."""
        self.sent.append(orjson.loads(message))


class Talk:
    """A conversation, whoever holds it, and the server's side of it."""

    def __init__(self, *, timed: bool = True) -> None:
        self.meters = ProcessMeters()
        self.ledger = Ledger()
        self.member: Callable[[str, str, bool], None] | None = None
        self.logs = {"c": Log("ann", "c", self.ledger)}
        self.ends: list[tuple[str, int]] = []
        self.read = 0
        ground = Ground(
            dial=Dial((), trust=trusting("", insecure=True)),
            token=lambda user, number: f"{user}{number}",
            meters=self.meters,
            ledger=self.ledger,
            rng=random.Random(1),
            stamp=STAMP,
            hearsay=Hearsay(STAMP),
            spawn=lambda work: work.close(),
            recovery=True,
            run="r",
        )
        self.wire = Wire()
        self.talk = Conversation(self, ground, timed=timed)
        self.talk.link = cast("Link", self.wire)

    def unsubscribed(self, channel: str, code: int) -> None:
        """Note it."""
        self.ends.append((channel, code))

    def read_something(self) -> None:
        """Note it."""
        self.read += 1

    def say(self, *messages: object) -> None:
        """Let the server say these in one frame."""
        self.talk.told(b"\n".join(map(orjson.dumps, messages)))

    def counted(self) -> tuple[int, int, int, dict[str, int]]:
        """Return what was counted this second: deliveries, acknowledgements, errors, refusals."""
        tick = self.meters.tick(0, standing=0, clients=0, pending=0, played=False)
        return tick.delivered, tick.acknowledged, tick.errors, tick.refusals


def pub(number: int, offset: int = 0) -> dict[str, Any]:
    """Return a publication."""
    found: dict[str, Any] = {"data": orjson.loads(STAMP.data(number, 5))}
    return found | ({"offset": offset, "epoch": "e"} if offset else {})


async def begun(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Let something begin, as far as it comes by itself."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


async def test_a_ping_is_answered_wherever_it_stands() -> None:
    """Alone in a frame, or beside others."""
    talk = Talk()
    talk.say({})
    talk.say({}, {"push": {"channel": "c", "pub": pub(1)}})
    assert [{}, {}] == talk.wire.sent
    assert talk.logs["c"].deliveries == 1
    assert talk.counted() == (1, 0, 0, {})
    assert talk.read > 0


async def test_connecting_tells_how_often_pings_come() -> None:
    """The token goes with it, if there is one."""
    talk = Talk()
    asking = await begun(talk.talk.connect("t"))
    assert [{"id": 1, "connect": {"token": "t"}}] == talk.wire.sent
    talk.say({"id": 1, "connect": {"client": "me", "ping": 25}})
    assert (await asking)["client"] == "me"
    assert talk.talk.ping == 25
    (await begun(talk.talk.connect(""))).cancel()
    assert talk.wire.sent[-1]["connect"] == {}


async def test_what_follows_a_subscription_in_the_same_frame_is_heard() -> None:
    """The log knows of the subscription before the publication behind it is looked at."""
    talk = Talk()
    doing = await begun(talk.talk.subscribe("c", talk.logs["c"], since=None, recovery=True))
    assert talk.wire.sent[0]["subscribe"] == {"channel": "c", "positioned": True, "recoverable": True}
    reply = {"id": 1, "subscribe": {"recoverable": True, "epoch": "e", "offset": 4}}
    talk.say(reply, {"push": {"channel": "c", "pub": pub(1, 5)}})
    assert await doing
    assert ([], 5) == (list(talk.logs["c"].offences), cast("Position", talk.logs["c"].position).offset)


@pytest.mark.parametrize(("late", "timed"), [(True, 1), (False, 0)])
async def test_what_is_recovered_is_timed_if_the_server_made_it_late(late: bool, timed: int) -> None:
    """The position is asked with, what was missed goes to the log."""
    talk = Talk()
    log = talk.logs["c"]
    log.subscribed(Position(3, "e"), recovered=False, asked=False)
    talk.meters.began = 0
    doing = await begun(talk.talk.subscribe("c", log, since=Position(3, "e"), recovery=False, late=late))
    assert talk.wire.sent[0]["subscribe"] == {"channel": "c", "recover": True, "offset": 3, "epoch": "e"}
    talk.say({"id": 1, "subscribe": {"epoch": "e", "offset": 3, "recovered": True, "publications": [pub(1, 4)]}})
    assert not await doing
    assert (1, 4) == (log.deliveries, cast("Position", log.position).offset)
    assert talk.counted()[0] == 1
    assert timed == sum(talk.meters.run["delivery"].counts.values())


async def test_each_publication_ends_in_the_ledger() -> None:
    """Taken, refused, or in doubt: an internal error, or no answer before the connection ended."""
    talk = Talk()
    for number in (1, 2, 3, 4):
        talk.ledger.publishing("c", number)
        talk.talk.publish("c", number, 7)
    assert talk.talk.pending == 4
    assert talk.wire.sent[0]["publish"]["channel"] == "c"
    assert talk.wire.sent[0]["publish"]["data"]["n"] == 1
    error = {"code": 103, "message": "permission denied"}
    talk.say({"id": 1, "publish": {}}, {"id": 2, "error": error}, {"id": 3, "error": {"code": 100, "message": ""}})
    talk.talk.over()
    talk.talk.publish("c", 5, 7)
    assert talk.talk.pending == 0
    ends = [talk.ledger.page("c").endings.get(it) for it in (1, 2, 3, 4)]
    assert ["acknowledged", "refused", "doubtful", "doubtful"] == ends
    assert talk.counted() == (0, 1, 2, {"103": 1, "100": 1})


async def test_an_error_is_raised_and_so_is_the_end() -> None:
    """With its code; 0 when nobody can answer any more."""
    talk = Talk()
    asking = await begun(talk.talk.ask({"presence": {"channel": "c"}}))
    talk.say({"id": 1, "error": {"code": 108, "message": "not available"}}, {"id": 99, "rpc": {}})
    with pytest.raises(RefusedError, match="108 not available"):
        await asking
    asking = await begun(talk.talk.ask({"presence": {"channel": "c"}}))
    talk.talk.over()
    with pytest.raises(RefusedError, match="0 the connection ended"):
        await asking
    with pytest.raises(RefusedError, match="0 not connected"):
        await talk.talk.ask({"presence": {"channel": "c"}})


async def test_pushes_go_where_they_belong() -> None:
    """Joins and leaves to whoever wants them, the end of a subscription to the client, foreign channels nowhere."""
    talk = Talk()
    join = {"push": {"channel": "c", "join": {"info": {"client": "x"}}}}
    talk.say(join)
    members: list[tuple[str, str, bool]] = []
    talk.member = lambda *it: members.append(it)
    talk.say(join, {"push": {"channel": "c", "leave": {"info": {"client": "x"}}}})
    talk.say({"push": {"channel": "c", "unsubscribe": {"code": 2500, "reason": ""}}})
    talk.say({"push": {"channel": "other", "pub": pub(1)}})
    assert [("c", "x", True), ("c", "x", False)] == members
    assert [("c", 2500)] == talk.ends
    assert talk.counted()[0] == 0


async def test_slow_readers_are_counted_and_not_timed() -> None:
    """Their latencies are their own."""
    talk = Talk(timed=False)
    talk.meters.began = 0
    talk.say({"push": {"channel": "c", "pub": pub(1)}})
    assert talk.counted()[0] == 1
    assert not talk.meters.run["delivery"].counts
