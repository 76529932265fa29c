from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.answers import answer
from gateway.errors import EngineFault
from gateway.protocol.channels import ChannelOptions, Namespaces, bad_name
from gateway.protocol.messages import DisconnectClients, Survey
from gateway.types import Channel, ClientInfo, ConnectionId, NodeId, UserId
from gateway.users import CONNECTIONS_OF, UserRules, surplus
from tests.support.node import Client, World, running_node

ALICE = Channel("\x00user:alice")


class Calls:
    """Counts the calls to a node's presence store and control bus, and changes their outcomes if told to."""

    def __init__(self, world: World) -> None:
        self.made: list[str] = []
        self.faults: set[str] = set()
        self.answers: Mapping[NodeId, bytes] | None = None
        engine = world.node.engine
        for part in (engine.presence, engine.control):
            for name in ("add", "remove", "stats", "members", "ask", "send"):
                if hasattr(part, name):
                    setattr(part, name, self._counting(name, getattr(part, name)))

    def _counting(self, name: str, call: Any) -> Any:
        def counted(*args: Any) -> None:
            self.made.append(name)
            *given, done = args
            if name in self.faults:
                call(*given, lambda _: done(EngineFault("down")))
            elif name == "ask" and self.answers is not None:
                answers = self.answers
                call(*given, lambda outcome: done({**outcome, **answers}))
            else:
                call(*args)

        return counted


async def entered(world: World) -> set[ConnectionId]:
    """Return who is entered for Alice."""
    return set(await world.members(ALICE))


def codes(clients: list[Client]) -> list[int | None]:
    """Return how each client was closed."""
    return [client.link.code for client in clients]


async def test_the_oldest_make_room() -> None:
    """Over the limit the oldest connections end with 3504, each once and counted; other users do not matter."""
    async with running_node(users=UserRules(2)) as world:
        others = [await world.opened("bob"), await world.opened("carol")]
        clients = []
        for _ in range(4):
            world.clock.advance(1.0)
            clients.append(await world.opened("alice"))

        assert [3504, 3504, None, None] == codes(clients)
        assert [1, 1] == [len(it.link.closings) for it in clients[:2]]
        assert [None, None] == codes(others)
        assert 2 == world.recorder.counts["handshakes", "limit_user"]


async def test_the_newest_are_turned_away() -> None:
    """Told so, the limit ends those that came last instead."""
    async with running_node(users=UserRules(2, "newest")) as world:
        clients = []
        for _ in range(4):
            world.clock.advance(1.0)
            clients.append(await world.opened("alice"))

        assert [None, None, 3504, 3504] == codes(clients)


async def test_what_it_costs() -> None:
    """Two calls for a connection, one for its end; nobody is asked while there is room."""
    async with running_node(users=UserRules(2)) as world:
        calls = Calls(world)
        clients = [await world.opened("alice"), await world.opened("alice")]
        assert ["add", "stats"] * 2 == calls.made
        calls.made.clear()
        clients[0].link.hang_up()
        assert ["remove"] == calls.made


async def test_a_connection_that_never_opened_was_never_counted() -> None:
    """Who goes before it is known costs nothing, and takes nobody's place."""
    async with running_node(users=UserRules(2)) as world:
        calls = Calls(world)
        world.client().link.hang_up()

        assert [] == calls.made


async def test_the_entry_goes_with_the_connection() -> None:
    """Presence holds exactly the live connections, and the node can name them to enter them anew."""
    async with running_node(users=UserRules(5)) as world:
        one, two = await world.opened("alice"), await world.opened("alice")
        await world.opened("bob")
        both = {one.connection.id, two.connection.id}
        assert both == await entered(world)
        present = [(channel, who.client) for channel, who, announce in world.node.present() if not announce]
        assert {(ALICE, it) for it in both} == {entry for entry in present if entry[0] == ALICE}
        assert 3 == len(present)
        one.link.hang_up()
        assert {two.connection.id} == await entered(world)
        assert 1 == [channel for channel, _, _ in world.node.present()].count(ALICE)


@pytest.mark.parametrize(("rules", "user"), [(UserRules(0), "alice"), (UserRules(1), "")], ids=["no limit", "nobody"])
async def test_whom_it_does_not_concern(rules: UserRules, user: str) -> None:
    """Without a limit, and for the user without a name, nothing is called, entered or closed."""
    async with running_node(users=rules, anonymous=True) as world:
        calls = Calls(world)
        clients = [await world.opened(user) for _ in range(3)]
        assert [None] * 3 == codes(clients)
        clients[0].link.hang_up()

        assert [] == calls.made
        assert [] == list(world.node.present())


@pytest.mark.parametrize("call", ["stats", "ask"])
async def test_a_fault_of_the_engine_lets_in(call: str) -> None:
    """When the store or the bus does not work everybody stays; when it works again the limit holds again."""
    async with running_node(users=UserRules(1)) as world:
        calls = Calls(world)
        calls.faults.add(call)
        clients = [await world.opened("alice") for _ in range(2)]
        assert [None, None] == codes(clients)
        calls.faults.clear()
        world.clock.advance(1.0)
        clients.append(await world.opened("alice"))

        assert [3504, 3504, None] == codes(clients)


async def test_without_presence_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that keeps none lets everybody in."""
    async with running_node(users=UserRules(1)) as world:
        monkeypatch.setattr(world.node.engine, "presence", None)
        clients = [await world.opened("alice") for _ in range(2)]
        clients[0].link.hang_up()

        assert [None, None] == codes(clients)
        monkeypatch.undo()


async def test_connections_of_other_nodes_are_ended_by_an_order() -> None:
    """What the others hold counts; one order names all of them, and has the same id whoever gives it."""
    async with running_node(users=UserRules(1)) as world:
        calls = Calls(world)
        orders: list[DisconnectClients] = []
        control: Any = world.node.engine.control
        send = control.send

        def seen(order: DisconnectClients, done: Any) -> None:
            orders.append(order)
            send(order, done)

        control.send = seen
        calls.answers = {NodeId("old release"): b"", NodeId("other"): b'[[1,"far"],[3,"off"],[2,"away"]]'}
        first = await world.opened("alice")
        assert [] == orders, "the store counts one: nobody is asked"
        clients = [first]
        for _ in range(2):
            world.clock.advance(1.0)
            clients.append(await world.opened("alice"))

        assert [3504, 3504, None] == codes(clients)
        assert [("away", ("far", "off"), 3504)] * 2 == [(it.client, it.clients, it.code) for it in orders]
        assert 1 == len({it.id for it in orders})
        assert orders[0].id.startswith("connection-limit.")


async def test_an_order_may_name_several_connections() -> None:
    """Those that this node holds end; others do not, nor is it an error that one is elsewhere."""
    async with running_node() as world:
        clients = [await world.opened("alice") for _ in range(4)]
        ids = [it.connection.id for it in clients]
        world.node.commanded(DisconnectClients(id="1", client=ids[0], clients=("elsewhere", ids[2])))
        await world.settled()

        assert [3503, None, 3503, None] == codes(clients)


async def test_a_user_who_keeps_connecting_is_asked_about_ten_times_a_second() -> None:
    """However fast connections come: the others are asked at once, and then after a pause about all that came."""
    async with running_node(users=UserRules(2)) as world:
        calls = Calls(world)
        clients = [await world.opened("alice") for _ in range(20)]
        assert 1 == calls.made.count("ask")
        for asked in (2, 3):
            world.wait(0.2)
            await world.settled()
            assert asked == calls.made.count("ask")
            assert 2 == sum(code is None for code in codes(clients))
            for _ in range(10):
                world.clock.advance(0.001)
                clients.append(await world.opened("alice"))
        bob = [await world.opened("bob") for _ in range(3)]
        assert 4 == calls.made.count("ask"), "another user has a pause of its own"
        assert 2 == sum(code is None for code in codes(bob))
        world.wait(1.0)
        await world.settled()
        assert 5 == calls.made.count("ask"), "nobody came any more"
        assert {} == world.node.user_limit._asking


async def test_many_at_once_are_asked_about_once_and_once_more() -> None:
    """While a survey is under way, further connections wait for the next one, all together."""
    async with running_node(users=UserRules(3)) as world:
        calls = Calls(world)
        clients = [world.client() for _ in range(20)]
        for client in clients:
            client.connect("alice")
        await world.settled()
        world.wait(0.2)
        await world.settled()

        assert 3 == sum(code is None for code in codes(clients))
        assert 2 >= calls.made.count("ask")


async def test_who_comes_during_a_survey_is_found_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that was given before somebody came says nothing of them: it is asked again, unbidden."""
    async with running_node(users=UserRules(1)) as world:
        control: Any = world.node.engine.control
        ask, asked = control.ask, list[tuple[Any, ...]]()
        monkeypatch.setattr(control, "ask", lambda *args: asked.append(args))
        clients = []
        for _ in range(3):
            world.clock.advance(1.0)
            clients.append(await world.opened("alice"))
        done = asked[0][-1]
        done({NodeId("elsewhere"): b"[]"})
        monkeypatch.setattr(control, "ask", ask)
        assert [None, None, None] == codes(clients)
        ask(*asked[1])
        await world.settled()

        assert [3504, 3504, None] == codes(clients)


async def test_a_closed_connection_is_not_closed_for() -> None:
    """Who is on its way out, though its link still stands, counts no more."""
    async with running_node(users=UserRules(2)) as world:
        leaving, *staying = [await world.opened("alice") for _ in range(2)]
        world.node.commanded(DisconnectClients(id="1", client=leaving.connection.id))
        world.clock.advance(1.0)
        staying.append(await world.opened("alice"))

        assert 3503 == leaving.link.code
        assert [None, None] == codes(staying)


async def test_a_stale_count_closes_nobody() -> None:
    """Entries of a node that was just killed are still counted; the survey finds that nobody is too many."""
    async with running_node(users=UserRules(2)) as world:
        calls = Calls(world)
        presence = world.node.engine.presence
        assert presence is not None
        for ghost in range(5):
            who = ClientInfo(UserId("alice"), ConnectionId(f"ghost {ghost}"))
            await answer(presence.add, ALICE, who, False)
        clients = [await world.opened("alice") for _ in range(2)]

        assert [None, None] == codes(clients)
        assert 7 == (await answer(presence.stats, ALICE)).num_clients
        assert 1 <= calls.made.count("ask")


async def test_a_survey_of_a_stranger() -> None:
    """A node without connections of this user answers with none."""
    async with running_node(users=UserRules(2)) as world:
        assert b"[]" == world.node.surveyed(Survey(id="1", op=CONNECTIONS_OF, payload=b"mallory"))


@pytest.mark.parametrize(
    ("closes", "ended"), [("oldest", ["c", "a"]), ("newest", ["b", "d"])], ids=["oldest", "newest"]
)
def test_surplus_goes_by_age_and_then_by_id(closes: Any, ended: list[str]) -> None:
    """The same for every node that judges, in whatever order it heard of them."""
    ages = [(2, "b"), (1, "c"), (2, "d"), (1, "a")]
    for told in (ages, ages[::-1], sorted(ages)):
        assert ended == surplus([(at, ConnectionId(it)) for at, it in told], UserRules(2, closes))
    assert [] == surplus([(1, ConnectionId("a"))], UserRules(2, closes))


def test_nobody_can_reach_the_entries() -> None:
    """Their channel has a name that clients may not use, in a namespace that no configuration can have."""
    everything = ChannelOptions(allow_subscribe_for_client=True, presence=True)

    assert bad_name(ALICE, everything, 255) is not None
    assert Namespaces(without_namespace=everything).options(ALICE) is None
