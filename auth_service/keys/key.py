"""A signing key: made, read from PEM, and its public half as others see it."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from enum import StrEnum

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from auth_service.errors import AuthError

_MEMBERS = ("crv", "kty", "x", "y")  # that make the public key


class Algorithm(StrEnum):
    """What we sign with, by its name in a JWT."""

    EDDSA = "EdDSA"
    ES256 = "ES256"


class UnusableKey(AuthError):  # noqa: N818 - what it is, and it is always caught
    """A file holds nothing that we can sign with; `str()` says why."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, the algorithm it signs with, and its id, the RFC 7638 thumbprint."""

    private: Ed25519PrivateKey | EllipticCurvePrivateKey
    algorithm: Algorithm
    key_id: str
    jwk: dict[str, str]  # the public half, as in a JWKS


def generate(algorithm: Algorithm) -> bytes:
    """Make a private key and return it as PEM (PKCS8, not encrypted)."""
    private = Ed25519PrivateKey.generate() if algorithm is Algorithm.EDDSA else generate_private_key(SECP256R1())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read(pem: bytes) -> SigningKey:
    """Return the key in a PEM file. Raises UnusableKey."""
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnusableKey("holds no unencrypted private key in PEM form") from None
    if isinstance(private, Ed25519PrivateKey):
        algorithm, public = Algorithm.EDDSA, OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
    elif isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1):
        algorithm, public = Algorithm.ES256, ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    else:
        raise UnusableKey("holds neither an Ed25519 nor a P-256 key")
    members = {str(name): str(value) for name, value in public.items() if name in _MEMBERS}
    key_id = _thumbprint(members)
    return SigningKey(private, algorithm, key_id, {**members, "kid": key_id, "use": "sig", "alg": str(algorithm)})


def _thumbprint(members: dict[str, str]) -> str:
    """RFC 7638: the members that make the key, in order and without white space."""
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
