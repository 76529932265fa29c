"""What the dashboard is looked at with: nodes, an auth service and a Valkey under load, and a Prometheus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
from websockets.asyncio.client import connect

from gateway.demo.ports import free_port
from gateway.demo.programs import script
from tests.support.crowd_life import Load
from tests.support.fleet import API_KEY, HOST, Process
from tests.support.needs import redis_exporter
from tests.support.prometheus import Prometheus, watching
from tests.support.scene import Scene, standing

SPEED: Final = 10.0  # times as fast as in earnest: a scrape a second
NODES: Final = 3
LOAD: Final = Load(
    clients=240, channels=24, publishes=60.0, churn=0.2, stay=(4.0, 20.0), namespace="present", by_command=True
)
PASSWORD: Final = "correct horse battery staple"  # noqa: S105 - of users who live as long as a test
PAUSE: Final = 0.2  # seconds between two users
GUESSES: Final = 8  # more than an account bears


@dataclass(slots=True)
class Stage:
    """Everything that the dashboard shows; `auth` answers log-ins."""

    scene: Scene
    auth: Process
    prometheus: Prometheus

    async def cut_pubsub(self) -> None:
        """Let the Valkey close the pub/sub links of all nodes: what they miss they mend."""
        links = self.scene.valkey.command("CLIENT", "KILL", "TYPE", "pubsub")
        assert links >= len(self.scene.nodes), f"{links} links"

    async def drain_last(self) -> None:
        """Let the last node go as it should, and come back."""
        node = self.scene.nodes[-1]
        self.scene.crowd.nodes.remove(node.url)
        ended = await node.terminate()
        assert ended.code == 0, node.tail()
        await self.scene.restart(node)
        self.scene.crowd.nodes.append(node.url)


@asynccontextmanager
async def staged(folder: Path, load: Load = LOAD) -> AsyncIterator[Stage]:
    """Run it all; entered when everybody is there, users log in, and Prometheus has seen every target.

    `folder` takes logs and data. Without redis_exporter, what it would tell is missing.
    """
    port = free_port()
    async with standing(
        folder,
        load,
        nodes=NODES,
        CLIENT__TOKEN__JWKS_PUBLIC_ENDPOINT=f"http://{HOST}:{port}/.well-known/jwks.json",
        HTTP_SERVER__MEMORY_LIMIT=str(1 << 30),
        SHUTDOWN__WINDOW="5s",
    ) as scene:
        auth_env = {
            "AUTH_DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'auth.db'}",
            "AUTH_KEY_DIR": str(folder / "keys"),
            "AUTH_ATTEMPTS_PER_ADDRESS": "100000",  # all users come from here
            "AUTH_GATEWAY_URLS": scene.nodes[0].url,
            "AUTH_GATEWAY_API_KEY": API_KEY,
        }
        command = [script("auth-service"), "serve", "--host", HOST, "--port", str(port)]
        with (
            _running(Process("auth-service", port, folder / "auth.log", command, auth_env)) as auth,
            _exporting(folder, scene) as redis,
        ):
            auth.wait_until_ready()
            targets = {"gateway": [_address(it) for it in scene.nodes], "auth": [_address(auth)], **redis}
            async with _users(auth, scene.nodes), watching(folder / "prometheus", targets, SPEED) as prometheus:
                yield Stage(scene, auth, prometheus)


def _address(process: Process) -> str:
    return f"{process.host}:{process.port}"


@contextmanager
def _running(process: Process) -> Iterator[Process]:
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def _exporting(folder: Path, scene: Scene) -> Iterator[Mapping[str, list[str]]]:
    """Run redis_exporter beside the Valkey, where there is one; yield its target."""
    program = redis_exporter()
    if program is None:
        yield {}
        return
    port = free_port()
    where = [f"-redis.addr=redis://{HOST}:{scene.valkey.port}", f"-web.listen-address={HOST}:{port}"]
    with _running(Process("redis-exporter", port, folder / "exporter.log", [program, *where], {})) as exporter:
        yield {"redis": [_address(exporter)]}


@asynccontextmanager
async def _users(auth: Process, nodes: Sequence[Process]) -> AsyncIterator[None]:
    """Let users register, log in, connect, renew and log out, one after the other, and somebody guess at passwords."""
    async with httpx.AsyncClient(base_url=auth.url, trust_env=False, timeout=30.0) as http:
        for node in nodes:  # what is wrong with it shows at once
            await _live(http, node)
        task = asyncio.create_task(_come_and_go(http, nodes[0]))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _come_and_go(http: httpx.AsyncClient, node: Process) -> None:
    while True:
        await _live(http, node)
        await asyncio.sleep(PAUSE)


async def _live(http: httpx.AsyncClient, node: Process) -> None:
    form = {"username": f"user-{uuid4().hex[:12]}", "password": PASSWORD}
    (await http.post("/register", json=form)).raise_for_status()
    pair = (await http.post("/login", data=form)).raise_for_status().json()
    async with connect(node.centrifuge_url) as link:
        await link.send(json.dumps({"id": 1, "connect": {"token": pair["access_token"]}}))
        answer = json.loads(await link.recv())
        assert "connect" in answer, answer
    pair = (await http.post("/refresh", json={"refresh_token": pair["refresh_token"]})).raise_for_status().json()
    (await http.post("/logout", json={"refresh_token": pair["refresh_token"]})).raise_for_status()
    for guess in range(GUESSES):
        refused = await http.post("/login", data=form | {"password": f"a guess of mine, number {guess}"})
        assert refused.status_code in {401, 429}, refused.text
