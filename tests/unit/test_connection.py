from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from gateway.disconnects import INTERNAL_ERROR, SHUTDOWN, SLOW
from gateway.protocol.messages import Command, PingPush, Rpc
from gateway.protocol.session import Session
from gateway.protocol.values import Encoded, PresentedToken
from gateway.types import Channel, Identity, Position, UserId
from tests.support.node import PLAIN, ROOM, World, running_node


@pytest.fixture(name="world")
async def _world() -> AsyncIterator[World]:
    async with running_node() as world:
        yield world


def broken(*_: object) -> Any:
    """Raise, as a bug of ours would."""
    raise ZeroDivisionError("a bug")


# --- the conversation


async def test_commands_pipelined_with_connect_are_answered_in_order(world: World) -> None:
    """Connect first, then what came behind it in the same frame, and one's own join after the subscribe reply."""
    client = world.client()
    client.link.send_together(
        [
            {"id": 1, "connect": {"token": "alice"}},
            {"id": 2, "subscribe": {"channel": ROOM}},
            {"id": 3, "publish": {"channel": ROOM, "data": "hello"}},
            {"id": 4, "rpc": {"method": "x"}},
        ]
    )
    await world.settled()
    story = client.story()
    assert ["reply 1", "reply 2"] == [it for it in story if it in {"reply 1", "reply 2"}]
    assert story.index("reply 2") < story.index("join alice")
    assert story.index("reply 2") < story.index("pub hello")
    assert "reply 3" in story
    assert {UserId("alice"): {client.connection}} == world.node.users


async def test_commands_wait_for_a_token_that_needs_a_key(world: World) -> None:
    """Nothing overtakes connect while a key is being fetched; then everything comes in order."""
    client = world.client()
    client.connect("slow:alice")
    client.subscribe()
    client.publish("hello")
    await world.settled()
    assert [] == client.link.messages()
    assert 2 == client.connection.waiting.count
    world.tokens.keys.set()
    await world.settled()
    assert ["reply 1", "reply 2"] == client.story()[:2]
    assert 0 == client.connection.waiting.count
    assert client.reply(3) is not None


async def test_a_channel_waits_for_its_join_and_others_do_not(world: World) -> None:
    """While one channel is being joined, commands for another are answered."""
    client = await world.opened()
    gate = asyncio.Event()

    async def hold(name: str, channel: Channel) -> None:
        if (name, channel) == ("subscribed", ROOM):
            await gate.wait()

    world.node.shell.tools.checkpoint = hold
    first = client.subscribe(ROOM)
    second = client.ask(unsubscribe={"channel": ROOM})
    third = client.subscribe(PLAIN)
    await world.settled()
    assert (None, None) == (client.reply(first), client.reply(second))
    assert client.reply(third) is not None
    gate.set()
    await world.settled()
    story = client.story()
    assert story.index(f"reply {first}") < story.index(f"reply {second}")
    assert {} == dict(await world.members())


async def test_a_refused_token_ends_the_connection(world: World) -> None:
    """A token that is no good is 3500, whether it is known at once or after a fetch."""
    world.tokens.keys.set()
    for token in ("bad", "slow:bad"):
        client = world.client()
        client.connect(token)
        await world.settled()
        assert 3500 == client.link.code


async def test_what_waited_for_a_refused_connect_goes_unanswered_and_reading_goes_on(world: World) -> None:
    """After a connect error nothing that came with it is performed; the socket is read, so that the end is seen."""
    world.tokens.keys.set()
    world.tokens.identities["late"] = Identity(UserId("alice"), expires_at=world.clock.wall() - 3600)
    client = world.client()
    client.connect("slow:late")
    for _ in range(300):
        client.subscribe()
    assert client.link.reading_held
    await world.settled()
    [only] = client.link.messages()
    assert 110 == only["error"]["code"]
    assert not client.link.reading_held
    assert {} == world.node.users
    client.ask(rpc={"method": "x"})
    assert 3501 == client.link.code


async def test_a_refused_connect_drops_the_rest_of_its_frame(world: World) -> None:
    """Commands behind a refused connect in one frame are not performed."""
    world.tokens.identities["late"] = Identity(UserId("alice"), expires_at=world.clock.wall() - 3600)
    client = world.client()
    client.link.send_together([{"id": 1, "connect": {"token": "late"}}, {"id": 2, "subscribe": {"channel": ROOM}}])
    await world.settled()
    assert [1] == [it["id"] for it in client.link.messages()]
    assert not client.link.closed


async def test_garbage_is_malformed(world: World) -> None:
    """Bytes that are no commands end the connection with 3501, after what stood before them."""
    client = await world.opened()
    client.link.send(b'{"id":7,"rpc":{"method":"x"}}\nnot json')
    assert 3501 == client.link.code
    assert 7 == client.link.messages()[-1]["id"]
    early = world.client()
    early.link.send(b"not json")
    assert 3501 == early.link.code
    gone = await world.opened()
    gone.link.send(b'{"id":9,"connect":{}}\nnot json')  # a second connect ends it before the garbage is reached
    assert 1 == len(gone.link.closings)


# --- order in the outbox


async def test_a_reply_does_not_overtake_publications_of_its_channels(world: World) -> None:
    """What arrived before a reply was put stands before it, in the same turn."""
    client = await world.opened("alice", PLAIN)
    world.deliver('"before"')
    client.ask(unsubscribe={"channel": PLAIN})
    await world.settled()
    assert ["reply 1", "reply 2", "pub before", "reply 3"] == client.story()


async def test_a_reply_leaves_other_channels_to_the_end_of_the_turn(world: World) -> None:
    """Only the client's own channels are brought up to date before its reply."""
    alice, bob = await world.opened("alice", PLAIN), await world.opened("bob", ROOM)
    world.deliver('"x"')
    assert {PLAIN} == world.node.flusher.sources.keys()
    bob.ask(rpc={"method": "x"})
    assert [] == alice.published()
    await world.settled()
    assert ["x"] == alice.published()


async def test_nothing_of_a_channel_follows_its_unsubscribe(world: World) -> None:
    """After the reply to unsubscribe the channel is silent."""
    client = await world.opened("alice", PLAIN)
    client.ask(unsubscribe={"channel": PLAIN})
    await world.publish('"after"', channel=PLAIN, kept=False)
    await world.settled()
    assert [] == client.published()


# --- slow consumers


async def test_over_the_limit_the_outbox_is_discarded_and_everything_given_back() -> None:
    """A client that does not take its frames is closed with 3008 and leaves no trace; the other gets everything."""
    async with running_node(queue_limit=10_000) as world:
        slow, good = await world.opened("slow", ROOM), await world.opened("good", ROOM)
        slow.connection.writable(False)
        seen = len(slow.link.writes)
        for _ in range(11):
            await world.publish('"' + "x" * 1000 + '"')
            await world.settled()
        assert [SLOW] == slow.link.closings
        assert seen == len(slow.link.writes)
        assert (0, []) == (slow.connection.queued, slow.connection.frames)
        assert 11 == len(good.published())
        assert 1 == world.recorder.counts["slow_consumers", "bytes"]
        assert {good.connection.id} == set(await world.members())
        assert {} == slow.connection.seats
        slow.link.hang_up(None, "network")
        good.link.hang_up()
        await world.assert_nothing_left()
        assert 1 == world.recorder.counts["disconnects", "3008:server"]


async def test_a_reply_over_the_limit_is_slow_too() -> None:
    """The limit holds for replies as well while the client takes nothing, and closes once."""
    async with running_node(queue_limit=10) as world:
        client = world.client()
        client.connection.writable(False)
        client.connect()
        assert [SLOW] == client.link.closings
        assert {} == world.node.users


async def test_a_page_of_history_over_the_limit_reaches_a_client_that_takes_it() -> None:
    """A channel full of large publications can be entered; only a client that does not read them is slow."""
    async with running_node(queue_limit=10_000) as world:
        await world.publish(*(['"' + "x" * 2000 + '"'] * 10))
        good, slow = await world.opened("good"), await world.opened("slow")
        slow.connection.writable(False)
        pages = [client.ask(history={"channel": ROOM, "limit": 10}) for client in (good, slow)]
        recovering = good.subscribe(ROOM, recover=True, offset=0, epoch="")
        await world.settled()
        assert 10 == len(good.reply(pages[0])["history"]["publications"])
        assert 10 == len(good.reply(recovering)["subscribe"]["publications"])
        assert [] == good.link.closings
        assert [SLOW] == slow.link.closings


async def test_what_is_spilt_before_a_reply_may_be_too_much() -> None:
    """A client that becomes slow while its reply is being put is closed once, and gets nothing after that."""
    async with running_node(queue_limit=10_000) as world:
        client = await world.opened("alice", PLAIN)
        client.connection.writable(False)
        world.deliver('"' + "x" * 11_000 + '"')
        assert world.node.flusher.sources
        client.ask(rpc={"method": "x"})
        client.ask(unsubscribe={"channel": PLAIN})
        await world.settled()
        assert [SLOW] == client.link.closings
        assert [] == client.link.late_writes
        assert 0 == client.connection.queued


async def test_what_is_spilt_before_a_close_may_be_too_much() -> None:
    """A close that finds the client slow is one close, with 3008."""
    async with running_node(queue_limit=10_000) as world:
        client = await world.opened("alice", PLAIN)
        client.connection.writable(False)
        world.deliver('"' + "x" * 11_000 + '"')
        client.connection.close(SHUTDOWN)
        await world.settled()
        assert [SLOW] == client.link.closings
        assert [] == client.link.late_writes
        assert SLOW is client.connection.closing


async def test_a_client_that_is_writable_again_gets_what_was_kept(world: World) -> None:
    """Frames stay in the outbox while the transport has asked us to wait, and leave in order after."""
    client = await world.opened("alice", PLAIN)
    client.connection.writable(False)
    await world.publish("1", "2", channel=PLAIN, kept=False)
    await world.settled()
    assert [] == client.published()
    client.connection.writable(True)
    await world.publish("3", channel=PLAIN, kept=False)
    await world.settled()
    assert [1, 2, 3] == client.published()
    world.wait(30.0)
    assert not client.link.closed


async def test_other_closes_flush_even_what_is_blocked(world: World) -> None:
    """Only a slow client loses its queue: for other codes it goes ahead of the close frame."""
    client = await world.opened("alice", PLAIN)
    client.connection.writable(False)
    world.deliver('"last"')
    client.connection.close(SHUTDOWN)
    assert ["last"] == client.published()
    assert [] == client.link.late_writes


async def test_a_farewell_goes_ahead_of_the_close(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a protocol says goodbye in its own words, they stand behind everything else."""
    client = await world.opened("alice", PLAIN)
    world.deliver('"last"')

    class Polite:
        def farewell(self, disconnect: object) -> Sequence[bytes]:
            """Say goodbye."""
            del disconnect
            return (b'"bye"',)

    monkeypatch.setattr(client.connection, "dialect", Polite())
    client.connection.close(SHUTDOWN)
    assert b'"bye"' == client.link.payloads()[-1]
    monkeypatch.undo()
    assert ["last"] == [it["push"]["pub"]["data"] for it in client.link.messages()[:-1] if "push" in it]


# --- reading is held


async def test_reading_stops_over_256_calls_in_flight_and_resumes_below_128(world: World) -> None:
    """A client that asks faster than the engine answers is not read until it has caught up."""
    client = await world.opened()
    held: list[Any] = []
    engine: Any = world.node.engine
    publish = engine.broker.publish
    engine.broker.publish = lambda channel, data, options, done: held.append((channel, data, options, done))
    for number in range(256):
        client.publish(number, PLAIN)
        await asyncio.sleep(0)
    assert not client.link.reading_held
    client.link.holds.clear()
    client.publish(256, PLAIN)
    assert client.link.reading_held
    assert 257 == client.connection.in_flight
    for call in held[:129]:
        publish(*call)
    await world.settled()
    assert client.link.reading_held
    publish(*held[129])
    await world.settled()
    assert not client.link.reading_held
    assert [True, False] == client.link.holds
    for call in held[130:]:
        publish(*call)
    await world.settled()
    assert 0 == client.connection.in_flight


async def test_reading_stops_over_256_waiting_commands_and_resumes(world: World) -> None:
    """What is queued behind slow work counts as well, or a client could fill our memory with it."""
    client = world.client()
    client.connect("slow:alice")
    for _ in range(257):
        client.ask(rpc={"method": "x"})
    assert client.link.reading_held
    world.tokens.keys.set()
    await world.settled()
    assert [True, False] == client.link.holds
    assert 258 == len(client.link.messages())


# --- going while work is in flight


@pytest.mark.parametrize("name", ["subscribed", "present", "reading", "read"])
async def test_a_connection_that_goes_while_joining_leaves_nothing(world: World, name: str) -> None:
    """Whatever the join had taken when its client went is given back, and nobody is shown a ghost."""
    other = await world.opened("other", ROOM)
    client = await world.opened("alice")
    gate, there = asyncio.Event(), asyncio.Event()

    async def hold(step: str, channel: Channel) -> None:
        assert ROOM == channel
        if step == name:
            there.set()
            await gate.wait()

    world.node.shell.tools.checkpoint = hold
    client.subscribe(ROOM)
    async with asyncio.timeout(5.0):
        await there.wait()
    client.link.hang_up()
    gate.set()
    await world.settled()
    assert {other.connection.id} == set(await world.members())
    story = other.story()
    assert story.count("join alice") == story.count("leave alice")
    other.link.hang_up()
    await world.assert_nothing_left()


async def test_a_connection_that_goes_while_its_token_is_checked(world: World) -> None:
    """The outcome of a check for somebody who has gone is dropped."""
    client = world.client()
    client.connect("slow:alice")
    client.subscribe()
    client.link.hang_up()
    world.tokens.keys.set()
    await world.assert_nothing_left()
    assert [] == client.link.writes


async def test_a_connection_that_goes_while_calls_are_in_flight(world: World) -> None:
    """Answers for somebody who has gone are dropped."""
    client = await world.opened("alice", ROOM)
    seen = len(client.link.writes)
    client.publish("x")
    client.ask(history={"channel": ROOM})
    client.ask(presence={"channel": ROOM})
    client.ask(presence_stats={"channel": ROOM})
    client.link.hang_up()
    await world.assert_nothing_left()
    assert seen == len(client.link.writes)
    assert 0 == client.connection.in_flight


async def test_a_connection_that_goes_gives_back_all_its_channels(world: World) -> None:
    """Hub, broker and presence forget it; who stays sees one leave."""
    other = await world.opened("other", ROOM)
    client = await world.opened("alice", ROOM, PLAIN)
    client.link.hang_up(1001)
    await world.settled()
    assert "leave alice" == other.story()[-1]
    assert {ROOM} == world.node.hub.interests.keys()
    assert 1 == world.recorder.counts["disconnects", "1001:client"]
    other.link.hang_up(None, "network")
    await world.assert_nothing_left()
    assert 1 == world.recorder.counts["disconnects", "1006:network"]


# --- bugs of ours


async def test_a_raise_while_receiving_reaches_the_transport(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport is the root of its callbacks: it ends the link with 1011, and we give everything back."""
    client = await world.opened("alice", ROOM)
    monkeypatch.setattr(type(client.connection.session), "receive", broken)
    with pytest.raises(ZeroDivisionError):
        client.ask(rpc={"method": "x"})
    client.link.hang_up(1011, "server")
    await world.assert_nothing_left()
    assert 1 == world.recorder.counts["disconnects", "1011:server"]


async def test_a_raise_in_an_answer_ends_the_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine's callback is never broken by a connection; that one gets 1011."""
    client = await world.opened("alice", ROOM)
    client.publish("x")
    monkeypatch.setattr(type(client.connection.session), "resolve", broken)
    await world.settled()
    assert [INTERNAL_ERROR] == client.link.closings
    assert 1 == world.recorder.counts["errors", "frame"]
    client.link.hang_up()
    await world.assert_nothing_left()


async def test_a_raise_in_a_task_ends_the_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A join that fails by a bug gives back what it took and ends the connection with 1011."""
    client = await world.opened("alice")
    engine: Any = world.node.engine
    monkeypatch.setattr(engine.presence, "add", broken)
    client.subscribe(ROOM)
    await world.settled()
    assert [INTERNAL_ERROR] == client.link.closings
    assert 1 == world.recorder.counts["errors", "task"]
    client.link.hang_up()
    await world.assert_nothing_left()


@pytest.mark.parametrize(
    "request_", [{"type": "auth", "token": "slow:x"}, {"type": "private_chat", "target_user": "bob", "message": "hi"}]
)
async def test_a_raise_in_a_task_leaves_no_call_to_wait_for(request_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in work of several steps ends the connection, and the end of the node waits for no answer to it."""
    async with running_node(private_messages=True) as world:
        client = world.client("chat", token=PresentedToken("alice", "query"), room="lobby")
        await world.settled()
        monkeypatch.setattr(world.tokens, "verify", broken)
        monkeypatch.setattr(world.node.engine.broker, "publish", broken)
        client.link.send(request_)
        await world.settled()
        assert [INTERNAL_ERROR] == client.link.closings
        client.link.hang_up()
        assert 0 == world.node.departures.calls


async def test_a_raise_while_told_of_a_loss_ends_one_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in telling one client that something is missing keeps no other from being told."""
    clients = [await world.opened(user, ROOM) for user in ("alice", "bob")]
    told = Session.insufficient
    first = [broken]

    def once(*args: Any) -> Any:
        return (first.pop() if first else told)(*args)

    monkeypatch.setattr(Session, "insufficient", once)
    engine: Any = world.node.engine
    engine.history._streams._streams.clear()
    world.node.suspect([ROOM], "the server is another")
    await world.settled()
    assert [[], [INTERNAL_ERROR]] == sorted(it.link.closings for it in clients)
    assert 1 == sum("unsubscribe 2500" in it.story() for it in clients)


async def test_a_raise_in_a_deadline_ends_the_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose deadlines cannot be kept does not stay without them."""
    client = world.client()
    monkeypatch.setattr(type(client.connection.session), "tick", broken)
    world.wait(10.2)
    assert [INTERNAL_ERROR] == client.link.closings
    assert 1 == world.recorder.counts["errors", "task"]


async def test_a_raise_at_the_beginning_ends_the_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that fails while it is attached is closed and forgotten like any other."""
    client = world.client()
    monkeypatch.setattr(type(client.connection.dialect), "open", broken)
    other = world.client()
    assert [INTERNAL_ERROR] == other.link.closings
    client.link.hang_up()
    other.link.hang_up()
    await world.assert_nothing_left()


# --- the end, once


async def test_close_is_once_and_its_code_is_the_one_that_is_counted(world: World) -> None:
    """The first reason stands, whatever comes after it and however the link then goes."""
    client = await world.opened("alice", ROOM)
    client.connection.close(SHUTDOWN)
    client.connection.close(SLOW)
    client.connection.failed(ZeroDivisionError(), "task")
    client.connection.insufficient(ROOM, Position(1, "e"))
    assert [SHUTDOWN] == client.link.closings
    client.link.hang_up(1006, "network")
    assert 1 == world.recorder.counts["disconnects", "3001:server"]
    assert 1 == len([name for name, _ in world.recorder.observations if name == "connection_duration"])
    await world.assert_nothing_left()


async def test_after_a_close_nothing_is_written_and_nothing_is_due(world: World) -> None:
    """Between close and lost the connection is dead to everybody."""
    client = await world.opened("alice", ROOM)
    client.connection.close(SHUTDOWN)
    client.connection.writable(False)
    client.connection.writable(True)
    client.connection.ponged()
    client.ask(rpc={"method": "x"})
    await world.publish('"late"')
    world.wait(60.0)
    await world.settled()
    assert [] == client.link.late_writes
    assert [SHUTDOWN] == client.link.closings
    assert 1 == len(world.node.wheel), "the position check of the node, and no connection"


async def test_who_does_not_identify_is_stale(world: World) -> None:
    """Ten seconds to connect, kept by the wheel."""
    client = world.client()
    world.wait(9.9)
    assert not client.link.closed
    world.wait(0.3)
    assert 3502 == client.link.code


# --- heartbeats


async def test_application_heartbeat() -> None:
    """The client is pinged by a message of its protocol and closed with 3012 if it does not answer."""
    async with running_node(ping_interval=25.0) as world:
        client = await world.opened()
        world.wait_for(lambda: client.connection.session.pinged)
        await world.settled()
        assert {} in client.link.messages()
        assert 0 == client.link.pings
        client.link.send(b"{}")
        client.connection.ponged()  # a WebSocket pong nobody asked for is no answer, and no fault
        world.wait(24.0)
        assert not client.link.closed
        world.wait(10.0)
        assert 3012 == client.link.code


@pytest.mark.parametrize("codec", ["echo", "centrifuge_json"])
async def test_frame_heartbeat(codec: str) -> None:
    """Protocols without pings of their own, and clients that ask for it, are pinged by the transport."""
    async with running_node(ping_interval=25.0, anonymous=True, show_ping=False) as world:
        client = world.client(codec, native_ping=codec == "centrifuge_json", anonymous=True)
        if codec == "centrifuge_json":
            client.ask(connect={})
        await world.settled()
        client.connection.ponged()  # unsolicited pong frames are allowed
        world.wait_for(lambda: client.link.pings)
        client.connection.ponged()
        world.wait(24.0)
        assert not client.link.closed
        world.wait(10.0)
        assert 3012 == client.link.code


# --- what a dialect asks by itself


async def test_commands_of_the_dialect_follow_its_messages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dialect may ask something when it shows something; frames may be of another kind than the codec's."""
    client = await world.opened()
    asked: list[Command] = [Rpc(77, "x", b"{}")]
    encode = client.connection.dialect.encode

    class Asking:
        def encode(self, message: Any) -> Encoded:
            """Ask once."""
            commands, asked[:] = list(asked), []
            return Encoded(encode(message).payloads, commands, text=False)

    monkeypatch.setattr(client.connection, "dialect", Asking())
    client.connection.send(PingPush())
    await world.settled()
    assert 77 == client.link.messages()[-1]["id"]
    assert b"b:" == client.link.writes[-1][:2]
