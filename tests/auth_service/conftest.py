"""An auth service in this process, with a clock to turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from auth_service.app import create_app
from auth_service.policy import SubscriptionPolicy
from auth_service.settings import AuthSettings
from tests.support.clock import ManualClock

PASSWORD = "correct horse"

Running = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(name="settings")
def _settings(tmp_path: Path) -> AuthSettings:
    return AuthSettings(
        database_url=f"sqlite+aiosqlite:///{tmp_path}/auth.db",
        key_file=tmp_path / "key.pem",
        cors_origins=("http://127.0.0.1:8000",),
        subscription_channels=("$chat:*", "$inbox:{user}"),
    )


@pytest.fixture(name="running")
def _running(settings: AuthSettings, clock: ManualClock) -> Running:
    """Run an app with changed settings; the client speaks ASGI to it."""

    @asynccontextmanager
    async def run(policy: SubscriptionPolicy | None = None, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(settings.model_copy(update=changes), policy=policy, clock=clock.wall)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://auth") as client:
                yield client

    return run


@pytest.fixture(name="client")
async def _client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running() as client:
        yield client


@pytest.fixture(name="alice")
async def _alice(client: httpx.AsyncClient) -> dict[str, Any]:
    """Register alice and log her in."""
    await client.post("/register", json={"username": "alice", "password": PASSWORD})
    answer = await client.post("/login", json={"username": "alice", "password": PASSWORD})
    assert 200 == answer.status_code
    pair: dict[str, Any] = answer.json()
    return pair


def bearer(token: str) -> dict[str, str]:
    """Return the header that presents a token."""
    return {"Authorization": f"Bearer {token}"}


def fault(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of a refusal, which has our form and nothing else."""
    body = answer.json()
    assert {"error"} == set(body)
    assert {"code", "message"} == set(body["error"])
    return answer.status_code, body["error"]["code"]


async def metric(client: httpx.AsyncClient, line: str) -> float:
    """Return the value of one line of the metrics, 0 if it is not there."""
    text = (await client.get("/metrics")).text
    return next((float(each.split()[-1]) for each in text.splitlines() if each.startswith(f"{line} ")), 0.0)
