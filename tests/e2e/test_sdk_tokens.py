from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.peers import SDKS, Peer, PeerError, bare, each_sdk, peer
from tests.support.cluster import Account, Cluster

pytestmark = pytest.mark.needs("sdks")

SHORT = 4  # seconds; the cluster gives 3 more to those who refresh late


@pytest.fixture(name="alice")
async def _alice(cluster: Cluster) -> Account:
    return await cluster.account("alice")


async def test_every_sdk_refreshes_its_token_in_place(cluster: Cluster, alice: Account, room: str) -> None:
    """Before its short-lived token ends an SDK brings a fresh one and stays; who brings none is closed with 3005."""
    url, channel = cluster.nodes[0].centrifuge_url, f"chat:{room}"
    token = cluster.signed(alice.user, SHORT)
    async with each_sdk(url, alice, token=token) as mine:
        await asyncio.gather(*(it.connect() for it in mine))
        late = cluster.signed(alice.user, SHORT)
        async with bare(url, {"connect": {"token": late}}) as idle:
            assert (await idle.take("connect"))["expires"]
            assert 3005 == (await idle.take("closed"))["code"]

        for it in mine:
            await it.subscribe(channel)
            assert [""] == [event["channel"] for event in it.of("token_wanted")]
            assert 1 == len(it.of("connected"))


async def test_expired_token_is_replaced(cluster: Cluster, sdk: str, alice: Account) -> None:
    """Who comes with an expired token is told 109, so the SDK asks for another and gets in."""
    token = cluster.signed(alice.user, -SHORT)
    async with peer(sdk, cluster.nodes[0].centrifuge_url, alice, token=token) as mine:
        await mine.connect()
        assert [""] == [event["channel"] for event in mine.of("token_wanted")]


async def test_forged_token_ends_it(cluster: Cluster, sdk: str, alice: Account) -> None:
    """A token with a wrong signature is the end: 3500, and the SDK does not come again."""
    forged = alice.access_token[:-8] + alice.access_token[-8:].swapcase()
    async with peer(sdk, cluster.nodes[0].centrifuge_url, alice, token=forged) as mine:
        await mine.do("connect")
        assert 3500 == (await mine.take("disconnected"))["code"]
        assert [] == mine.of("token_wanted")


async def test_private_channel_takes_a_subscription_token(
    cluster: Cluster, sdk: str, alice: Account, room: str
) -> None:
    """A channel behind `$` is closed with 103 to who has no token for it, open to who gets one, to speak there too."""
    channel = f"$chat:{room}"
    async with peer(sdk, cluster.nodes[0].centrifuge_url, alice) as mine:
        await mine.connect()
        await mine.do("subscribe", channel=channel, token="", asks=False)
        assert 103 == (await mine.take("unsubscribed", channel=channel))["code"]

        await mine.do("unsubscribe", channel=channel)
        await mine.subscribe(channel, asks=True)
        await mine.publish(channel, {"message": "among us"})
        await mine.take("publication", channel=channel, user=alice.user)
        assert [channel] == [event["channel"] for event in mine.of("token_wanted")]


async def test_expired_subscription_token_is_replaced(cluster: Cluster, sdk: str, alice: Account, room: str) -> None:
    """Who subscribes with an expired token is told 109, so the SDK asks for another and gets in."""
    channel = f"$chat:{room}"
    token = cluster.signed(alice.user, -SHORT, channel=channel)
    async with peer(sdk, cluster.nodes[0].centrifuge_url, alice) as mine:
        await mine.connect()
        await mine.subscribe(channel, token, asks=True)
        assert [channel] == [event["channel"] for event in mine.of("token_wanted")]


async def test_every_sdk_refreshes_its_subscription_in_place(cluster: Cluster, alice: Account, room: str) -> None:
    """An SDK brings a fresh subscription token and stays in the channel; who brings none is put out with 2501."""
    url, channel = cluster.nodes[0].centrifuge_url, f"$chat:{room}"

    async def enter(it: Peer) -> None:
        await it.connect()
        await it.subscribe(channel, cluster.signed(alice.user, SHORT, channel=channel), asks=True)

    async with each_sdk(url, alice) as mine:
        await asyncio.gather(*(enter(it) for it in mine))
        late = cluster.signed(alice.user, SHORT, channel=channel)
        subscribe = {"subscribe": {"channel": channel, "token": late}}
        async with bare(url, {"connect": {"token": alice.access_token}}, subscribe) as idle:
            assert (await idle.take("subscribe"))["expires"]
            assert 2501 == (await idle.take("unsubscribe"))["code"]

        await mine[0].publish(channel, {"message": "still here"})
        for it in mine:
            await it.take("publication", channel=channel)
            assert [channel] == [event["channel"] for event in it.of("token_wanted")]
            assert 1 == len(it.of("subscribing"))
            assert 1 == len(it.of("connected"))


@pytest.mark.parametrize(("channel", "code"), [("nowhere:x", 102), ("$chat:x", 103), ("nothing", 103)])
async def test_refused_subscription_names_its_reason(
    cluster: Cluster, sdk: str, alice: Account, channel: str, code: int
) -> None:
    """An unknown namespace is 102, a channel that is not for everybody 103, and the SDK does not ask again."""
    async with peer(sdk, cluster.nodes[0].centrifuge_url, alice) as mine:
        await mine.connect()
        await mine.do("subscribe", channel=channel, token="", asks=False)
        assert code == (await mine.take("unsubscribed", channel=channel))["code"]
        assert 1 == len(mine.of("subscribing", channel=channel))


async def test_refused_calls_name_their_reason(cluster: Cluster, sdk: str, alice: Account, room: str) -> None:
    """An outsider may do nothing in a room (103), and nobody what a namespace does not offer (108)."""
    outside, plain = {"channel": f"chat:{room}"}, {"channel": f"plain:{room}"}
    expected: list[tuple[str, dict[str, Any], int]] = [
        ("publish", {**outside, "data": {}}, 103),
        ("history", {**outside, "limit": 1}, 103),
        ("presence", outside, 103),
        ("presence_stats", outside, 103),
        ("history", {**plain, "limit": 1}, 108),
        ("presence", plain, 108),
        ("presence_stats", plain, 108),
    ]
    async with peer(sdk, cluster.nodes[0].centrifuge_url, alice) as mine:
        await mine.connect()
        for verb, how, code in expected:
            with pytest.raises(PeerError) as refused:
                await mine.do(verb, **how)
            assert code == refused.value.code, (verb, how)


async def test_connect_and_subscribe_in_one_frame(cluster: Cluster, alice: Account, room: str) -> None:
    """The JavaScript SDK sends what it is to subscribe to in the frame that connects, and each is answered."""
    channels = [f"chat:{room}-{n}" for n in range(3)]
    async with peer("js", cluster.nodes[0].centrifuge_url, alice) as mine:
        for channel in channels:
            await mine.do("subscribe", channel=channel, token="", asks=False)
        await mine.connect()

        for channel in channels:
            await mine.take("subscribed", channel=channel)
        assert [["connect", "subscribe", "subscribe", "subscribe"]] == [it["commands"] for it in mine.of("frame")]


async def test_pings_keep_every_sdk(cluster: Cluster, alice: Account, room: str) -> None:
    """Our pings come, or the SDKs would leave, and they are answered: who answers none is closed with 3012."""
    settings = {"CLIENT__PING_INTERVAL": "3s", "CLIENT__PONG_TIMEOUT": "2500ms"}
    with cluster.node("node-4", **settings) as node:
        node.wait_until_ready()
        async with each_sdk(node.centrifuge_url, alice, ping_delay=3.0) as mine:
            await asyncio.gather(*(it.connect() for it in mine))
            for _ in range(2):  # together longer than the SDKs wait for a ping: 3 s + 3 s
                async with bare(node.centrifuge_url, {"connect": {"token": alice.access_token}}) as mute:
                    assert {"ping": 3, "pong": True}.items() <= (await mute.take("connect")).items()
                    assert 3012 == (await mute.take("closed"))["code"]

            for it in mine:
                await it.subscribe(f"chat:{room}")
            assert [1] * len(SDKS) == [len(it.of("connected")) for it in mine]
