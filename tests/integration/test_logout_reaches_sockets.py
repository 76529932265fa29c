"""The auth service and a gateway, each on real sockets: whoever is logged out there is put out here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from auth_service import server
from auth_service.app import create_app
from auth_service.settings import AuthSettings
from gateway.disconnects import FORCE_DISCONNECT, INVALID_TOKEN
from tests.support.engines import eventually
from tests.support.exactness import within
from tests.support.rawsocket import DEADLINE, RawSocket
from tests.support.serving import KEY, Guest, Serving, serving

PASSWORD = "correct horse battery staple"
CONNECT = "/connection/websocket"
WITHIN = within(5.0, otherwise=4.0)  # seconds until a socket is closed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Scene:
    """A gateway, the auth service that it believes, and a client of the latter."""

    gateway: Serving
    auth: httpx.AsyncClient

    async def log_in(self, user: str) -> dict[str, Any]:
        """Log a user in, who is registered with it."""
        body = {"username": user, "password": PASSWORD}
        await self.auth.post("/register", json=body)
        answer = await self.auth.post("/login", json=body)
        assert 200 == answer.status_code, answer.text
        pair: dict[str, Any] = answer.json()
        return pair

    async def connect(self, token: str) -> Guest:
        """Connect to the gateway with a token."""
        it = Guest(await RawSocket.websocket(self.gateway.url, CONNECT))
        await it.socket.send(it.ask(id=1, connect={"token": token}))
        return it

    async def connected(self, token: str) -> Guest:
        """Connect, and see to it that it stands."""
        it = await self.connect(token)
        it.frames.append(await it.socket.frame())
        assert "connect" in it.messages()[0], it.messages()
        return it

    async def metrics(self) -> dict[str, float]:
        """Return the metrics of the auth service by their lines."""
        text = (await self.auth.get("/metrics")).text
        lines = (it.rsplit(" ", 1) for it in text.splitlines() if not it.startswith("#"))
        return {name: float(value) for name, value in lines}


@asynccontextmanager
async def authenticating(settings: AuthSettings, port: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run the auth service on a socket that listens."""
    app = create_app(settings)
    running, started = server.make(app), asyncio.Event()
    serving_task = asyncio.create_task(server.serve(app, running, port, started=started.set))
    url = f"http://127.0.0.1:{port.getsockname()[1]}"
    try:
        async with asyncio.timeout(DEADLINE), httpx.AsyncClient(base_url=url, trust_env=False) as client:
            await started.wait()
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30.0) as client:
            yield client
    finally:
        running.should_exit = True
        async with asyncio.timeout(DEADLINE):
            await serving_task


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="scene")
async def _scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("auth")
    port = server.listen("127.0.0.1", 0)
    jwks = f"http://127.0.0.1:{port.getsockname()[1]}/.well-known/jwks.json"
    token = {"jwks_public_endpoint": jwks, "issuer": "auth-service", "audience": "gateway"}
    async with serving(client={"token": token}) as gateway:
        settings = AuthSettings(
            database_url=f"sqlite:///{folder}/auth.db",
            key_dir=folder / "keys",
            gateway_urls=("http://127.0.0.1:1", gateway.internal),  # nobody is at the first
            gateway_api_key=SecretStr(KEY),
            audit_file=folder / "audit.jsonl",
        )
        async with authenticating(settings, port) as auth:
            yield Scene(gateway, auth)


def bearer(pair: dict[str, Any]) -> dict[str, str]:
    """Return the header that presents an access token."""
    return {"Authorization": f"Bearer {pair['access_token']}"}


async def test_a_log_out_closes_the_session_s_sockets_and_no_others(scene: Scene) -> None:
    """3503 within five seconds; the other log-in of the same user stays; the token opens nothing more."""
    one, other = await scene.log_in("alice"), await scene.log_in("alice")
    first, second, stays = [await scene.connected(it["access_token"]) for it in (one, one, other)]
    began = time.monotonic()
    assert 204 == (await scene.auth.post("/logout", json={}, headers=bearer(one))).status_code
    async with asyncio.timeout(WITHIN):
        assert [FORCE_DISCONNECT.code] * 2 == [await it.moved() for it in (first, second)]
    assert time.monotonic() - began < WITHIN
    assert INVALID_TOKEN.code == await (await scene.connect(one["access_token"])).moved()
    await stays.socket.send(stays.ask(id=2, subscribe={"channel": "chat:x"}))
    stays.frames.append(await stays.socket.frame())
    assert 2 == stays.messages()[-1]["id"]
    stays.socket.close()


async def test_a_stolen_refresh_token_ends_what_it_opened(scene: Scene) -> None:
    """The token comes back after its successor was used: the whole family is closed."""
    stolen = await scene.log_in("bob")
    fresh = (await scene.auth.post("/refresh", json={"refresh_token": stolen["refresh_token"]})).json()
    newest = (await scene.auth.post("/refresh", json={"refresh_token": fresh["refresh_token"]})).json()
    socket = await scene.connected(newest["access_token"])
    answer = await scene.auth.post("/refresh", json={"refresh_token": stolen["refresh_token"]})
    assert 401 == answer.status_code
    async with asyncio.timeout(WITHIN):
        assert FORCE_DISCONNECT.code == await socket.moved()


async def test_a_new_password_ends_the_other_sessions(scene: Scene) -> None:
    """Whoever changes it stays, all others are put out."""
    mine, other = await scene.log_in("carol"), await scene.log_in("carol")
    stays, goes = [await scene.connected(it["access_token"]) for it in (mine, other)]
    body = {"old_password": PASSWORD, "new_password": PASSWORD + " 2"}
    assert (await scene.auth.post("/password", json=body, headers=bearer(mine))).is_success
    async with asyncio.timeout(WITHIN):
        assert FORCE_DISCONNECT.code == await goes.moved()
    (await scene.connected(mine["access_token"])).socket.close()
    stays.socket.close()


async def test_what_was_told_is_counted_and_nothing_waits(scene: Scene) -> None:
    """The metrics say how many, how soon, and that none is left; the trail of it is in the audit log."""
    pair = await scene.log_in("dave")
    before = await scene.metrics()
    await scene.auth.post("/logout", json={}, headers=bearer(pair))
    told = 'auth_closures_total{result="told"}'

    async def all_told() -> bool:
        now = await scene.metrics()
        return now.get(told, 0.0) > before.get(told, 0.0) and now["auth_closures_pending"] == 0.0

    await eventually(all_told)
    now = await scene.metrics()
    assert now["auth_closure_seconds_sum"] < WITHIN * now["auth_closure_seconds_count"]
    audited = 'auth_audit_events_total{action="gateway_told",result="ok"}'
    assert now[told] == now[audited]
