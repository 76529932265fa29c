from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import cent

from tests.e2e.peers import Chat, chat
from tests.support.cluster import Account, Cluster
from tests.support.fleet import API_KEY


async def until_clients(cluster: Cluster, channel: str, count: int) -> None:
    """Wait until presence counts so many clients: nobody announces a tab that is not the last."""
    async with cent.AsyncClient(f"{cluster.nodes[0].url}/api", API_KEY) as api, asyncio.timeout(15):
        while (await api.presence_stats(cent.PresenceStatsRequest(channel=channel))).num_clients != count:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.02)


async def comings_and_goings(watcher: Chat, user: str, mark: str) -> list[Any]:
    """Return what a room was told of a user, up to now: a message of one's own comes behind all that."""
    await watcher.say(mark)
    await watcher.take("chat_message", content=mark)
    return [it["event"] for it in watcher.of("system", user=user)]


async def test_three_tabs_come_and_go_as_one_user(cluster: Cluster, room: str) -> None:
    """Three connections over two nodes: the room hears of the first to come and the last to go, nothing between."""
    first, second = cluster.nodes
    alice, bob = await cluster.account("alice"), await cluster.account("bob")
    channel = f"chat:{room}"
    async with chat(first.url, room, bob) as watcher, AsyncExitStack() as stack:
        tabs = [await stack.enter_async_context(chat(node.url, room, alice)) for node in (first, second, second)]
        await until_clients(cluster, channel, 4)
        assert ["joined"] == await comings_and_goings(watcher, alice.user, "all are here")
        await watcher.send("users")
        assert sorted([alice.user, bob.user]) == (await watcher.take("users"))["users"]

        for tab, left in ((tabs[0], 3), (tabs[1], 2)):
            await tab.close()
            await until_clients(cluster, channel, left)
        assert ["joined"] == await comings_and_goings(watcher, alice.user, "one is left")

        await tabs[2].close()
        await watcher.take("system", event="left", user=alice.user)
        assert ["joined", "left"] == await comings_and_goings(watcher, alice.user, "none is left")


async def test_each_tab_gets_private_messages(cluster: Cluster, room: str) -> None:
    """A private message comes once to every connection of its target, on any node and in any room, and to no other."""
    alice, bob, carol = [await cluster.account(name) for name in ("alice", "bob", "carol")]
    async with AsyncExitStack() as stack:

        async def enter(account: Account, where: str, n: int) -> Chat:
            return await stack.enter_async_context(chat(cluster.nodes[n].url, where, account))

        tabs = [await enter(alice, room, 0), await enter(alice, room, 1), await enter(alice, f"{room}-2", 1)]
        sender, stranger = await enter(bob, room, 0), await enter(carol, room, 1)

        for text in ("psst", "and then"):
            await sender.send("private_chat", target_user=alice.user, message=text)
        for tab in tabs:
            await tab.take("private_chat_message", content="and then")
            told = [(it["sender"], it["target"], it["content"]) for it in tab.of("private_chat_message")]
            assert [(bob.user, alice.user, "psst"), (bob.user, alice.user, "and then")] == told
        for _ in range(2):
            assert (await sender.take("private_chat_sent", target=alice.user))["delivered"]
        await stranger.say("what did I miss?")
        await stranger.take("chat_message")
        assert [] == stranger.of("private_chat_message") + sender.of("private_chat_message")
