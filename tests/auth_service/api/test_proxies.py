"""Whose word counts on where a request comes from: over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from auth_service import server
from auth_service.app import create_app
from auth_service.settings import AuthSettings
from tests.auth_service.conftest import PASSWORD, PATIENCE, bearer


@asynccontextmanager
async def served(settings: AuthSettings, trusted: Sequence[str]) -> AsyncIterator[httpx.AsyncClient]:
    """Serve on a free port, as the command does."""
    listening = server.listen("127.0.0.1", 0)
    app = create_app(settings)
    running = server.make(app, trusted)
    task = asyncio.create_task(server.serve(app, running, listening))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30.0) as client:
            yield client
    finally:
        running.should_exit = True
        async with asyncio.timeout(PATIENCE):
            await task


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        ((), "203.0.113.7", "127.0.0.1"),
        (("10.0.0.0/8",), "203.0.113.7", "127.0.0.1"),
        (("127.0.0.0/8",), "203.0.113.7", "203.0.113.7"),
        (("127.0.0.0/8",), "1.1.1.1, 203.0.113.7", "203.0.113.7"),
        (("127.0.0.0/8", "10.0.0.0/8"), "1.1.1.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        (("127.0.0.0/8",), "2001:db8::1", "2001:db8::1"),
    ],
)
async def test_the_address_of_a_client(
    settings: AuthSettings, trusted: Sequence[str], forwarded: str, expected: str
) -> None:
    """Only trusted proxies are believed, and of what they were told only what the last of them saw itself."""
    async with served(settings, trusted) as client:
        alice = {"username": "alice", "password": PASSWORD}
        headers = {"X-Forwarded-For": forwarded}
        assert 201 == (await client.post("/register", json=alice)).status_code
        pair = (await client.post("/login", json=alice, headers=headers)).json()
        listed = (await client.get("/sessions", headers=bearer(pair["access_token"]))).json()
        assert [expected] == [session["address"] for session in listed["sessions"]]
