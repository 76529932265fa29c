"""What users do, over HTTP: register, log in, refresh, log out."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import argon2
import httpx
import jwt
import pytest
from structlog.testing import capture_logs

from auth_service.passwords.hashes import MEMORY_KIB, Passwords
from auth_service.settings import AuthSettings
from tests.auth_service.conftest import PASSWORD, Running, bearer, fault, metric
from tests.support.clock import ManualClock
from tests.support.engines import eventually


def rows(settings: AuthSettings, query: str) -> list[tuple[Any, ...]]:
    """Look into the database file."""
    connection = sqlite3.connect(settings.database_url.removeprefix("sqlite+aiosqlite:///"))
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


async def test_register_and_log_in(client: httpx.AsyncClient) -> None:
    """A new user can log in, with JSON or with the form of OAuth2, in whatever case the name is written."""
    credentials = {"username": "Alice.b-c_1", "password": PASSWORD}
    registered = await client.post("/register", json=credentials)
    assert (201, {"user": "Alice.b-c_1"}) == (registered.status_code, registered.json())
    form = {"grant_type": "password", "scope": "", **credentials}
    for answer in (
        await client.post("/login", json=credentials),
        await client.post("/login", data=form),
        await client.post("/login", json={**credentials, "username": "alice.B-C_1"}),
    ):
        assert 200 == answer.status_code
        assert "no-store" == answer.headers["cache-control"]
        pair = answer.json()
        assert {"access_token", "refresh_token", "device_token", "token_type", "expires_in"} == set(pair)
        assert ("bearer", 600) == (pair["token_type"], pair["expires_in"])
        claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
        assert "Alice.b-c_1" == claims["sub"]
    assert 3.0 == await metric(client, 'auth_logins_total{result="ok"}')
    assert 3.0 == await metric(client, 'auth_tokens_issued_total{kind="access"}')
    assert 3.0 == await metric(client, "auth_login_duration_seconds_count")


async def test_a_form_is_read_as_forms_are(client: httpx.AsyncClient) -> None:
    """Plus signs, percent signs and letters beyond ASCII in a password survive both ways of sending it."""
    password = "p+w %41 ü€😀&=;"
    await client.post("/register", json={"username": "alice", "password": password})
    assert 200 == (await client.post("/login", data={"username": "alice", "password": password})).status_code
    assert 200 == (await client.post("/login", json={"username": "alice", "password": password})).status_code


@pytest.mark.parametrize("name", ["alice", "ALICE"])
async def test_a_name_is_taken_once(client: httpx.AsyncClient, alice: dict[str, Any], name: str) -> None:
    """Nobody can register a name that is there, nor one that looks the same in other letters."""
    assert alice
    answer = await client.post("/register", json={"username": name, "password": "another one"})
    assert (409, "username_taken") == fault(answer)
    assert (401, "invalid_credentials") == fault(
        await client.post("/login", json={"username": "alice", "password": "another one"})
    )
    assert 1.0 == await metric(client, 'auth_registrations_total{result="taken"}')


@pytest.mark.parametrize(
    ("name", "password", "culprit"),
    [
        ("", PASSWORD, "username"),
        ("a" * 65, PASSWORD, "username"),
        ("a,b", PASSWORD, "username"),
        ("a#b", PASSWORD, "username"),
        ("a b", PASSWORD, "username"),
        ("alice\n", PASSWORD, "username"),
        ("ali\u0441e", PASSWORD, "username"),
        (None, PASSWORD, "username"),
        ("alice", "1234567", "password"),
        ("alice", "x" * 1025, "password"),
        ("alice", None, "password"),
        ("alice", 12345678, "password"),
    ],
)
async def test_rules_for_names_and_passwords(
    client: httpx.AsyncClient, name: str | None, password: object, culprit: str
) -> None:
    """What breaks a rule is refused by the member's name; what was sent is not repeated."""
    answer = await client.post("/register", json={"username": name, "password": password})
    assert (400, "bad_request") == fault(answer)
    assert answer.json()["error"]["message"].startswith(f"{culprit}: ")
    assert not password or str(password) not in answer.text


async def test_registration_can_be_closed(running: Running) -> None:
    """With AUTH_REGISTRATION off strangers stay strangers."""
    async with running(registration=False) as client:
        answer = await client.post("/register", json={"username": "alice", "password": PASSWORD})
        assert (403, "registration_closed") == fault(answer)


async def test_wrong_name_and_wrong_password_are_the_same(client: httpx.AsyncClient, alice: dict[str, Any]) -> None:
    """Answers do not tell which names exist."""
    assert alice
    wrong = await client.post("/login", json={"username": "alice", "password": "wrong password"})
    nobody = await client.post("/login", json={"username": "nobody", "password": PASSWORD})
    odd = await client.post("/login", json={"username": "#\n", "password": ""})
    assert (401, "invalid_credentials") == fault(wrong)
    assert wrong.content == nobody.content == odd.content
    assert 3.0 == await metric(client, 'auth_logins_total{result="refused"}')


async def test_an_address_has_so_many_passwords_looked_at_at_once(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known devices are not counted by address; all the same, one address cannot have all hashing to itself."""
    body = {"username": "alice", "password": PASSWORD}
    gate = asyncio.Event()
    verify = Passwords.verify

    async def slow(self: Passwords, hashed: str | None, password: str) -> bool:
        await gate.wait()
        return await verify(self, hashed, password)

    async with running(attempts_per_address=2) as client:
        await client.post("/register", json=body)
        body["device_token"] = (await client.post("/login", json=body)).json()["device_token"]
        monkeypatch.setattr(Passwords, "verify", slow)
        asked = [asyncio.create_task(client.post("/login", json=body)) for _ in range(4)]

        async def two_refused() -> bool:
            return 2 == sum(each.done() for each in asked)

        await eventually(two_refused)
        assert [(503, "busy")] * 2 == [fault(await each) for each in asked if each.done()]
        gate.set()
        assert [200, 200, 503, 503] == sorted([(await each).status_code for each in asked])
        assert 200 == (await client.post("/login", json=body)).status_code


async def test_nothing_secret_is_stored(alice: dict[str, Any], settings: AuthSettings) -> None:
    """The database knows hashes: Argon2id of passwords, SHA-256 of refresh tokens."""
    ((name, hashed),) = rows(settings, "SELECT name, password_hash FROM users")
    parameters = argon2.extract_parameters(hashed)
    assert ("alice", argon2.Type.ID, 19456, 2, 1) == (
        name,
        parameters.type,
        parameters.memory_cost,
        parameters.time_cost,
        parameters.parallelism,
    )
    database = settings.database_url.removeprefix("sqlite+aiosqlite:///")
    files = b"".join(_bytes(f"{database}{suffix}") for suffix in ("", "-wal"))
    assert b"alice" in files
    for secret in (PASSWORD, alice["refresh_token"], alice["access_token"]):
        assert secret.encode() not in files


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - a file of SQLite's, by name
        return file.read()


async def test_a_hash_of_other_parameters_is_renewed_at_login(
    client: httpx.AsyncClient, alice: dict[str, Any], settings: AuthSettings
) -> None:
    """When parameters rise, users move to the new ones as they log in."""
    assert alice
    weak = argon2.PasswordHasher(memory_cost=MEMORY_KIB // 2, time_cost=1, parallelism=1).hash(PASSWORD)
    connection = sqlite3.connect(settings.database_url.removeprefix("sqlite+aiosqlite:///"))
    connection.execute("UPDATE users SET password_hash = ?", (weak,))
    connection.commit()
    connection.close()
    for _ in range(2):
        answer = await client.post("/login", json={"username": "alice", "password": PASSWORD})
        assert 200 == answer.status_code
        ((hashed,),) = rows(settings, "SELECT password_hash FROM users")
        assert MEMORY_KIB == argon2.extract_parameters(hashed).memory_cost


async def test_refresh_rotates(client: httpx.AsyncClient, alice: dict[str, Any]) -> None:
    """Each refresh token gives the next, which belongs to the same session."""
    first = jwt.decode(alice["access_token"], options={"verify_signature": False})
    token, seen = alice["refresh_token"], {alice["refresh_token"]}
    for _ in range(3):
        answer = await client.post("/refresh", json={"refresh_token": token})
        assert (200, "no-store") == (answer.status_code, answer.headers["cache-control"])
        pair = answer.json()
        assert {"access_token", "refresh_token", "token_type", "expires_in"} == set(pair)
        claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
        assert (first["sub"], first["sid"]) == (claims["sub"], claims["sid"])
        assert first["jti"] != claims["jti"]
        token = pair["refresh_token"]
        seen.add(token)
    assert 4 == len(seen)
    form = await client.post("/refresh", data={"grant_type": "refresh_token", "refresh_token": token})
    assert 200 == form.status_code
    assert 4.0 == await metric(client, 'auth_refreshes_total{result="ok"}')
    assert (400, "bad_request") == fault(await client.post("/refresh", json={}))


async def test_a_hundred_refreshes_at_once_make_one_lineage(
    client: httpx.AsyncClient, alice: dict[str, Any], settings: AuthSettings
) -> None:
    """All get the same successor, and with it the session goes on."""
    body = {"refresh_token": alice["refresh_token"]}
    answers = await asyncio.gather(*(client.post("/refresh", json=body) for _ in range(100)))
    assert {200} == {answer.status_code for answer in answers}
    (successor,) = {answer.json()["refresh_token"] for answer in answers}
    assert 100 == len({answer.json()["access_token"] for answer in answers})
    assert [(2,)] == rows(settings, "SELECT COUNT(*) FROM refresh_tokens")
    assert 200 == (await client.post("/refresh", json={"refresh_token": successor})).status_code
    assert 2.0 == await metric(client, 'auth_refreshes_total{result="ok"}')
    assert 99.0 == await metric(client, 'auth_refreshes_total{result="again"}')
    assert 0.0 == await metric(client, "auth_refresh_reuse_total")


async def test_who_lost_the_answer_has_ten_seconds(
    client: httpx.AsyncClient, alice: dict[str, Any], clock: ManualClock, settings: AuthSettings
) -> None:
    """Within them the same token gives the same answer; then a second use ends the session and tells the gateway."""
    body = {"refresh_token": alice["refresh_token"]}
    first = (await client.post("/refresh", json=body)).json()
    clock.advance(10)
    again = (await client.post("/refresh", json=body)).json()
    assert first["refresh_token"] == again["refresh_token"]
    clock.advance(0.5)
    assert (401, "invalid_token") == fault(await client.post("/refresh", json=body))
    assert (401, "invalid_token") == fault(
        await client.post("/refresh", json={"refresh_token": first["refresh_token"]})
    )
    assert (401, "invalid_token") == fault(await client.post("/ticket", headers=bearer(first["access_token"])))
    session = jwt.decode(first["access_token"], options={"verify_signature": False})["sid"]
    assert [("sid", session, clock.wall() + 660)] == rows(settings, "SELECT kind, value, until FROM closures")
    assert [("reuse",)] == rows(settings, "SELECT ended_by FROM sessions")
    assert 1.0 == await metric(client, "auth_refresh_reuse_total")
    assert 1.0 == await metric(client, "auth_closures_pending")


async def test_a_successor_in_use_proves_a_copy(
    client: httpx.AsyncClient, alice: dict[str, Any], settings: AuthSettings
) -> None:
    """Who comes with the old token then is another one, however soon."""
    body = {"refresh_token": alice["refresh_token"]}
    first = (await client.post("/refresh", json=body)).json()
    assert 200 == (await client.post("/refresh", json={"refresh_token": first["refresh_token"]})).status_code
    assert (401, "invalid_token") == fault(await client.post("/refresh", json=body))
    assert [("reuse",)] == rows(settings, "SELECT ended_by FROM sessions")


@pytest.mark.parametrize("token", ["", "unknown", "\u00fc", "x" * 256])
async def test_unknown_refresh_tokens(client: httpx.AsyncClient, token: str) -> None:
    """What we never gave is refused, and is no reuse."""
    assert (401, "invalid_token") == fault(await client.post("/refresh", json={"refresh_token": token}))
    assert 0.0 == await metric(client, "auth_refresh_reuse_total")


async def test_a_refresh_token_that_lies_unused_ends(
    client: httpx.AsyncClient, alice: dict[str, Any], clock: ManualClock, settings: AuthSettings
) -> None:
    """A week without use ends a refresh token."""
    clock.advance(settings.refresh_idle_seconds - 1)
    second = await client.post("/refresh", json={"refresh_token": alice["refresh_token"]})
    assert 200 == second.status_code
    clock.advance(settings.refresh_idle_seconds)
    assert (401, "invalid_token") == fault(
        await client.post("/refresh", json={"refresh_token": second.json()["refresh_token"]})
    )


async def test_a_session_ends_however_often_it_is_refreshed(
    client: httpx.AsyncClient, alice: dict[str, Any], clock: ManualClock, settings: AuthSettings
) -> None:
    """After a month even a busy user logs in again."""
    token = alice["refresh_token"]
    for _ in range(5):
        clock.advance(settings.session_seconds / 6)
        token = (await client.post("/refresh", json={"refresh_token": token})).json()["refresh_token"]
    clock.advance(settings.session_seconds / 6)
    assert (401, "invalid_token") == fault(await client.post("/refresh", json={"refresh_token": token}))


@pytest.mark.parametrize("by", ["bearer", "refresh_token"])
async def test_log_out_ends_the_session(client: httpx.AsyncClient, alice: dict[str, Any], by: str) -> None:
    """After it neither token of the session gets anything; other sessions go on; twice is no error."""
    other = (await client.post("/login", json={"username": "alice", "password": PASSWORD})).json()
    for _ in range(2):
        if by == "bearer":
            answer = await client.post("/logout", headers=bearer(alice["access_token"]))
        else:
            answer = await client.post("/logout", json={"refresh_token": alice["refresh_token"]})
        assert (204, b"") == (answer.status_code, answer.content)
    assert (401, "invalid_token") == fault(
        await client.post("/refresh", json={"refresh_token": alice["refresh_token"]})
    )
    assert (401, "invalid_token") == fault(await client.post("/ticket", headers=bearer(alice["access_token"])))
    assert 200 == (await client.post("/refresh", json={"refresh_token": other["refresh_token"]})).status_code
    assert 1.0 == await metric(client, "auth_logouts_total")


async def test_log_out_needs_something_to_end(client: httpx.AsyncClient) -> None:
    """Without any token: 401. A refresh token that nobody knows: there is nothing left to end."""
    assert (401, "invalid_token") == fault(await client.post("/logout"))
    assert (401, "invalid_token") == fault(await client.post("/logout", headers=bearer("rubbish")))
    assert 204 == (await client.post("/logout", json={"refresh_token": "unknown"})).status_code


async def test_what_has_expired_is_purged_at_the_start(
    running: Running, settings: AuthSettings, clock: ManualClock
) -> None:
    """Old sessions and refresh tokens do not pile up; users and live sessions stay."""
    async with running() as client:
        await client.post("/register", json={"username": "alice", "password": PASSWORD})
        await client.post("/login", json={"username": "alice", "password": PASSWORD})
        clock.advance(settings.session_seconds - 10)
        live = (await client.post("/login", json={"username": "alice", "password": PASSWORD})).json()
    clock.advance(11)
    counts = "SELECT (SELECT COUNT(*) FROM users), (SELECT COUNT(*) FROM sessions), COUNT(*) FROM refresh_tokens"
    async with running() as client:
        assert 200 == (await client.post("/refresh", json={"refresh_token": live["refresh_token"]})).status_code

        async def purged() -> bool:
            return [(1, 1, 2)] == rows(settings, counts)

        await eventually(purged)


async def test_logs_name_nobody_and_hold_no_secret(client: httpx.AsyncClient) -> None:
    """Whatever goes through, no password, token, query or user name is in a log line."""
    with capture_logs() as logs:
        await client.post("/register", json={"username": "carol", "password": PASSWORD})
        credentials = {"username": "carol", "password": PASSWORD}
        pair = (await client.post("/login?password=in-the-query", json=credentials)).json()
        await client.post("/refresh", json={"refresh_token": pair["refresh_token"]})
        again = await client.post("/refresh", json={"refresh_token": pair["refresh_token"]})
        ticket = (await client.post("/ticket", headers=bearer(pair["access_token"]))).json()["ticket"]
        await client.post("/logout", headers=bearer(pair["access_token"]))
    text = repr(logs)
    events = {line["event"] for line in logs}
    assert {"auth.audit", "http.request"} <= events
    audited = [line["action"] for line in logs if line["event"] == "auth.audit"]
    assert ["register", "login", "refresh", "refresh", "ticket", "logout"] == audited
    assert 200 == again.status_code
    for secret in (PASSWORD, "carol", "in-the-query", pair["access_token"], pair["refresh_token"], ticket):
        assert secret not in text
