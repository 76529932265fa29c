"""What users do with their sessions, over HTTP: list them, end them, change the password, look at themselves."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest

from auth_service.app import create_app
from auth_service.settings import AuthSettings
from auth_service.store import Claims
from tests.auth_service.conftest import PASSWORD, Running, bearer, fault, metric
from tests.support.clock import ManualClock

NEW = "another horse, another staple"


def sid(pair: dict[str, Any]) -> str:
    """Return the session of a pair."""
    claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
    return str(claims["sid"])


async def log_in(client: httpx.AsyncClient, name: str = "alice", password: str = PASSWORD) -> dict[str, Any]:
    """Begin a session."""
    answer = await client.post("/login", json={"username": name, "password": password})
    assert 200 == answer.status_code
    pair: dict[str, Any] = answer.json()
    return pair


async def works(client: httpx.AsyncClient, pair: dict[str, Any]) -> bool:
    """Whether a session lives; if not, neither of its tokens gets anything."""
    ticket = await client.post("/ticket", headers=bearer(pair["access_token"]))
    refresh = await client.post("/refresh", json={"refresh_token": pair["refresh_token"]})
    assert ticket.status_code == refresh.status_code
    return ticket.status_code == 200


def closures(settings: AuthSettings) -> set[tuple[str, str]]:
    """Return what the gateway is to be told."""
    connection = sqlite3.connect(settings.database_url.removeprefix("sqlite+aiosqlite:///"))
    try:
        return set(connection.execute("SELECT kind, value FROM closures").fetchall())
    finally:
        connection.close()


@pytest.fixture(name="bob")
async def _bob(client: httpx.AsyncClient) -> dict[str, Any]:
    await client.post("/register", json={"username": "bob", "password": PASSWORD})
    return await log_in(client, "bob")


async def test_sessions_are_listed(client: httpx.AsyncClient, alice: dict[str, Any], clock: ManualClock) -> None:
    """With what a user knows them by; the one that asks is marked; nobody else's are there."""
    first = clock.wall()
    clock.advance(100)
    headers = {"User-Agent": "Fire\x07fox " + "x" * 300}
    other = (await client.post("/login", json={"username": "alice", "password": PASSWORD}, headers=headers)).json()
    answer = await client.get("/sessions", headers=bearer(alice["access_token"]))
    assert (200, "no-store") == (answer.status_code, answer.headers["cache-control"])
    newest, oldest = answer.json()["sessions"]
    assert {"id", "current", "created_at", "used_at", "ends_at", "agent", "address"} == set(newest)
    assert (sid(other), False, "127.0.0.1") == (newest["id"], newest["current"], newest["address"])
    assert ("Firefox " + "x" * 192) == newest["agent"]
    assert (sid(alice), True, first) == (oldest["id"], oldest["current"], oldest["created_at"])
    await client.post("/refresh", json={"refresh_token": alice["refresh_token"]})
    again = (await client.get("/sessions", headers=bearer(alice["access_token"]))).json()["sessions"]
    assert {(sid(alice), first + 100), (sid(other), first + 100)} == {(it["id"], it["used_at"]) for it in again}


async def test_a_session_is_ended_from_another(
    client: httpx.AsyncClient, alice: dict[str, Any], bob: dict[str, Any], settings: AuthSettings
) -> None:
    """One's own, once; nobody else's can be, nor be told from none."""
    other = await log_in(client)
    mine = bearer(alice["access_token"])
    for target, expected in ((sid(bob), 404), (sid(other), 204), (sid(other), 404), ("nothing", 404)):
        assert expected == (await client.delete(f"/sessions/{target}", headers=mine)).status_code
    assert not await works(client, other)
    assert await works(client, bob)
    assert {("sid", sid(other))} == closures(settings)
    assert await works(client, alice)


async def test_a_session_may_end_itself(client: httpx.AsyncClient, alice: dict[str, Any]) -> None:
    """That is a logout by another name."""
    assert 204 == (await client.delete(f"/sessions/{sid(alice)}", headers=bearer(alice["access_token"]))).status_code
    assert not await works(client, alice)


@pytest.mark.parametrize("by", ["bearer", "refresh_token"])
async def test_log_out_everywhere(
    client: httpx.AsyncClient, alice: dict[str, Any], bob: dict[str, Any], settings: AuthSettings, by: str
) -> None:
    """With `all`, every session of the user ends, and the gateway is to be told of each."""
    others = [await log_in(client) for _ in range(3)]
    if by == "bearer":
        answer = await client.post("/logout", json={"all": True}, headers=bearer(alice["access_token"]))
    else:
        answer = await client.post("/logout", json={"all": True, "refresh_token": alice["refresh_token"]})
    assert 204 == answer.status_code
    assert [False] * 4 == [await works(client, it) for it in (alice, *others)]
    assert await works(client, bob)
    assert {("sid", sid(it)) for it in (alice, *others)} == closures(settings)
    assert 4.0 == await metric(client, "auth_logouts_total")


async def test_another_password(
    client: httpx.AsyncClient, alice: dict[str, Any], bob: dict[str, Any], settings: AuthSettings
) -> None:
    """The old one ends with all sessions but the one that asks."""
    other = await log_in(client)
    body = {"old_password": PASSWORD, "new_password": NEW}
    answer = await client.post("/password", json=body, headers=bearer(alice["access_token"]))
    assert (204, b"") == (answer.status_code, answer.content)
    assert [True, False, True] == [await works(client, it) for it in (alice, other, bob)]
    assert {("sid", sid(other))} == closures(settings)
    assert (401, "invalid_credentials") == fault(
        await client.post("/login", json={"username": "alice", "password": PASSWORD})
    )
    assert await works(client, await log_in(client, password=NEW))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"old_password": "not the password", "new_password": NEW}, (401, "invalid_credentials")),
        ({"old_password": PASSWORD, "new_password": "short"}, (400, "bad_request")),
        ({"old_password": PASSWORD, "new_password": "password1"}, (400, "bad_request")),
        ({"old_password": PASSWORD, "new_password": "alice1234"}, (400, "bad_request")),
        ({"old_password": PASSWORD}, (400, "bad_request")),
    ],
)
async def test_a_password_that_stays(
    client: httpx.AsyncClient, alice: dict[str, Any], body: dict[str, str], expected: tuple[int, str]
) -> None:
    """Who does not know the old one or chooses a bad one changes nothing."""
    other = await log_in(client)
    assert expected == fault(await client.post("/password", json=body, headers=bearer(alice["access_token"])))
    assert [True, True] == [await works(client, alice), await works(client, other)]
    await log_in(client)


async def test_who_holds_a_session_cannot_guess_its_password(client: httpx.AsyncClient, alice: dict[str, Any]) -> None:
    """Guesses at the old password are throttled as log-ins are."""
    body = {"old_password": "not the password", "new_password": NEW}
    codes = [
        (await client.post("/password", json=body, headers=bearer(alice["access_token"]))).status_code
        for _ in range(10)
    ]
    assert 429 == codes[-1]


async def test_an_address_registers_and_asks_for_so_many_names_a_minute(
    client: httpx.AsyncClient, clock: ManualClock
) -> None:
    """Each costs a hash, adds a user or says that a name is taken: 20 of either kind; log-ins are counted apart."""

    async def codes() -> list[int]:
        bodies = [{"username": f"user{number}", "password": PASSWORD} for number in range(30)]
        return [(await client.post("/register", json=body)).status_code for body in bodies]

    assert [201] * 20 + [429] * 10 == await codes()
    user0 = {"username": "user0", "password": PASSWORD}
    assert 200 == (await client.post("/login", json=user0)).status_code
    clock.advance(61)
    assert [409] * 20 + [429] * 10 == await codes()


async def test_me(running: Running, settings: AuthSettings) -> None:
    """Says who asks, and what tokens say from now on: roles, info and channels as an operator set them."""
    claims = Claims(("editor",), {"name": "Alice"}, ("news",))
    async with running() as client:
        await client.post("/register", json={"username": "alice", "password": PASSWORD})
        alice = await log_in(client)
        me = (await client.get("/me", headers=bearer(alice["access_token"]))).json()
        assert ("alice", sid(alice), [], None, []) == tuple(
            me[name] for name in ("user", "session", "roles", "info", "channels")
        )
        _set(settings, claims)
        me = (await client.get("/me", headers=bearer(alice["access_token"]))).json()
        assert (["editor"], {"name": "Alice"}, ["news"]) == (me["roles"], me["info"], me["channels"])
        assert {"editor"}.isdisjoint(jwt.decode(alice["access_token"], options={"verify_signature": False}))
        pair = (await client.post("/refresh", json={"refresh_token": alice["refresh_token"]})).json()
        ticket = (await client.post("/ticket", headers=bearer(pair["access_token"]))).json()["ticket"]
        for token in (pair["access_token"], ticket):
            said = jwt.decode(token, options={"verify_signature": False})
            assert claims.said() == {name: said[name] for name in ("roles", "info", "channels")}


def _set(settings: AuthSettings, claims: Claims) -> None:
    connection = sqlite3.connect(settings.database_url.removeprefix("sqlite+aiosqlite:///"))
    connection.execute(
        "UPDATE users SET roles = ?, info = ?, channels = ?", ('["editor"]', '{"name": "Alice"}', '["news"]')
    )
    connection.commit()
    connection.close()
    assert claims.roles


async def test_the_policy_knows_the_roles(running: Running, settings: AuthSettings) -> None:
    """As they are now, not as the token says."""
    async with running(policy=lambda caller, channel: channel in caller.roles) as client:
        await client.post("/register", json={"username": "alice", "password": PASSWORD})
        alice = bearer((await log_in(client))["access_token"])
        body = {"channel": "editor"}
        assert (403, "channel_denied") == fault(await client.post("/tokens/subscription", json=body, headers=alice))
        _set(settings, Claims(("editor",)))
        assert 200 == (await client.post("/tokens/subscription", json=body, headers=alice)).status_code


async def test_a_disabled_user_is_refused_like_a_stranger(
    client: httpx.AsyncClient, alice: dict[str, Any], settings: AuthSettings
) -> None:
    """No log-in, and no token of the sessions there were gets anything; the answer does not say why."""
    connection = sqlite3.connect(settings.database_url.removeprefix("sqlite+aiosqlite:///"))
    connection.execute("UPDATE users SET disabled_at = 1")
    connection.commit()
    connection.close()
    assert not await works(client, alice)
    refused = await client.post("/login", json={"username": "alice", "password": PASSWORD})
    stranger = await client.post("/login", json={"username": "nobody", "password": PASSWORD})
    assert (401, "invalid_credentials") == fault(refused)
    assert stranger.content == refused.content


@pytest.mark.parametrize("path", ["/me", "/sessions"])
async def test_a_bearer_is_needed(client: httpx.AsyncClient, path: str) -> None:
    """Without one nobody learns anything."""
    assert (401, "invalid_token") == fault(await client.get(path))
    assert (401, "invalid_token") == fault(await client.get(path, headers=bearer("rubbish")))
    assert (401, "invalid_token") == fault(await client.delete("/sessions/x"))
    assert (401, "invalid_token") == fault(await client.post("/password", json={}))


@pytest.fixture(name="on_postgresql")
async def _on_postgresql(
    settings: AuthSettings, postgres_url: str, clock: ManualClock
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Run two replicas on one PostgreSQL."""
    apps = [create_app(settings.model_copy(update={"database_url": postgres_url}), clock=clock.wall) for _ in range(2)]
    async with apps[0].router.lifespan_context(apps[0]), apps[1].router.lifespan_context(apps[1]):
        transports = [httpx.ASGITransport(app) for app in apps]
        yield [httpx.AsyncClient(transport=it, base_url="http://auth") for it in transports]


@pytest.mark.needs("postgres")
async def test_two_replicas_on_postgresql(on_postgresql: list[httpx.AsyncClient]) -> None:
    """They share users, sessions and refresh tokens: a hundred refreshes at both make one lineage; an end is one."""
    one, two = on_postgresql
    await one.post("/register", json={"username": "alice", "password": PASSWORD})
    alice = await log_in(two)
    body = {"refresh_token": alice["refresh_token"]}
    answers = await asyncio.gather(*(each.post("/refresh", json=body) for each in (one, two) for _ in range(50)))
    assert {200} == {answer.status_code for answer in answers}
    assert 1 == len({answer.json()["refresh_token"] for answer in answers})
    first = 0.0
    for each in (one, two):
        first += await metric(each, 'auth_refreshes_total{result="ok"}')
    assert 1.0 == first
    other = await log_in(one)
    assert 204 == (await one.delete(f"/sessions/{sid(other)}", headers=bearer(alice["access_token"]))).status_code
    assert not await works(two, other)
