"""The outside of a token: its three parts and its header. Pure; nothing is trusted yet."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

import msgspec

from gateway.tokens.members import check_once
from gateway.tokens.refusals import invalid

KEY_ID_CHARS = 256  # more than any issuer's; they are remembered while they are unknown

# RFC 7515 section 3.1: base64url without padding; the regex is also the check for ASCII
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)

_TICKET = "ticket+jwt"
_TYPES = frozenset({"jwt", "at+jwt", _TICKET})  # RFC 9068 section 2.1; whoever sets none means a JWT


class _Header(msgspec.Struct):
    """What we read of a header. `jku`, `jwk`, `x5u` and `x5c` are not: a token does not choose its own key."""

    alg: str
    kid: str | None = None
    typ: str | None = None
    b64: bool = True
    crit: msgspec.Raw = msgspec.Raw()


@dataclass(frozen=True, slots=True)
class Presented:
    """A well-formed token of unknown worth."""

    algorithm: str
    key_id: str
    ticket: bool
    signed: bytes
    payload: bytes
    signature: bytes


def parse(token: str) -> Presented:
    """Take a token apart. Raises TokenError (3500) and nothing else."""
    parts = _COMPACT.fullmatch(token)
    if parts is None:
        raise invalid("not three parts of base64url")
    header, payload, signature = (_decoded(part) for part in parts.groups())
    try:
        fields = msgspec.json.decode(header, type=_Header)
        check_once(header)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise invalid("malformed header") from None
    _check(fields)
    return Presented(
        algorithm=fields.alg,
        key_id=fields.kid or "",
        ticket=_type_of(fields.typ) == _TICKET,
        signed=token[: parts.end(2)].encode("ascii"),
        payload=payload,
        signature=signature,
    )


def _decoded(part: str) -> bytes:
    """Decode one part; the bits left over must be zero, else a token could be written in several ways."""
    try:
        data = urlsafe_b64decode(f"{part}==")
    except binascii.Error:
        raise invalid("not three parts of base64url") from None
    if urlsafe_b64encode(data).rstrip(b"=") != part.encode():
        raise invalid("base64url with bits left over")
    return data


def _check(fields: _Header) -> None:
    if bytes(fields.crit):
        raise invalid("critical header extensions")  # RFC 7515 section 4.1.11: we understand none
    if not fields.b64:
        raise invalid("unencoded claims")  # RFC 7797, which has no place in a JWT (its section 7)
    if len(fields.kid or "") > KEY_ID_CHARS:
        raise invalid("id of the key too long")


def _type_of(typ: str | None) -> str:
    # RFC 7515 section 4.1.9: case does not count, and `application/` may be left out
    name = "jwt" if typ is None else typ.lower().removeprefix("application/")
    if name not in _TYPES:
        raise invalid("type of token")
    return name
