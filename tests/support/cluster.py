"""A cluster of real processes on free ports: Valkey, the auth service, and as many gateway nodes as a test wants."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import jwt

from auth_service.keys.key import read
from gateway.demo.programs import script
from tests.support.fleet import API_KEY, HOST, Process
from tests.support.ports import free_port

PLAIN = {  # a namespace whose channels have neither history nor presence, though whoever wants may ask
    "name": "plain",
    "allow_subscribe_for_client": True,
    "allow_publish_for_client": True,
    "allow_history_for_client": True,
    "allow_presence_for_client": True,
}


@dataclass(slots=True)
class Account:
    """A user of the auth service who has logged in."""

    user: str
    access_token: str
    _refresh_token: str
    _auth_url: str
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # a refresh token is good for one use

    async def token(self, channel: str = "") -> str:
        """Get a fresh token: to connect with, or to subscribe to a channel."""
        async with self._turn, _http(self._auth_url) as http:
            if channel:
                bearer = {"Authorization": f"Bearer {self.access_token}"}
                answer = await http.post("/tokens/subscription", json={"channel": channel}, headers=bearer)
                return str(answer.raise_for_status().json()["token"])
            answer = await http.post("/refresh", json={"refresh_token": self._refresh_token})
            pair = answer.raise_for_status().json()
            self.access_token, self._refresh_token = pair["access_token"], pair["refresh_token"]
            return self.access_token


class Cluster:
    """The processes of one cluster; `nodes` are those that stay as long as it does."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._folder = folder
        self._redis_url = redis_url
        self._keys = folder / "keys"
        self.processes: list[Process] = []
        self.nodes: list[Process] = []
        env = {
            "AUTH_DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'auth.db'}",
            "AUTH_KEY_DIR": str(self._keys),
            "AUTH_ATTEMPTS_PER_ADDRESS": "1000",  # all tests register from one address
        }
        self.auth = self._start("auth-service", [script("auth-service"), "serve", "--host", HOST], env)

    def _start(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> Process:
        port = free_port()
        process = Process(name, port, self._folder / f"{name}.log", [*command, "--port", str(port)], env)
        self.processes.append(process)
        return process

    @contextmanager
    def node(self, name: str, **settings: str) -> Iterator[Process]:
        """Run one more node; settings by variable name without GATEWAY_. It is not waited for."""
        env = {
            "ENGINE__URL": self._redis_url,
            "CLIENT__TOKEN__JWKS_PUBLIC_ENDPOINT": f"{self.auth.url}/.well-known/jwks.json",
            "CLIENT__TOKEN__LEEWAY": "0s",
            "CLIENT__EXPIRED_CLOSE_DELAY": "3s",
            "CLIENT__EXPIRED_SUB_CLOSE_DELAY": "3s",
            "CHANNEL__NAMESPACES": json.dumps([PLAIN]),
            "HTTP_API__KEY": API_KEY,
            "NODE__NAME": name,
            **settings,
        }
        command = [script("gateway"), "serve", "--host", HOST]
        process = self._start(name, command, {f"GATEWAY_{key}": value for key, value in env.items()})
        try:
            yield process
        finally:
            process.stop()

    async def account(self, name: str) -> Account:
        """Register a user whom no other test knows, and log in."""
        form = {"username": f"{name}-{uuid4().hex[:8]}", "password": "correct horse battery staple"}
        async with _http(self.auth.url) as http:
            (await http.post("/register", json=form)).raise_for_status()
            pair = (await http.post("/login", data=form)).raise_for_status().json()
        return Account(form["username"], pair["access_token"], pair["refresh_token"], self.auth.url)

    def signed(self, user: str, ttl: float, **claims: str) -> str:
        """Sign a token with the auth service's key, for lives that it would not give; a negative one has expired."""
        key, now = read((self._keys / "first.pem").read_bytes()), int(time.time())
        told = {"sub": user, "aud": "gateway", "iss": "auth-service", "exp": now + ttl, **claims}
        return jwt.encode(told, key.private, key.algorithm, headers={"kid": key.key_id})

    def tails(self) -> list[tuple[str, str]]:
        """Return the end of every log."""
        return [(f"log of {it.name}", it.tail()) for it in self.processes]


@contextmanager
def running(folder: Path, redis_url: str) -> Iterator[Cluster]:
    """Run an auth service and two nodes; all are ready."""
    cluster = Cluster(folder, redis_url)
    with ExitStack() as stack:
        stack.callback(cluster.auth.stop)
        cluster.nodes += [stack.enter_context(cluster.node(name)) for name in ("node-1", "node-2")]
        for process in cluster.processes:
            process.wait_until_ready()
        yield cluster


def _http(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, trust_env=False, timeout=30.0)
