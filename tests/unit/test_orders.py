"""What was revoked is closed: what is open, what is about to be, and what rests on another token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import orders
from gateway.contracts.broker import Done
from gateway.disconnects import Disconnect
from gateway.protocol.messages import DisconnectClients, Revoke
from gateway.protocol.values import PresentedToken
from gateway.types import Channel, Grant, Identity, UserId
from tests.support.node import PLAIN, ROOM, Client, World, running_node

LATER = 2_000_000_000.0  # long after the clock of these tests
SESSION = {"session_id": "s1"}


def revoke(until: float = LATER, **fields: Any) -> Revoke:
    """Return a revocation."""
    return Revoke(id="1", until=until, **fields)


@pytest.fixture(name="world")
async def _world() -> AsyncIterator[World]:
    async with running_node() as world:
        alice: dict[str, Any] = {"session_id": "s1", "token_id": "t1", "key_id": "k1", "issued_at": 500.0}
        bob: dict[str, Any] = {"session_id": "s2", "token_id": "t2", "key_id": "k2", "issued_at": 500.0}
        world.tokens.identities["alice"] = Identity(UserId("alice"), **alice)
        world.tokens.identities["bob"] = Identity(UserId("bob"), **bob)
        world.tokens.identities["alice later"] = Identity(UserId("alice"), session_id="s3", issued_at=501.0)
        yield world


async def ordered(world: World, **fields: Any) -> None:
    """Revoke, and let the node look at everybody."""
    world.node.commanded(revoke(**fields))
    await world.settled()


def closing_takes(client: Client, seconds: float, world: World) -> None:
    """Let time pass whenever this one is closed."""
    close = client.link.close

    def closing(disconnect: Disconnect, grace: float) -> None:
        world.clock.advance(seconds)
        close(disconnect, grace)

    client.link.close = closing  # type: ignore[method-assign] # it takes its time


@pytest.mark.parametrize(
    ("fields", "later"),
    [
        (SESSION, None),
        ({"token_id": "t1"}, None),
        ({"key_id": "k1"}, None),
        ({"user": "alice", "issued_before": 500}, None),
        ({"user": "alice", "issued_before": 501}, 3503),
    ],
)
async def test_what_it_opened_is_closed_and_opens_nothing_more(
    world: World, fields: dict[str, Any], later: int | None
) -> None:
    """All connections of the token, on a second try 3500; nobody else's, nor what came by a later token."""
    one, two = await world.opened("alice"), await world.opened("alice", ROOM)
    bob, other, stranger = await world.opened("bob"), await world.opened("alice later"), world.client()
    await ordered(world, **fields)
    assert [3503, 3503, None, later, None] == [it.link.code for it in (one, two, bob, other, stranger)]
    assert "force disconnect" == one.link.closings[0].reason
    again, bob_again = await world.opened("alice"), await world.opened("bob")
    assert [3500, None] == [again.link.code, bob_again.link.code]


async def test_code_and_reason_are_the_callers(world: World) -> None:
    """As given in the command."""
    client = await world.opened("alice")
    await ordered(world, **SESSION, code=4001, reason="go")
    assert (4001, "go") == (client.link.code, client.link.closings[0].reason)


async def test_a_refresh_with_a_revoked_token_ends_the_connection(world: World) -> None:
    """A connection of another session that presents it is closed with 3500, and keeps nothing of it."""
    client = await world.opened("alice later")
    await ordered(world, **SESSION)
    client.ask(refresh={"token": "alice"})
    await world.settled()
    assert 3500 == client.link.code


async def test_a_connection_is_judged_by_the_token_it_has_now(world: World) -> None:
    """One that was refreshed is not closed for the token it came with, but for the one it has now."""
    client = await world.opened("alice")
    client.ask(refresh={"token": "alice later"})
    await ordered(world, token_id="t1")
    assert not client.link.closed
    world.wait(0.2)
    await ordered(world, session_id="s3")
    assert 3503 == client.link.code


# --- in the middle of connecting


async def test_a_token_verified_just_before_is_not_let_in(world: World) -> None:
    """While the subscriptions of a connect are being joined nobody is open yet: closed all the same, never answered."""
    gate = asyncio.Event()

    async def hold(_name: str, _channel: Channel) -> None:
        await gate.wait()

    world.node.shell.tools.checkpoint = hold
    grants = {ROOM: Grant()}
    world.tokens.identities["alice"] = Identity(UserId("alice"), session_id="s1", grants=grants)
    client = world.client()
    ref = client.connect("alice")
    await world.settled()
    assert not client.link.closed
    await ordered(world, **SESSION)
    gate.set()
    await world.settled()
    assert 3503 == client.link.code
    assert client.reply(ref) is None
    assert {} == dict(await world.members())


async def test_a_token_whose_key_is_being_fetched_is_not_let_in(world: World) -> None:
    """What was revoked while the keys came is refused when they are there."""
    client = world.client()
    client.connect("slow:alice")
    await world.settled()
    await ordered(world, **SESSION)
    world.tokens.keys.set()
    await world.settled()
    assert 3500 == client.link.code


async def test_a_ticket_that_is_being_claimed_is_not_let_in(world: World) -> None:
    """Between its check and the connect lies a round trip; a revocation that comes in that time counts."""
    world.tokens.identities["ticket"] = Identity(UserId("alice"), ticket=True, token_id="t9", session_id="s1")
    claims: list[Done[bool]] = []
    broker: Any = world.node.engine.broker
    broker.claim = lambda _key, _ttl, done: claims.append(done)
    client = world.client("chat", token=PresentedToken("ticket", "ticket"), room="lobby")
    await world.settled()
    [claimed] = claims
    await ordered(world, **SESSION)
    assert not client.link.closed
    claimed(True)
    await world.settled()
    assert 3500 == client.link.code


# --- subscription tokens


def subscribing(world: World, token: str, token_id: str, channel: Channel = PLAIN) -> None:
    """Make a subscription token."""
    world.tokens.identities[token] = Identity(UserId("alice"), channel=channel, grant=Grant(), token_id=token_id)


async def test_a_subscription_ends_with_its_token(world: World) -> None:
    """The client is told 2000, so that it does not subscribe again; the connection and other channels go on."""
    subscribing(world, "sub", "t9")
    client = await world.opened("alice", ROOM)
    client.subscribe(PLAIN, token="sub")
    await world.settled()
    await ordered(world, token_id="t9")
    assert [(PLAIN, 2000)] == [
        (it["channel"], it["unsubscribe"]["code"]) for it in client.pushes() if "unsubscribe" in it
    ]
    assert [ROOM] == list(client.connection.session.subscriptions)
    assert [ROOM] == list(client.connection.seats)
    again = client.subscribe(PLAIN, token="sub")
    await world.settled()
    assert 103 == client.reply(again)["error"]["code"]
    assert not client.link.closed


async def test_a_subscription_of_a_dropped_key_is_to_be_made_again(world: World) -> None:
    """The client is told 2501, after which SDKs subscribe again with a new token: the key goes, not what it opened."""
    world.tokens.identities["sub"] = Identity(UserId("alice"), channel=PLAIN, grant=Grant(), key_id="k0")
    client = await world.opened("alice")
    client.subscribe(PLAIN, token="sub")
    await world.settled()
    await ordered(world, key_id="k0", code=3005, reason="expired")
    assert [2501] == [it["unsubscribe"]["code"] for it in client.pushes()]
    assert {} == client.connection.session.subscriptions
    assert not client.link.closed


async def test_a_subscription_that_is_being_made_ends_as_soon_as_it_stands(world: World) -> None:
    """Its reply comes first, for the client asked."""
    gate = asyncio.Event()

    async def hold(_name: str, _channel: Channel) -> None:
        await gate.wait()

    subscribing(world, "sub", "t9")
    client = await world.opened("alice")
    world.node.shell.tools.checkpoint = hold
    ref = client.subscribe(PLAIN, token="sub")
    await world.settled()
    await ordered(world, token_id="t9")
    gate.set()
    await world.settled()
    assert [f"reply {ref}", "unsubscribe 2000"] == client.story()[-2:]
    assert {} == client.connection.session.subscriptions


async def test_a_subscription_is_judged_by_the_token_it_has_now(world: World) -> None:
    """One that was refreshed stands though its first token is revoked."""
    for token, token_id in (("sub", "t8"), ("sub later", "t9")):
        subscribing(world, token, token_id)
    client = await world.opened("alice")
    client.subscribe(PLAIN, token="sub")
    await world.settled()
    client.ask(sub_refresh={"channel": PLAIN, "token": "sub later"})
    await world.settled()
    await ordered(world, token_id="t8")
    assert [PLAIN] == list(client.connection.session.subscriptions)
    world.wait(0.2)
    await ordered(world, token_id="t9")
    assert {} == client.connection.session.subscriptions


async def test_a_revoked_token_renews_no_subscription(world: World) -> None:
    """As any wrong token at this place it ends the connection."""
    for token, token_id in (("sub", "t8"), ("sub later", "t9")):
        subscribing(world, token, token_id)
    client = await world.opened("alice")
    client.subscribe(PLAIN, token="sub")
    await world.settled()
    await ordered(world, token_id="t9")
    client.ask(sub_refresh={"channel": PLAIN, "token": "sub later"})
    await world.settled()
    assert 3500 == client.link.code


# --- many


async def test_revocations_of_one_turn_are_one_look(world: World) -> None:
    """Each is carried out with its own code, however many come."""
    one, two = await world.opened("alice"), await world.opened("bob")
    for number in range(30):
        world.node.commanded(revoke(session_id=f"s{number}", code=4000 + number))
    assert not one.link.closed
    await world.settled()
    assert [4001, 4002] == [one.link.code, two.link.code]


async def test_a_look_follows_the_last_one_after_a_pause(world: World) -> None:
    """What comes meanwhile is barred at once, and closed a moment later."""
    one, two = await world.opened("alice"), await world.opened("bob")
    await ordered(world, session_id="s1")
    await ordered(world, session_id="s2")
    assert [3503, None] == [one.link.code, two.link.code]
    assert 3500 == (await world.opened("bob")).link.code
    world.wait(0.2)
    await world.settled()
    assert 3503 == two.link.code


async def test_a_look_at_many_lets_others_work(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops after a while and goes on in the next turn; who comes meanwhile and what comes meanwhile, too."""
    monkeypatch.setattr(orders, "SLICE", 0.0)
    monkeypatch.setattr(orders, "CHUNK", 1)
    clients: list[Client] = [await world.opened("alice") for _ in range(5)]
    bob = await world.opened("bob")
    world.node.commanded(revoke(session_id="s1"))
    closed = []
    for turn in range(12):
        await asyncio.sleep(0)
        if turn == 1:
            world.node.commanded(revoke(session_id="s2"))
        closed.append(sum(it.link.closed for it in clients))
    assert [0, 1, 2, 3, 4, 5] == sorted(set(closed))
    assert not bob.link.closed
    world.wait(0.2)
    await world.settled()
    assert 3503 == bob.link.code


async def test_an_order_that_closes_thousands_lets_others_work(world: World) -> None:
    """A turn ends soon after its time is over, however many one order closes; each is closed once, as ordered first."""
    clients = [world.client() for _ in range(2_000)]
    for client in clients:
        client.connect("alice")
        closing_takes(client, 0.001, world)
    bob = await world.opened("bob")
    turns, began = [], world.clock.monotonic()
    world.node.commanded(DisconnectClients(id="1", user="alice", code=4001))
    world.node.commanded(DisconnectClients(id="2", code=4002))
    late = world.client()
    late.connect("alice")
    while bob.link.code is None:
        await asyncio.sleep(0)
        turns.append(world.clock.monotonic() - began)
        began = world.clock.monotonic()
        assert len(turns) < 10_000, "they are not closed"
    assert max(turns) < 0.02
    assert [[4001]] * len(clients) == [[how.code for how in it.link.closings] for it in clients]
    assert [4002, None] == [bob.link.code, late.link.code]


async def test_many_orders_of_one_turn_let_others_work(world: World) -> None:
    """A thousand that close one each are no more to the loop than one that closes a thousand; they keep their order."""
    clients = [await world.opened("alice") for _ in range(100)]
    for number, client in enumerate(clients):
        closing_takes(client, 0.001, world)
        for code in (4001, 4002):
            world.node.commanded(DisconnectClients(id=f"{number}.{code}", client=client.connection.id, code=code))
    began = world.clock.monotonic()
    await asyncio.sleep(0)
    assert 0.0 < world.clock.monotonic() - began < 0.02
    await world.settled()
    assert {4001} == {it.link.code for it in clients}


async def test_one_whose_close_breaks_costs_the_others_nothing(world: World) -> None:
    """Nor does it hold up the next order, even when it cannot be closed for that either."""
    broken, whole, bob = await world.opened("alice"), await world.opened("alice"), await world.opened("bob")

    def fail(disconnect: Disconnect, grace: float) -> None:
        raise ZeroDivisionError(disconnect, grace)

    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    broken.link.close = fail  # type: ignore[method-assign] # of this one
    with capture_logs() as logs:
        for user in ("alice", "bob"):
            world.node.commanded(DisconnectClients(id=user, user=user))
        await world.settled()
    assert [None, 3503, 3503] == [it.link.code for it in (broken, whole, bob)]
    assert ["connection.failed"] == [it["event"] for it in logs if it["log_level"] == "error"]
    assert [ZeroDivisionError] == [type(it["exception"]) for it in told]


async def test_one_that_breaks_costs_the_others_nothing(world: World) -> None:
    """The rest is closed, and later revocations are carried out."""
    broken, whole, bob = await world.opened("alice"), await world.opened("alice"), await world.opened("bob")

    no_identity: Any = SimpleNamespace(user="alice")
    broken.connection.session.identity = no_identity
    with capture_logs() as logs:
        await ordered(world, session_id="s1")
    assert ["connection.failed"] == [it["event"] for it in logs if it["log_level"] == "error"]
    assert [1011, 3503] == [broken.link.code, whole.link.code]
    world.wait(0.2)
    await ordered(world, session_id="s2")
    assert 3503 == bob.link.code


async def test_what_has_ended_is_passed_over(world: World) -> None:
    """A command that comes late, after its end, bars nothing and closes nobody."""
    client = await world.opened("alice")
    await ordered(world, **SESSION, until=world.clock.wall())
    assert not client.link.closed
    assert 0 == world.tokens.denied.size


async def test_the_log_tells_of_each_and_names_nobody(world: World) -> None:
    """Kind and end, and a digest by which two lines can be compared; of a flood the first, and how many more."""
    with capture_logs() as logs:
        for number in range(25):
            world.node.commanded(revoke(session_id=f"secret-{number}"))
        await world.settled()
    lines = [it for it in logs if it["event"] == "token.revoked"]
    assert 20 == len(lines)
    assert {"kind": "sid", "until": LATER, "digest": "d6811788cef2"}.items() <= lines[0].items()
    assert [5] == [it["count"] for it in logs if it["event"] == "token.revoked_more"]
    assert 20 == len({it["digest"] for it in lines})
    assert "secret-" not in str(logs)
