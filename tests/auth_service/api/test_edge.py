"""What every request passes: limits, errors in one form, CORS, health."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from auth_service.api import edge, operations
from auth_service.app import create_app
from auth_service.settings import AuthSettings
from tests.auth_service.conftest import PASSWORD, PATIENCE, Running, bearer, fault, metric

ORIGIN = "http://127.0.0.1:8000"


async def _pieces() -> AsyncIterator[bytes]:
    for _ in range(9):
        yield b" " * 1000


@pytest.mark.parametrize(
    ("method", "path", "options", "expected"),
    [
        ("GET", "/nowhere", {}, (404, "not_found")),
        ("GET", "/login", {}, (405, "method_not_allowed")),
        ("POST", "/login", {"content": b"{"}, (400, "bad_request")),
        ("POST", "/login", {"content": b"[]"}, (400, "bad_request")),
        ("POST", "/login", {"content": b""}, (400, "bad_request")),
        ("POST", "/login", {"content": b"[" * 8000}, (400, "bad_request")),
        ("POST", "/login", {"content": b'{"username":"\\ud800","password":"x"}'}, (400, "bad_request")),
        ("POST", "/login", {"content": b"\xff"}, (400, "bad_request")),
        ("POST", "/login", {"data": {"username": "alice"}}, (400, "bad_request")),
        ("POST", "/login", {"files": {"username": b"alice"}}, (415, "unsupported_media_type")),
        ("POST", "/register", {"data": {"username": "alice"}}, (415, "unsupported_media_type")),
        ("POST", "/login", {"content": b" " * 8193}, (413, "too_large")),
        ("POST", "/nowhere", {"content": b" " * 8193}, (413, "too_large")),
        ("POST", "/login", {"content": _pieces()}, (413, "too_large")),
    ],
)
async def test_bad_requests_get_one_form_of_answer(
    client: httpx.AsyncClient, method: str, path: str, options: dict[str, Any], expected: tuple[int, str]
) -> None:
    """Each refusal is our JSON with its status and code."""
    assert expected == fault(await client.request(method, path, **options))


async def test_a_body_of_exactly_the_limit_is_read(client: httpx.AsyncClient) -> None:
    """8 KiB are allowed."""
    content = b'{"username":"nobody","password":"x"}'.ljust(edge.BODY_BYTES)
    assert (401, "invalid_credentials") == fault(await client.post("/login", content=content))


async def test_a_body_that_does_not_arrive(settings: AuthSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends a body drop by drop is told that it took too long; who hangs up gets nothing."""
    monkeypatch.setattr(edge, "BODY_SECONDS", 0.01)
    sent: list[Message] = []

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    app = create_app(settings)
    scope = {"type": "http", "method": "POST", "path": "/login", "headers": [], "query_string": b"", "app": app}
    await edge.BodyLimit(app)(scope, never, send)
    assert 408 == sent[0]["status"]
    sent.clear()
    await edge.BodyLimit(app)(scope, gone, send)
    assert [] == sent


async def test_an_unforeseen_error_shows_no_trace(running: Running) -> None:
    """The client gets a plain 500; the log has the trace, without the query."""

    def broken(_user: str, _channel: str) -> bool:
        raise ZeroDivisionError("secret detail")

    async with running(policy=broken) as client:
        await client.post("/register", json={"username": "alice", "password": PASSWORD})
        pair = (await client.post("/login", json={"username": "alice", "password": PASSWORD})).json()
        with capture_logs() as logs:
            answer = await client.post(
                "/tokens/subscription?q=1",
                json={"channel": "x"},
                headers={**bearer(pair["access_token"]), "Origin": ORIGIN},
            )
    assert (500, "internal_error") == fault(answer)
    assert "secret detail" not in answer.text
    assert ORIGIN == answer.headers["access-control-allow-origin"]
    failed = next(line for line in logs if line["event"] == "http.failed")
    assert ("/tokens/subscription", True) == (failed["path"], failed["exc_info"])
    assert 500 == next(line for line in logs if line["event"] == "http.request")["status"]


async def test_an_error_after_the_answer_began() -> None:
    """What has been sent cannot be taken back: no second answer is begun, and the log has the trace."""
    sent: list[Message] = []

    async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    with capture_logs() as logs:
        await edge.RequestLog(half)({"type": "http", "method": "GET", "path": "/"}, receive, send)
    assert [200] == [message["status"] for message in sent]
    assert ["http.failed", "http.request"] == [line["event"] for line in logs]


async def test_any_asgi_server_can_run_it(settings: AuthSettings) -> None:
    """Started by the lifespan messages of an ASGI server, `create_app` opens and closes what it needs."""
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    app = create_app(settings)
    running = asyncio.create_task(app({"type": "lifespan", "state": {}}, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    assert {"type": "lifespan.startup.complete"} == await asyncio.wait_for(outbox.get(), PATIENCE)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://auth") as client:
        assert 200 == (await client.get("/health/ready")).status_code
    await inbox.put({"type": "lifespan.shutdown"})
    assert {"type": "lifespan.shutdown.complete"} == await asyncio.wait_for(outbox.get(), PATIENCE)
    await running


async def test_without_its_database(client: httpx.AsyncClient, settings: AuthSettings) -> None:
    """While the database fails, requests that need it get 503 and the reason is logged by name only."""
    connection = sqlite3.connect(settings.database_url.removeprefix("sqlite+aiosqlite:///"))
    connection.execute("DROP TABLE users")
    connection.close()
    with capture_logs() as logs:
        answer = await client.post("/login", json={"username": "alice", "password": PASSWORD})
    assert (503, "unavailable") == fault(answer)
    assert "1" == answer.headers["retry-after"]
    assert ("database.failed", "OperationalError") in [(line["event"], line.get("error")) for line in logs]


async def test_more_log_ins_than_can_be_hashed(running: Running) -> None:
    """Beyond the queue log-ins are refused at once with 503, and the queue can be seen."""
    async with running(hash_workers=1, hash_queue=1) as client:
        bodies = [{"username": f"nobody{number}", "password": PASSWORD} for number in range(16)]  # none is throttled
        answers = await asyncio.gather(*(client.post("/login", json=body) for body in bodies))
        assert {(503, "busy"), (401, "invalid_credentials")} == {fault(answer) for answer in answers}
        assert 0.0 == await metric(client, "auth_password_hash_queue")


@pytest.mark.parametrize(("origin", "allowed"), [(ORIGIN, True), ("http://127.0.0.1:8002", False), ("null", False)])
async def test_pages_of_other_origins(client: httpx.AsyncClient, origin: str, allowed: bool) -> None:
    """Browsers let the pages of the list read our answers and use our cookies, refusals included, and no others."""
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    preflight = await client.options("/login", headers={**asked, "Access-Control-Request-Headers": "content-type"})
    assert (200 if allowed else 400) == preflight.status_code
    for answer in (
        await client.post("/login", json={}, headers={"Origin": origin}),
        await client.post("/login", content=b" " * 9000, headers={"Origin": origin}),
    ):
        assert (origin if allowed else None) == answer.headers.get("access-control-allow-origin")
        assert "true" == answer.headers["access-control-allow-credentials"], "says nothing without an allowed origin"


async def test_without_a_list_no_page_reads_us(running: Running) -> None:
    """An empty list means the same origin only."""
    async with running(cors_origins=()) as client:
        answer = await client.post("/login", json={}, headers={"Origin": ORIGIN})
        assert "access-control-allow-origin" not in answer.headers


async def test_health(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alive is the process; ready is the database with it."""
    assert 200 == (await client.get("/health/live")).status_code
    assert 200 == (await client.get("/health/ready")).status_code
    monkeypatch.setattr(operations, "READY_SECONDS", 0.0)
    answer = await client.get("/health/ready")
    assert (503, ["the database does not answer"]) == (answer.status_code, answer.json()["faults"])
    assert 200 == (await client.get("/health/live")).status_code


async def test_metrics_have_a_registry_of_their_own(running: Running) -> None:
    """Two apps in one process count each for itself."""
    async with running() as first, running() as second:
        await first.post("/login", json={"username": "nobody", "password": PASSWORD})
        assert 1.0 == await metric(first, 'auth_logins_total{result="refused"}')
        assert 0.0 == await metric(second, 'auth_logins_total{result="refused"}')
        text = (await first.get("/metrics")).text
        assert "# TYPE auth_password_hash_queue gauge" in text
        assert "# TYPE auth_signing_key_age_seconds gauge" in text


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/login?password=in-the-query", "/login"),
        ("DELETE", "/sessions/the-id-of-a-session", "/sessions/{session_id}"),
        ("GET", "/nowhere/eyJhbGciOiJFZERTQSJ9.e30.c2ln", "unmatched"),
        ("GET", '/%0a%7b"event":"forged"%7d', "unmatched"),
    ],
)
async def test_requests_are_logged_by_their_route(
    client: httpx.AsyncClient, method: str, path: str, expected: str
) -> None:
    """Neither ids, nor queries, nor what somebody made up."""
    with capture_logs() as logs:
        await client.request(method, path)
    assert [(method, expected)] == [(it["method"], it["path"]) for it in logs if it["event"] == "http.request"]


async def test_quiet_paths_are_not_logged(client: httpx.AsyncClient) -> None:
    """Probes and scrapes leave no line at level info."""
    with capture_logs() as logs:
        for path in ("/health/live", "/health/ready", "/metrics"):
            await client.get(path)
    assert {"debug"} == {line["log_level"] for line in logs}
