"""Signs a token by hand, for trying things out and for tests; in production the auth service does this."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from gateway.errors import OperatorError
from gateway.tokens.keys import public_key


@dataclass(frozen=True, slots=True)
class Order:
    """What the token says; `ttl` in seconds, an empty audience or issuer is left out."""

    user: str
    ttl: float
    channels: Sequence[str] = ()
    audience: str = ""
    issuer: str = ""

    def claims(self) -> dict[str, object]:
        """Return the claims, from now on."""
        now = int(time.time())
        claims: dict[str, object] = {"sub": self.user, "iat": now, "exp": now + round(self.ttl)}
        optional = {"aud": self.audience, "iss": self.issuer, "channels": list(self.channels)}
        return claims | {name: value for name, value in optional.items() if value}


def sign_with_key(order: Order, key: Path) -> str:
    """Sign with a private key in PEM form; algorithm and key id follow from the key. Raises OperatorError.

    `key` is a file, or a folder of them as the auth service keeps it: then the one that signs now.
    """
    file = _signing(key) if key.is_dir() else key
    try:
        pem = file.read_bytes()
        private = load_pem_private_key(pem, password=None)
    except OSError as error:
        raise OperatorError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise OperatorError(f"{file}: is no private key in PEM form without a password: {error}") from None
    public = public_key(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return jwt.encode(order.claims(), pem, algorithm=next(iter(public.algorithms)), headers={"kid": public.key_id})


def sign_with_secret(order: Order, secret: str) -> str:
    """Sign with a shared secret (HS256), however short: whether it is good enough is for who set it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        return jwt.encode(order.claims(), secret, algorithm="HS256")


def _signing(folder: Path) -> Path:
    """Return the newest key whose time to sign has come, else the first to come: the name says when."""
    keys = [(_since(it), it) for it in folder.glob("[!.]*.pem")]
    if not keys:
        raise OperatorError(f"{folder}: holds no key (*.pem)")
    now = time.time()
    return max((it for it in keys if it[0] <= now), default=min(keys))[1]


def _since(key: Path) -> float:
    second = key.name.removesuffix(".pem").partition("-")[0]
    return float(second) if second.isdecimal() and second.isascii() else key.stat().st_mtime
