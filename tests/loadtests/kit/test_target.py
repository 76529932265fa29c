"""How clients show who they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import OKPAlgorithm

from loadtests.kit.target import Mint, TargetError, Tokens, by_key, by_secret, listed

KEYS: dict[str, Callable[[], Any]] = {
    "EdDSA": Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


def pem(key: Any) -> str:
    """Return a key as files hold it."""
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def file(folder: Path, text: str) -> Path:
    """Write a file."""
    path = folder / "file"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("algorithm", KEYS)
def test_each_kind_of_key_signs_with_its_algorithm(tmp_path: Path, algorithm: str) -> None:
    """The token says who, for whom, by whom and with which key, and outlives the run."""
    key = KEYS[algorithm]()
    tokens = by_key(file(tmp_path, pem(key)), kid="k", issuer="us")
    token = Mint(tokens, 100.0).token("ann", 7)
    claims = jwt.decode(token, key.public_key(), algorithms=[algorithm], audience="gateway", issuer="us")
    assert ("ann", "k") == (claims["sub"], jwt.get_unverified_header(token)["kid"])
    assert claims["exp"] - claims["iat"] >= 100 + 3600


def test_a_jwk_brings_its_id(tmp_path: Path) -> None:
    """And may be told another."""
    key = Ed25519PrivateKey.generate()
    jwk = json.loads(OKPAlgorithm.to_jwk(key)) | {"kid": "own", "alg": "EdDSA"}
    tokens = by_key(file(tmp_path, json.dumps(jwk)))
    token = Mint(tokens, 1.0).token("ann", 7)
    assert jwt.get_unverified_header(token)["kid"] == "own"
    assert jwt.decode(token, key.public_key(), algorithms=["EdDSA"], audience="gateway")["sub"] == "ann"
    assert by_key(file(tmp_path, json.dumps(jwk)), kid="other").kid == "other"


def test_a_secret_signs_without_an_id() -> None:
    """As `client.token.hmac_secret_key` is checked; an empty audience is none."""
    token = Mint(by_secret("s" * 32, audience=""), 1.0).token("ann", 7)
    assert "kid" not in jwt.get_unverified_header(token)
    assert "aud" not in jwt.decode(token, "s" * 32, algorithms=["HS256"])


def test_listed_tokens_are_given_out_in_turn(tmp_path: Path) -> None:
    """More clients than tokens share them; without any token there is none."""
    mint = Mint(listed(file(tmp_path, "a\n\n b \n")), 1.0)
    assert ["a", "b", "a"] == [mint.token("x", it) for it in range(3)]
    assert Mint(Tokens(), 1.0).token("x", 0) == ""


PUBLIC = OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key())


@pytest.mark.parametrize(
    ("text", "kid", "reason"),
    [
        ("nothing", "k", "is no private key as PEM or JWK"),
        (pem(Ed448PrivateKey.generate()), "k", "is of a kind that no token is signed with"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "k", "is of a kind"),
        (pem(Ed25519PrivateKey.generate()), "", "say with --kid"),
        ("{nothing", "k", "is no JWK"),
        ('{"kty":"OKP"}', "k", "cannot be used"),
        (PUBLIC, "k", "is a public key"),
    ],
    ids=["no key", "another kind", "another curve", "no name", "no JSON", "no key in it", "public"],
)
def test_keys_that_cannot_sign_are_refused(tmp_path: Path, text: str, kid: str, reason: str) -> None:
    """Before a process is started."""
    with pytest.raises(TargetError, match=reason):
        by_key(file(tmp_path, text), kid=kid)


def test_files_that_say_nothing_are_refused(tmp_path: Path) -> None:
    """With their names."""
    with pytest.raises(TargetError, match="holds no token"):
        listed(file(tmp_path, "\n"))
    with pytest.raises(TargetError, match="gone: cannot be read"):
        listed(tmp_path / "gone")
