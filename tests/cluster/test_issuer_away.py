"""The auth service dies under reconnects and comes back; and tokens of keys that nobody has, in floods."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import jwt

from auth_service.keys.key import read
from gateway.demo.programs import script
from tests.support.crowd_life import STANDARD, Load
from tests.support.exactness import within
from tests.support.fleet import HOST, Node, Process, fleet
from tests.support.issuing import Issuer, issuing
from tests.support.newcomers import newcomers
from tests.support.ports import free_port
from tests.support.rawsocket import RawSocket, upgrade
from tests.unit.tokens.signing import Signer, join

LET_IN: Final = 101
COOLDOWN: Final = 10.0  # seconds between two tries to fetch keys, at least
MAX_AGE: Final = 5  # seconds that the auth service calls its keys fresh: the least that nodes act on
JWKS: Final = "/.well-known/jwks.json"


@dataclass(slots=True)
class Front:
    """Passes everything on to the auth service and notes when its keys were asked for."""

    target: int
    port: int = 0
    asked: list[float] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; while the auth service is away, by hanging up."""
        try:
            there, to = await asyncio.open_connection(HOST, self.target)
        except OSError:
            await self._listen(reader, None)
        else:
            back = asyncio.create_task(self._pump(there, writer))
            await self._listen(reader, to)
            to.close()
            await back
        writer.close()

    async def _listen(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter | None) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                self.asked += [time.monotonic()] * data.count(f"GET {JWKS} ".encode())
                if to is None:
                    return
                to.write(data)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()


@dataclass(slots=True)
class Authority:
    """The auth service, a front that counts, and tokens signed with its key."""

    process: Process
    front: Front
    keys: Path

    def token(self, user: str = "x") -> str:
        """Sign a token that nobody has presented before."""
        key = read(min(self.keys.glob("*.pem")).read_bytes())
        now = int(time.time())
        claims = {"sub": user, "aud": "gateway", "iat": now, "exp": now + 3600, "jti": str(time.monotonic_ns())}
        return jwt.encode(claims, key.private, key.algorithm, headers={"kid": key.key_id, "typ": "at+jwt"})

    def asked_since(self, moment: float) -> list[float]:
        """Return when keys were asked for, in seconds after this moment."""
        return [when - moment for when in self.front.asked if when >= moment]


@asynccontextmanager
async def authority(folder: Path) -> AsyncIterator[Authority]:
    """Run an auth service."""
    keys, port = folder / "keys", free_port()
    env = {
        "AUTH_DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'auth.db'}",
        "AUTH_KEY_DIR": str(keys),
        "AUTH_JWKS_MAX_AGE_SECONDS": str(MAX_AGE),
    }
    command = [script("auth-service"), "serve", "--host", HOST, "--port", str(port)]
    process = Process("auth-service", port, folder / "auth-service.log", command, env)
    try:
        await asyncio.to_thread(process.wait_until_ready)
        front = Front(port)
        async with await asyncio.start_server(front.serve, HOST, 0) as server:
            front.port = server.sockets[0].getsockname()[1]
            yield Authority(process, front, keys)
    finally:
        process.kill()


async def reconnecting(node: Node, make: Callable[[], str], done: Callable[[], bool]) -> Counter[int]:
    """Come to a node with fresh tokens and go again, until it is done; count the answers."""
    answers: Counter[int] = Counter()
    while not done():
        with newcomers(node.url) as people:
            answers.update(await asyncio.gather(*(people.knock(make()) for _ in range(5))))
        await asyncio.sleep(0.05)
    return answers


async def test_the_auth_service_dies_under_reconnects(tmp_path: Path, load: Load) -> None:
    """Who has a token of a known key gets in all the time, and the nodes do not storm it at its return."""
    outage = 600.0 if load == STANDARD else 1.5 * COOLDOWN
    settings = {"CLIENT__USER_CONNECTION_LIMIT": "0", "HTTP_SERVER__CONNECTIONS_PER_IP": "0"}
    async with authority(tmp_path) as auth:
        settings["CLIENT__TOKEN__JWKS_PUBLIC_ENDPOINT"] = f"http://{HOST}:{auth.front.port}{JWKS}"
        async with fleet(tmp_path, ["memory://"], 3, **settings) as ships:
            over = asyncio.Event()
            crowds = [asyncio.create_task(reconnecting(it, auth.token, over.is_set)) for it in ships.nodes]
            await asyncio.sleep(1.5 * MAX_AGE)  # a stretch of normal life, with a refresh in it
            before = auth.asked_since(0.0)
            auth.process.kill()
            died = time.monotonic()
            await asyncio.sleep(outage)  # what is tested is that nothing happens
            missed = auth.asked_since(died)
            auth.process.restart()
            await asyncio.to_thread(auth.process.wait_until_ready)
            back = time.monotonic()
            await asyncio.sleep(1.5 * COOLDOWN)
            after = auth.asked_since(back)
            over.set()
            answers = sum(await asyncio.gather(*crowds), Counter[int]())
    assert [LET_IN] == list(answers), answers
    assert answers.total() >= 3 * 5 * outage / 3
    assert len(before) <= 3 * 3
    assert 3 <= len(missed) <= 3 * (2 + outage / COOLDOWN)
    assert 3 <= len(after) <= 3 * 6  # once each within 15 s, then every 3.75 to 5 s
    assert max(Counter(int(it) for it in after).values()) <= 3


async def test_a_flood_of_tokens_of_unknown_keys(tmp_path: Path) -> None:
    """However many come, the issuer is asked once in ten seconds, and who has a good token gets in meanwhile."""
    known = Signer.make("EdDSA", "known")
    seconds = 1.2 * COOLDOWN
    async with issuing(known) as issuer:
        settings = {
            "CLIENT__TOKEN__JWKS_PUBLIC_ENDPOINT": issuer.keys_url,
            "CLIENT__CONNECTION_RATE_LIMIT": "0",
            "HTTP_SERVER__CONNECTIONS_PER_IP": "0",
        }
        async with fleet(tmp_path, ["memory://"], 1, **settings) as ships:
            node = ships.nodes[0]
            with newcomers(node.url) as people:
                assert LET_IN == await people.knock(known.token(claims()))
                until = time.monotonic() + seconds
                floods = [asyncio.create_task(flood(node, until)) for _ in range(20)]
                while time.monotonic() < until:
                    assert LET_IN == await people.knock(known.token(claims()))
                    await asyncio.sleep(0.5)
                statuses = sum(await asyncio.gather(*floods), Counter[int]())
    assert {401, 503} >= set(statuses)
    assert statuses.total() > within(100.0, otherwise=0.3) * seconds
    assert 1 <= len(issuer.asked) <= 1 + seconds // COOLDOWN
    assert pauses(issuer) == [it for it in pauses(issuer) if it > COOLDOWN - 0.5]


def pauses(issuer: Issuer) -> list[float]:
    """Return the seconds between two requests."""
    times = [when for _, when in issuer.asked]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def claims() -> dict[str, object]:
    """Return claims that no token had before."""
    return {"sub": "x", "aud": "gateway", "exp": int(time.time()) + 3600, "jti": str(time.monotonic_ns())}


async def flood(node: Node, until: float) -> Counter[int]:
    """Shake hands with tokens of keys that nobody has, as fast as one can; count the answers."""
    statuses: Counter[int] = Counter()
    while time.monotonic() < until:
        token = join({"alg": "EdDSA", "kid": f"made-up-{time.monotonic_ns()}"}, claims(), b"s" * 64)
        link = await RawSocket.connect(node.url)
        await link.send(upgrade("/ws", f"Authorization: Bearer {token}"))
        statuses[(await link.head()).status] += 1
        link.close()
    return statuses
