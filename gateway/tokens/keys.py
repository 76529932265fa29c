"""Keys that check signatures, each bound to the algorithms it may be used with."""

from __future__ import annotations

import hashlib
import math
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import Algorithm, ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.errors import OperatorError

Algorithms: TypeAlias = Mapping[str, Algorithm]

# A token names one of these; which of them a key is good for, the key says. `none` is in no table.
_SECRET: Algorithms = {
    "HS256": HMACAlgorithm(HMACAlgorithm.SHA256),
    "HS384": HMACAlgorithm(HMACAlgorithm.SHA384),
    "HS512": HMACAlgorithm(HMACAlgorithm.SHA512),
}
_RSA: Algorithms = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "RS384": RSAAlgorithm(RSAAlgorithm.SHA384),
    "RS512": RSAAlgorithm(RSAAlgorithm.SHA512),
}
_CURVES: Mapping[str, Algorithms] = {  # RFC 7518 section 3.4: one hash per curve
    "secp256r1": {"ES256": ECAlgorithm(ECAlgorithm.SHA256)},
    "secp384r1": {"ES384": ECAlgorithm(ECAlgorithm.SHA384)},
    "secp521r1": {"ES512": ECAlgorithm(ECAlgorithm.SHA512)},
}
_EDWARDS: Algorithms = {"EdDSA": OKPAlgorithm()}

ASYMMETRIC = frozenset({*_RSA, *_EDWARDS, *(name for curve in _CURVES.values() for name in curve)})
ALGORITHMS = ASYMMETRIC | _SECRET.keys()

_RSA_BITS = range(2048, 8193)  # NIST SP 800-131A: less is broken; more takes longer than a token is worth
_PUBLIC_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
_CANNOT_LOAD = (jwt.PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm)


@dataclass(frozen=True, slots=True)
class Key:
    """One key; equal keys have the same id, material and algorithms."""

    key_id: str
    algorithms: Algorithms
    material: Any  # what PyJWT's algorithms take: bytes or a public key of `cryptography`
    until: float = math.inf  # wall clock from which on it vouches for nothing

    @property
    def shared(self) -> bool:
        """Whether it is a secret that its issuer shares with us alone."""
        return self.algorithms is _SECRET

    def signed(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Whether this key made the signature; False for an algorithm it is not meant for."""
        checker = self.algorithms.get(algorithm)
        return checker is not None and checker.verify(message, self.material, signature)


def secret_key(secret: bytes, until: float = math.inf) -> Key:
    """Make the key of a shared secret. Raises OperatorError for what is plainly no secret, such as a public key."""
    try:
        return Key("", _SECRET, _SECRET["HS256"].prepare_key(secret), until)
    except jwt.InvalidKeyError as error:
        raise OperatorError(f"the HMAC secret cannot be used: {error}") from None


def public_key(pem: str | bytes) -> Key:
    """Make the key of a public key in PEM form; its id is its RFC 7638 thumbprint. Raises OperatorError."""
    try:
        material = load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
        algorithms = _algorithms_for(material)
        jwk = next(iter(algorithms.values())).to_jwk(material, as_dict=True)
    except _CANNOT_LOAD as error:
        raise OperatorError(f"a public key for tokens cannot be read as PEM: {error}") from None
    return Key(_thumbprint(jwk), algorithms, material)


class _KeySet(msgspec.Struct):
    keys: list[dict[str, object]]


def key_set(body: bytes) -> dict[str, tuple[Key, ...]]:
    """Read a JWKS, keys by id. Keys that are not for checking signatures, or unreadable, are left out.

    Raises ValueError if it is no JWKS, or no key of it is usable.
    """
    try:
        entries = msgspec.json.decode(body, type=_KeySet).keys
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise ValueError("not a JWKS") from None
    keys: dict[str, tuple[Key, ...]] = {}
    for entry in entries:
        key = _from_jwk(entry)
        if key is not None:
            keys[key.key_id] = (*keys.get(key.key_id, ()), key)
    if not keys:
        raise ValueError("a JWKS without a usable key")
    return keys


def _from_jwk(jwk: Mapping[str, object]) -> Key | None:
    members = _PUBLIC_MEMBERS.get(str(jwk.get("kty")))
    if members is None or not _for_signatures(jwk):
        return None
    # only what makes the public key: a private part would make PyJWT load a private key
    public = {name: jwk.get(name) for name in members}
    try:
        material = _LOADERS[str(jwk["kty"])].from_jwk(public)
        algorithms = _algorithms_for(material)
    except _CANNOT_LOAD:
        return None
    named = jwk.get("alg")
    if named is not None:
        algorithms = {name: checker for name, checker in algorithms.items() if name == named}
    return Key(str(jwk.get("kid") or _thumbprint(public)), algorithms, material) if algorithms else None


_LOADERS: Mapping[str, Algorithm] = {
    "RSA": _RSA["RS256"],
    "EC": _CURVES["secp256r1"]["ES256"],
    "OKP": _EDWARDS["EdDSA"],
}


def _for_signatures(jwk: Mapping[str, object]) -> bool:
    operations = jwk.get("key_ops")
    return jwk.get("use", "sig") == "sig" and (not isinstance(operations, list) or "verify" in operations)


def _algorithms_for(material: object) -> Algorithms:
    match material:
        case RSAPublicKey() if material.key_size in _RSA_BITS:
            return _RSA
        case EllipticCurvePublicKey() if material.curve.name in _CURVES:
            return _CURVES[material.curve.name]
        case Ed25519PublicKey() | Ed448PublicKey():
            return _EDWARDS
        case _:
            raise ValueError("not an RSA key of 2048 to 8192 bits, a NIST curve or an Edwards curve")


def _thumbprint(jwk: Mapping[str, object]) -> str:
    members = {name: jwk[name] for name in _PUBLIC_MEMBERS[str(jwk["kty"])]}  # already in the order of the RFC
    return urlsafe_b64encode(hashlib.sha256(msgspec.json.encode(members)).digest()).rstrip(b"=").decode()
