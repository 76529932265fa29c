"""Two auth services on one folder of keys, two nodes, and a crowd that comes again and again with fresh tokens."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import httpx
import jwt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from auth_service.keys.key import SigningKey, read
from gateway.demo.programs import clean_environment, script
from tests.support.deadlines import said
from tests.support.fleet import API_KEY, HOST, Process
from tests.support.ports import free_port

LIFE = 8  # seconds of an access token
LEEWAY = 2  # seconds that a key is published beyond that
STAY = (0.5, 2.5)  # seconds that a client stays each time
ANSWER = 30.0  # seconds that a node may take, on a machine that does more
TRIES = 5  # at an auth service that is too busy
PER_ACCOUNT = 10  # clients that use the tokens of one account: each log-in costs a hash
PASSWORD = "correct horse battery staple"


@dataclass(slots=True)
class Account:
    """A user who is logged in at one of the services, and refreshes without end."""

    http: httpx.AsyncClient
    refresh_token: str
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def token(self) -> str:
        """Get a fresh token."""
        async with self.turn:
            pair = await _post(self.http, "/refresh", {"refresh_token": self.refresh_token})
            self.refresh_token = pair["refresh_token"]
            return str(pair["access_token"])


class Attempt(NamedTuple):
    """One knock with a token that was good when it was answered; `refusal` empty = let in."""

    at: float  # monotonic time of the answer
    node: str
    key_id: str
    refusal: str


@dataclass(slots=True)
class Rotating:
    """What runs, and what the crowd saw."""

    folder: Path
    env: dict[str, str]  # of the auth services
    auths: Sequence[Process]
    nodes: Sequence[Process]
    attempts: list[Attempt] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)  # how connections ended that were let in and did not want to go

    @property
    def keys(self) -> dict[str, SigningKey]:
        """The keys in the folder, by the names of their files, as a thief would copy them."""
        found = {}
        for file in sorted((self.folder / "keys").glob("[!.]*.pem")):
            with suppress(FileNotFoundError):
                found[file.name] = read(file.read_bytes())
        return found

    def refused(self, since: float = 0.0) -> Counter[tuple[str, str]]:
        """Count refusals of good tokens by node and what was said."""
        return Counter((it.node, it.refusal) for it in self.attempts if it.refusal and it.at >= since)

    async def until_signed(self, keys: int, within: float) -> None:
        """Wait until tokens of so many keys were let in."""
        async with asyncio.timeout(within):
            while len({it.key_id for it in self.attempts if not it.refusal}) < keys:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.05)

    async def token(self) -> str:
        """Get a token of a user of whom the crowd knows nothing."""
        async with AsyncExitStack() as stack:
            account = await _account(stack, self.auths[0], f"guest-{uuid4().hex[:8]}")
            return await account.token()

    async def command(self, *words: str) -> str:
        """Run `auth-service` to its end and return what it printed."""
        process = await asyncio.create_subprocess_exec(
            script("auth-service"),
            *words,
            env={**clean_environment(), **self.env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await said(process, f"auth-service {words[0]}")
        assert process.returncode == 0, err.decode()
        return out.decode()

    async def come_and_go(self, account: Account, node: Process) -> None:
        """Be one client for ever."""
        while True:
            token = await account.token()
            async with asked(node, token) as (socket, refusal):
                claims = jwt.decode(token, options={"verify_signature": False})
                if not refusal or time.time() < claims["exp"]:  # else it came too late, on a machine that does more
                    key_id = jwt.get_unverified_header(token)["kid"]
                    self.attempts.append(Attempt(time.monotonic(), node.name, key_id, refusal))
                if not refusal:
                    await self._stay(socket)

    async def _stay(self, socket: ClientConnection) -> None:
        try:
            async with asyncio.timeout(random.uniform(*STAY)):
                while True:
                    await socket.recv()
        except TimeoutError:
            return
        except ConnectionClosed as closed:
            self.cut.append(_said(closed))


def forged(key: SigningKey) -> str:
    """Return what a thief of a key makes of it."""
    now = int(time.time())
    claims = {"sub": "mallory", "aud": "gateway", "iss": "auth-service", "iat": now, "exp": now + 3600}
    return jwt.encode(claims, key.private, key.algorithm, headers={"kid": key.key_id, "typ": "at+jwt"})


@asynccontextmanager
async def asked(node: Process, token: str) -> AsyncIterator[tuple[ClientConnection, str]]:
    """Connect with a token; yields the connection and why it was refused, empty for one that was let in."""
    async with connect(node.centrifuge_url, proxy=None, compression=None, open_timeout=ANSWER) as socket:
        try:
            await socket.send(json.dumps({"id": 1, "connect": {"token": token}}))
            async with asyncio.timeout(ANSWER):
                reply = json.loads(await socket.recv())
            refusal = "" if "connect" in reply else f"error {reply['error']['code']}"
        except ConnectionClosed as closed:
            refusal = _said(closed)
        yield socket, refusal


async def takes(node: Process, key: SigningKey) -> str:
    """Return why a node refuses a thief's token, empty if it does not."""
    async with asked(node, forged(key)) as (_, refusal):
        return refusal


@asynccontextmanager
async def rotating(folder: Path, redis_url: str, *, clients: int, push: bool, **auth: int) -> AsyncIterator[Rotating]:
    """Run it all, and the crowd; `auth` are settings of the auth services, `push` has them tell the nodes."""
    ports = [free_port() for _ in range(2)]
    env = {
        "AUTH_DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'auth.db'}",
        "AUTH_KEY_DIR": str(folder / "keys"),
        "AUTH_ATTEMPTS_PER_ADDRESS": "1000",  # everybody registers from one address
        "AUTH_ACCESS_TOKEN_SECONDS": str(LIFE),
        "AUTH_SUBSCRIPTION_TOKEN_SECONDS": str(LIFE),
        "AUTH_TICKET_SECONDS": "5",
        "AUTH_KEY_LEEWAY_SECONDS": str(LEEWAY),
        **{f"AUTH_{name.upper()}": str(value) for name, value in auth.items()},
    }
    if push:
        urls = json.dumps([f"http://{HOST}:{port}" for port in ports])
        env |= {"AUTH_GATEWAY_URLS": urls, "AUTH_GATEWAY_API_KEY": API_KEY}
    async with AsyncExitStack() as stack:
        auths = [_auth(folder, f"auth-{number}", env) for number in (1, 2)]
        nodes = [_node(folder, redis_url, *each) for each in zip(("node-1", "node-2"), ports, auths, strict=True)]
        for process in (*auths, *nodes):
            stack.callback(process.stop)
        for process in (*auths, *nodes):
            await asyncio.to_thread(process.wait_until_ready)
        it = Rotating(folder, env, auths, nodes)
        accounts = [await _account(stack, auths[n % 2], f"user-{n}") for n in range(-(-clients // PER_ACCOUNT))]
        crowd = await stack.enter_async_context(_crowd())
        for number in range(clients):  # accounts of either service at either node
            account = accounts[number % len(accounts)]
            crowd.append(asyncio.create_task(it.come_and_go(account, nodes[number // len(accounts) % 2])))
        yield it
        ended = [task.exception() for task in crowd if task.done()]
        assert not ended, repr(ended[0])


@asynccontextmanager
async def _crowd() -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks: list[asyncio.Task[None]] = []
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _auth(folder: Path, name: str, env: dict[str, str]) -> Process:
    port = free_port()
    command = [script("auth-service"), "serve", "--host", HOST, "--port", str(port)]
    return Process(name, port, folder / f"{name}.log", command, env)


def _node(folder: Path, redis_url: str, name: str, port: int, auth: Process) -> Process:
    env = {
        "GATEWAY_ENGINE__URL": redis_url,
        "GATEWAY_CLIENT__TOKEN__JWKS_PUBLIC_ENDPOINT": f"{auth.url}/.well-known/jwks.json",
        "GATEWAY_CLIENT__TOKEN__LEEWAY": "0s",
        "GATEWAY_CLIENT__USER_CONNECTION_LIMIT": "0",
        "GATEWAY_HTTP_API__KEY": API_KEY,
        "GATEWAY_NODE__NAME": name,
    }
    command = [script("gateway"), "serve", "--host", HOST, "--port", str(port)]
    return Process(name, port, folder / f"{name}.log", command, env)


async def _account(stack: AsyncExitStack, auth: Process, name: str) -> Account:
    http = await stack.enter_async_context(httpx.AsyncClient(base_url=auth.url, trust_env=False, timeout=30.0))
    form = {"username": name, "password": PASSWORD}
    await _post(http, "/register", form)
    pair = await _post(http, "/login", form)
    return Account(http, pair["refresh_token"])


async def _post(http: httpx.AsyncClient, path: str, form: dict[str, str]) -> dict[str, str]:
    """Ask as a client should: again, a few times, when told that it is too busy now, and when to come."""
    answer = await http.post(path, json=form)
    for _ in range(TRIES):
        if answer.status_code != 503:
            break
        await asyncio.sleep(float(answer.headers["Retry-After"]))
        answer = await http.post(path, json=form)
    pair: dict[str, str] = answer.raise_for_status().json()
    return pair


def _said(closed: ConnectionClosed) -> str:
    return f"close {closed.rcvd.code}" if closed.rcvd else "cut"
