"""The verifier with keys given to it: what is accepted, and how everything else is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.errors import OperatorError, TokenError
from gateway.tokens import Rules, TokenVerifier, Trust
from gateway.tokens.keys import public_key
from gateway.types import Identity
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder
from tests.unit.tokens.signing import NOW, SECRET, Signer, good, hs256, join, part, unpart

ED = Signer.make("EdDSA")
OTHER = Signer.make("EdDSA")
RSA = Signer.make("RS256", "r1")
EC = Signer.make("ES256", "e1")
HMAC = Signer.make("HS256", "")


def verifier(recorder: MemoryRecorder | None = None, rules: Rules | None = None, **keys: Any) -> TokenVerifier:
    """Make a verifier that has a secret and one public key of each kind, unless others are given."""
    whole = {"hmac_secret": SECRET, "public_keys": [ED.pem(), RSA.pem(), EC.pem()], **keys}
    trust = Trust(rules=rules or Rules(), **whole)
    return TokenVerifier(trust, clock=ManualClock(), recorder=recorder or MemoryRecorder())


@pytest.mark.parametrize("signer", [ED, RSA, EC, HMAC], ids=lambda signer: signer.algorithm)
@pytest.mark.parametrize("typ", [None, "JWT", "at+jwt", "application/at+jwt"])
def test_good_tokens_of_every_kind_of_key(signer: Signer, typ: str | None) -> None:
    """A token signed with any of the keys becomes the identity that its claims describe."""
    found = verifier(rules=Rules(issuer="issuer")).known(signer.token(good(), typ=typ), NOW)
    assert isinstance(found, Identity)
    assert ("alice", NOW + 600, "s1", "t1", False) == (
        found.user,
        found.expires_at,
        found.session_id,
        found.token_id,
        found.ticket,
    )


def test_a_key_is_found_without_and_in_spite_of_an_id() -> None:
    """The ids of keys given as PEM are ours, so a signer's own id, or none, does not hide them."""
    without = verifier().known(ED.token(good(), kid=None), NOW)
    assert isinstance(without, Identity)
    assert without.key_id  # the thumbprint, so that dropping a key finds the token
    assert isinstance(verifier().known(ED.token(good(), kid=without.key_id), NOW), Identity)
    assert isinstance(verifier().known(RSA.token(good(), kid="whatever"), NOW), Identity)


def _cut(token: str) -> str:
    unsigned, _, signature = token.rpartition(".")
    return f"{unsigned}.{part(unpart(signature)[:-1])}"


def _swapped(token: str) -> str:
    header, _, signature = token.split(".")
    return ".".join([header, part(json.dumps(good(sub="mallory")).encode()), signature])


def _public_key_as_secret() -> str:
    """The classic: HS256 with the bytes of a public key as the secret."""
    return hs256(RSA.pem(), join({"alg": "HS256", "kid": "r1"}, good(), b"").removesuffix("."))


INVALID: dict[str, dict[str, str]] = {  # by what is found wrong, so that no token is refused for another fault
    "not three parts of base64url": {
        "empty": "",
        "words": "no token at all",
        "two parts": "e30.e30",
        "four parts": ED.token(good()) + ".e30",
        "encrypted": ".".join(["e30"] * 5),
        "impossible length of a part": "a.e30.e30",
        "standard base64": ED.token(good()).replace("_", "/") + "+/",
        "padding": ED.token(good()) + "==",
        "newline at the end": ED.token(good()) + "\n",
        "alg none without signature": join({"alg": "none"}, good(), b""),
    },
    "too long, or not ASCII": {
        "not ascii": "é" + ED.token(good()),
        "surrogate": "\ud800" + ED.token(good()),
        "too long": ED.token(good(info="x" * 8192)),
    },
    "malformed header": {
        "header not json": join(b"{", good(), b"s"),
        "header an array": join([], good(), b"s"),
        "header not utf-8": join(b'{"alg":"\xff"}', good(), b"s"),
        "header too deep": join(b'{"alg":"EdDSA","x":' + b"[" * 4000, {}, b"s"),
        "header without alg": join({"kid": "k1"}, good(), b"s"),
        "alg a number": join({"alg": 1}, good(), b"s"),
        "kid a number": ED.token(good(), kid=1),
    },
    "signature, or an algorithm that no key of ours is for": {
        "alg none": join({"alg": "none"}, good(), b"s"),
        "alg None": join({"alg": "None"}, good(), b"s"),
        "alg unknown": ED.token(good(), alg="XX999"),
        "alg of another case": ED.token(good(), alg="eddsa"),
        "alg of another key": ED.token(good(), alg="RS256"),
        "alg PS256": RSA.token(good(), alg="PS256"),
        "public key as secret": _public_key_as_secret(),
        "wrong secret": Signer("HS256", b"another secret of thirty-two bytes", "").token(good()),
        "empty secret": hs256(b"", join({"alg": "HS256"}, good(), b"").removesuffix(".")),
        "stranger's key": OTHER.token(good()),
        "stranger's key in the header": OTHER.token(good(), jwk=OTHER.jwk()),
        "stranger's key by jku": OTHER.token(good(), jku="http://127.0.0.1:1/jwks.json"),
        "stranger's key by x5u": OTHER.token(good(), x5u="http://127.0.0.1:1/cert.pem"),
        "signature cut": _cut(ED.token(good())),
        "signature of other claims": _swapped(ED.token(good())),
    },
    "critical header extensions": {
        "crit": ED.token(good(), crit=["exp"]),
        "crit empty": ED.token(good(), crit=[]),
    },
    "type of token": {
        "typ of something else": ED.token(good(), typ="logout+jwt"),
    },
    "malformed claims": {
        "claims not json": ED.token(b"{"),
        "claims an array": ED.token([]),
        "claims not utf-8": ED.token(b'{"aud":"gateway","info":"\xff"}'),
        "claims too deep": ED.token(b'{"aud":"gateway","x":' + b"[" * 5000),
        "sub a number": ED.token(good(sub=7)),
        "exp a string": ED.token(good(exp="2030-01-01")),
        "exp a bool": ED.token(good(exp=True)),
        "exp beyond numbers": ED.token(b'{"aud":"gateway","iss":"issuer","exp":1e999}'),
        "exp not a number": ED.token(b'{"aud":"gateway","iss":"issuer","exp":NaN}'),
        "channels a string": ED.token(good(channels="chat:lobby")),
        "subs a list": ED.token(good(subs=["chat:lobby"])),
        "override not an object": ED.token(good(subs={"a": {"override": {"presence": True}}})),
    },
    "issuer": {
        "issuer wrong": ED.token(good(iss="elsewhere")),
        "issuer missing": ED.token(good(iss=None)),
    },
    "audience": {
        "audience wrong": ED.token(good(aud="billing")),
        "audience wrong, signed with the secret": HMAC.token(good(aud="billing")),
        "audience missing": ED.token(good(aud=None)),
        "audience list without us": ED.token(good(aud=["billing", "gateway2"])),
        "audience empty list": HMAC.token(good(aud=[])),
    },
    "an empty channel name": {
        "channels with an empty name": ED.token(good(channels=["chat:lobby", ""])),
    },
    "base64 that does not hold JSON": {
        "b64info not base64": ED.token(good(b64info="***")),
        "b64info not json": ED.token(good(b64info="bm90IGpzb24=")),
    },
    "a ticket without id or end": {
        "ticket without id": ED.token(good(jti=None, exp=NOW + 30), typ="ticket+jwt"),
        "ticket without end": ED.token(good(exp=None), typ="ticket+jwt"),
    },
    "a ticket for too long": {
        "ticket that outlives its claim": ED.token(good(exp=NOW + 61), typ="ticket+jwt"),
    },
}


@pytest.mark.parametrize(
    ("detail", "token"),
    [pytest.param(detail, token, id=kind) for detail, kinds in INVALID.items() for kind, token in kinds.items()],
)
def test_bad_tokens_are_refused_for_good(detail: str, token: str) -> None:
    """Each kind of bad token gets 3500, is counted once, and leaves nothing in the cache."""
    recorder = MemoryRecorder()
    subject = verifier(recorder, Rules(issuer="issuer"))
    for expected in (1, 2):
        refused = subject.known(token, NOW)
        assert isinstance(refused, TokenError)
        assert (3500, "invalid token", detail) == (refused.code, refused.reason, refused.detail)
        assert expected == recorder.counts["auth_failures", "invalid"]


@pytest.mark.parametrize(
    ("claims", "typ"),
    [
        (good(exp=NOW - 31), "at+jwt"),
        (good(exp=NOW - 30), "at+jwt"),
        (good(exp=0), "at+jwt"),
        (good(exp=-1, expire_at=0), "at+jwt"),
        (good(nbf=NOW + 31), "at+jwt"),
        (good(exp=NOW), "ticket+jwt"),
    ],
    ids=["past", "end of leeway", "at zero", "never, but not from now on", "not yet", "ticket, no leeway"],
)
def test_tokens_out_of_their_time_are_expired(claims: dict[str, object], typ: str) -> None:
    """`exp` and `nbf` failing are 109, so that the client fetches a new token instead of giving up."""
    recorder = MemoryRecorder()
    refused = verifier(recorder=recorder).known(ED.token(claims, typ=typ), NOW)
    assert isinstance(refused, TokenError)
    assert (109, "token expired") == (refused.code, refused.reason)
    assert {("auth_failures", "expired"): 1} == recorder.counts


def test_a_forged_token_is_not_called_expired() -> None:
    """The signature is looked at before the time, so 109 is said of genuine tokens only."""
    refused = verifier().known(OTHER.token(good(exp=NOW - 999)), NOW)
    assert isinstance(refused, TokenError)
    assert refused.code == 3500


@pytest.mark.parametrize("claims", [good(exp=NOW - 29.5), good(nbf=NOW + 30), good(exp=None)])
def test_time_within_leeway_or_without_end_is_good(claims: dict[str, object]) -> None:
    """Clocks may differ by the leeway, and a token need not end."""
    assert isinstance(verifier().known(ED.token(claims), NOW), Identity)


@pytest.mark.parametrize(
    ("audience", "claims"),
    [
        ("gateway", good(aud=["billing", "gateway"])),
        ("", good(aud="anything")),
        ("", good(aud=None)),
    ],
)
def test_audience_is_one_of_several_or_not_looked_at(audience: str, claims: dict[str, object]) -> None:
    """`aud` may be a list; an empty setting turns the check off."""
    assert isinstance(verifier(rules=Rules(audience=audience)).known(ED.token(claims), NOW), Identity)


def test_a_token_of_the_shared_secret_may_lack_the_audience() -> None:
    """Nobody but the gateway can check such a token, so it cannot be meant for someone else."""
    assert isinstance(verifier().known(HMAC.token(good(aud=None)), NOW), Identity)


def test_a_ticket_is_marked_as_one() -> None:
    """A ticket's identity says so and carries the id whose one use is to be claimed."""
    found = verifier().known(ED.token(good(exp=NOW + 30), typ="ticket+jwt"), NOW)
    assert isinstance(found, Identity)
    assert (True, "t1") == (found.ticket, found.token_id)


def test_without_keys_every_token_is_refused() -> None:
    """A verifier without keys stands for "a supplied token is still verified": none can be good."""
    refused = verifier(hmac_secret=b"", public_keys=[]).known(HMAC.token(good()), NOW)
    assert isinstance(refused, TokenError)
    assert refused.code == 3500


def test_a_good_token_is_remembered_until_its_end() -> None:
    """The second look comes from the cache; the end of the token is noticed all the same."""
    subject = verifier()
    token = ED.token(good())
    first = subject.known(token, NOW)
    assert isinstance(first, Identity)
    assert first is subject.known(token, NOW + 629)
    late = subject.known(token, NOW + 630)
    assert isinstance(late, TokenError)
    assert late.code == 109


@pytest.mark.parametrize(
    "forget",
    [
        lambda it: it.forget(token_id="t1"),
        lambda it: it.forget(session_id="s1"),
        lambda it: it.forget(key_id=public_key(ED.pem()).key_id),  # not the one that a token says
    ],
    ids=["jti", "sid", "kid"],
)
def test_what_is_forgotten_is_checked_again(forget: Callable[[TokenVerifier], None]) -> None:
    """Dropping a token, a session or a key from the cache takes the identities that go with it."""
    subject = verifier()
    kept = subject.known(RSA.token(good(sid="s2", jti="t2")), NOW)
    first = subject.known(ED.token(good()), NOW)
    forget(subject)
    again = subject.known(ED.token(good()), NOW)
    assert first == again
    assert first is not again
    assert kept is subject.known(RSA.token(good(sid="s2", jti="t2")), NOW)


async def test_verify_answers_as_known_does() -> None:
    """With keys at hand the coroutine returns the identity or raises what `known` would return."""
    subject = verifier()
    async with subject:
        assert "alice" == (await subject.verify(ED.token(good()))).user
        with pytest.raises(TokenError, match="3500 invalid token"):
            await subject.verify(OTHER.token(good()))
    assert subject.jwks_age(0.0) is None


@settings(deadline=None)
@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("latin-1"))))
def test_no_text_breaks_it(text: str) -> None:
    """Whatever a client presents, the answer is a refusal."""
    assert isinstance(SUBJECT.known(text, NOW), TokenError)


@settings(deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=80))
def test_no_parts_break_it(header: bytes, claims: bytes, signature: bytes) -> None:
    """Well-encoded rubbish is refused like any other."""
    assert isinstance(SUBJECT.known(join(header, claims, signature), NOW), TokenError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["sub", "exp", "nbf", "expire_at", "info", "b64info", "channels", "subs", "channel", "client", "sid", "jti"]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JSON), st.sampled_from([None, "ticket+jwt"]))
def test_no_signed_claims_break_it(claims: dict[str, object], typ: str | None) -> None:
    """Even a genuine issuer that writes rubbish gets an identity or a refusal."""
    subject = verifier(public_keys=[])
    outcome = subject.known(HMAC.token(claims, typ=typ), NOW)
    assert isinstance(outcome, Identity | TokenError)


SUBJECT = verifier(rules=Rules(issuer="issuer"))


@pytest.mark.parametrize("secret", [RSA.pem(), b'{"kty": "oct", "k": "c2VjcmV0"}'], ids=["public key", "JWK"])
def test_what_is_no_secret_is_refused_at_the_start(secret: bytes) -> None:
    """A public key given as the secret would let anyone sign; the operator is told in one line."""
    with pytest.raises(OperatorError, match="HMAC secret cannot be used"):
        verifier(hmac_secret=secret)


@pytest.mark.parametrize("pem", ["rubbish", b"\xff", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_public_key_is_refused_at_the_start(pem: str | bytes) -> None:
    """A key file that cannot be read stops the start instead of refusing every client later."""
    with pytest.raises(OperatorError, match="cannot be read as PEM"):
        verifier(public_keys=[pem])


@pytest.mark.parametrize("url", ["auth:8001/jwks", "ftp://auth/jwks", "http://", "/jwks.json"])
def test_what_is_no_url_is_refused_at_the_start(url: str) -> None:
    """A JWKS endpoint that cannot be asked is named at the start."""
    with pytest.raises(OperatorError, match="not an http"):
        verifier(jwks_url=url)


def test_a_short_secret_is_warned_of() -> None:
    """A secret shorter than its hash works, as with Centrifugo, but the operator is told; the secret is not logged."""
    with capture_logs() as logs:
        subject = verifier(hmac_secret=b"secret")
    assert [{"event": "token.secret_short", "log_level": "warning", "bytes": 6, "advised": 32}] == logs
    assert isinstance(subject.known(Signer("HS256", b"secret", "").token(good()), NOW), Identity)
