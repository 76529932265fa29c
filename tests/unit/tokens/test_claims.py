"""What claims make of an identity."""

from __future__ import annotations

from base64 import b64encode

import pytest

from gateway.tokens import TokenVerifier
from gateway.types import Grant, Identity
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder
from tests.unit.tokens.signing import NOW, SECRET, Signer, good

SIGNER = Signer.make("HS256", "")


def identity(claims: dict[str, object] | bytes, user_id_claim: str = "sub") -> Identity:
    """Sign claims and have them read."""
    verifier = TokenVerifier(
        hmac_secret=SECRET, clock=ManualClock(), recorder=MemoryRecorder(), user_id_claim=user_id_claim
    )
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
    assert "a@example.org" == identity(good(email="a@example.org"), "email").user
    assert "" == identity(good(), "email").user


def test_without_claims_there_is_nobody() -> None:
    """A token that says nothing is the anonymous user's."""
    assert Identity(user=identity({}).user, key_id="") == identity({})
    assert "" == identity({"sub": None}).user
