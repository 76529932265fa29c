"""What claims make of an identity."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from gateway.errors import TokenError
from gateway.tokens import Rules, TokenVerifier, Trust
from gateway.types import Grant, Identity
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder
from tests.unit.tokens.signing import NOW, SECRET, Signer, good

SIGNER = Signer.make("HS256", "")


def identity(claims: dict[str, object] | bytes, **rules: Any) -> Identity:
    """Sign claims and have them read."""
    trust = Trust(rules=Rules(**rules), hmac_secret=SECRET)
    verifier = TokenVerifier(trust, clock=ManualClock(), recorder=MemoryRecorder())
    found = verifier.known(SIGNER.token(claims), NOW)
    assert isinstance(found, Identity), found
    return found


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": NOW + 5}, NOW + 5),
        ({"exp": NOW + 5, "expire_at": NOW + 50}, NOW + 50),
        ({"exp": NOW + 5, "expire_at": NOW - 50}, NOW - 50),
        ({"exp": NOW + 5, "expire_at": 0}, None),
        ({"exp": NOW + 5, "expire_at": -1}, None),
        ({"expire_at": NOW + 50}, NOW + 50),
        ({}, None),
    ],
)
def test_end_of_the_connection(claims: dict[str, object], expected: float | None) -> None:
    """`expire_at` overrides `exp`, and zero or less means never."""
    assert expected == identity(claims).expires_at


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        (b'{"info":{"a":  1.50,"b":12345678901234567890123}}', b'{"a":  1.50,"b":12345678901234567890123}'),
        (b'{"info":{"a":\n[1,\r\n2]}}', b'{"a":[1,2]}'),
        (b'{"info":"\\ud83d\\ude00"}', b'"\\ud83d\\ude00"'),
        (b'{"info":null}', None),
        (b"{}", None),
        (b'{"b64info":"' + b64encode(b'{"x":1}') + b'"}', b'{"x":1}'),
        (b'{"b64info":"' + b64encode(b'{"x":\n1}') + b'","info":2}', b'{"x":1}'),
        (b'{"b64info":""}', None),
    ],
)
def test_info_is_passed_on_as_it_stands(claims: bytes, expected: bytes | None) -> None:
    """`info` stays the bytes that were signed, but on one line; base64 wins; null is nothing."""
    assert expected == identity(claims).info


def test_channels_are_subscriptions_by_the_server() -> None:
    """Each name in `channels` is a plain grant."""
    assert {"a": Grant(), "b:c": Grant()} == identity(good(channels=["a", "b:c", "a"])).grants


def test_subs_win_over_channels_and_say_more() -> None:
    """`subs` carries info, data and overrides for each channel; what it does not know of it leaves alone."""
    subs = {
        "a": {
            "info": {"role": "x"},
            "b64data": b64encode(b"[1]").decode(),
            "override": {"presence": {"value": True}, "force_recovery": {"value": False}, "history_size": {"value": 9}},
        },
        "b": {},
    }
    found = identity(good(channels=["ignored"], subs=subs)).grants
    expected = {
        "a": Grant(info=b'{"role": "x"}', data=b"[1]", override={"presence": True, "force_recovery": False}),
        "b": Grant(),
    }
    assert expected == found


def test_empty_subs_leave_channels() -> None:
    """An empty `subs` is no richer form of anything."""
    assert {"a": Grant()} == identity(good(channels=["a"], subs={})).grants


def test_a_subscription_token() -> None:
    """With `channel` the token is for that channel, and its own extras are the grant."""
    found = identity(good(channel="$a", client="c1", info=1, data=[2], override={"join_leave": {"value": True}}))
    assert ("$a", "c1") == (found.channel, found.client)
    assert Grant(info=b"1", data=b"[2]", override={"join_leave": True}) == found.grant


@pytest.mark.parametrize("channel", [None, ""])
def test_a_connection_token_has_no_channel(channel: str | None) -> None:
    """Without `channel`, or with an empty one, nothing of a subscription token is there."""
    found = identity({"sub": "alice", "channel": channel, "client": None})
    assert (None, None, None) == (found.channel, found.client, found.grant)


def test_the_user_may_stand_in_another_claim() -> None:
    """`user_id_claim` names where the user id is; `sub` then does not count."""
    assert "a@example.org" == identity(good(email="a@example.org"), user_id_claim="email").user
    for missing in (good(), good(email=""), good(email=None)):
        assert (3500, "no user in the claim 'email'") == refusal(missing, user_id_claim="email")


def test_without_claims_there_is_nobody() -> None:
    """A token that says nothing is the anonymous user's."""
    assert Identity(user=identity({}).user, key_id="") == identity({})
    assert "" == identity({"sub": None}).user


NESTED: dict[str, object] = {
    "sub": "alice",
    "user": {"id": "u7", "deep": {"x": 1}},
    "user.id": "flat",
    "https://e.example/id": "url",
}


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ("user.id", "flat"),
        ("https://e.example/id", "url"),
        ("user.name", None),
        ("sub.id", None),
        ("nothing.at.all", None),
        ("", None),
    ],
)
def test_a_claim_is_named_as_it_stands(claim: str, expected: str | None) -> None:
    """A claim's whole name wins, though it may hold dots; where there is nothing the token is refused."""
    if expected is None:
        assert (3500, f"no user in the claim {claim!r}") == refusal(NESTED, user_id_claim=claim)
    else:
        assert expected == identity(NESTED, user_id_claim=claim).user


def test_a_claim_may_stand_within_another() -> None:
    """Names with dots between lead into objects, however much white space there is."""
    assert "u7" == identity({"user": {"id": "u7"}}, user_id_claim="user.id").user
    assert "u7" == identity(b' { "a" : { "b" : {"c": "u7"} } } ', user_id_claim="a.b.c").user


def test_users_of_an_issuer_have_a_prefix() -> None:
    """The prefix goes in front of every id, but makes nobody of nobody."""
    assert "shop:alice" == identity({"sub": "alice"}, user_id_prefix="shop:").user
    assert "" == identity({}, user_id_prefix="shop:").user


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"name": "Al", "realm": {"roles": ["x"]}, "email": "-"}, b'{"name":"Al","realm.roles":["x"]}'),
        ({"name": "Al"}, b'{"name":"Al"}'),
        ({"email": "-"}, None),
        ({"name": "Al", "info": {"mine": 1}}, b'{"mine": 1}'),
        ({"name": "Al", "info": None}, None),
        ({"name": "Al", "b64info": b64encode(b"[1]").decode()}, b"[1]"),
        (b'{"name":\n{"a":\r\n1}}', b'{"name":{"a":1}}'),
    ],
)
def test_claims_that_others_see(claims: dict[str, object] | bytes, expected: bytes | None) -> None:
    """Named claims become members of `info`, and no others; an `info` of the token's own wins."""
    assert expected == identity(claims, info_claims=("name", "realm.roles")).info


def test_channels_may_stand_in_another_claim() -> None:
    """With another name for `channels` that name alone counts."""
    claims: dict[str, object] = {"channels": ["not", "these"], "realm": {"rooms": ["a", "b"]}}
    assert {"a": Grant(), "b": Grant()} == identity(claims, channels_claim="realm.rooms").grants
    assert {} == identity(claims, channels_claim="rooms").grants


def refusal(claims: dict[str, object] | bytes, now: float = NOW, **rules: Any) -> tuple[int, str]:
    """Sign claims and have them refused."""
    trust = Trust(rules=Rules(**rules), hmac_secret=SECRET)
    refused = TokenVerifier(trust, clock=ManualClock(), recorder=MemoryRecorder()).known(SIGNER.token(claims), now)
    assert isinstance(refused, TokenError)
    return refused.code, refused.detail


def test_claims_of_other_names_are_checked_too() -> None:
    """A user id that is no text, or channels that are no list, make a token worthless."""
    assert (3500, "malformed claims") == refusal({"uid": 7}, user_id_claim="uid")
    assert (3500, "malformed claims") == refusal({"rooms": "a"}, channels_claim="rooms")


@pytest.mark.parametrize(
    "claims",
    [
        {"typ": "ID"},
        {"typ": "Refresh"},
        {"typ": "Offline"},
        {"typ": "Logout"},
        {"at_hash": "x"},
        {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
        b'{"events":{"http:\\/\\/schemas.openid.net\\/event\\/backchannel-logout":{}}}',
    ],
)
def test_what_is_no_access_token_by_its_claims(claims: dict[str, object] | bytes) -> None:
    """Some issuers sign ID, refresh and logout tokens without a type in the header."""
    assert (3500, "no access token") == refusal(claims)


@pytest.mark.parametrize("claims", [{"typ": "Bearer"}, {"typ": 7}, {"typ": ["ID"]}, {"events": []}, {"nonce": "x"}])
def test_claims_of_access_tokens(claims: dict[str, object]) -> None:
    """Claims of the same names that mean nothing of the kind do no harm."""
    assert "" == identity(claims).user


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat", "expire_at"])
@pytest.mark.parametrize("time", [NOW * 1000, 253_402_300_800, 10**400])
def test_times_in_milliseconds_are_refused(claim: str, time: int) -> None:
    """A time beyond the year 9999 is a mistake that would let a token live for ever."""
    assert 3500 == refusal({claim: time})[0]


def test_names_that_stand_twice_are_refused() -> None:
    """Readers differ on which one counts, at any depth and in any spelling."""
    for claims in (b'{"sub":"a","sub":"b"}', b'{"sub":"a","\\u0073ub":"b"}', b'{"info":{"a":1,"a":2}}'):
        assert (3500, "malformed claims") == refusal(claims)


def test_long_numbers_cost_nothing() -> None:
    """A number with more digits than Python would read at once is passed on as it stands."""
    text = b"1" * 5000
    assert text == identity(b'{"info":' + text + b"}").info


def test_a_token_grows_too_old() -> None:
    """With a greatest age it counts from `iat`, with the leeway; a token that does not tell it is worthless."""
    rules = {"max_age": 100.0, "leeway": 10.0}
    assert (109, "past its end") == refusal({"iat": NOW - 110}, **rules)
    assert (109, "past its end") == refusal({"iat": NOW - 110, "exp": NOW + 999}, **rules)
    assert 3500 == refusal({"exp": NOW + 999}, **rules)[0]
    assert (109, "past its end") == refusal({"iat": NOW - 50, "exp": NOW - 10}, **rules)
    assert NOW - 9 == identity({"iat": NOW - 109}, **rules).expires_at
    assert NOW + 20 == identity({"iat": NOW, "exp": NOW + 20}, **rules).expires_at
    assert NOW + 500 == identity({"iat": NOW, "expire_at": NOW + 500}, **rules).expires_at


def test_a_token_of_the_future_is_not_valid_yet() -> None:
    """Whoever says that it was issued later than now, leeway aside, could outlive a revocation."""
    assert (109, "not yet valid") == refusal({"iat": NOW + 31})
    assert "" == identity({"iat": NOW + 30}).user
