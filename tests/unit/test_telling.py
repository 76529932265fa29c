from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway import telling
from gateway.protocol.messages import PublicationPush
from gateway.telling import TURN_RECIPIENTS, TURN_SECONDS
from gateway.types import Channel, Position, Publication
from tests.support.clock import ManualClock
from tests.support.listening import CHANNEL, EPOCH, Listener, World, at, join_of
from tests.support.node import ROOM, running_node

OTHER = Channel("chat:y")


@pytest.fixture(name="world")
def _world(clock: ManualClock) -> World:
    return World(clock)


def crowd(world: World, count: int, *, watch: bool = False) -> list[Listener]:
    """Let so many listen from the beginning."""
    listeners = [Listener(world, str(n)) for n in range(count)]
    for listener in listeners:
        listener.listen(at(0), watch=watch)
    return listeners


def told(listeners: list[Listener]) -> int:
    """Count those who know."""
    return sum(bool(it.missed) for it in listeners)


def test_a_whole_channel_is_told_a_few_in_a_turn(world: World) -> None:
    """Nobody else has to wait until a large channel has been told; each is told once, and where it stood."""
    listeners = crowd(world, 5 * TURN_RECIPIENTS + 1)
    world.publish(1)
    world.hub.interests[CHANNEL].go_on(at(5))
    assert 0 == told(listeners)
    turns = 0
    while told(listeners) < len(listeners):
        before = told(listeners)
        world.turns.take()
        assert 0 < told(listeners) - before <= TURN_RECIPIENTS
        turns += 1
    assert 6 == turns
    world.turns.take_all()
    assert [[(CHANNEL, at(1))]] * len(listeners) == [it.missed for it in listeners]
    assert {} == world.hub.interests
    assert 0 == len(world.hub.telling)


def test_a_turn_ends_when_its_time_is_over(world: World, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where telling one takes long, fewer are told in a turn."""
    listeners = crowd(world, 5)
    insufficient = Listener.insufficient

    def slow(it: Listener, channel: Channel, position: Position | None) -> None:
        clock.advance(TURN_SECONDS)
        insufficient(it, channel, position)

    monkeypatch.setattr(Listener, "insufficient", slow)
    world.hub.interests[CHANNEL].go_on(at(5))
    world.turns.take()
    assert 2 == told(listeners)


def test_who_waits_to_be_told_gets_nothing_later(world: World) -> None:
    """Its publications end where it is told that they do; joins and leaves end there, too."""
    listeners = crowd(world, TURN_RECIPIENTS + 1, watch=True)
    Listener(world).listen()  # stays, so that the channel does
    interest = world.hub.interests[CHANNEL]
    world.publish(1)
    interest.go_on(at(5))
    for offset in (6, 7):
        world.turns.take()
        world.publish(offset)
        interest.announce(join_of("bob"))
    world.turns.take_all()
    assert [["p1"]] * len(listeners) == [it.heard for it in listeners]


def test_who_was_promised_nothing_stays(world: World) -> None:
    """A recipient without a position gets what comes, without a hole of our making."""
    crowd(world, TURN_RECIPIENTS + 1)
    careless = Listener(world)
    careless.listen()
    world.hub.interests[CHANNEL].go_on(at(5))
    world.publish(6)
    world.turns.take()
    world.publish(7)
    world.turns.take_all()
    assert [] == careless.missed
    assert ["p6", "p7"] == careless.heard


def test_who_leaves_meanwhile_is_told_nothing_and_may_come_back(world: World) -> None:
    """The loss concerned a subscription that has ended."""
    *others, gone, back = crowd(world, TURN_RECIPIENTS + 2)
    world.hub.interests[CHANNEL].go_on(at(5))
    for listener in (gone, back):
        world.hub.leave(CHANNEL, listener)
    back.listen(at(5))
    world.turns.take_all()
    world.publish(6)
    world.turns.take_all()
    assert len(others) == told(others)
    assert [[], []] == [gone.missed, back.missed]
    assert [[], ["p6"]] == [gone.heard, back.heard]


def test_one_that_is_told_may_end_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves because of what the first does is passed over."""
    first, second = crowd(world, 2)
    world.hub.interests[CHANNEL].go_on(at(5))
    insufficient = Listener.insufficient

    def ending(it: Listener, channel: Channel, position: Position | None) -> None:
        insufficient(it, channel, position)
        world.hub.leave(CHANNEL, first)
        world.hub.leave(CHANNEL, second)

    monkeypatch.setattr(Listener, "insufficient", ending)
    world.turns.take_all()
    assert 1 == told([first, second])


def test_one_that_breaks_costs_the_others_a_turn_at_most(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told in the next."""
    listeners = crowd(world, 3)
    world.hub.interests[CHANNEL].go_on(at(5))
    with monkeypatch.context() as patch:
        patch.setattr(Listener, "insufficient", None)
        with pytest.raises(TypeError):
            world.turns.take()
    world.turns.take_all()
    assert 2 == told(listeners)


def test_other_channels_go_on(world: World) -> None:
    """Waiting to be told in one channel holds up nothing in another."""
    *_, last = crowd(world, TURN_RECIPIENTS + 1)
    last.listen(at(0), channel=OTHER)
    world.hub.interests[CHANNEL].go_on(at(5))
    world.hub.interests[OTHER].publish(PublicationPush(OTHER, Publication(b"", 1, EPOCH)))
    world.turns.take_all()
    assert ["p1"] == last.heard
    assert [CHANNEL] == [channel for channel, _ in last.missed]
    assert [OTHER] == list(world.hub.interests)


async def test_who_goes_while_a_channel_is_told_of_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told one a turn, each client may meanwhile unsubscribe, hang up or ask; all give their seats back once."""
    async with running_node() as world:
        monkeypatch.setattr(telling, "TURN_RECIPIENTS", 1)
        first, gone, ended, back, last = [await world.opened(user, ROOM, "chat:other") for user in "abcde"]
        engine: Any = world.node.engine
        engine.history._streams._streams.clear()
        world.node.suspect([ROOM], "the server is another")
        for _ in range(9):
            if not world.node.hub.telling:
                await asyncio.sleep(0)
        assert world.node.hub.telling
        gone.link.hang_up()
        for client in (ended, back):
            client.ask(unsubscribe={"channel": ROOM})
        back.subscribe(ROOM)
        asked = last.ask(rpc={"method": "x"})
        await world.settled()
        story = [it.story().count("unsubscribe 2500") for it in (first, gone, ended, back, last)]
        assert [1, 0, 0, 0, 1] == story
        assert last.story().index(f"reply {asked}") < last.story().index("unsubscribe 2500")
        assert {back.connection.id} == set(await world.members())
        assert {"chat:other"} == set(last.connection.seats)
        await world.publish('"after"')
        await world.settled()
        assert "pub after" in back.story()
        for client in (first, ended, back, last):
            client.link.hang_up()
        await world.assert_nothing_left()
