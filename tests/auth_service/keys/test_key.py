"""A key and its PEM."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from auth_service.keys.key import Algorithm, UnusableKey, generate, read
from gateway.tokens.keys import public_key


def pem(key: object, encryption: KeySerializationEncryption | None = None) -> bytes:
    """Return a private key as PEM."""
    written: bytes = key.private_bytes(  # type: ignore[attr-defined] # any private key has it
        Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()
    )
    return written


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_what_is_made_can_be_read(algorithm: Algorithm) -> None:
    """Each algorithm has its kind of key, and no two are alike."""
    made = [generate(algorithm) for _ in range(2)]
    assert all(it.startswith(b"-----BEGIN PRIVATE KEY-----") for it in made)
    keys = [read(it) for it in made]
    assert [algorithm, algorithm] == [it.algorithm for it in keys]
    assert keys[0].key_id != keys[1].key_id


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(Ed25519PrivateKey.generate(), "EdDSA"), (generate_private_key(SECP256R1()), "ES256")],
    ids=["Ed25519", "P-256"],
)
def test_the_id_is_the_thumbprint(key: Ed25519PrivateKey, algorithm: str) -> None:
    """The key id is the one that the gateway computes for the same key on its own (RFC 7638)."""
    loaded = read(pem(key))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert (algorithm, public_key(public).key_id) == (loaded.algorithm, loaded.key_id)
    assert {"kid": loaded.key_id, "use": "sig", "alg": algorithm}.items() <= loaded.jwk.items()
    assert "d" not in loaded.jwk


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no unencrypted private key"),
        (b"rubbish", "no unencrypted private key"),
        (pem(generate_private_key(SECP384R1())), "neither an Ed25519 nor a P-256 key"),
        (pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")), "no unencrypted private key"),
        (
            Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "no unencrypted private key",
        ),
    ],
    ids=["empty", "rubbish", "another curve", "encrypted", "public"],
)
def test_what_cannot_sign(content: bytes, why: str) -> None:
    """Anything but a private key that we have an algorithm for is refused, and the reason is told."""
    with pytest.raises(UnusableKey, match=why):
        read(content)
