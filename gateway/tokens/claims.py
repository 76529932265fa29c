"""The inside of a token: claims, their checks, and the identity they make. Pure."""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from gateway.tokens.refusals import expired, invalid
from gateway.types import Channel, ConnectionId, Grant, Identity, UserId

TICKET_SECONDS = 60.0  # as long as the claim on a ticket's one use is kept: a later use would find no claim


class _Flag(msgspec.Struct):
    value: bool = False


class _Override(msgspec.Struct):
    """Options of the namespace that a token may set for its subscription; others are not its business."""

    presence: _Flag | None = None
    join_leave: _Flag | None = None
    force_recovery: _Flag | None = None
    force_positioning: _Flag | None = None
    force_push_join_leave: _Flag | None = None


class _Extras(msgspec.Struct):
    """What may be said of one channel; as raw JSON, or as JSON in base64 which then wins."""

    info: msgspec.Raw = msgspec.Raw()
    b64info: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    b64data: str | None = None
    override: _Override | None = None


class Claims(_Extras):
    """Claims as they stand in the token, types checked."""

    sub: str | None = None
    exp: float | None = None
    nbf: float | None = None
    expire_at: float | None = None
    iss: str | None = None
    aud: str | list[str] | None = None
    channels: list[str] | None = None
    subs: dict[str, _Extras] | None = None
    channel: str | None = None
    client: str | None = None
    sid: str | None = None
    jti: str | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What claims must say. An empty issuer or audience is not checked; `leeway` in seconds."""

    issuer: str
    audience: str
    leeway: float
    user_id_claim: str


def read(payload: bytes, rules: Rules) -> Claims:
    """Read claims. Raises TokenError (3500) and nothing else."""
    try:
        payload.decode()  # a raw slice is passed on to others as it stands: it must be UTF-8
        claims = msgspec.json.decode(payload, type=Claims)
        if rules.user_id_claim != "sub":
            claims.sub = msgspec.json.decode(_member(payload, rules.user_id_claim), type=str | None)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise invalid("malformed claims") from None
    return claims


def _member(payload: bytes, name: str) -> bytes:
    return bytes(msgspec.json.decode(payload, type=dict[str, msgspec.Raw]).get(name, b"null"))


def check(claims: Claims, rules: Rules, *, aud_required: bool) -> None:
    """Check issuer and audience. Raises TokenError (3500)."""
    if rules.issuer and claims.iss != rules.issuer:
        raise invalid("issuer")
    if rules.audience and not _meant_for(rules.audience, claims.aud, required=aud_required):
        raise invalid("audience")


def _meant_for(audience: str, aud: str | list[str] | None, *, required: bool) -> bool:
    if aud is None:
        return not required
    return audience == aud if isinstance(aud, str) else audience in aud


def good_until(claims: Claims, rules: Rules, *, ticket: bool, now: float) -> float:
    """Return the wall clock time up to which the token may be presented. Raises TokenError (109; tickets also 3500)."""
    if claims.nbf is not None and now < claims.nbf - rules.leeway:
        raise expired("not yet valid")
    end = _ticket_end(claims, now) if ticket else _end(claims, rules)
    if now >= end:
        raise expired("past its end")
    return end


def _end(claims: Claims, rules: Rules) -> float:
    return math.inf if claims.exp is None else claims.exp + rules.leeway


def _ticket_end(claims: Claims, now: float) -> float:
    """Take a ticket's end to the letter: with leeway it could outlive the claim on its one use."""
    if not claims.jti or claims.exp is None:
        raise invalid("a ticket without id or end")
    if claims.exp - now > TICKET_SECONDS:
        raise invalid("a ticket for too long")
    return claims.exp


def identity(claims: Claims, *, key_id: str, ticket: bool) -> Identity:
    """Turn checked claims into an identity. Raises TokenError (3500)."""
    own = _grant(claims)
    return Identity(
        user=UserId(claims.sub or ""),
        expires_at=_expires_at(claims),
        info=own.info,
        grants=_grants(claims),
        channel=Channel(claims.channel) if claims.channel else None,
        client=ConnectionId(claims.client) if claims.client else None,
        grant=own if claims.channel else None,
        ticket=ticket,
        session_id=claims.sid or "",
        token_id=claims.jti or "",
        key_id=key_id,
    )


def _expires_at(claims: Claims) -> float | None:
    if claims.expire_at is None:
        return claims.exp
    return claims.expire_at if claims.expire_at > 0 else None


def _grants(claims: Claims) -> Mapping[Channel, Grant]:
    granted = {Channel(name): _grant(extras) for name, extras in (claims.subs or {}).items()}
    if not granted:
        granted = {Channel(name): Grant() for name in claims.channels or ()}
    if "" in granted:
        raise invalid("an empty channel name")
    return granted


def _grant(extras: _Extras) -> Grant:
    override = extras.override
    flags = {name: getattr(override, name) for name in _Override.__struct_fields__} if override else {}
    return Grant(
        info=_raw_json(extras.info, extras.b64info),
        data=_raw_json(extras.data, extras.b64data),
        override={name: flag.value for name, flag in flags.items() if flag is not None},
    )


def _raw_json(raw: msgspec.Raw, encoded: str | None) -> bytes | None:
    text = bytes(raw)
    if encoded:
        text = _decoded(encoded)
    if not text or text == b"null":
        return None
    # a frame of several lines is several messages to some clients
    return msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else text


def _decoded(encoded: str) -> bytes:
    try:
        text = b64decode(encoded, validate=True)
        text.decode()
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise invalid("base64 that does not hold JSON") from None
    return text
