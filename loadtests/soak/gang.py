"""Attackers who come all at once: ping floods, subscribers who never read, heads that never end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Final

import jwt
import psutil

from loadtests.soak.stage import GANG
from tests.support.attackers import connected, dripping, flooding, upgraded
from tests.support.crowd_http import Api
from tests.support.fleet import SECRET, Node
from tests.support.rawsocket import PING, RawSocket, masked

FLOODERS: Final = 10
FLOOD_SECONDS: Final = 8.0
DEAF: Final = 5
LOUD: Final = 8  # publications of `LOUD_BYTES` for the deaf: more than kernels take, less than the outbox holds
LOUD_BYTES: Final = 60_000
SLOW: Final = 20
TOO_SLOW: Final = 408
WITHIN: Final = 25.0  # seconds for the node to be rid of all of them
ADDRESS: Final = "127.0.9.1"
CHANNEL: Final = f"{GANG}:unread"


async def attack(node: Node, api: Api) -> str:
    """Attack a node until it has cut everybody off; return what was done. AssertionError: it has not in time."""
    began = time.monotonic()
    gone = await asyncio.gather(_flood(node), _never_read(node, api), _slow_heads(node))
    floods, unread, heads = (f"{it - began:.0f} s" for it in gone)
    return (
        f"{FLOODERS} ping floods, {DEAF} who never read, {SLOW} slow heads against {node.name}: "
        f"cut off after {floods}, {unread}, {heads}"
    )


async def _flood(node: Node) -> float:
    clients = [await upgraded(node.url, source=ADDRESS, receive_buffer=4096) for _ in range(FLOODERS)]
    pings = masked(PING, b"a" * 125) * 32
    _, gone = await asyncio.gather(
        asyncio.gather(*(flooding(it, pings, FLOOD_SECONDS) for it in clients)), _gone(node, clients)
    )
    return gone


async def _never_read(node: Node, api: Api) -> float:
    claims = {"aud": "gateway", "exp": int(time.time()) + 600}
    clients = [
        await connected(
            node.url,
            jwt.encode({"sub": f"deaf-{number}", **claims}, SECRET, "HS256"),
            source=ADDRESS,
            channels=[CHANNEL],
            receive_buffer=4096,
        )
        for number in range(DEAF)
    ]
    for _ in range(LOUD):
        status, answer = await api.call(node.url, "publish", {"channel": CHANNEL, "data": "a" * LOUD_BYTES})
        assert status == 200, (status, answer)
        assert "error" not in answer, answer
    return await _gone(node, clients)


async def _slow_heads(node: Node) -> float:
    clients = [await RawSocket.connect(node.url, source=ADDRESS) for _ in range(SLOW)]
    ends = await asyncio.gather(*(dripping(it, b"GET /ws HTTP/1.1\r\nX-Slow: aaaa", 1.0) for it in clients))
    assert {TOO_SLOW} == {it.status for it in ends}, ends
    return max(it.at for it in ends)


async def _gone(node: Node, clients: Sequence[RawSocket]) -> float:
    """Return when the node had closed its ends of these, which do not read and so never hear of it."""
    ends = {it.sock.getsockname() for it in clients}
    began = time.monotonic()
    while ends & set(_far_ends(node)):
        assert time.monotonic() - began < WITHIN, f"{node.name} still holds attackers after {WITHIN:g} s"
        await asyncio.sleep(0.2)
    for client in clients:
        client.close()
    return time.monotonic()


def _far_ends(node: Node) -> Iterator[tuple[str, int]]:
    for link in psutil.Process(node.pid).net_connections("tcp"):
        if len(link.raddr) > 1:  # one that listens has none
            yield link.raddr[0], link.raddr[1]
