"""The body of `revoke`: what is to be barred, and up to when."""

from __future__ import annotations

import uuid
from typing import Annotated, Final

import msgspec

from gateway.api.bodies import Closing, RefusedError
from gateway.disconnects import EXPIRED
from gateway.errors import BAD_REQUEST
from gateway.protocol.messages import Revoke

REMEMBERED: Final = 86_400.0  # seconds, unless `expire_at` says otherwise: longer than tokens live
LONGEST: Final = 31 * 86_400.0  # seconds
LONGEST_ID: Final = 64  # characters
LONGEST_VALUE: Final = 256  # characters; every node keeps as many of them as it may

Seconds = Annotated[float, msgspec.Meta(ge=0, le=2**53)]


class RevokeRequest(msgspec.Struct, kw_only=True):
    """Bar tokens by one of `sid`, `jti`, `kid` and `user` up to `expire_at` (Unix seconds), and close what they opened.

    `issued_before` (Unix seconds) is for `user`: later tokens are good. Without `disconnect` what a `kid` opened is
    closed with 3005, which clients answer with a new token: the key goes, not the sessions; all else with 3503.
    """

    id: str = ""
    sid: str = ""
    jti: str = ""
    kid: str = ""
    user: str = ""
    expire_at: Seconds | None = None
    issued_before: Seconds | None = None
    disconnect: Closing | None = None

    def command(self, now: float) -> Revoke:
        """Return what the nodes are told, at wall clock `now`. Raises RefusedError."""
        self._check()
        until = now + REMEMBERED if self.expire_at is None else self.expire_at
        if not now < until <= now + LONGEST:
            raise RefusedError(BAD_REQUEST.saying("expire_at is to come, within 31 days"))
        closing = (self.disconnect or self._closing()).checked()
        before = now if self.issued_before is None else self.issued_before
        return Revoke(
            id=self.id or str(uuid.uuid4()),
            until=until,
            session_id=self.sid,
            token_id=self.jti,
            key_id=self.kid,
            user=self.user,
            issued_before=int(before) if self.user else 0,
            code=closing.code,
            reason=closing.cut_reason(),
        )

    def _closing(self) -> Closing:
        return Closing(code=EXPIRED.code, reason=EXPIRED.reason) if self.kid else Closing()

    def _check(self) -> None:
        named = [it for it in (self.sid, self.jti, self.kid, self.user) if it]
        if len(named) != 1:
            raise RefusedError(BAD_REQUEST.saying("one of sid, jti, kid and user is needed, and no other"))
        if len(named[0]) > LONGEST_VALUE:
            raise RefusedError(BAD_REQUEST.saying(f"longer than {LONGEST_VALUE} characters"))
        if len(self.id) > LONGEST_ID:
            raise RefusedError(BAD_REQUEST.saying(f"id is longer than {LONGEST_ID} characters"))
        if self.issued_before is not None and not self.user:
            raise RefusedError(BAD_REQUEST.saying("issued_before is for user"))
