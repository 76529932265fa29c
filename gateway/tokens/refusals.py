"""The three ways to refuse a token, as values."""

from __future__ import annotations

from gateway.disconnects import INVALID_TOKEN
from gateway.errors import INTERNAL, TOKEN_EXPIRED, TokenError


def invalid(detail: str) -> TokenError:
    """Refuse for good: no retry makes this token right."""
    return TokenError(INVALID_TOKEN.code, INVALID_TOKEN.reason, detail)


def expired(detail: str) -> TokenError:
    """Refuse outside the token's time; the client is to fetch a new one."""
    return TokenError(TOKEN_EXPIRED.code, TOKEN_EXPIRED.message, detail)


def unavailable(detail: str) -> TokenError:
    """Refuse for now: the issuer's keys cannot be had, the token may be good."""
    return TokenError(INTERNAL.code, INTERNAL.message, detail)
