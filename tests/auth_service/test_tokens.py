"""What we sign, and what we take back as a bearer."""

from __future__ import annotations

from typing import Any

import httpx
import jwt
import pytest

from auth_service.keys.key import SigningKey, read
from auth_service.settings import AuthSettings
from tests.auth_service.conftest import PASSWORD, Running, bearer, fault
from tests.support.clock import ManualClock


def only_key(settings: AuthSettings) -> SigningKey:
    """Return the key that the service made."""
    (file,) = settings.key_dir.iterdir()
    return read(file.read_bytes())


def opened(token: str, settings: AuthSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check a token's signature and return header and claims."""
    key = only_key(settings)
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    whole = jwt.decode_complete(
        token, key.private.public_key(), algorithms=["EdDSA"], audience="gateway", options=options
    )
    return whole["header"], whole["payload"]


async def test_an_access_token(alice: dict[str, Any], settings: AuthSettings, clock: ManualClock) -> None:
    """An access token says what RFC 9068 asks for, and ends after ten minutes."""
    header, claims = opened(alice["access_token"], settings)
    now = int(clock.wall())
    key = only_key(settings)
    assert {"alg": "EdDSA", "typ": "at+jwt", "kid": key.key_id} == header
    assert 16 <= len(claims.pop("jti"))
    assert 16 <= len(claims.pop("sid"))
    expected = {"iss": "auth-service", "aud": "gateway", "sub": "alice", "iat": now, "nbf": now, "exp": now + 600}
    assert expected == claims


async def test_a_ticket(
    client: httpx.AsyncClient, alice: dict[str, Any], settings: AuthSettings, clock: ManualClock
) -> None:
    """A ticket is of its own type, belongs to the session, and ends after thirty seconds; its connection does not."""
    answer = await client.post("/ticket", headers=bearer(alice["access_token"]))
    assert (200, 30, "no-store") == (
        answer.status_code,
        answer.json()["expires_in"],
        answer.headers["cache-control"],
    )
    header, claims = opened(answer.json()["ticket"], settings)
    _, access = opened(alice["access_token"], settings)
    assert "ticket+jwt" == header["typ"]
    assert ("alice", access["sid"], int(clock.wall()) + 30) == (claims["sub"], claims["sid"], claims["exp"])
    assert int(clock.wall()) + 600 == claims["expire_at"]
    again = await client.post("/ticket", headers=bearer(alice["access_token"]))
    assert claims["jti"] != opened(again.json()["ticket"], settings)[1]["jti"]


@pytest.mark.parametrize("client_id", [None, "8a5a4d3e-0000-4000-8000-000000000000"])
async def test_a_subscription_token(
    client: httpx.AsyncClient, alice: dict[str, Any], settings: AuthSettings, client_id: str | None
) -> None:
    """A subscription token names the channel, and the connection if it is bound to one."""
    body = {"channel": "$chat:team"} if client_id is None else {"channel": "$chat:team", "client": client_id}
    answer = await client.post("/tokens/subscription", json=body, headers=bearer(alice["access_token"]))
    assert 200 == answer.status_code
    header, claims = opened(answer.json()["token"], settings)
    assert ("JWT", "alice", "$chat:team", client_id) == (
        header["typ"],
        claims["sub"],
        claims["channel"],
        claims.get("client"),
    )


@pytest.mark.parametrize(
    ("channel", "expected"),
    [("$chat:x", 200), ("$inbox:alice", 200), ("$inbox:bob", 403), ("$inbox:alice2", 403), ("chat:x", 403), ("", 400)],
)
async def test_channels_are_denied_unless_a_pattern_allows_them(
    client: httpx.AsyncClient, alice: dict[str, Any], channel: str, expected: int
) -> None:
    """The policy decides with the user and the channel."""
    answer = await client.post("/tokens/subscription", json={"channel": channel}, headers=bearer(alice["access_token"]))
    assert expected == answer.status_code


async def test_the_policy_can_be_another(running: Running) -> None:
    """`create_app(policy=...)` puts anything in the place of the patterns."""
    async with running(policy=lambda caller, channel: (caller.user, channel) == ("alice", "any")) as client:
        await client.post("/register", json={"username": "alice", "password": PASSWORD})
        pair = (await client.post("/login", json={"username": "alice", "password": PASSWORD})).json()
        for channel, expected in (("any", 200), ("$chat:x", 403)):
            answer = await client.post(
                "/tokens/subscription", json={"channel": channel}, headers=bearer(pair["access_token"])
            )
            assert expected == answer.status_code


async def test_only_access_tokens_are_bearers(client: httpx.AsyncClient, alice: dict[str, Any]) -> None:
    """A ticket or subscription token, which may have been in a URL or a log, gets no further tokens."""
    ticket = (await client.post("/ticket", headers=bearer(alice["access_token"]))).json()["ticket"]
    subscription = (
        await client.post("/tokens/subscription", json={"channel": "$chat:x"}, headers=bearer(alice["access_token"]))
    ).json()["token"]
    for token in (ticket, subscription, alice["refresh_token"]):
        answer = await client.post("/ticket", headers=bearer(token))
        assert (401, "invalid_token") == fault(answer)
        assert 'Bearer error="invalid_token"' == answer.headers["www-authenticate"]


async def test_an_expired_bearer(client: httpx.AsyncClient, alice: dict[str, Any], clock: ManualClock) -> None:
    """At its end an access token is no bearer any more."""
    clock.advance(599)
    assert 200 == (await client.post("/ticket", headers=bearer(alice["access_token"]))).status_code
    clock.advance(1)
    assert (401, "invalid_token") == fault(await client.post("/ticket", headers=bearer(alice["access_token"])))


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YWxpY2U6eA==",
        "Bearer a.b.c",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "Bearer " + "e" * 5000,
        "Bearer W1tb" + "W1tb" * 900 + ".e30.e30",
    ],
    ids=["empty", "bare", "blank", "basic", "rubbish", "none", "too long", "too deep"],
)
async def test_bad_bearers(client: httpx.AsyncClient, authorization: str) -> None:
    """Anything but a token of ours is 401."""
    answer = await client.post("/ticket", headers={"Authorization": authorization})
    assert (401, "invalid_token") == fault(answer)


@pytest.mark.parametrize(
    "change",
    [{"iss": "elsewhere"}, {"aud": "billing"}, {"sid": None}, {"exp": None}, {"sub": None}],
    ids=["issuer", "audience", "no session", "no end", "nobody"],
)
async def test_our_key_alone_does_not_make_a_bearer(
    client: httpx.AsyncClient, alice: dict[str, Any], settings: AuthSettings, change: dict[str, object]
) -> None:
    """A token signed with the right key but for something else is refused."""
    key = only_key(settings)
    header, claims = opened(alice["access_token"], settings)
    changed = {name: value for name, value in {**claims, **change}.items() if value is not None}
    token = jwt.encode(changed, key.private, "EdDSA", {"typ": header["typ"], "kid": header["kid"]})
    assert (401, "invalid_token") == fault(await client.post("/ticket", headers=bearer(token)))


async def test_the_jwks(client: httpx.AsyncClient, settings: AuthSettings) -> None:
    """The JWKS has the public key, nothing private, and may be kept for five minutes."""
    answer = await client.get("/.well-known/jwks.json")
    assert "public, max-age=300" == answer.headers["cache-control"]
    (key,) = answer.json()["keys"]
    assert {"kty", "crv", "x", "kid", "use", "alg"} == set(key)
    assert only_key(settings).key_id == key["kid"]
    tag = answer.headers["etag"]
    for known, expected in (
        ("", 200),
        ('"other"', 200),
        (tag, 304),
        (f'"other", W/{tag}', 304),
        ("*", 304),
    ):
        again = await client.get("/.well-known/jwks.json", headers={"If-None-Match": known})
        assert (expected, tag) == (again.status_code, again.headers["etag"])
        assert "public, max-age=300" == again.headers["cache-control"]
        assert (b"" if expected == 304 else answer.content) == again.content
