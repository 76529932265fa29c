"""`POST /api/revoke`: what it takes, and what it does to a whole gateway."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.api.revoking import RevokeRequest
from gateway.disconnects import FORCE_DISCONNECT
from gateway.protocol.messages import ControlCommand, Revoke
from tests.support.app import App, running_app
from tests.support.node import Client
from tests.unit.api.test_server import broken, turns
from tests.unit.tokens.signing import SECRET, Signer

NOW = 1_800_000_000.25
DAY = 86_400.0
HMAC = Signer.make("HS256", "h1")


@pytest.fixture(name="app")
async def _app() -> AsyncIterator[App]:
    token = {"hmac_secret_key": SECRET.decode()}
    async with running_app(client={"token": token}) as app:
        yield app


async def connected(app: App, **claims: Any) -> Client:
    """Connect with a token of these claims."""
    client, now = app.client(), time.time()
    whole = {"sub": "alice", "sid": "s1", "jti": "t1", "iat": int(now), "exp": int(now) + 600, **claims}
    client.ask(connect={"token": HMAC.token({name: it for name, it in whole.items() if it is not None})})
    await turns()
    return client


def sent_by(app: App) -> list[ControlCommand]:
    """Collect the commands that the API sends, and send them on."""
    commands: list[ControlCommand] = []
    control: Any = app.node.engine.control
    send = control.send

    def note(command: ControlCommand, done: Any) -> None:
        commands.append(command)
        send(command, done)

    control.send = note
    return commands


@pytest.mark.parametrize("body", [{"sid": "s1"}, {"jti": "t1"}, {"kid": "h1"}, {"user": "alice"}])
async def test_one_field_says_what_is_barred(app: App, body: dict[str, str]) -> None:
    """What it opened is closed, its token opens nothing more; everybody else stays and may come."""
    his = {"sub": "bob", "sid": "s2", "jti": "t2"}
    her = {"iat": int(time.time())}  # a token of the next second would not be among those of before
    hers, other = await connected(app, **her), await connected(app, **his)
    assert {} == await app.result("revoke", **body)
    await turns()
    again = await connected(app, **her)
    # A dropped key ends no session: its clients are to fetch new tokens, and come back.
    key = "kid" in body
    assert (3005 if key else 3503) == hers.link.code
    assert (109 if key else 3500) == (again.reply(1)["error"]["code"] if key else again.link.code)
    assert (3005 if key else None) == other.link.code  # they have one key
    assert (await connected(app, **his)).link.code is None


async def test_a_session_that_is_disconnected_is_revoked(app: App) -> None:
    """`sid` alone names a log-in; with other fields it only chooses connections, as before."""
    first, second = await connected(app), await connected(app)
    commands = sent_by(app)
    await app.result("disconnect", sid="s1", whitelist=[second.connection.id])
    await turns()
    assert [3503, None] == [first.link.code, second.link.code]
    assert (await connected(app)).link.code is None
    await app.result("disconnect", sid="s1", disconnect={"code": 4001, "reason": "bye"})
    await turns()
    assert 4001 == second.link.code
    assert 3500 == (await connected(app)).link.code
    assert ["DisconnectClients", "Revoke"] == [type(it).__name__ for it in commands]


async def test_the_same_call_again_changes_nothing(app: App) -> None:
    """By its id: whoever got no answer repeats the call."""
    commands = sent_by(app)
    until = int(time.time()) + 60
    for _ in range(2):
        await app.result("revoke", id="closure-1", sid="s1", expire_at=until)
    first, second = commands
    assert first == second
    assert "closure-1" == first.id


async def test_a_server_that_is_away_is_a_temporary_error(app: App) -> None:
    """The caller repeats the call; nothing is said to be barred that might not be."""
    control: Any = app.node.engine.control
    control.send = broken
    for body in ({"sid": "s1"}, {"kid": "k1"}):
        assert 100 == await app.error("revoke", **body)
    assert 100 == await app.error("disconnect", sid="s1")
    assert (await connected(app)).link.code is None


BAD: list[dict[str, Any]] = [
    {},
    {"sid": ""},
    {"sid": "s", "user": "u"},
    {"sid": "s", "jti": "t", "kid": "k"},
    {"sid": "s" * 257},
    {"user": "u" * 257},
    {"sid": "s", "id": "i" * 65},
    {"sid": "s", "expire_at": 1_700_000_000},
    {"sid": "s", "expire_at": 4_000_000_000},
    {"sid": "s", "issued_before": 1_700_000_000},
    {"sid": "s", "disconnect": {"code": 1000}},
    {"sid": "s", "disconnect": {"code": 5000}},
]


@pytest.mark.parametrize("body", BAD, ids=str)
async def test_bad_requests(app: App, body: dict[str, Any]) -> None:
    """None or several of the four, too long, over already or too far ahead, or a code that is no application's."""
    commands = sent_by(app)
    assert 107 == await app.error("revoke", **body)
    assert [] == commands


@pytest.mark.parametrize(
    "body", [b'{"sid":1}', b'{"sid":"s","expire_at":"tomorrow"}', b'{"user":"u","issued_before":-1}']
)
async def test_fields_of_a_wrong_type(app: App, body: bytes) -> None:
    """Answered with 400, as for all methods."""
    assert 400 == (await app.post("revoke", body)).status_code


def test_what_is_not_said_has_a_default() -> None:
    """A day, 3503, and of a user all tokens up to now."""
    made = RevokeRequest(user="alice").command(NOW)
    assert (NOW + DAY, int(NOW)) == (made.until, made.issued_before)
    assert (FORCE_DISCONNECT.code, FORCE_DISCONNECT.reason) == (made.code, made.reason)
    assert 0 == RevokeRequest(sid="s").command(NOW).issued_before
    assert made.id != RevokeRequest(user="alice").command(NOW).id


def test_what_is_said_is_told_to_the_nodes() -> None:
    """Every field; the longest time is 31 days."""
    until = NOW + 31 * DAY
    made = RevokeRequest(id="i" * 64, user="u" * 256, expire_at=until, issued_before=5.9).command(NOW)
    assert Revoke(id="i" * 64, until=until, user="u" * 256, issued_before=5) == made
    assert "t" == RevokeRequest(jti="t").command(NOW).token_id
    assert "k" == RevokeRequest(kid="k").command(NOW).key_id
