"""Who checks tokens."""

from __future__ import annotations

from typing import Protocol

from gateway.errors import TokenError
from gateway.protocol.messages import Revoke
from gateway.types import Identity


class Verifier(Protocol):
    """Checks tokens and tickets by signature and claims; what they may be used for is the session's business."""

    def known(self, token: str, now: float) -> Identity | TokenError | None:
        """Check with the keys at hand at wall clock `now`; None: something must be waited for, use `verify`."""

    async def verify(self, token: str) -> Identity:
        """Check, fetching keys if need be. Raises TokenError. Cancelling is safe: the fetch is shared and goes on."""

    def revoke(self, revocation: Revoke) -> None:
        """Bar the tokens concerned up to its end: those found good before, and those that come. On the loop."""

    def revoked(self, identity: Identity) -> bool:
        """Whether the token that made this identity has been revoked since."""
