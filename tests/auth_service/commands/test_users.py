"""What an operator does to users and sessions by the command."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time

import pytest
import structlog

from auth_service.settings import AuthSettings
from auth_service.store import Login, open_database
from auth_service.variables import PASSWORD_VARIABLE
from tests.auth_service.commands.commanding import command
from tests.auth_service.conftest import PASSWORD
from tests.auth_service.store.storing import Shelf

pytestmark = pytest.mark.usefixtures("logs")


def test_a_day_of_an_operator(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: AuthSettings,
    logs: list[structlog.typing.EventDict],
) -> None:
    """Users are added, changed, disabled, enabled, listed; their passwords set and their sessions ended."""

    def auth(*words: str) -> list[str]:
        assert 0 == command(monkeypatch, *words, "--database", settings.database_url)
        return capsys.readouterr().out.splitlines()

    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    claims = ["--role", "editor", "--role", "admin", "--info", '{"name": "Al"}', "--channel", "news"]
    assert ["alice: added", "bob: added"] == auth("user", "add", "alice", "bob", *claims)
    assert ['bob: {"info": {"name": "Al"}}'] == auth("user", "change", "BOB", "--no-roles", "--no-channels")
    assert ['bob: {"roles": ["guest"]}'] == auth("user", "change", "bob", "--role", "guest", "--info", "null")
    sessions = asyncio.run(_sessions(settings, "alice", 3))
    head, *listed = auth("sessions", "list", "Alice")
    assert ["SESSION", "BEGAN"] == head.split()[:2]
    assert set(sessions) == {line.split()[0] for line in listed}
    assert [f"{sessions[0]}: ended"] == auth("sessions", "revoke", sessions[0])
    assert ["alice: 2 sessions ended"] == auth("sessions", "revoke", "--user", "alice")
    (session,) = asyncio.run(_sessions(settings, "alice", 1))
    assert ["alice: disabled, 1 session ended"] == auth("user", "disable", "alice")
    lines = auth("user", "list")
    assert ["NAME", "alice", "bob"] == [line.split()[0] for line in lines]
    assert ["disabled", "enabled"] == [line.split()[1] for line in lines[1:]]
    shown = [json.loads(line) for line in auth("user", "list", "--json")]
    assert [("alice", ["editor", "admin"]), ("bob", ["guest"])] == [(it["name"], it["roles"]) for it in shown]
    assert ["alice: enabled"] == auth("user", "enable", "alice")
    assert ["alice: password set, 0 sessions ended"] == auth("user", "passwd", "alice")
    others = asyncio.run(_sessions(settings, "bob", 2)) + asyncio.run(_sessions(settings, "alice", 1))
    assert ["alice: 1 session ended", "bob: 2 sessions ended"] == auth("sessions", "revoke", "--all")
    assert [] == auth("sessions", "revoke", "--all")
    assert ["revision 0002"] == auth("migrate")
    connection = sqlite3.connect(settings.database_url.removeprefix("sqlite+aiosqlite:///"))
    told = {value for (value,) in connection.execute("SELECT value FROM closures")}
    connection.close()
    assert {*sessions, session, *others} == told
    actions = [line["action"] for line in logs if line["event"] == "auth.audit"]
    expected = ["user_added"] * 2 + ["user_changed"] * 2 + ["session_revoked"] * 3
    assert [*expected, "user_disabled", "user_enabled", "password_changed", *["session_revoked"] * 3] == actions


async def _sessions(settings: AuthSettings, user: str, number: int) -> list[str]:
    """Begin sessions as log-ins do, and return their ids."""
    ids = [secrets.token_hex(8) for _ in range(number)]
    async with open_database(settings.database_url) as transactions:
        shelf = Shelf(transactions)
        found = await shelf.users.find(user)
        assert found is not None
        for each in ids:
            login = Login(each, user, time.time(), time.time() + 1000)
            assert await shelf.sessions.begin(login, each, verified=found.password_hash) is not None
    return ids


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["user", "disable", "nobody"], "there is no user 'nobody'"),
        (["user", "change", "nobody", "--role", "x"], "there is no user 'nobody'"),
        (["sessions", "list", "nobody"], "there is no user 'nobody'"),
        (["sessions", "revoke", "nothing"], "there is no session 'nothing', or it has ended"),
        (["sessions", "revoke"], "name sessions, or a user with --user, or say --all"),
        (["sessions", "revoke", "--all", "--user", "y"], "name sessions, or a user with --user, or say --all"),
        (["sessions", "revoke", "x", "--user", "y"], "name sessions, or a user with --user, or say --all"),
        (["user", "add", "alice", "--role", "a b"], "--role: 'a b' is not 1 to 64 of"),
        (["user", "add", "alice", "--info", "{"], "--info: is not JSON: "),
        (["user", "add", "alice", "--info", '"\\ud800"'], "--info: is not JSON: "),
        (["user", "add", "alice", "--info", "[" * 100_000], "--info: is not JSON: "),
        (["user", "add", "alice", "--info", "NaN"], "--info: is not JSON: NaN"),
        (["user", "add", "alice", "--channel", ""], "--channel: '' is no name of a channel"),
        (["user", "add", "alice", "--info", f'"{"x" * 2048}"'], "--role, --info, --channel: more than 2048 bytes"),
        (["user", "add", "alice"], "user 'alice': this password is among the first that others try"),
        (["user", "passwd", "alice"], "user 'alice': this password is among the first that others try"),
    ],
)
def test_what_an_operator_may_get_wrong(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: AuthSettings,
    words: list[str],
    line: str,
) -> None:
    """Is said in one line, and changes nothing."""
    monkeypatch.setenv(PASSWORD_VARIABLE, "password")
    assert 1 == command(monkeypatch, *words, "--database", settings.database_url)
    seen = capsys.readouterr()
    assert seen.err.startswith(f"auth-service: {line}")
    assert ("", 1) == (seen.out, seen.err.count("\n"))
