"""The command, in processes of its own and in this one."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from auth_service import cli, server
from auth_service.app import create_app
from auth_service.errors import OperatorError
from auth_service.settings import AuthSettings
from auth_service.variables import PASSWORD_VARIABLE
from gateway.errors import TokenError
from gateway.tokens import Rules, TokenVerifier, Trust
from tests.auth_service.commands.commanding import SECONDS, command, run
from tests.auth_service.conftest import PASSWORD, bearer
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder

pytestmark = pytest.mark.usefixtures("logs")


@asynccontextmanager
async def serving(cwd: Path, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run `auth-service serve` on a free port; yields the process and its URL."""
    command = [sys.executable, "-m", "auth_service", "serve", "--port", "0", *arguments]
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(SECONDS):
            while b"auth.listening" not in (line := await process.stderr.readline()):
                assert line, "the process ended"
        yield process, line.decode().partition('"url": "')[2].partition('"')[0]
    finally:
        if process.returncode is None:
            process.kill()
        _, logged = await process.communicate()
        sys.stderr.write(logged.decode())  # so that what must not be logged is looked for


async def test_a_process_serves_users_whose_tokens_the_gateway_takes(tmp_path: Path) -> None:
    """Users added by the command log in over a real socket; the gateway accepts their tokens by the JWKS alone."""
    added = run(tmp_path, "user", "add", "alice", "--password-stdin", "--if-missing", stdin=f"{PASSWORD}\n")
    assert (0, "alice: added\n") == (added.returncode, added.stdout)
    assert ["database.migrated", "auth.audit"] == [json.loads(line)["event"] for line in added.stderr.splitlines()]
    async with (
        serving(tmp_path) as (process, url),
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30.0) as client,
    ):
        assert 0 == (await asyncio.to_thread(run, tmp_path, "health", "--url", url)).returncode
        assert 0o600 == (tmp_path / "auth_keys" / "first.pem").stat().st_mode & 0o777
        assert 0o600 == (tmp_path / "auth.db").stat().st_mode & 0o777
        pair = (await client.post("/login", json={"username": "alice", "password": PASSWORD})).json()
        whose = bearer(pair["access_token"])
        ticket = (await client.post("/ticket", headers=whose)).json()["ticket"]
        body = {"channel": "$chat:x", "client": "c1"}
        subscription = (await client.post("/tokens/subscription", json=body, headers=whose)).json()["token"]
        await _gateway_takes(f"{url}/.well-known/jwks.json", pair["access_token"], ticket, subscription)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(SECONDS):
            assert 0 == await process.wait()


async def _gateway_takes(jwks_url: str, access: str, ticket: str, subscription: str) -> None:
    def make(**rules: Any) -> TokenVerifier:
        trust = Trust(rules=Rules(**rules), jwks_url=jwks_url)
        return TokenVerifier(trust, clock=ManualClock(wall=time.time()), recorder=MemoryRecorder())

    async with make(issuer="auth-service") as verifier:
        identity = await verifier.verify(access)
        assert ("alice", False, None) == (identity.user, identity.ticket, identity.channel)
        once = await verifier.verify(ticket)
        assert ("alice", True, identity.session_id) == (once.user, once.ticket, once.session_id)
        assert once.token_id
        bound = await verifier.verify(subscription)
        assert ("alice", "$chat:x", "c1") == (bound.user, bound.channel, bound.client)
    async with make(audience="billing") as elsewhere:
        with pytest.raises(TokenError, match="3500"):
            await elsewhere.verify(access)


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    """One line on standard error, exit code 1, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run(tmp_path, "serve", "--port", port)
    line = f"auth-service: port {port} on 127.0.0.1 is taken: stop what listens there or choose --port\n"
    assert (1, "", line) == (ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["serve", "--port", "0", "--database", "nosuch://x"], "auth-service: AUTH_DATABASE_URL (--database) cannot"),
        (
            ["serve", "--port", "0", "--database", "sqlite:////nowhere/at/all.db"],
            "auth-service: the database sqlite+aiosqlite:////nowhere/at/all.db cannot be opened: unable to open",
        ),
        (["serve", "--port", "0", "--keys", "file/keys"], "auth-service: the key directory file/keys cannot be read"),
        (["user", "add", "a b", "--password-stdin"], "auth-service: user 'a b': a name is 1 to 64 of A-Z"),
        (["user", "add", "alice", "bob", "--password-stdin"], "auth-service: standard input ended before"),
    ],
)
def test_what_the_operator_can_mend_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    line: str,
) -> None:
    """Exit code 1 and a line that says what is wrong."""
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}\n"))
    assert 1 == command(monkeypatch, *arguments)
    errors = capsys.readouterr().err.splitlines()
    assert 1 == len(errors)
    assert errors[0].startswith(line)


def test_users_are_added(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: AuthSettings
) -> None:
    """Several at once from standard input; again only with --if-missing; or by variable, or by prompt."""
    database = ["--database", settings.database_url]
    monkeypatch.setattr(sys, "stdin", io.StringIO("password-1\npassword-2\n"))
    assert 0 == command(monkeypatch, "user", "add", "alice", "bob", "--password-stdin", *database)
    monkeypatch.setenv(PASSWORD_VARIABLE, "password-3")
    assert 1 == command(monkeypatch, "user", "add", "alice", *database)
    assert 0 == command(monkeypatch, "user", "add", "alice", "carol", "--if-missing", *database)
    monkeypatch.delenv(PASSWORD_VARIABLE)
    monkeypatch.setattr("typer.prompt", lambda text, **_: f"{text} password")
    assert 0 == command(monkeypatch, "user", "add", "dave", *database)
    seen = capsys.readouterr()
    assert ["alice: added", "bob: added", "alice: exists", "carol: added", "dave: added"] == seen.out.splitlines()
    assert "auth-service: user 'alice' exists; --if-missing leaves it as it is\n" == seen.err
    connection = sqlite3.connect(settings.database_url.removeprefix("sqlite+aiosqlite:///"))
    assert [("alice",), ("bob",), ("carol",), ("dave",)] == connection.execute("SELECT name FROM users").fetchall()
    connection.close()


def commands(group: Any, *before: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command that does something."""
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, *before, name)
        else:
            yield (*before, name)


EVERY = list(commands(typer.main.get_command(cli.cli)))


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_teaches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], option: str
) -> None:
    """Every command explains itself and shows an example that begins like it."""
    assert 0 == command(monkeypatch, *words, option)
    shown = capsys.readouterr().out.partition("Examples:\n")[2]
    assert " ".join(("auth-service", *words)) in shown


@pytest.mark.parametrize("words", [[], ["user"], ["sessions"], ["keys"]])
def test_help_lists_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """All of a group, with a line for each."""
    assert 0 == command(monkeypatch, *words, "-h")
    text = capsys.readouterr().out
    for each in EVERY:
        if list(each[: len(words)]) == words:
            assert f"\n  {each[len(words)]} " in text


def examples(*words: str) -> list[str]:
    """Return the command lines in a command's help."""
    shown = run(Path.cwd(), *words, "--help").stdout.partition("Examples:")[2]
    return [line.strip() for line in shown.splitlines() if "auth-service" in line]


def test_the_examples_of_user_add_work(tmp_path: Path) -> None:
    """Typed one after the other, with a password in the variable in place of one at the prompt."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "AUTH_USER_PASSWORD": PASSWORD}
    said = [
        subprocess.run(["sh", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=SECONDS)  # noqa: PLW1510 - what it says is looked at
        for line in examples("user", "add")
    ]
    assert ["alice: added\n", "alice: exists\nbob: added\n", "carol: added\n"] == [it.stdout for it in said], said


async def test_the_examples_of_serve_work(tmp_path: Path) -> None:
    """Each serves a process that is ready, here on a port that is free and in a folder that we may write to."""
    lines = examples("serve")
    assert 2 == len(lines)
    for line in lines:
        words = line.replace("8001", "0").replace("/var/lib/auth", str(tmp_path)).split()
        assert ["auth-service", "serve"] == words[:2]
        async with (
            serving(tmp_path, *words[2:]) as (_, url),
            httpx.AsyncClient(trust_env=False, timeout=30.0) as client,
        ):
            assert 200 == (await client.get(f"{url}/health/ready")).status_code
    assert (tmp_path / "auth_keys" / "first.pem").exists()
    assert (tmp_path / "keys" / "first.pem").exists()


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C at the prompt ends with the code a shell expects."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "cli", interrupted)
    assert 130 == command(monkeypatch)
    assert "" == capsys.readouterr().err


def test_serve_joins_the_parts(monkeypatch: pytest.MonkeyPatch, settings: AuthSettings) -> None:
    """The command listens first, then serves the app that its flags describe."""
    served: list[tuple[str, str, tuple[str, ...]]] = []
    monkeypatch.setattr(
        server, "run", lambda app, on, trusted: served.append((app.title, on.getsockname()[0], trusted))
    )
    monkeypatch.setenv("AUTH_TRUSTED_PROXIES", "10.0.0.0/8")
    flags = ["--database", settings.database_url, "--keys", str(settings.key_dir)]
    assert 0 == command(monkeypatch, "serve", "--port", "0", *flags)
    assert [("Auth service", "127.0.0.1", ("10.0.0.0/8",))] == served


@pytest.mark.parametrize(("host", "number"), [("127.0.0.1", signal.SIGTERM), ("::1", signal.SIGINT)])
async def test_the_server_in_this_process(settings: AuthSettings, host: str, number: int) -> None:
    """It serves on the socket it is given until a signal, closes it, and gives the signals back."""
    try:
        listening = server.listen(host, 0)
    except OperatorError:
        pytest.skip("no IPv6 here")
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    app = create_app(settings)
    task = asyncio.create_task(server.serve(app, server.make(app), listening))
    shown = f"[{host}]" if ":" in host else host
    async with httpx.AsyncClient(trust_env=False, timeout=30.0) as client:
        answer = await client.get(f"http://{shown}:{listening.getsockname()[1]}/health/ready")
    assert 200 == answer.status_code
    assert "server" not in answer.headers
    signal.raise_signal(number)
    async with asyncio.timeout(SECONDS):
        await task
    assert -1 == listening.fileno()
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize(("host", "line"), [("192.0.2.1", "cannot listen on"), ("nosuch.invalid", "cannot listen on")])
def test_addresses_that_are_not_ours(host: str, line: str) -> None:
    """An address of another machine, or a name nobody knows, is the operator's to mend."""
    with pytest.raises(OperatorError, match=line):
        server.listen(host, 0)
