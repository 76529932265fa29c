"""Every close code and unsubscribe code we send: one table for all protocols, metrics labels and docs.

3000-3499 and 4000-4499: the client comes back (and recovers); 3500-3999 and 4500-4999: it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The end of a connection; `reason` must stay within the 123 bytes of a close frame."""

    code: int
    reason: str

    @property
    def reconnect(self) -> bool:
        """Whether the range of the code invites the client to come back."""
        return not (3500 <= self.code <= 3999 or 4500 <= self.code <= 4999)  # noqa: PLR2004 - the ranges of the protocol


# RFC 6455 section 7.4: the WebSocket layer itself
PROTOCOL_ERROR: Final = Disconnect(1002, "protocol error")
UNSUPPORTED_DATA: Final = Disconnect(1003, "unsupported data")
INVALID_UTF8: Final = Disconnect(1007, "invalid utf-8")
TOO_BIG: Final = Disconnect(1009, "message too big")
SERVICE_RESTART: Final = Disconnect(1012, "service restart")  # the server stopped without a drain
INTERNAL_ERROR: Final = Disconnect(1011, "internal error")  # must not happen: an alert

# come back
CONNECTION_CLOSED: Final = Disconnect(3000, "connection closed")  # never sent: the client closed by itself
SHUTDOWN: Final = Disconnect(3001, "shutdown")
SERVER_ERROR: Final = Disconnect(3004, "internal server error")  # something we depend on is down
EXPIRED: Final = Disconnect(3005, "connection expired")
SUBSCRIPTION_EXPIRED: Final = Disconnect(3006, "subscription expired")
SLOW: Final = Disconnect(3008, "slow")
INSUFFICIENT_STATE: Final = Disconnect(3010, "insufficient state")
FORCE_RECONNECT: Final = Disconnect(3011, "force reconnect")
NO_PONG: Final = Disconnect(3012, "no pong")
TOO_MANY_REQUESTS: Final = Disconnect(3013, "too many requests")

# stop, or fetch a new token first
INVALID_TOKEN: Final = Disconnect(3500, "invalid token")
BAD_REQUEST: Final = Disconnect(3501, "bad request")
STALE: Final = Disconnect(3502, "stale")
FORCE_DISCONNECT: Final = Disconnect(3503, "force disconnect")
CONNECTION_LIMIT: Final = Disconnect(3504, "connection limit")
CHANNEL_LIMIT: Final = Disconnect(3505, "channel limit")
INAPPROPRIATE_PROTOCOL: Final = Disconnect(3506, "inappropriate protocol")
PERMISSION_DENIED: Final = Disconnect(3507, "permission denied")
NOT_AVAILABLE: Final = Disconnect(3508, "not available")
TOO_MANY_ERRORS: Final = Disconnect(3509, "too many errors")

DISCONNECTS: Final[tuple[Disconnect, ...]] = tuple(
    sorted((value for value in list(globals().values()) if isinstance(value, Disconnect)), key=lambda it: it.code)
)


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The end of one subscription; codes from 2500 on invite the client to subscribe again."""

    code: int
    reason: str


UNSUBSCRIBED_BY_SERVER: Final = Unsubscribed(2000, "server unsubscribe")
UNSUBSCRIBED_INSUFFICIENT: Final = Unsubscribed(2500, "insufficient state")
UNSUBSCRIBED_EXPIRED: Final = Unsubscribed(2501, "subscription expired")
