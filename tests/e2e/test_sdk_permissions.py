"""User-limited, personal and private channels, and rights that change with a token, as the official SDKs see them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.peers import PeerError, bare, peer
from tests.support.cluster import PLAIN, Account, Cluster
from tests.support.fleet import API_KEY, Process

pytestmark = pytest.mark.needs("sdks")

SHORT = 4  # seconds; an SDK must be in before they are over, on a busy machine too
DIALOG = {"name": "dialog", "presence": True, "allow_user_limited_channels": True, "allow_publish_for_subscriber": True}


@pytest.fixture(name="node", scope="module")
def _node(cluster: Cluster) -> Iterator[Process]:
    """Run a node with user-limited channels and, for every user, a personal one."""
    settings = {
        "CHANNEL__NAMESPACES": json.dumps([PLAIN, DIALOG]),
        "CLIENT__SUBSCRIBE_TO_USER_PERSONAL_CHANNEL__ENABLED": "true",
    }
    with cluster.node("node-limited", **settings) as node:
        node.wait_until_ready()
        yield node


@pytest.fixture(name="alice")
async def _alice(cluster: Cluster) -> Account:
    return await cluster.account("alice")


async def test_user_limited_channel_is_for_those_it_names(
    cluster: Cluster, node: Process, sdk: str, alice: Account
) -> None:
    """Both who are named talk in it, without any token; a third one is told 103, to subscribe and to speak."""
    bob, carol = await cluster.account("bob"), await cluster.account("carol")
    channel = f"dialog:#{alice.user},{bob.user}"
    async with (
        peer(sdk, node.centrifuge_url, alice) as mine,
        peer(sdk, node.centrifuge_url, bob) as theirs,
        peer(sdk, node.centrifuge_url, carol) as other,
    ):
        for it in (mine, theirs, other):
            await it.connect()
        for it in (mine, theirs):
            await it.subscribe(channel)
        await other.do("subscribe", channel=channel, token="", asks=False)
        assert 103 == (await other.take("unsubscribed", channel=channel))["code"]
        with pytest.raises(PeerError) as refused:
            await other.publish(channel, {"message": "me too"})
        assert 103 == refused.value.code

        await mine.publish(channel, {"message": "between us"})
        await theirs.take("publication", channel=channel, user=alice.user)
        assert [] == other.of("publication")


async def test_personal_channel_is_written_by_the_server_alone(
    cluster: Cluster, node: Process, sdk: str, alice: Account
) -> None:
    """Its user is in it by connecting, and hears the server; nobody else subscribes, and no client publishes."""
    bob = await cluster.account("bob")
    channel = f"#{alice.user}"
    async with (
        bare(node.centrifuge_url, {"connect": {"token": alice.access_token}}) as hers,
        peer(sdk, node.centrifuge_url, alice) as mine,
        peer(sdk, node.centrifuge_url, bob) as other,
    ):
        assert [channel] == list((await hers.take("connect"))["subs"])
        for it in (mine, other):
            await it.connect()
            with pytest.raises(PeerError) as refused:
                await it.publish(channel, {"message": "forged"})
            assert 103 == refused.value.code
        await other.do("subscribe", channel=channel, token="", asks=False)
        assert 103 == (await other.take("unsubscribed", channel=channel))["code"]

        async with httpx.AsyncClient(base_url=node.url, trust_env=False, timeout=30.0) as http:
            call = {"channel": channel, "data": {"message": "from the server"}}
            (await http.post("/api/publish", json=call, headers={"X-API-Key": API_KEY})).raise_for_status()
        assert {"message": "from the server"} == (await hers.take("pub"))["data"]
        assert [] == other.of("publication")


@pytest.mark.parametrize("wrong", ["user", "channel", "client"])
async def test_somebody_elses_subscription_token_ends_it(
    cluster: Cluster, node: Process, sdk: str, alice: Account, wrong: str
) -> None:
    """A token of another user, for another channel or bound to another connection: 3500, and the SDK stays away."""
    channel = f"$dialog:{alice.user}"
    claims = {"channel": channel if wrong != "channel" else f"{channel}-2"}
    if wrong == "client":
        claims["client"] = "00000000-0000-4000-8000-000000000000"
    token = cluster.signed("bob" if wrong == "user" else alice.user, 60, **claims)
    async with peer(sdk, node.centrifuge_url, alice) as mine:
        await mine.connect()
        await mine.do("subscribe", channel=channel, token=token, asks=False)
        assert 3500 == (await mine.take("disconnected"))["code"]
        assert 1 == len(mine.of("connected"))


async def test_lost_right_is_gone_with_the_next_token(
    cluster: Cluster, node: Process, sdk: str, alice: Account
) -> None:
    """The SDK refreshes, is closed with 3010, and comes back by the new token, which names the channel no more."""
    channel = f"dialog:{alice.user}"
    before = cluster.signed(alice.user, SHORT, channels=[channel])  # type: ignore[arg-type] # a claim may be a list
    async with peer(sdk, node.centrifuge_url, alice, token=before) as mine:
        await mine.connect()
        await present(node, channel, [alice.user])
        await mine.take("connected")
        assert {3010} == {event["code"] for event in mine.all if event.get("reason") == "insufficient state"}
        await present(node, channel, [])
        assert [""] == [event["channel"] for event in mine.of("token_wanted")]


async def present(node: Process, channel: str, users: list[str]) -> None:
    """Fail unless exactly these users are subscribed to a channel, by what reaches them from the server."""
    async with httpx.AsyncClient(base_url=node.url, trust_env=False, timeout=30.0) as http:
        call = {"channel": channel}
        answer = await http.post("/api/presence", json=call, headers={"X-API-Key": API_KEY})
        found = answer.raise_for_status().json()["result"]["presence"]
    assert users == [it["user"] for it in found.values()]
