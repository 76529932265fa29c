"""Who attacks with commands: too many, too many names, coming and going, and what is not theirs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.siege import Siege, siege, token
from tests.support.attackers import ask, connected, ending, frame, heard, lines, paced, upgraded
from tests.support.rawsocket import TEXT, RawSocket, on_uvloop

SOURCE = "127.0.0.70"
CHANNEL_LIMIT = 128
FLAPS = 250  # pairs a second
FLAP_SECONDS = 4
REJOIN_BURST = 30
USER_LIMIT = 20  # the default
CROWD_CPU = 0.10  # share of a core that the healthy crowd alone may take


@pytest.fixture(scope="module", name="besieged")
def _besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with siege(tmp_path_factory.mktemp("siege")) as running:
        yield running


async def entered(besieged: Siege, user: str, *channels: str) -> RawSocket:
    """Connect with a token of this user."""
    return await connected(besieged.url, token(user), source=SOURCE, channels=channels)


async def chatting(besieged: Siege, user: str) -> RawSocket:
    """Enter a room of the chat."""
    return await upgraded(besieged.url, f"/ws/lobby?token={token(user)}", source=SOURCE)


async def answers(client: RawSocket, count: int) -> dict[int, dict[str, Any]]:
    """Read until so many replies came; return them by id."""
    replies: dict[int, dict[str, Any]] = {}
    while len(replies) < count:
        replies |= {message["id"]: message for message in await heard(client) if "id" in message}
    return replies


@on_uvloop
async def test_a_flood_of_messages_is_answered_with_errors_and_then_ended(besieged: Siege) -> None:
    """Over the rate: error 111; after 5 s of that 3013. All the while it takes less than a twentieth of a core."""
    limited = besieged.counted("rate_limited_total{command}")
    async with besieged.attack(rss=4.0) as cost:
        client = await chatting(besieged, "flooder")
        spam = (frame(TEXT, b"spam") for _ in range(10_000))
        sent, end = await asyncio.gather(paced(client, spam, 200.0), ending(client))
        client.close()
    assert end.code == 3013
    assert 5.0 <= end.after <= 9.0
    assert sent > 200 * 5
    assert besieged.counted("rate_limited_total{command}") - limited > sent / 2
    assert cost.cpu / cost.seconds <= 0.05 + CROWD_CPU


BAD_NAMES = {
    "": 3501,
    "plain:" + "a" * 250: 107,
    "plain:\r\n": 107,
    "plain:\x1b[31m": 107,
    "plain:\u202e": 107,
    "#bob": 103,
    "#": 103,
    "$plain:x": 103,
    "nowhere:x": 102,
    "nothing": 103,
}


@pytest.mark.parametrize("name", BAD_NAMES)
@on_uvloop
async def test_names_that_are_tricks_are_refused(besieged: Siege, name: str) -> None:
    """Too long, unprintable, somebody else's, or in no namespace."""
    client = await entered(besieged, "mallory")
    command = {"id": 2, "subscribe": {"channel": name}}
    if BAD_NAMES[name] == 3501:
        await client.send(lines(command))
        assert (await ending(client)).code == 3501
    else:
        assert (await ask(client, command))["error"]["code"] == BAD_NAMES[name]
    client.close()


@on_uvloop
async def test_ten_thousand_names_are_not_ten_thousand_channels(besieged: Siege) -> None:
    """128 subscriptions, then error 106; Redis holds as many entries, and none when the client is gone."""
    before = besieged.valkey.command("DBSIZE")
    async with besieged.attack(rss=8.0):
        client = await entered(besieged, "spammer")
        names = [f"watched:{{{number}}}" for number in range(10_000)]
        frames = (lines({"id": at, "subscribe": {"channel": name}}) for at, name in enumerate(names, 2))
        _, replies = await asyncio.gather(paced(client, frames, 4_000.0), answers(client, len(names)))
        codes = [reply.get("error", {}).get("code") for reply in replies.values()]
        assert codes.count(None) == CHANNEL_LIMIT
        assert set(codes) <= {None, 106, 111}
        assert besieged.valkey.command("DBSIZE") - before <= 2 * CHANNEL_LIMIT + 8
        client.close()
        await besieged.until(lambda: besieged.valkey.command("DBSIZE") - before <= 8)


@on_uvloop
async def test_a_name_of_a_megabyte_is_too_big(besieged: Siege) -> None:
    """It is not even read."""
    async with besieged.attack(rss=2.0):
        client = await entered(besieged, "spammer")
        await client.send(lines({"id": 2, "subscribe": {"channel": "plain:" + "a" * 1_000_000}}))
        assert (await ending(client)).code == 1009
        client.close()


def subscribes(besieged: Siege) -> int:
    """Return how many SUBSCRIBEs Redis has seen."""
    stats = besieged.valkey.command("INFO", "commandstats")
    return sum(
        int(stat["calls"]) for name, stat in stats.items() if name in {"cmdstat_subscribe", "cmdstat_ssubscribe"}
    )


def flaps(channel: str, count: int) -> Iterator[bytes]:
    """Yield pairs of subscribe and unsubscribe."""
    for number in range(2, 2 + 2 * count, 2):
        yield lines({"id": number, "subscribe": {"channel": channel}})
        yield lines({"id": number + 1, "unsubscribe": {"channel": channel}})


@on_uvloop
async def test_flapping_on_a_channel_does_not_reach_redis(besieged: Siege) -> None:
    """500 commands a second on one channel are at most two SUBSCRIBEs a second."""
    async with besieged.attack(rss=4.0) as cost:
        client = await entered(besieged, "flapper")
        before, count = subscribes(besieged), FLAPS * FLAP_SECONDS
        _, replies = await asyncio.gather(
            paced(client, flaps("plain:flapped", count), 2.0 * FLAPS), answers(client, 2 * count)
        )
        client.close()
    assert not [reply for reply in replies.values() if "error" in reply]
    assert subscribes(besieged) - before <= 2 * cost.seconds


@on_uvloop
async def test_coming_and_going_is_told_at_a_bearable_rate(besieged: Siege) -> None:
    """Others hear of a client that flaps in a room at most twice a second, once it has used up what is fair."""
    channel = "watched:door"
    async with besieged.attack(rss=4.0):
        watcher, client = await entered(besieged, "watcher", channel), await entered(besieged, "flapper")
        times: list[float] = []
        watching = asyncio.ensure_future(_watch(watcher, times))
        began, count = time.monotonic(), 50 * FLAP_SECONDS
        _, replies = await asyncio.gather(paced(client, flaps(channel, count), 100.0), answers(client, 2 * count))
        took = time.monotonic() - began
        watching.cancel()
        for socket in (watcher, client):
            socket.close()
    codes = [reply.get("error", {}).get("code") for reply in replies.values()]
    assert codes.count(111) > count / 2
    assert set(codes) == {None, 111}
    assert 2 * REJOIN_BURST <= len(times) <= 2 * (REJOIN_BURST + 1 + took) + 2
    assert len([at for at in times if at > began + took - 2.0]) <= 2 * 2 + 2


async def _watch(watcher: RawSocket, times: list[float]) -> None:
    while True:
        told = [message for message in await heard(watcher) if "push" in message]
        times += [time.monotonic()] * len(told)


@on_uvloop
async def test_one_user_keeps_twenty_connections(besieged: Siege) -> None:
    """The newest ones: each beyond the limit ends the oldest with 3504, and nobody else's."""
    async with besieged.attack(rss=4.0):
        sockets = [await entered(besieged, "everywhere") for _ in range(USER_LIMIT + 5)]
        ends = await asyncio.gather(*map(ending, sockets[:5]))
        assert {end.code for end in ends} == {3504}
        for client in sockets[5:]:
            assert "error" not in await ask(client, {"id": 2, "publish": {"channel": "plain:everywhere", "data": 1}})
    for client in sockets:
        client.close()


FOREIGN = {"closed:x": 103, "#bob": 103, "watched:x": 103, "nowhere:x": 102, "plain:\n": 107}
FORGED = {
    "info": {"user": "admin", "client": "forged"},
    "user": "admin",
    "client": "forged",
    "tags": {"trusted": "yes"},
    "offset": 99,
    "epoch": "forged",
}


@on_uvloop
async def test_nobody_publishes_where_or_as_whom_they_may_not(besieged: Siege) -> None:
    """A foreign channel is an error and delivers nothing; what only the server may say is not taken from a client."""
    listener = await entered(besieged, "listener", "closed:x", "watched:x", "plain:forged")
    writer = await entered(besieged, "mallory", "closed:x")
    for number, (channel, code) in enumerate(FOREIGN.items(), 2):
        reply = await ask(writer, {"id": number, "publish": {"channel": channel, "data": {"sender": "admin"}}})
        assert reply["error"]["code"] == code
    for number, (name, value) in enumerate(FORGED.items(), 90):
        forged = {"channel": "plain:forged", "data": "forged", name: value}
        reply = await ask(writer, {"id": number, "publish": forged})
        assert reply["error"]["code"] == 103, name
    await ask(writer, {"id": 99, "publish": {"channel": "plain:forged", "data": "honest"}})
    pushes: list[dict[str, Any]] = []
    while not pushes:
        pushes = [it["push"] for it in await heard(listener) if "pub" in it.get("push", {})]
    [push] = pushes  # the first that came, and so the only one that was taken
    assert push["channel"] == "plain:forged"
    assert push["pub"]["data"] == "honest"
    assert push["pub"]["info"]["user"] == "mallory"
    assert {"data", "info"} == set(push["pub"])
    for client in (listener, writer):
        client.close()


@on_uvloop
async def test_a_chatter_speaks_under_their_own_name(besieged: Siege) -> None:
    """A message that names another sender is refused, and the next one comes from who wrote it."""
    listener, writer = await chatting(besieged, "listener"), await chatting(besieged, "mallory")
    forged = {"type": "chat", "message": "hi", "sender": "admin", "user": "admin", "id": "1-0", "timestamp": "x"}
    for message in (forged, {"type": "chat", "message": "hi"}):
        await writer.send(frame(TEXT, json.dumps(message).encode()))
    said: list[dict[str, Any]] = []
    while not said:
        said = [it for it in await heard(listener) if it.get("type") == "chat_message" and it["content"] == "hi"]
    assert 1 == len(said)
    refused: list[dict[str, Any]] = []
    while not refused:
        refused = [it for it in await heard(writer) if it.get("type") == "error"]
    assert 103 == refused[0]["code"]
    assert "admin" not in json.dumps(said)
    assert "mallory" in json.dumps(said)
    for client in (listener, writer):
        client.close()
