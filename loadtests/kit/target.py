"""Where the load goes, and how its clients show who they are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final, Literal

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt import InvalidKeyError, PyJWK, PyJWKError

SPARE: Final = 3600.0  # seconds that a token lives on after the run
CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class TargetError(ValueError):
    """A target, or a way to its tokens, that cannot be used; the text says what to do."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """How clients show who they are. `key`: a shared secret, or a private key as PEM or JWK; `listed`: ready tokens."""

    kind: Literal["none", "signed", "listed"] = "none"
    key: str = ""
    algorithm: str = ""
    kid: str = ""
    audience: str = "gateway"
    issuer: str = ""
    listed: list[str] = []


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator needs to know of the system under test. `label` is what a report calls it."""

    urls: list[str]
    label: str
    tokens: Tokens = Tokens()
    metrics: list[str] = []
    ca: str = ""  # file
    insecure: bool = False
    engine: str = ""  # its URL, where known
    local: bool = False  # it runs on this machine, and shares its cores


class Mint:
    """Makes the tokens of a run."""

    def __init__(self, tokens: Tokens, seconds: float) -> None:
        """Raises TargetError: the key does not fit."""
        self._tokens = tokens
        self._seconds = seconds
        self._key: Any = _signing_key(tokens) if tokens.kind == "signed" else None

    def token(self, user: str, number: int) -> str:
        """Return a token of this user that outlives the run, or one of those that were listed; empty without any."""
        tokens = self._tokens
        if tokens.kind == "none":
            return ""
        if tokens.kind == "listed":
            return tokens.listed[number % len(tokens.listed)]
        now = int(time.time())
        claims = {"sub": user, "iat": now, "exp": now + int(self._seconds + SPARE), "jti": user}
        claims |= {name: it for name, it in (("aud", tokens.audience), ("iss", tokens.issuer)) if it}
        headers = {"kid": tokens.kid} if tokens.kid else None
        return jwt.encode(claims, self._key, algorithm=tokens.algorithm, headers=headers)


def by_secret(secret: str, *, audience: str = "gateway", issuer: str = "") -> Tokens:
    """Return tokens signed with the secret that the target knows as `client.token.hmac_secret_key`."""
    return Tokens(kind="signed", key=secret, algorithm="HS256", audience=audience, issuer=issuer)


def by_key(path: Path, *, kid: str = "", audience: str = "gateway", issuer: str = "") -> Tokens:
    """Return tokens signed with a private key: a PEM, or a JWK with its `kid`. Raises TargetError."""
    text = _read(path, "--key")
    if text.lstrip().startswith("{"):
        try:
            jwk = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise TargetError(f"--key {path}: is no JWK: {error}") from None
        kid, algorithm = kid or str(jwk.get("kid", "")), str(jwk.get("alg", ""))
    else:
        algorithm = _algorithm(text, path)
    tokens = Tokens(kind="signed", key=text, algorithm=algorithm, kid=kid, audience=audience, issuer=issuer)
    if not kid:
        raise TargetError(f"--key {path}: say with --kid by which id the target's JWKS knows this key")
    _signing_key(tokens)
    return tokens


def listed(path: Path) -> Tokens:
    """Return the tokens of a file, one a line. Raises TargetError."""
    found = [it.strip() for it in _read(path, "--tokens").splitlines() if it.strip()]
    if not found:
        raise TargetError(f"--tokens {path}: holds no token; write one a line")
    return Tokens(kind="listed", listed=found)


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TargetError(f"{option} {path}: cannot be read: {error}") from None


def _algorithm(pem: str, path: Path) -> str:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TargetError(f"--key {path}: is no private key as PEM or JWK: {error}") from None
    if isinstance(key, Ed25519PrivateKey):
        return "EdDSA"
    if isinstance(key, RSAPrivateKey):
        return "RS256"
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return CURVES[key.curve.name]
    raise TargetError(f"--key {path}: is of a kind that no token is signed with; Ed25519, P-256 and RSA are")


def _signing_key(tokens: Tokens) -> Any:
    if not tokens.key.lstrip().startswith("{"):
        return tokens.key
    try:
        found = PyJWK.from_json(tokens.key)
    except (PyJWKError, InvalidKeyError) as error:
        raise TargetError(f"--key: the JWK cannot be used: {error}") from None
    if not hasattr(found.key, "sign"):
        raise TargetError("--key: the JWK is a public key; tokens are signed with the private one")
    return found.key
