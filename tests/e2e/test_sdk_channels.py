from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.e2e.cable import cable_to
from tests.e2e.peers import SDKS, PeerError, chat, each_sdk, peer
from tests.support.cluster import Cluster

pytestmark = pytest.mark.needs("sdks")


def numbers(publications: list[dict[str, Any]]) -> list[int]:
    """Return what was published, in the order it came."""
    return [it["data"]["n"] for it in publications]


async def test_talks_to_a_chat_client_on_the_other_node(cluster: Cluster, sdk: str, room: str) -> None:
    """An SDK and a bare chat client in one channel, on two nodes, see each other come, speak and go."""
    first, second = cluster.nodes
    alice, bob = await cluster.account("alice"), await cluster.account("bob")
    channel = f"chat:{room}"
    async with peer(sdk, first.centrifuge_url, alice) as mine:
        async with chat(second.url, room, bob) as theirs:
            await mine.connect()
            await mine.subscribe(channel)
            await theirs.take("system", event="joined", user=alice.user)

            await mine.publish(channel, {"message": "from the SDK"})
            told = await theirs.take("chat_message", sender=alice.user)
            await theirs.say("from the chat")
            heard = await mine.take("publication", channel=channel, user=bob.user)

            assert "from the SDK" == told["content"]
            assert {"message": "from the chat"} == heard["data"]
            assert [1, 2] == [it["offset"] for it in mine.of("publication")]
        await mine.take("leave", channel=channel, user=bob.user)


async def test_channel_without_history(cluster: Cluster, sdk: str, room: str) -> None:
    """Publications of a channel that keeps nothing have no offset, and reach the clients of both nodes."""
    alice, channel = await cluster.account("alice"), f"plain:{room}"
    async with AsyncExitStack() as stack:
        both = [await stack.enter_async_context(peer(sdk, it.centrifuge_url, alice)) for it in cluster.nodes]
        for it in both:
            await it.connect()
            assert (await it.subscribe(channel))["position"] is None
        for it in both:
            await it.publish(channel, ["anything", 1, None])
        for it in both:
            for _ in both:
                heard = await it.take("publication", channel=channel)
                assert (0, ["anything", 1, None], alice.user) == (heard["offset"], heard["data"], heard["user"])


async def test_leaves_a_channel(cluster: Cluster, sdk: str, room: str) -> None:
    """Who unsubscribes is seen to go by the others, and is told nothing any more."""
    first, second = cluster.nodes
    alice, bob = await cluster.account("alice"), await cluster.account("bob")
    async with peer(sdk, first.centrifuge_url, alice) as mine, chat(second.url, room, bob) as theirs:
        await mine.connect()
        await mine.subscribe(f"chat:{room}")

        await mine.do("unsubscribe", channel=f"chat:{room}")
        await theirs.take("system", event="left", user=alice.user)
        await theirs.say("behind her back")
        await theirs.take("chat_message")
        await mine.subscribe(f"chat:{room}-2")  # whatever was on its way to her has come before this

        assert [] == mine.of("publication")


async def test_presence_spans_the_nodes(cluster: Cluster, sdk: str, room: str) -> None:
    """Presence names every client of both nodes, its statistics count clients and users."""
    first, second = cluster.nodes
    alice, bob = await cluster.account("alice"), await cluster.account("bob")
    channel = f"chat:{room}"
    async with (
        peer(sdk, first.centrifuge_url, alice) as mine,
        chat(first.url, room, bob) as one,
        chat(second.url, room, bob) as other,
    ):
        me = await mine.connect()
        await mine.subscribe(channel)

        theirs = {it.of("welcome")[0]["client"]: bob.user for it in (one, other)}
        assert {me: alice.user, **theirs} == await mine.do("presence", channel=channel)
        assert {"num_clients": 3, "num_users": 2} == await mine.do("presence_stats", channel=channel)


async def test_history_is_read_in_pages_from_both_ends(cluster: Cluster, sdk: str, room: str) -> None:
    """Pages follow one another by position, forwards and backwards; without a limit only the position comes."""
    alice = await cluster.account("alice")
    channel = f"chat:{room}"
    async with peer(sdk, cluster.nodes[0].centrifuge_url, alice) as mine:
        await mine.connect()
        await mine.subscribe(channel)
        for n in range(1, 6):
            await mine.publish(channel, {"n": n})

        async def page(**how: Any) -> dict[str, Any]:
            found: dict[str, Any] = await mine.do("history", channel=channel, **how)
            return found

        top = await page()
        epoch = top["epoch"]
        assert [] == top["publications"]
        assert 5 == top["offset"]
        assert [1, 2] == numbers((await page(limit=2))["publications"])
        assert [3, 4] == numbers((await page(limit=2, since={"offset": 2, "epoch": epoch}))["publications"])
        assert [5] == numbers((await page(limit=2, since={"offset": 4, "epoch": epoch}))["publications"])
        assert [5, 4] == numbers((await page(limit=2, reverse=True))["publications"])
        back = await page(limit=9, since={"offset": 4, "epoch": epoch}, reverse=True)
        assert [3, 2, 1] == numbers(back["publications"])
        assert [alice.user] * 3 == [it["user"] for it in back["publications"]]
        with pytest.raises(PeerError) as refused:
            await page(limit=2, since={"offset": 2, "epoch": "gone"})
        assert 112 == refused.value.code


async def test_recovers_on_the_other_node_after_a_cut(cluster: Cluster, sdk: str, room: str) -> None:
    """What was said while the link was cut comes once and in order from the other node, then what is said live."""
    first, second = cluster.nodes
    alice, bob = await cluster.account("alice"), await cluster.account("bob")
    channel = f"chat:{room}"
    with cable_to(first.port) as cable:
        url = first.centrifuge_url.replace(str(first.port), str(cable.port))
        async with peer(sdk, url, alice) as mine, chat(second.url, room, bob) as theirs:
            before = await mine.connect()
            assert not (await mine.subscribe(channel))["asked"]
            await mine.publish(channel, {"n": 1})
            await mine.take("publication", data={"n": 1})

            cable.cut()
            assert 1 == cable.cuts
            await mine.take("subscribing", channel=channel, code=1)
            for text in ("two", "three"):
                await theirs.say(text)
                await theirs.take("chat_message", content=text)
            cable.lead_to(second.port)
            cable.mend()

            again = await mine.take("subscribed", channel=channel)
            await theirs.say("four")
            await mine.take("publication", data={"message": "four"})
            said = [{"n": 1}, *({"message": text} for text in ("two", "three", "four"))]
            assert said == [it["data"] for it in mine.of("publication")]
            assert [1, 2, 3, 4] == [it["offset"] for it in mine.of("publication")]
            assert (True, True) == (again["asked"], again["recovered"])
            assert before != (await mine.take("connected"))["client"]


async def test_is_told_what_history_no_longer_holds(cluster: Cluster, sdk: str, room: str) -> None:
    """Who was away for more than the history keeps is told so, and gets nothing that would hide the gap."""
    first, second = cluster.nodes
    alice, bob = await cluster.account("alice"), await cluster.account("bob")
    channel = f"chat:{room}"
    with cable_to(first.port) as cable:
        url = first.centrifuge_url.replace(str(first.port), str(cable.port))
        async with peer(sdk, url, alice) as mine, peer(sdk, second.centrifuge_url, bob) as theirs:
            for it in (mine, theirs):
                await it.connect()
                await it.subscribe(channel)
            cable.cut()
            await mine.take("subscribing", channel=channel, code=1)
            await asyncio.gather(*(theirs.publish(channel, {"n": n}) for n in range(101)))  # one more than is kept
            cable.mend()

            again = await mine.take("subscribed", channel=channel)
            await theirs.publish(channel, {"n": "live"})
            await mine.take("publication", data={"n": "live"})
            assert (True, False) == (again["asked"], again["recovered"])
            assert 101 == again["position"]["offset"]
            assert [102] == [it["offset"] for it in mine.of("publication")]


async def test_every_sdk_survives_the_death_of_its_node(cluster: Cluster, room: str) -> None:
    """When a node is killed, its clients go on at another, which knows what they missed."""
    second = cluster.nodes[1]
    alice, bob = await cluster.account("alice"), await cluster.account("bob")
    channel = f"chat:{room}"
    with cluster.node("node-3") as doomed, cable_to(doomed.port) as cable:
        doomed.wait_until_ready()
        url = doomed.centrifuge_url.replace(str(doomed.port), str(cable.port))
        async with each_sdk(url, alice) as mine, chat(second.url, room, bob) as theirs:
            for it in mine:
                await it.connect()
                await it.subscribe(channel)

            cable.lead_to(second.port)
            doomed.kill()
            await theirs.say("over here")

            for it in mine:
                await it.take("subscribed", channel=channel, asked=True, recovered=True)
                await it.take("publication", data={"message": "over here"})
            assert [1] * len(SDKS) == [len(it.of("publication")) for it in mine]
