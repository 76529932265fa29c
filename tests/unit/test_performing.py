from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.answers import answer
from gateway.errors import EngineFault, TokenError
from gateway.protocol.values import PresentedToken
from gateway.types import Channel, Grant, Identity, Position, UserId
from tests.support.node import PLAIN, ROOM, World, running_node


@pytest.fixture(name="world")
async def _world() -> AsyncIterator[World]:
    async with running_node(private_messages=True) as world:
        yield world


def failing(*args: Any) -> None:
    """Fail as an engine without Redis does."""
    asyncio.get_running_loop().call_soon(args[-1], EngineFault("down"))


def chat(world: World, user: str) -> Any:
    """Attach a chat client with a token of this user in its address."""
    return world.client("chat", token=PresentedToken(user, "query"), room="lobby")


def of_kind(client: Any, kind: str) -> list[Any]:
    """Return the chat messages of one type."""
    return [it for it in client.link.messages() if it["type"] == kind]


# --- reads


async def test_reads_are_answered(world: World) -> None:
    """History, presence and its counts, as the engine has them."""
    client = await world.opened("alice", ROOM)
    await world.publish('"x"')
    history = client.ask(history={"channel": ROOM, "limit": 5})
    presence = client.ask(presence={"channel": ROOM})
    stats = client.ask(presence_stats={"channel": ROOM})
    assert 3 == client.connection.in_flight
    await world.settled()
    assert ["x"] == [it["data"] for it in client.reply(history)["history"]["publications"]]
    assert {client.connection.id} == set(client.reply(presence)["presence"]["presence"])
    assert {"num_clients": 1, "num_users": 1} == client.reply(stats)["presence_stats"]
    assert 0 == client.connection.in_flight


@pytest.mark.parametrize(
    ("command", "place", "name"),
    [
        ("history", "history", "read"),
        ("presence", "presence", "members"),
        ("presence_stats", "presence", "stats"),
        ("publish", "broker", "publish"),
    ],
)
async def test_a_fault_of_the_engine_is_100(world: World, command: str, place: str, name: str) -> None:
    """A temporary error for that command; the connection stays."""
    client = await world.opened("alice", ROOM)
    setattr(getattr(world.node.engine, place), name, failing)
    ref = client.ask(**{command: {"channel": ROOM, "data": "x"}})
    await world.settled()
    assert 100 == client.reply(ref)["error"]["code"]
    assert client.reply(ref)["error"]["temporary"]
    assert not client.link.closed
    assert (1 if command == "publish" else 0) == world.recorder.counts["publishes", "error"]


@pytest.mark.parametrize(("command", "place"), [("history", "history"), ("presence", "presence")])
async def test_an_engine_without_a_store_answers_as_if_it_had_failed(world: World, command: str, place: str) -> None:
    """What is missing is not waited for."""
    client = await world.opened("alice", PLAIN)
    setattr(world.node.engine, place, None)
    refs = [client.ask(**{command: {"channel": ROOM}})]
    if place == "presence":
        refs.append(client.ask(presence_stats={"channel": ROOM}))
    assert 0 == client.connection.in_flight
    await world.settled()
    assert {100} == {client.reply(ref)["error"]["code"] for ref in refs}


# --- publishing


async def test_publications_keep_their_order_and_are_stamped(world: World) -> None:
    """Many in flight of one connection arrive as they were sent; the clock of this node is their time."""
    client = await world.opened("alice", ROOM)
    for number in range(50):
        client.publish(number)
    await world.settled()
    assert list(range(50)) == client.published()
    assert 50 == world.recorder.counts["publishes", "ok"]
    assert [0.0] * 50 == [value for name, value in world.recorder.observations if name == "publish_duration"]


async def test_a_private_message_reaches_all_connections_of_its_user(world: World) -> None:
    """Each device gets it; the sender is told whether anybody was there."""
    alice, one, two = chat(world, "alice"), chat(world, "bob"), chat(world, "bob")
    await world.settled()
    alice.link.send({"type": "private_chat", "target_user": "bob", "message": "hi"})
    alice.link.send({"type": "private_chat", "target_user": "nobody", "message": "hi"})
    await world.settled()
    for client in (one, two):
        [message] = of_kind(client, "private_chat_message")
        assert ("hi", "alice") == (message["content"], message["sender"])
    assert {"bob": True, "nobody": False} == {
        it["target"]: it["delivered"] for it in of_kind(alice, "private_chat_sent")
    }
    assert 0 == alice.connection.in_flight


async def test_a_private_message_that_cannot_be_published_is_an_error(world: World) -> None:
    """Redis away: the sender is told, and may try again."""
    alice = chat(world, "alice")
    await world.settled()
    engine: Any = world.node.engine
    engine.broker.publish = failing
    alice.link.send({"type": "private_chat", "target_user": "bob", "message": "hi"})
    await world.settled()
    [error] = of_kind(alice, "error")
    assert "private_chat" == error["request"]
    assert 0 == alice.connection.in_flight


async def test_without_presence_nobody_knows_whether_a_private_message_was_delivered(world: World) -> None:
    """It goes out all the same."""
    alice, bob = chat(world, "alice"), chat(world, "bob")
    await world.settled()
    engine: Any = world.node.engine
    presence, engine.presence = engine.presence, None
    alice.link.send({"type": "private_chat", "target_user": "bob", "message": "hi"})
    await world.settled()
    assert 1 == len(of_kind(bob, "private_chat_message"))
    assert [False] == [it["delivered"] for it in of_kind(alice, "private_chat_sent")]
    engine.presence = presence


# --- tokens


async def test_a_ticket_lets_in_once(world: World) -> None:
    """The gateway itself sees to it that a ticket is used once, in the whole cluster."""
    world.tokens.identities["ticket"] = Identity(UserId("alice"), ticket=True, token_id="t1")
    one = world.client("chat", token=PresentedToken("ticket", "ticket"), room="lobby")
    await world.settled()
    two = world.client("chat", token=PresentedToken("ticket", "ticket"), room="lobby")
    await world.settled()
    assert 1 == len(of_kind(one, "welcome"))
    assert (None, 3500) == (one.link.code, two.link.code)


async def test_a_ticket_that_cannot_be_claimed_is_no_reason_to_send_a_client_away_for_good(world: World) -> None:
    """Redis away is an error that passes, not an invalid token."""
    world.tokens.identities["ticket"] = Identity(UserId("alice"), ticket=True, token_id="t1")
    engine: Any = world.node.engine
    engine.broker.claim = failing
    client = world.client("chat", token=PresentedToken("ticket", "ticket"), room="lobby")
    await world.settled()
    assert client.link.code != 3500
    assert {} == world.node.users


async def test_a_ticket_is_no_token(world: World) -> None:
    """Presented where a token belongs it is refused, and not used up."""
    world.tokens.identities["ticket"] = Identity(UserId("alice"), ticket=True, token_id="t1")
    client = world.client()
    client.connect("ticket")
    await world.settled()
    assert 3500 == client.link.code
    other = world.client("chat", token=PresentedToken("ticket", "ticket"), room="lobby")
    await world.settled()
    assert 1 == len(of_kind(other, "welcome"))


@pytest.mark.parametrize("slow", ["", "slow:"])
async def test_a_subscription_token_is_checked_while_the_channel_waits(world: World, slow: str) -> None:
    """Commands for that channel come after its reply, whether the keys were at hand or not."""
    world.tokens.identities["sub"] = Identity(UserId("alice"), channel=PLAIN, grant=Grant())
    client = await world.opened("alice")
    first = client.subscribe(PLAIN, token=f"{slow}sub")
    second = client.ask(unsubscribe={"channel": PLAIN})
    await world.settled()
    assert bool(slow) is (client.reply(second) is None)
    world.tokens.keys.set()
    await world.settled()
    story = client.story()
    assert story.index(f"reply {first}") < story.index(f"reply {second}")
    assert 0 == client.connection.waiting.count


async def test_a_refused_subscription_token_frees_its_channel(world: World) -> None:
    """The refusal is the answer; what waited is performed."""
    world.tokens.keys.set()
    client = await world.opened("alice")
    for token in ("bad", "slow:bad"):
        first = client.subscribe(PLAIN, token=token)
        second = client.subscribe(PLAIN)
        await world.settled()
        assert 103 == client.reply(first)["error"]["code"]
        assert "subscribe" in client.reply(second)
        client.ask(unsubscribe={"channel": PLAIN})
        await world.settled()


async def test_checks_that_wait_for_a_key_count_as_calls_in_flight(world: World) -> None:
    """A client cannot pile up refreshes while the auth service is slow: its socket is not read any more."""
    client = await world.opened("alice")
    for _ in range(257):
        client.ask(refresh={"token": "slow:alice"})
    assert client.link.reading_held
    world.tokens.keys.set()
    await world.settled()
    assert [True, False] == client.link.holds
    assert 0 == client.connection.in_flight
    assert 258 == len(client.link.messages())


async def test_no_keys_to_check_with_is_an_error_that_passes(world: World) -> None:
    """The auth service away: connect is answered with a temporary error, and nobody is let in."""

    async def verify(_: str) -> Identity:
        raise TokenError(100, "no keys")

    world.tokens.verify = verify  # type: ignore[assignment] # for this test
    client = world.client()
    ref = client.connect("slow:alice")
    await world.settled()
    assert 100 == client.reply(ref)["error"]["code"]
    assert {} == world.node.users


async def test_subscriptions_of_the_token_stand_with_the_connect_reply() -> None:
    """Server-side subscriptions are collected before the reply; their publications follow it, from its position on."""
    async with running_node() as world:
        grants = {ROOM: Grant(), PLAIN: Grant()}
        world.tokens.identities["alice"] = Identity(UserId("alice"), grants=grants)
        await world.publish("1", "2")
        gate = asyncio.Event()

        async def hold(name: str, channel: Channel) -> None:
            if (name, channel) == ("subscribed", PLAIN):
                await gate.wait()

        world.node.shell.tools.checkpoint = hold
        client = world.client()
        client.connect("alice")
        await world.settled()
        await world.publish("3")
        world.deliver('"plain"')
        await world.settled()
        assert [] == client.link.messages()
        gate.set()
        await world.settled()
        subs = client.reply(1)["connect"]["subs"]
        assert {ROOM, PLAIN} == set(subs)
        assert 2 == subs[ROOM]["offset"]
        assert "reply 1" == client.story()[0]
        assert {3, "plain"} == set(client.published())


async def test_one_failing_subscription_of_the_token_refuses_the_connect(world: World) -> None:
    """What stood already is given back."""
    world.tokens.identities["alice"] = Identity(UserId("alice"), grants={PLAIN: Grant(), ROOM: Grant()})
    engine: Any = world.node.engine
    read, engine.history.read = engine.history.read, failing
    client = world.client()
    ref = client.connect("alice")
    await world.settled()
    engine.history.read = read
    assert 100 == client.reply(ref)["error"]["code"]
    assert {} == client.connection.seats
    client.link.hang_up()
    await world.assert_nothing_left()


# --- gaps


async def lose(world: World, *data: str) -> None:
    """Publish what does not arrive at this node."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.node, "published", lambda *_: None)
        await world.publish(*data)


async def forget(world: World) -> None:
    """Remove what history keeps of the room."""
    assert world.node.engine.history is not None
    await answer(world.node.engine.history.remove, ROOM)


async def test_what_is_lost_on_the_way_comes_from_history_and_nobody_is_told(world: World) -> None:
    """A gap is filled by the node before what showed it is passed on."""
    client = await world.opened("alice", ROOM)
    await world.publish("1")
    await lose(world, "2", "3")
    await world.publish("4", "5")
    await world.settled()
    assert ["pub 1", "pub 2", "pub 3", "pub 4", "pub 5"] == [
        it for it in client.story() if it.startswith(("pub", "unsub"))
    ]
    assert 1 == world.recorder.counts["gaps_detected", "live"]
    assert 1 == world.recorder.counts["repairs", "full"]


async def test_what_is_lost_for_good_ends_the_subscription_with_2500(world: World) -> None:
    """Told after everything before the gap and never followed by anything of that subscription."""
    client = await world.opened("alice", ROOM)
    await world.publish("1")
    position = world.node.hub.interests[ROOM].position
    assert position is not None
    await lose(world, "2")
    await forget(world)
    await world.publish("3", "4")
    await world.settled()
    story = client.story()
    assert ["pub 1", "unsubscribe 2500"] == [it for it in story if it.startswith(("pub", "unsub"))]
    assert {} == client.connection.seats
    assert 1 == world.recorder.counts["repairs", "lost"]
    again = client.subscribe(ROOM, recover=True, offset=2, epoch=position.epoch)
    await world.settled()
    result = client.reply(again)["subscribe"]
    assert result["recovered"]
    assert [3, 4] == [it["data"] for it in result["publications"]]


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "forgotten"])
async def test_a_loss_between_reply_and_release_is_mended_or_told(world: World, kept: bool) -> None:
    """A subscription made at connect waits for the others: what its buffer lost meanwhile is not hidden."""
    world.tokens.identities["alice"] = Identity(UserId("alice"), grants={ROOM: Grant(), PLAIN: Grant()})
    gate = asyncio.Event()

    async def hold(name: str, channel: Channel) -> None:
        if (name, channel) == ("subscribed", PLAIN):
            await gate.wait()

    world.node.shell.tools.checkpoint = hold
    client = world.client()
    client.connect("alice")
    await world.settled()
    await lose(world, "1")
    if not kept:
        await forget(world)
    world.node.suspect([ROOM], "link")
    await world.settled()
    gate.set()
    await world.settled()
    if kept:
        assert ["pub 1"] == [it for it in client.story() if it.startswith(("pub", "unsub"))]
    else:
        assert 3010 == client.link.code
        client.connection.insufficient(ROOM, Position(1, "e"))
        assert 1 == len(client.link.closings)


# --- coming back to a channel


async def gap_in(world: World) -> None:
    """Lose a publication of the room for good."""
    await lose(world, '{"message":"lost"}')
    await forget(world)
    await world.publish('{"message":"next"}')
    await world.settled()


async def test_who_is_subscribed_again_unasked_never_leaves_for_the_others(world: World) -> None:
    """A chat client's dialect comes back at once: neither left nor joined, and still present; then it leaves once."""
    alice = chat(world, "alice")
    await world.settled()
    moves: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.node, "joined", lambda *_: moves.append("joined"))
        patch.setattr(world.node, "left", lambda *_: moves.append("left"))
        await gap_in(world)
        assert 1 == len(of_kind(alice, "gap"))
        assert [] == moves
        assert {alice.connection.id} == await present(world)
        assert alice.connection.returning is None
        bob = await world.opened("bob", ROOM)
        alice.link.hang_up()
        await world.settled()
    assert ["joined", "left"] == moves
    assert {bob.connection.id} == await present(world)


async def test_who_does_not_come_back_by_itself_has_left(world: World) -> None:
    """A Centrifuge client decides itself what to do after 2500."""
    alice = await world.opened("alice", ROOM)
    await gap_in(world)
    assert set() == await present(world)
    assert alice.connection.returning is None
    again = alice.subscribe(ROOM)
    await world.settled()
    assert "subscribe" in alice.reply(again)
    assert {alice.connection.id} == await present(world)


async def test_who_cannot_come_back_has_left(world: World) -> None:
    """The new subscription fails: its place in presence goes with it."""
    alice = chat(world, "alice")
    await world.settled()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.node.engine.broker, "subscribe", failing)
        await gap_in(world)
    assert set() == await present(world)
    assert 1 == len(of_kind(alice, "error"))


async def test_who_is_closed_instead_has_left(world: World) -> None:
    """A subscription of the server's cannot be renewed but by a new connection: nothing of this one stays."""
    world.tokens.identities["alice"] = Identity(UserId("alice"), grants={ROOM: Grant()})
    alice = chat(world, "alice")
    await world.settled()
    assert {alice.connection.id} == await present(world)
    await gap_in(world)
    assert 3010 == alice.link.code
    assert set() == await present(world)


async def present(world: World) -> set[Any]:
    """Return who is in the room."""
    assert world.node.engine.presence is not None
    return set(await answer(world.node.engine.presence.members, ROOM))
