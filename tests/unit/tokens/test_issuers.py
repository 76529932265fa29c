"""Several issuers: whose keys count for whose tokens, and what each may sign with."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import OperatorError, TokenError
from gateway.tokens import Rules, TokenVerifier, Trust
from gateway.types import Identity
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder
from tests.unit.tokens.signing import NOW, SECRET, Signer, good

OURS = Signer.make("EdDSA", "ours")
THEIRS = Signer.make("RS256", "theirs")
HMAC = Signer("HS256", SECRET, "")
OLD_SECRET = b"the secret before, of thirty-two bytes"
OLD_HMAC = Signer("HS256", OLD_SECRET, "")


def verifier(*trusted: Trust) -> TokenVerifier:
    """Make a verifier."""
    return TokenVerifier(*trusted, clock=ManualClock(), recorder=MemoryRecorder())


def code(subject: TokenVerifier, token: str, now: float = NOW) -> int:
    """Return 0 for a token that is accepted, else the code of its refusal."""
    outcome = subject.known(token, now)
    assert outcome is not None
    return outcome.code if isinstance(outcome, TokenError) else 0


def trust(issuer: str, *signers: Signer, **more: Any) -> Trust:
    """Believe an issuer with these keys."""
    return Trust(rules=Rules(issuer=issuer), public_keys=[it.pem() for it in signers], **more)


NAMED = (trust("ours", OURS), trust("theirs", THEIRS))
ONE_NAMELESS = (trust("", OURS), trust("theirs", THEIRS))


@pytest.mark.parametrize(
    ("trusted", "signer", "iss", "expected"),
    [
        (NAMED, OURS, "ours", 0),
        (NAMED, THEIRS, "theirs", 0),
        (NAMED, OURS, "theirs", 3500),
        (NAMED, THEIRS, "ours", 3500),
        (NAMED, OURS, "nobody", 3500),
        (NAMED, OURS, None, 3500),
        (NAMED, OURS, "", 3500),
        (NAMED, OURS, 7, 3500),
        (ONE_NAMELESS, OURS, None, 0),
        (ONE_NAMELESS, OURS, "whoever", 0),
        (ONE_NAMELESS, OURS, "theirs", 3500),
        (ONE_NAMELESS, THEIRS, "theirs", 0),
        (ONE_NAMELESS, THEIRS, None, 3500),
        (ONE_NAMELESS, THEIRS, "whoever", 3500),
    ],
)
def test_keys_count_for_their_own_issuer(
    trusted: tuple[Trust, ...], signer: Signer, iss: object, expected: int
) -> None:
    """The keys of one issuer never verify a token that names another, and no key one that names nobody known."""
    assert expected == code(verifier(*trusted), signer.token(good(iss=iss)))


def test_each_issuer_has_rules_of_its_own() -> None:
    """Audience, leeway and the name of the user's claim are those of the issuer that the token names."""
    theirs = Rules(issuer="theirs", audience="shop", leeway=0.0, user_id_claim="uid", user_id_prefix="shop:")
    subject = verifier(trust("ours", OURS), Trust(rules=theirs, public_keys=[THEIRS.pem()]))
    found = subject.known(THEIRS.token(good(iss="theirs", aud="shop", uid="7")), NOW)
    assert isinstance(found, Identity)
    assert "shop:7" == found.user
    assert 3500 == code(subject, THEIRS.token(good(iss="theirs", uid="7")))
    assert 109 == code(subject, THEIRS.token(good(iss="theirs", aud="shop", uid="7", exp=NOW - 1)))
    assert 0 == code(subject, OURS.token(good(iss="ours", exp=NOW - 1)))


@pytest.mark.parametrize(
    ("signer", "algorithms", "expected"),
    [
        (THEIRS, {"RS256"}, 0),
        (THEIRS, {"ES256", "EdDSA"}, 3500),
        (Signer("RS512", THEIRS.material, "theirs"), {"RS256"}, 3500),
        (Signer("RS512", THEIRS.material, "theirs"), set(), 0),
        (HMAC, {"RS256"}, 3500),
        (HMAC, {"RS256", "HS256"}, 0),
    ],
)
def test_algorithms_that_are_named_exclude_all_others(signer: Signer, algorithms: set[str], expected: int) -> None:
    """An issuer's list narrows what its keys are for."""
    subject = verifier(trust("", THEIRS, hmac_secret=SECRET, algorithms=algorithms))
    assert expected == code(subject, signer.token(good()))


def test_the_secret_before_is_good_for_a_while() -> None:
    """While the shared secret is changed both are taken; from its end on the old one is not, found good or not."""
    subject = verifier(
        Trust(rules=Rules(), hmac_secret=SECRET, previous_hmac_secret=OLD_SECRET, previous_until=NOW + 60)
    )
    old = OLD_HMAC.token(good())
    assert [0, 0] == [code(subject, HMAC.token(good())), code(subject, old)]
    assert 0 == code(subject, old, NOW + 59)
    assert 3500 == code(subject, old, NOW + 60)
    assert 3500 == code(subject, OLD_HMAC.token(good(jti="t2")), NOW + 60)
    assert 0 == code(subject, HMAC.token(good()), NOW + 60)


def test_the_secret_before_may_stay() -> None:
    """Without an end it is good as long as it is set, alone too."""
    subject = verifier(Trust(previous_hmac_secret=OLD_SECRET))
    assert 0 == code(subject, OLD_HMAC.token(good(exp=None)), NOW + 1e9)


def test_nobody_is_believed_twice() -> None:
    """Two sets of rules for one issuer would be read by chance."""
    with pytest.raises(OperatorError, match="'ours' are to be read in two ways"):
        verifier(trust("ours", OURS), trust("ours", THEIRS))


def test_an_algorithm_that_does_not_exist_is_refused_at_the_start() -> None:
    """A misspelt algorithm would refuse every token later."""
    with pytest.raises(OperatorError, match="no such algorithm for tokens: RS265, none"):
        verifier(trust("", OURS, algorithms={"RS265", "none", "EdDSA"}))
