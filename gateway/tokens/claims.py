"""The inside of a token: claims, their checks, and the identity they make. Pure."""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from gateway.tokens.members import check_once
from gateway.tokens.refusals import expired, invalid
from gateway.types import Channel, ConnectionId, Grant, Identity, UserId

TICKET_SECONDS = 60.0  # as long as the claim on a ticket's one use is kept: a later use would find no claim
LAST_SECOND = 253_402_300_799.0  # of the year 9999: what is later is in milliseconds, or means never

# What some issuers sign beside access tokens, as JWTs without a type in the header, and write into the claims instead.
_OTHER_TYPES = frozenset({"ID", "Refresh", "Offline", "Logout"})  # Keycloak; "Bearer" is an access token
_LOGOUT = b"backchannel-logout"  # OpenID Connect Back-Channel Logout 1.0, section 2.4: a member of `events`


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
    iat: float | None = None
    expire_at: float | None = None
    iss: str | None = None
    aud: str | list[str] | None = None
    channels: list[str] | None = None
    subs: dict[str, _Extras] | None = None
    channel: str | None = None
    client: str | None = None
    sid: str | None = None
    jti: str | None = None
    typ: msgspec.Raw = msgspec.Raw()
    at_hash: msgspec.Raw = msgspec.Raw()
    events: msgspec.Raw = msgspec.Raw()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What claims must say, and which are meant. An empty issuer or audience is not checked; times in seconds.

    A claim is named as it stands there, or by the way to it: `realm_access.roles`. `user_id_prefix` goes in front of
    every user id, so that users of several issuers are not taken for each other. `info_claims` make the `info` of a
    token that has none. `max_age` counts from `iat`; 0: a token may be of any age.
    """

    issuer: str = ""
    audience: str = "gateway"
    leeway: float = 30.0
    max_age: float = 0.0
    user_id_claim: str = "sub"
    user_id_prefix: str = ""
    info_claims: Sequence[str] = ()
    channels_claim: str = "channels"


class _Issued(msgspec.Struct):
    iss: str | None = None


def issuer_named(payload: bytes) -> str:
    """Return the `iss` of claims that nobody has vouched for yet. Raises TokenError (3500)."""
    try:
        return msgspec.json.decode(payload, type=_Issued).iss or ""
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise invalid("malformed claims") from None


def read(payload: bytes, rules: Rules) -> Claims:
    """Read claims, those of other names too. Raises TokenError (3500) and nothing else."""
    try:
        payload.decode()  # a raw slice is passed on to others as it stands: it must be UTF-8
        claims = msgspec.json.decode(payload, type=Claims)
        check_once(payload)
        _rename(claims, payload, rules)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise invalid("malformed claims") from None
    if any(time is not None and time > LAST_SECOND for time in (claims.exp, claims.nbf, claims.iat, claims.expire_at)):
        raise invalid("a time that never comes")
    return claims


def _rename(claims: Claims, payload: bytes, rules: Rules) -> None:
    if rules.user_id_claim != "sub":
        claims.sub = msgspec.json.decode(_member(payload, rules.user_id_claim) or b"null", type=str | None)
        if not claims.sub:  # somebody is named there by everybody else: this one is not meant to be nobody
            raise invalid(f"no user in the claim {rules.user_id_claim!r}")
    if claims.sub:
        claims.sub = rules.user_id_prefix + claims.sub
    if rules.channels_claim != "channels":
        claims.channels = msgspec.json.decode(_member(payload, rules.channels_claim) or b"null", type=list[str] | None)
    if rules.info_claims and not bytes(claims.info) and claims.b64info is None:
        found = {name: msgspec.Raw(it) for name in rules.info_claims if (it := _member(payload, name))}
        claims.info = msgspec.Raw(msgspec.json.encode(found) if found else b"")


def _member(payload: bytes, name: str) -> bytes:
    """Return what stands under a name, or under a way of names with dots; nothing if there is nothing."""
    if not payload.lstrip().startswith(b"{"):
        return b""
    members = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    if name in members:
        return bytes(members[name])
    first, dot, rest = name.partition(".")
    return _member(bytes(members[first]), rest) if dot and first in members else b""


def check(claims: Claims, rules: Rules, *, aud_required: bool) -> None:
    """Check that it is an access token of this issuer for this audience. Raises TokenError (3500)."""
    if bytes(claims.typ)[1:-1].decode() in _OTHER_TYPES or bytes(claims.at_hash) or _LOGOUT in bytes(claims.events):
        raise invalid("no access token")
    if rules.issuer and claims.iss != rules.issuer:
        raise invalid("issuer")
    if rules.audience and not _meant_for(rules.audience, claims.aud, required=aud_required):
        raise invalid("audience")


def _meant_for(audience: str, aud: str | list[str] | None, *, required: bool) -> bool:
    if aud is None:
        return not required
    return audience == aud if isinstance(aud, str) else audience in aud


def good_until(claims: Claims, rules: Rules, *, ticket: bool, now: float) -> float:
    """Return the wall clock time up to which the token may be presented. Raises TokenError (109; also 3500).

    3500: a ticket without id, without end or for too long, and a token without `iat` where its age counts.
    """
    if any(time is not None and now < time - rules.leeway for time in (claims.nbf, claims.iat)):
        raise expired("not yet valid")
    end = _ticket_end(claims, now) if ticket else _end(claims, rules) + rules.leeway
    if now >= end:
        raise expired("past its end")
    return end


def _end(claims: Claims, rules: Rules) -> float:
    end = math.inf if claims.exp is None else claims.exp
    if not rules.max_age:
        return end
    if claims.iat is None:
        raise invalid("no time of issue, where the age of tokens counts")
    return min(end, claims.iat + rules.max_age)


def _ticket_end(claims: Claims, now: float) -> float:
    """Take a ticket's end to the letter: with leeway it could outlive the claim on its one use."""
    if not claims.jti or claims.exp is None:
        raise invalid("a ticket without id or end")
    if claims.exp - now > TICKET_SECONDS:
        raise invalid("a ticket for too long")
    return claims.exp


def identity(claims: Claims, rules: Rules, *, key_id: str, ticket: bool) -> Identity:
    """Turn checked claims into an identity. Raises TokenError (3500)."""
    own = _grant(claims)
    return Identity(
        user=UserId(claims.sub or ""),
        expires_at=_expires_at(claims, rules),
        info=own.info,
        grants=_grants(claims),
        channel=Channel(claims.channel) if claims.channel else None,
        client=ConnectionId(claims.client) if claims.client else None,
        grant=own if claims.channel else None,
        ticket=ticket,
        session_id=claims.sid or "",
        token_id=claims.jti or "",
        key_id=key_id,
        issued_at=claims.iat,
    )


def _expires_at(claims: Claims, rules: Rules) -> float | None:
    if claims.expire_at is None:
        end = _end(claims, rules)
        return None if end == math.inf else end
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
