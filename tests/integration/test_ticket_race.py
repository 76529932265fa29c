"""One ticket, two nodes, the same moment: a log may have shown it to somebody who is as fast as its owner."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import jwt

from tests.support.fleet import SECRET, Node, fleet
from tests.support.speaking import speaking
from tests.support.valkey import Valkey

RACES = 100
AT_ONCE = 10  # races
SECONDS = 30  # that a ticket lives


async def outcome(node: Node, ticket: str) -> str:
    """Present a ticket; return how that ended."""
    async with speaking(node.url, f"/ws?ticket={ticket}") as client:
        heard = await client.hear(lambda message: message.get("type") == "welcome")
        return str(heard.get("type") or heard["closed"])


async def test_of_two_who_present_a_ticket_at_once_one_gets_in(tmp_path: Path, valkey: Valkey) -> None:
    """A hundred tickets, each at two nodes at once: every one opens exactly one connection."""
    room = asyncio.Semaphore(AT_ONCE)

    async def race(nodes: list[Node]) -> tuple[str, ...]:
        claims = {"sub": "alice", "aud": "gateway", "jti": uuid4().hex, "exp": int(time.time()) + SECONDS}
        ticket = jwt.encode(claims, SECRET, algorithm="HS256", headers={"typ": "ticket+jwt"})
        async with room:
            return tuple(sorted(await asyncio.gather(*(outcome(node, ticket) for node in nodes))))

    unlimited = {"CLIENT__USER_CONNECTION_LIMIT": "0", "CLIENT__CONNECTION_RATE_LIMIT": "0"}
    async with fleet(tmp_path, [valkey.url], 2, **unlimited) as ships:
        races = await asyncio.gather(*(race(ships.nodes) for _ in range(RACES)))
    assert {("3500", "welcome"): RACES} == Counter(races)
