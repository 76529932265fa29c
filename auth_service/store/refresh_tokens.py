"""Refresh tokens: how they are made, what is stored of them, and how one keeps its successor for who has it."""

from __future__ import annotations

import hashlib
import os
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12


def new() -> str:
    """Return 256 random bits, in a form that redaction and secret scanners know again."""
    return "rt_" + secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """Return what is stored in its place; nobody can guess the token from it."""
    return hashlib.sha256(token.encode()).digest()


def sealed(successor: str, token: str) -> bytes:
    """Return the successor, readable with the token alone, which is stored nowhere."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(token).encrypt(nonce, successor.encode(), digest(token))


def opened(box: bytes, token: str) -> str | None:
    """Return the successor that was sealed with this token; None if it was another one, or the box is damaged."""
    try:
        return _cipher(token).decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], digest(token)).decode()
    except InvalidTag:
        return None


def _cipher(token: str) -> AESGCM:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"successor of a refresh token").derive(token.encode())
    return AESGCM(key)
