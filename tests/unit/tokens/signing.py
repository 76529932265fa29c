"""An issuer that signs whatever it is told, honest or not."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import Algorithm, get_default_algorithms

NOW = 1_800_000_000.0  # the wall clock of tests.support.clock
SECRET = b"a secret of thirty-two bytes ...."

ALGORITHMS: dict[str, Algorithm] = get_default_algorithms()


def part(data: bytes) -> str:
    """Encode one part of a token."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unpart(text: str) -> bytes:
    """Decode one part of a token."""
    return urlsafe_b64decode(f"{text}==")


def join(header: object, claims: object, signature: bytes) -> str:
    """Put a token together; bytes stand for themselves, the rest is made JSON."""
    parts = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in (header, claims)]
    return ".".join(part(value) for value in (*parts, signature))


class Signer:
    """One key with its algorithm and id."""

    def __init__(self, algorithm: str, material: Any, key_id: str) -> None:
        self.algorithm = algorithm
        self.material = material
        self.key_id = key_id

    @classmethod
    def make(cls, algorithm: str, key_id: str = "k1") -> Signer:
        """Make a new key for this algorithm."""
        match algorithm[:2]:
            case "Ed":
                return cls(algorithm, Ed25519PrivateKey.generate(), key_id)
            case "ES":
                return cls(algorithm, generate_private_key(SECP256R1()), key_id)
            case "RS":
                return cls(algorithm, generate_rsa(65537, 2048), key_id)
            case _:
                return cls(algorithm, SECRET, key_id)

    def token(self, claims: object, **header: object) -> str:
        """Sign claims as they are; header fields replace ours, None takes them out."""
        fields = {"alg": self.algorithm, "kid": self.key_id, **header}
        whole = {name: value for name, value in fields.items() if value is not None}
        unsigned = join(whole, claims, b"").removesuffix(".")
        signature = ALGORITHMS[self.algorithm].sign(unsigned.encode(), self.material)
        return f"{unsigned}.{part(signature)}"

    def jwk(self, **members: object) -> dict[str, object]:
        """Return the public key as it stands in a JWKS; members replace ours, None takes them out."""
        public = ALGORITHMS[self.algorithm].to_jwk(self.material.public_key(), as_dict=True)
        public.pop("key_ops", None)
        whole = {**public, "kid": self.key_id, "use": "sig", "alg": self.algorithm, **members}
        return {name: value for name, value in whole.items() if value is not None}

    def pem(self) -> bytes:
        """Return the public key as PEM."""
        public: bytes = self.material.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return public


def hs256(secret: bytes, unsigned: str) -> str:
    """Sign with HMAC by hand, for keys that no library would take as a secret."""
    return f"{unsigned}.{part(hmac.new(secret, unsigned.encode(), hashlib.sha256).digest())}"


def good(**claims: object) -> dict[str, object]:
    """Return the claims of a good access token; claims replace ours, None takes them out."""
    whole = {
        "iss": "issuer",
        "aud": "gateway",
        "sub": "alice",
        "sid": "s1",
        "jti": "t1",
        "iat": NOW,
        "exp": NOW + 600,
        **claims,
    }
    return {name: value for name, value in whole.items() if value is not None}
