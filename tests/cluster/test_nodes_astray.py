"""Nodes in a world that is not as it should be: one name for all, leaping clocks, no issuer."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.disconnects import SHUTDOWN
from tests.cluster.conftest import Standing
from tests.support import leaping
from tests.support.crowd_life import STANDARD, Load
from tests.support.fleet import Node, fleet
from tests.support.newcomers import Newcomers, newcomers, token
from tests.unit.tokens.signing import Signer

HOUR = 3600
LET_IN = 101
TOKEN_EXPIRED = 109  # get a new one; one that is not good yet is answered so, too
TOLD_TO_GO = 3333  # any code of an operator
COOLDOWN = 10.0  # seconds between two tries to fetch keys


async def test_nodes_with_one_name_are_two(standing: Standing, load: Load) -> None:
    """They are counted apart, a command for a user meets one connection, and the drain of one is that of one."""
    settings = {"NODE__NAME": "twin", "SHUTDOWN__WINDOW": "1s"}
    async with standing(namespace="present", churn=0.0, **settings) as scene:
        crowd, (one, two, three) = scene.crowd, scene.nodes
        for node in scene.nodes:
            _, info = await crowd.api.call(node.url, "info", {})
            known = info["result"]["nodes"]
            assert ["twin"] * 3 == [it["name"] for it in known]
            assert 3 == len({it["uid"] for it in known})
        victim = crowd.on(two.url)[0].name
        closing = {"code": TOLD_TO_GO, "reason": "away with you"}
        status, answer = await crowd.api.call(one.url, "disconnect", {"user": victim, "disconnect": closing})
        assert (200, {}) == (status, answer.get("result")), answer
        await crowd.until(lambda: crowd.records.codes()[TOLD_TO_GO], 30.0, "the disconnect")
        await crowd.back(1.0, 30.0)  # who was told to go may go to the one that is drained next
        moved = len(crowd.on(one.url))
        crowd.nodes.remove(one.url)
        ended = await one.terminate(within=20.0)
        await crowd.back(1.0, 10.0)
        verdict = await scene.verdict()
        present = await scene.present(three)
    assert ended.code == 0
    assert {TOLD_TO_GO: 1, SHUTDOWN.code: moved} == {
        code: count for code, count in crowd.records.codes().items() if count
    }
    assert {it.name for it in crowd.clients} == set(present.values())
    assert load.clients == len(present)
    assert verdict.clean, verdict


async def leap(node: Node, number: signal.Signals, hours: int) -> None:
    """Let the clock of a node leap, and wait until it says by how much it is off."""
    node.send(number)
    deadline = time.monotonic() + 30.0
    while f"the clock is off by {hours} h\n" not in node.log:
        assert time.monotonic() < deadline, "the clock does not leap"
        await asyncio.sleep(0.02)


async def test_a_clock_leaps(standing: Standing) -> None:
    """An hour ahead or back moves nobody: only what is shown from then on is judged by it, with some leeway."""
    program = [sys.executable, "-P", leaping.__file__]
    async with standing(nodes=2, program=program, token_seconds=4 * HOUR) as scene:
        node, now = scene.nodes[0], int(time.time())
        soon, late = token("x", exp=now + HOUR // 2), token("x", exp=now + HOUR + 60)
        with newcomers(node.url) as people:
            assert LET_IN == await people.knock(soon)
            await leap(node, signal.SIGUSR1, 1)
            assert [TOKEN_EXPIRED, LET_IN] == [await people.knock(it) for it in (soon, late)]
            await scene.moving()
            await leap(node, signal.SIGUSR2, 0)
            await leap(node, signal.SIGUSR2, -1)
            back = int(time.time()) - HOUR
            early = (token("x", nbf=back + 20), token("x", nbf=back + 60))
            assert [LET_IN, TOKEN_EXPIRED] == [await people.knock(it) for it in early]
            await scene.moving()
            await asyncio.sleep(1.5)  # deadlines are looked at within a second
            assert not any(link.lost.done() for link in people.held)
        verdict = await scene.verdict()
    assert not scene.crowd.records.closes
    assert verdict.clean, verdict


@dataclass(slots=True)
class Issuer:
    """Publishes keys; while it is `away` it hangs up on everybody."""

    keys: list[dict[str, object]]
    port: int = 0
    away: bool = False
    asked: list[float] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, or do not."""
        await reader.readuntil(b"\r\n\r\n")
        self.asked.append(time.monotonic())
        if not self.away:
            body = json.dumps({"keys": self.keys}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()


@asynccontextmanager
async def issuing(*signers: Signer) -> AsyncIterator[Issuer]:
    """Run an issuer."""
    issuer = Issuer([it.jwk() for it in signers])
    async with await asyncio.start_server(issuer.serve, "127.0.0.1", 0) as server:
        issuer.port = server.sockets[0].getsockname()[1]
        yield issuer


async def known_only(people: Newcomers, known: Signer, unknown: Signer, done: Callable[[], object]) -> None:
    """Come with fresh tokens of both keys until it is done; only those of the known key get in."""
    deadline = time.monotonic() + 6 * COOLDOWN
    while not done():
        assert time.monotonic() < deadline, "nobody asks for the unknown key any more"
        assert LET_IN == await people.knock(known.token(claims()))
        answer = await people.knock(unknown.token(claims()))
        assert answer != LET_IN or done()
        await asyncio.sleep(0.1)


def claims() -> dict[str, object]:
    """Return claims that no token had before."""
    return {"sub": "x", "aud": "gateway", "exp": int(time.time()) + HOUR, "jti": str(time.monotonic_ns())}


async def test_the_issuer_of_keys_is_away(tmp_path: Path, load: Load) -> None:
    """Tokens of known keys are good all the time; unknown keys are asked for once in ten seconds, and found at last."""
    old, new = Signer.make("EdDSA", "old"), Signer.make("EdDSA", "new")
    outage = 4 * COOLDOWN if load == STANDARD else COOLDOWN / 2
    async with issuing(old) as issuer:
        jwks = f"http://127.0.0.1:{issuer.port}/jwks.json"
        settings = {"CLIENT__TOKEN__JWKS_PUBLIC_ENDPOINT": jwks, "CLIENT__USER_CONNECTION_LIMIT": "0"}
        async with fleet(tmp_path, ["memory://"], 1, **settings) as ships:
            with newcomers(ships.nodes[0].url) as people:
                assert LET_IN == await people.knock(old.token(claims()))
                issuer.away, until = True, time.monotonic() + outage
                await known_only(people, old, new, lambda: time.monotonic() > until)
                issuer.away, issuer.keys = False, [old.jwk(), new.jwk()]
                asked = len(issuer.asked)
                await known_only(people, old, new, lambda: len(issuer.asked) > asked)
                while await people.knock(new.token(claims())) != LET_IN:
                    assert time.monotonic() - issuer.asked[-1] < COOLDOWN / 2, "the new key is never found"
                assert not any(link.lost.done() for link in people.held)
    pauses = [later - earlier for earlier, later in itertools.pairwise(issuer.asked)]
    assert pauses
    assert min(pauses) > COOLDOWN - 0.5  # they are counted from the answer, and seen here on arrival
