"""The verifier after a revocation: what it refuses, found good before or not, and for how long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.engines.memory.control import MemoryControl
from gateway.errors import TokenError
from gateway.protocol import revocations
from gateway.protocol.messages import Revoke
from gateway.tokens import TokenVerifier, Trust, verifier
from gateway.tokens.keys import public_key
from gateway.types import Identity
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder
from tests.unit.tokens.signing import NOW, SECRET, Signer, good

ED, RSA, HMAC = Signer.make("EdDSA"), Signer.make("RS256", "r1"), Signer.make("HS256", "h1")
THUMBPRINT = public_key(ED.pem()).key_id


class Subject:
    """A verifier that was given two public keys and a secret."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.recorder = MemoryRecorder()
        trust = Trust(hmac_secret=SECRET, public_keys=[ED.pem(), RSA.pem()])
        self.verifier = TokenVerifier(trust, clock=self.clock, recorder=self.recorder)

    def revoke(self, until: float = NOW + 300, **fields: Any) -> None:
        """Revoke something, for five minutes."""
        self.verifier.revoke(Revoke(id="1", until=until, **fields))
        # A key goes, the sessions do not: whoever holds its token is to fetch another.
        self.answer = (
            (109, "token expired", "revoked key") if "key_id" in fields else (3500, "invalid token", "revoked")
        )

    def good(self, token: str) -> bool:
        """Whether a token is accepted; if not, it is for the one reason."""
        found = self.verifier.known(token, self.clock.wall())
        assert found is not None
        if isinstance(found, TokenError):
            assert self.answer == (found.code, found.reason, found.detail)
        return isinstance(found, Identity)


OF_ALICE: dict[str, dict[str, Any]] = {
    "sid": {"session_id": "s1"},
    "jti": {"token_id": "t1"},
    "kid": {"key_id": THUMBPRINT},
    "user": {"user": "alice", "issued_before": int(NOW)},
}
PURPOSES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "connection": ({}, {}),
    "subscription": ({"channel": "chat:x"}, {}),
    "ticket": ({"exp": NOW + 30}, {"typ": "ticket+jwt"}),
}


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("kind", OF_ALICE)
@pytest.mark.parametrize("seen", [True, False], ids=["seen", "new"])
def test_a_revoked_token_is_refused_for_whatever_it_is_meant(kind: str, purpose: str, seen: bool) -> None:
    """Found good before or never seen; tokens of others are good all the while."""
    subject = Subject()
    claims, header = PURPOSES[purpose]
    hers = ED.token(good(**claims), **header)
    his = RSA.token(good(sub="bob", sid="s2", jti="t2", **claims), **header)
    if seen:
        assert subject.good(hers)
    subject.revoke(**OF_ALICE[kind])
    assert [False, False, True] == [subject.good(it) for it in (hers, hers, his)]
    failure = "expired" if kind == "kid" else "invalid"
    assert (1, 2) == (subject.recorder.counts["revocations", kind], subject.recorder.counts["auth_failures", failure])


@pytest.mark.parametrize("kind", OF_ALICE)
def test_at_its_end_a_revocation_is_over(kind: str) -> None:
    """Its caller says how long tokens can be presented; nothing is kept beyond."""
    subject = Subject()
    token = ED.token(good())
    subject.revoke(**OF_ALICE[kind])
    assert 1 == subject.verifier.revocations
    subject.clock.advance(299.9)
    assert not subject.good(token)
    subject.clock.advance(0.1)
    assert subject.good(token)
    assert 0 == subject.verifier.revocations


def test_of_a_user_tokens_that_are_issued_later_are_good() -> None:
    """Those of that second are not, nor those that do not say."""
    subject = Subject()
    subject.revoke(user="alice", issued_before=int(NOW))
    issued = {NOW - 1: False, NOW: False, NOW + 0.5: False, NOW + 1: True, None: False}
    assert list(issued.values()) == [subject.good(ED.token(good(iat=at))) for at in issued]


@pytest.mark.parametrize("kid", ["k1", "another", None, THUMBPRINT], ids=["its own", "another", "none", "the real one"])
def test_a_key_is_revoked_whatever_its_tokens_call_it(kid: str | None) -> None:
    """Who stole a key names it as he likes: what counts is which key made the signature."""
    subject = Subject()
    subject.revoke(key_id=THUMBPRINT)
    assert not subject.good(ED.token(good(), kid=kid))


def test_a_shared_secret_has_no_id() -> None:
    """Its tokens are told apart by what they say, so that no other one is taken for them."""
    subject = Subject()
    subject.revoke(key_id="h1")
    assert [False, True] == [subject.good(HMAC.token(good(), kid=it)) for it in ("h1", None)]


def test_an_identity_that_was_given_out_can_be_looked_up_again() -> None:
    """For whoever has awaited something between the check and the use."""
    subject = Subject()
    found = subject.verifier.known(ED.token(good()), NOW)
    assert isinstance(found, Identity)
    assert (NOW, THUMBPRINT) == (found.issued_at, found.key_id)
    assert not subject.verifier.revoked(found)
    subject.revoke(session_id="s1")
    assert subject.verifier.revoked(found)
    subject.clock.advance(300)
    assert not subject.verifier.revoked(found)


def test_too_many_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that had to go before their end, so that somebody can be told."""
    subject = Subject()
    monkeypatch.setattr(subject.verifier, "_denied", revocations.Denylist(limit=2))
    for number in range(5):
        subject.revoke(session_id=f"s{number}", until=NOW + 10 + number)
    assert (3, 2) == (subject.recorder.counts["revocations_forgotten", ""], subject.verifier.revocations)


# --- a node that has just started


class LateBus(MemoryControl):
    """A bus that is not ready before `told` is set."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    @property
    def ready(self) -> bool:
        """See the contract."""
        return self.told.is_set()

    async def stands(self) -> None:
        """See the contract."""
        await self.told.wait()


async def test_no_token_is_judged_before_what_was_revoked_is_known() -> None:
    """It waits; what was revoked before this node started is refused then, and the next one is judged at once."""
    subject, bus = Subject(), LateBus()
    subject.verifier.judge_after(bus)
    barred, free = (HMAC.token(good(sid=session)) for session in ("s1", "s2"))
    assert [None, None] == [subject.verifier.known(it, NOW) for it in (barred, free)]
    waiting = [asyncio.ensure_future(subject.verifier.verify(it)) for it in (barred, free)]
    await asyncio.sleep(0)
    subject.revoke(session_id="s1")
    bus.told.set()
    refusal, found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(refusal, TokenError)
    assert subject.answer == (refusal.code, refusal.reason, refusal.detail)
    assert isinstance(found, Identity)
    assert subject.good(free)


async def test_who_waits_too_long_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 100, which is not for good: nobody knows yet whether the token is revoked."""
    monkeypatch.setattr(verifier, "INFORMED_SECONDS", 0.0)
    subject = Subject()
    subject.verifier.judge_after(LateBus())
    with pytest.raises(TokenError) as refused:
        await subject.verifier.verify(HMAC.token(good()))
    assert 100 == refused.value.code
    assert 1 == subject.recorder.counts["auth_failures", "unavailable"]
