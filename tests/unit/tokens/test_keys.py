"""Keys: which are taken from a JWKS, and what each may be used for."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, SECP384R1, SECP521R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from gateway.tokens.keys import key_set, public_key
from tests.unit.tokens.signing import Signer

ED = Signer.make("EdDSA", "ed")
EC = Signer.make("ES256", "ec")
RSA = Signer.make("RS256", "rsa")


def jwks(*keys: object) -> bytes:
    """Write a JWKS."""
    return json.dumps({"keys": keys}).encode()


@pytest.mark.parametrize(
    ("jwk", "expected"),
    [
        (ED.jwk(), {"EdDSA"}),
        (ED.jwk(alg=None, use=None), {"EdDSA"}),
        (EC.jwk(), {"ES256"}),
        (EC.jwk(alg=None), {"ES256"}),
        (RSA.jwk(), {"RS256"}),
        (RSA.jwk(alg=None), {"RS256", "RS384", "RS512"}),
        (RSA.jwk(key_ops=["verify"]), {"RS256"}),
        (Signer("ES384", generate_private_key(SECP384R1()), "p384").jwk(alg=None), {"ES384"}),
        (Signer("ES512", generate_private_key(SECP521R1()), "p521").jwk(alg=None), {"ES512"}),
    ],
)
def test_a_key_is_bound_to_its_algorithms(jwk: dict[str, object], expected: set[str]) -> None:
    """The key's type, curve and `alg` say what it is for; no token can say otherwise."""
    ((key,),) = key_set(jwks(jwk)).values()
    assert expected == set(key.algorithms)
    assert jwk["kid"] == key.key_id


@pytest.mark.parametrize(
    "jwk",
    [
        ED.jwk(use="enc"),
        ED.jwk(key_ops=["encrypt"]),
        ED.jwk(alg="RS256"),
        ED.jwk(x="AAAA"),
        ED.jwk(x=None),
        ED.jwk(x=7),
        ED.jwk(crv="X25519"),
        EC.jwk(alg="ES384"),
        EC.jwk(crv="P-999"),
        Signer("ES256", generate_private_key(SECP256K1()), "k").jwk(alg=None),
        Signer("RS256", generate_rsa(65537, 1024), "short").jwk(),  # noqa: S505 - too short is the point
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": None},
        {},
    ],
)
def test_unusable_keys_are_left_out(jwk: dict[str, object]) -> None:
    """A key for something else, too weak, broken or a shared secret is passed over, and the rest still counts."""
    assert ["rsa"] == list(key_set(jwks(jwk, RSA.jwk())))
    with pytest.raises(ValueError, match="without a usable key"):
        key_set(jwks(jwk))


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"keys":{}}', b'{"keys":[1]}', b'{"keys":' + b"[" * 60000])
def test_what_is_no_jwks(body: bytes) -> None:
    """Anything but an object with a list of keys is an error, not an empty set."""
    with pytest.raises(ValueError, match="not a JWKS"):
        key_set(body)


def test_a_private_key_gives_its_public_part_only() -> None:
    """A JWKS that leaks private parts is read as if it did not."""
    leaked = json.loads(ECAlgorithm.to_jwk(EC.material))
    ((key,),) = key_set(jwks({**leaked, "kid": "ec"})).values()
    assert key.material == EC.material.public_key()


def test_keys_that_share_an_id() -> None:
    """An id may stand for keys of several types; the algorithm of the token chooses."""
    assert 2 == len(key_set(jwks(ED.jwk(kid="x"), RSA.jwk(kid="x")))["x"])


def test_a_key_without_id_has_its_thumbprint() -> None:
    """RFC 7638, with the example of RFC 8037 appendix A.3; the same key as PEM has the same id."""
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert ["kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"] == list(key_set(jwks(jwk)))
    assert public_key(RSA.pem()).key_id in key_set(jwks(RSA.jwk(kid=None)))


@settings(deadline=None)
@given(
    st.binary() | st.lists(st.dictionaries(st.text(), st.text())).map(lambda keys: json.dumps({"keys": keys}).encode())
)
def test_no_body_breaks_it(body: bytes) -> None:
    """Whatever an endpoint answers, it is a key set or a ValueError."""
    with pytest.raises(ValueError, match="JWKS"):
        key_set(body)
