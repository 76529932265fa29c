"""Who lies about where they come from, writes into our logs, or makes our metrics grow."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from tests.cluster.siege import Siege, siege, token
from tests.support.attackers import CENTRIFUGE, ask, connected, ending, handshake, lines, upgraded
from tests.support.rawsocket import CLOSE, RawSocket, masked, on_uvloop, upgrade

PROXY = "127.0.0.80"  # the one that is trusted
STRANGER = "127.0.0.81"
ROUNDS = 100
PER_ADDRESS = 200  # the default
FORGERY = '"}\r\n{"event":"forged","level":"info"}\r\n\x1b[31m\u2028\u202e\x00'


@pytest.fixture(scope="module", name="besieged")
def _besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    folder = tmp_path_factory.mktemp("siege")
    trusted = json.dumps([PROXY])
    with siege(folder, HTTP_SERVER__TRUSTED_PROXIES=trusted, LOG__LEVEL="debug") as running:
        yield running


async def crowding(besieged: Siege, source: str, hops: str) -> int:
    """Try ten connections more than one address may have, each with other forged hops; return how many stand."""
    sockets = []
    for number in range(PER_ADDRESS + 10):
        forwarded = f"X-Forwarded-For: {hops.format(number)}"
        client, head, _ = await handshake(besieged.url, source=source, request=upgrade(CENTRIFUGE, forwarded))
        assert head.status in {101, 429}
        if head.status == 101:
            sockets.append(client)
        else:
            client.close()
    for client in sockets:  # one by one: what it costs when all go at once is a test of its own
        await client.send(masked(CLOSE, (1000).to_bytes(2)))
        await ending(client)
        client.close()
    return len(sockets)


@pytest.mark.parametrize(
    ("source", "hops"),
    [
        (STRANGER, "10.0.0.{}"),
        (STRANGER, f"10.0.0.{{}}, {PROXY}"),
        (STRANGER, "127.0.0.{}, ::1"),
        (PROXY, "10.0.0.{}, 203.0.113.9"),
        (PROXY, "{}, 203.0.113.10:4711"),
        (PROXY, "10.0.0.{}, nonsense"),
        (PROXY, f"198.51.100.{{}}, 203.0.113.11, {PROXY}"),
    ],
    ids=["stranger", "stranger as proxy", "stranger as local", "proxy", "port", "nonsense", "two proxies"],
)
@on_uvloop
async def test_a_forged_address_is_worth_nothing(besieged: Siege, source: str, hops: str) -> None:
    """The limit counts by the real peer, or by the last hop that a trusted proxy wrote: exactly 200 stand."""
    async with besieged.attack(rss=8.0):
        assert await crowding(besieged, source, hops) == PER_ADDRESS


@on_uvloop
async def test_a_proxy_is_not_one_client(besieged: Siege) -> None:
    """Behind the trusted proxy each last hop is an address of its own."""
    assert await crowding(besieged, PROXY, "203.0.113.{}") == PER_ADDRESS + 10


async def forging(besieged: Siege) -> None:
    """Write a forged line into everything that a client can name."""
    client = await upgraded(besieged.url, source=STRANGER)
    connect = {"token": token(FORGERY), "name": FORGERY, "version": FORGERY, "data": FORGERY}
    assert "error" not in await ask(client, {"id": 1, "connect": connect})
    for number, command in enumerate(("subscribe", "unsubscribe", "publish", "presence", "history"), 2):
        named = {"channel": f"plain:{FORGERY}", "data": FORGERY, "token": FORGERY if number == 2 else ""}
        await client.send(lines({"id": number, command: named}))
    await client.send(masked(CLOSE, (4000).to_bytes(2) + FORGERY.encode()[:120]))
    await ending(client)
    client.close()
    path = "/ws/%0d%0a%7b%22event%22:%22forged%22%7d%1b[31m"
    for request in (
        upgrade(path, "X-Request-Id: \x1b[31mforged", "User-Agent: \x1b[31m"),
        upgrade("/ws/x", 'Origin: http://evil.example"}\x0b{"event":"forged"}'),
        b"GET /%0a%1b[31m HTTP/1.1\r\nHost: \x1b[31m\r\n\r\n",
    ):
        client, _, _ = await handshake(besieged.url, source=STRANGER, request=request)
        client.close()


@on_uvloop
async def test_no_client_writes_a_line_of_the_log(besieged: Siege) -> None:
    """Names, ids, headers and reasons are not logged at all; each line is one JSON object of printable characters."""
    async with besieged.attack(rss=4.0):
        for _ in range(ROUNDS):
            await forging(besieged)
    closed = [line for line in besieged.log() if line["event"] == "connection.closed" and line["code"] == 4000]
    assert len(closed) == ROUNDS
    assert "forged" not in besieged.node.log
    assert not {character for character in besieged.node.log.replace("\n", "") if not character.isprintable()}


async def varied(besieged: Siege, source: random.Random) -> None:
    """Do everything once with names and numbers that nobody has used before."""
    name = f"{source.randrange(1 << 40):x}"
    client = await connected(besieged.url, token(name), source=STRANGER, channels=[f"plain:{name}"])
    await ask(client, {"id": 9, "publish": {"channel": f"plain:{name}", "data": name}})
    await ask(client, {"id": 10, "rpc": {"method": name, "data": 1}})
    await client.send(masked(CLOSE, source.randrange(4000, 5000).to_bytes(2) + name.encode()))
    await ending(client)
    client.close()
    for request in (
        upgrade(f"/ws/{name}", f"User-Agent: {name}", f"Origin: http://{name}.example"),
        upgrade(f"/{name}", f"Sec-WebSocket-Protocol: {name}"),
        f"{name[:4].upper()} /{name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode(),
        f"GET /{name}?{name} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: {name}\r\n\r\n".encode(),
    ):
        client = await RawSocket.connect(besieged.url, source=STRANGER)
        await client.send(request)
        assert (await client.head()).status < 500
        client.close()


@on_uvloop
async def test_nothing_that_a_client_makes_up_becomes_a_series(besieged: Siege) -> None:
    """Channels, users, methods, paths, agents, origins, codes: after the first round no series is added."""
    source = random.Random(20_261_122)
    async with besieged.attack(rss=8.0):
        await varied(besieged, source)
        before = set(besieged.counters())
        for _ in range(ROUNDS):
            await varied(besieged, source)
    assert set(besieged.counters()) - before == set()
