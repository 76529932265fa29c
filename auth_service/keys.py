"""The signing key: a PEM file made at the first start, and its public half as others see it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from base64 import urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from auth_service.errors import OperatorError

_MEMBERS = ("crv", "kty", "x", "y")  # that make the public key
_OTHERS = 0o077  # permissions of anyone but the owner

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, the algorithm it signs with, its id, and since when it is there (Unix time)."""

    private: Ed25519PrivateKey | EllipticCurvePrivateKey
    algorithm: str
    key_id: str
    made_at: float
    jwk: dict[str, str]  # the public half, as in a JWKS


def load_or_make(path: Path) -> SigningKey:
    """Read the key, or make an Ed25519 one, readable by its owner only. Raises OperatorError.

    Of several processes that start at once, all end up with the same key.
    """
    try:
        if not path.exists():
            _make(path)
        pem, status = path.read_bytes(), path.stat()
    except OSError as error:
        raise OperatorError(f"the key file {path} cannot be read or made: {error.strerror}") from None
    if status.st_mode & _OTHERS:
        log.warning("key.readable_by_others", file=str(path), mode=oct(status.st_mode & 0o777))
    return _loaded(pem, path, status.st_mtime)


def _make(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):  # somebody else was faster: theirs counts
            os.link(draft, path)  # whole or not at all, and never over a key that is there
            log.info("key.made", file=str(path))
    finally:
        draft.unlink()


def _loaded(pem: bytes, path: Path, made_at: float) -> SigningKey:
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise OperatorError(f"the key file {path} holds no unencrypted private key in PEM form") from None
    if isinstance(private, Ed25519PrivateKey):
        algorithm, public = "EdDSA", OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
    elif isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1):
        algorithm, public = "ES256", ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    else:
        raise OperatorError(f"the key file {path} holds neither an Ed25519 nor a P-256 key")
    members = {str(name): str(value) for name, value in public.items() if name in _MEMBERS}
    key_id = _thumbprint(members)
    jwk = {**members, "kid": key_id, "use": "sig", "alg": algorithm}
    return SigningKey(private, algorithm, key_id, made_at, jwk)


def _thumbprint(members: dict[str, str]) -> str:
    """RFC 7638: the members that make the key, in order and without white space."""
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
