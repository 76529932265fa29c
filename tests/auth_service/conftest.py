"""An auth service in this process, with a clock to turn."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import structlog

from auth_service.accounts.policy import SubscriptionPolicy
from auth_service.app import create_app
from auth_service.settings import AuthSettings
from auth_service.store import engines, migrated
from tests.support.clock import ManualClock
from tests.support.postgres import Postgres

PASSWORD = "correct horse"
PATIENCE = 60.0

Running = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let databases take their time: the machine may be busy with other tests."""
    monkeypatch.setattr(engines, "_WAIT_SECONDS", PATIENCE)
    monkeypatch.setattr(engines, "_ANSWER_SECONDS", PATIENCE)


@pytest.fixture(scope="session", name="postgres")
def _postgres() -> Iterator[Postgres]:
    """Run one cluster for all tests of this process; each has a database of its own in it."""
    cluster = Postgres()
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(name="postgres_url")
def _postgres_url(postgres: Postgres) -> str:
    return postgres.database(f"test_{uuid4().hex}")


@pytest.fixture(scope="session", name="tables")
def _tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the tables once, in a file for those tests to copy that are not about how tables are made."""
    file = tmp_path_factory.mktemp("tables") / "auth.db"
    asyncio.run(migrated(f"sqlite:///{file}"))
    return file


@pytest.fixture(scope="session", name="postgres_tables")
def _postgres_tables(postgres: Postgres) -> str:
    """Do the same on PostgreSQL; return the name of the database."""
    name = "tables"
    asyncio.run(migrated(postgres.database(name)))
    return name


KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))]


@pytest.fixture(name="empty_url", params=KINDS)
def _empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database, of each kind that we know."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/auth.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(name="database_url", params=KINDS)
def _database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database with empty tables, of each kind that we know."""
    if request.param == "sqlite":
        return f"sqlite:///{shutil.copy(request.getfixturevalue('tables'), tmp_path)}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database(f"test_{uuid4().hex}", like=request.getfixturevalue("postgres_tables"))


@pytest.fixture(name="logs")
def _logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[structlog.typing.EventDict]]:
    """Collect what is logged in this process, where nobody is to set logging up."""
    monkeypatch.setattr("auth_service.log.configure", lambda: None)
    with structlog.testing.capture_logs() as logs:
        yield logs


@pytest.fixture(name="settings")
def _settings(tmp_path: Path) -> AuthSettings:
    return AuthSettings(
        database_url=f"sqlite+aiosqlite:///{tmp_path}/auth.db",
        key_dir=tmp_path / "keys",
        cors_origins=("http://127.0.0.1:8000",),
        subscription_channels=("$chat:*", "$inbox:{user}"),
    )


@pytest.fixture(name="running")
def _running(settings: AuthSettings, clock: ManualClock, tables: Path) -> Running:
    """Run an app with changed settings; the client speaks ASGI to it. Unless told otherwise it finds its tables."""
    shutil.copy(tables, settings.database_url.removeprefix("sqlite+aiosqlite:///"))

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
