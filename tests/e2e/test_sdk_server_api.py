from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import cent
import pytest

from tests.e2e.peers import SDKS, Chat, Peer, chat, peer
from tests.support.cluster import Account, Cluster
from tests.support.fleet import API_KEY

pytestmark = pytest.mark.needs("sdks")


@pytest.fixture(name="api")
async def _api(cluster: Cluster) -> AsyncIterator[cent.AsyncClient]:
    """Give the official client of the server API, at the first node."""
    async with cent.AsyncClient(f"{cluster.nodes[0].url}/api", API_KEY) as client:
        yield client


@dataclass(slots=True)
class Crowd:
    """Every kind of client in one channel, by turns on the first and the second node."""

    account: Account
    sdks: list[Peer]
    chats: list[Chat]


@asynccontextmanager
async def crowd(cluster: Cluster, room: str) -> AsyncIterator[Crowd]:
    """Bring everybody together; all are in the room."""
    account = await cluster.account("alice")
    async with AsyncExitStack() as stack:
        nodes = [cluster.nodes[n % 2] for n in range(len(SDKS))]
        sdks = [
            await stack.enter_async_context(peer(sdk, node.centrifuge_url, account))
            for sdk, node in zip(SDKS, nodes, strict=True)
        ]
        chats = [await stack.enter_async_context(chat(node.url, room, account)) for node in cluster.nodes]
        for it in sdks:
            await it.connect()
            await it.subscribe(f"chat:{room}")
        yield Crowd(account, sdks, chats)


async def test_publications_reach_every_kind_of_client(cluster: Cluster, api: cent.AsyncClient, room: str) -> None:
    """What the backend publishes, to one channel or to several, comes to all clients of both nodes, from nobody."""
    channel, other = f"chat:{room}", f"chat:{room}-2"
    async with (
        crowd(cluster, room) as all_of_them,
        chat(cluster.nodes[1].url, f"{room}-2", all_of_them.account) as away,
    ):
        one = await api.publish(cent.PublishRequest(channel=channel, data={"message": "one"}))
        both = await api.broadcast(cent.BroadcastRequest(channels=[channel, other], data={"message": "two"}))

        offsets = [it.result.offset for it in both.responses if it.result]
        assert 1 == one.offset
        assert [2, 1] == offsets
        for sdk in all_of_them.sdks:
            await sdk.take("publication", data={"message": "two"})
            expected = [(1, {"message": "one"}, None), (2, {"message": "two"}, None)]
            assert expected == [(it["offset"], it["data"], it["user"]) for it in sdk.of("publication")]
        for room_mate in all_of_them.chats:
            await room_mate.take("chat_message", content="two")
            assert [("one", None), ("two", None)] == [
                (it["content"], it["sender"]) for it in room_mate.of("chat_message")
            ]
        assert f"{room}-2" == (await away.take("chat_message"))["room"]


async def test_presence_and_history_are_the_clients_own(cluster: Cluster, api: cent.AsyncClient, room: str) -> None:
    """The backend sees who is in a channel and what was said there as the clients do."""
    channel = f"chat:{room}"
    async with crowd(cluster, room) as all_of_them:
        first, account = all_of_them.sdks[0], all_of_them.account
        for n in range(3):
            await first.publish(channel, {"n": n})

        presence = (await api.presence(cent.PresenceRequest(channel=channel))).presence
        stats = await api.presence_stats(cent.PresenceStatsRequest(channel=channel))
        page = await api.history(cent.HistoryRequest(channel=channel, limit=2, reverse=True))
        since = cent.StreamPosition(offset=2, epoch=page.epoch)
        rest = await api.history(cent.HistoryRequest(channel=channel, limit=9, since=since))

        assert await first.do("presence", channel=channel) == {it.client: it.user for it in presence.values()}
        assert (5, 1) == (stats.num_clients, stats.num_users)
        assert [{"n": 2}, {"n": 1}] == [it.data for it in page.publications]
        assert [(3, {"n": 2}, account.user)] == [
            (it.offset, it.data, it.info.user if it.info else None) for it in rest.publications
        ]


async def test_info_tells_of_all_nodes(cluster: Cluster, api: cent.AsyncClient) -> None:
    """Any node knows the others, and how many clients each has."""
    account = await cluster.account("alice")
    async with chat(cluster.nodes[1].url, "lobby", account), asyncio.timeout(15):
        while True:  # what nodes know of each other is three seconds old
            nodes = {it.name: it for it in (await api.info(cent.InfoRequest())).nodes}
            if {"node-1", "node-2"} <= nodes.keys() and nodes["node-2"].num_clients:
                break
            await asyncio.sleep(0.05)
    assert nodes["node-1"].uid != nodes["node-2"].uid


async def test_refusals_carry_their_code(api: cent.AsyncClient) -> None:
    """An unknown namespace is 102 for the backend as it is for a client."""
    with pytest.raises(cent.CentApiResponseError) as refused:
        await api.publish(cent.PublishRequest(channel="nowhere:x", data={}))
    assert 102 == refused.value.code


async def test_wrong_key_opens_nothing(cluster: Cluster) -> None:
    """Who does not know the key is refused as `cent` expects it."""
    async with cent.AsyncClient(f"{cluster.nodes[0].url}/api", "guessed") as stranger:
        with pytest.raises(cent.CentUnauthorizedError):
            await stranger.info(cent.InfoRequest())


async def test_disconnect_reaches_a_user_on_every_node(cluster: Cluster, api: cent.AsyncClient, room: str) -> None:
    """Asked of one node, every connection of the user ends with 3503 for good on both; others stay."""
    bob = await cluster.account("bob")
    async with crowd(cluster, room) as all_of_them, chat(cluster.nodes[1].url, room, bob) as other:
        await api.disconnect(cent.DisconnectRequest(user=all_of_them.account.user))

        for sdk in all_of_them.sdks:
            assert 3503 == (await sdk.take("disconnected"))["code"]
        for room_mate in all_of_them.chats:
            assert 3503 == (await room_mate.take("closed"))["code"]
        await other.take("system", event="left", user=all_of_them.account.user)
        await other.say("still here")
        await other.take("chat_message", content="still here")


async def test_disconnect_may_name_code_and_exceptions(cluster: Cluster, api: cent.AsyncClient, room: str) -> None:
    """A code that invites to come back does, and a connection on the list of exceptions stays."""
    async with crowd(cluster, room) as all_of_them:
        first, *others = all_of_them.sdks
        spared = first.of("connected")[0]["client"]
        user = all_of_them.account.user
        closing = cent.Disconnect(code=4000, reason="new rules")
        await api.disconnect(cent.DisconnectRequest(user=user, whitelist=[spared], disconnect=closing))

        for sdk in others:
            await sdk.take("subscribed", recovered=True)
            assert [(4000, "new rules")] == [
                (it["code"], it["reason"]) for it in sdk.all if it.get("code") == 4000
            ]  # 0.5 calls it disconnected, the others connecting
        for room_mate in all_of_them.chats:
            assert 4000 == (await room_mate.take("closed"))["code"]
        assert 1 == len(first.of("connected"))
