"""The pepper: a secret beside the database, without which its password hashes cannot be tried."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from auth_service.errors import OperatorError

LEAST = 32  # characters: 16 random bytes, written in whatever way

_OTHERS = 0o077  # permissions of anyone but the owner

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Pepper:
    """A secret, and the id by which a hash names it (`keyid` of the PHC string format: up to 8 bytes in base64)."""

    secret: bytes
    key_id: str

    def applied(self, password: bytes) -> bytes:
        """Return what is hashed in the place of the password."""
        return b64encode(hmac.digest(self.secret, password, "sha256"))


def pepper(secret: str) -> Pepper:
    """Make a pepper of a secret; its id says nothing of it."""
    raw = secret.encode()
    return Pepper(raw, b64encode(hmac.digest(raw, b"key id", hashlib.sha256)[:6]).decode())


def read(path: Path | None) -> Sequence[Pepper]:
    """Read a file with a secret in each line; the first is for new hashes, all others are for those that there are.

    No path, no peppers. Raises OperatorError, which names no secret.
    """
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        mode = path.stat().st_mode
    except UnicodeDecodeError:
        raise OperatorError(f"the pepper file {path} is not text: write {LEAST} and more characters a line") from None
    except OSError as error:
        raise OperatorError(f"the pepper file {path} cannot be read: {error.strerror}") from None
    secrets = [line.strip() for line in lines if line.strip()]
    if not secrets:
        raise OperatorError(f"the pepper file {path} is empty: write one secret into it, or do not set it")
    if min(map(len, secrets)) < LEAST:
        raise OperatorError(f"the pepper file {path} has a secret of less than {LEAST} characters")
    if mode & _OTHERS:
        log.warning("pepper.readable_by_others", file=str(path), mode=oct(mode & 0o777))
    return tuple(pepper(secret) for secret in secrets)
