"""Every error we answer a command with, and the exceptions, split by who is to blame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.disconnects import Disconnect


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """The answer to one command that was refused; `temporary` invites a retry."""

    code: int
    message: str
    temporary: bool = False

    def saying(self, message: str) -> ErrorReply:
        """Return the same code with a more telling message."""
        return ErrorReply(self.code, message, self.temporary)


INTERNAL: Final = ErrorReply(100, "internal server error", temporary=True)
UNAUTHORIZED: Final = ErrorReply(101, "unauthorized")
UNKNOWN_CHANNEL: Final = ErrorReply(102, "unknown channel")
PERMISSION_DENIED: Final = ErrorReply(103, "permission denied")
METHOD_NOT_FOUND: Final = ErrorReply(104, "method not found")
ALREADY_SUBSCRIBED: Final = ErrorReply(105, "already subscribed")
LIMIT_EXCEEDED: Final = ErrorReply(106, "limit exceeded")
BAD_REQUEST: Final = ErrorReply(107, "bad request")
NOT_AVAILABLE: Final = ErrorReply(108, "not available")
TOKEN_EXPIRED: Final = ErrorReply(109, "token expired")
EXPIRED: Final = ErrorReply(110, "expired")
TOO_MANY_REQUESTS: Final = ErrorReply(111, "too many requests", temporary=True)
UNRECOVERABLE: Final = ErrorReply(112, "unrecoverable position")

ERRORS: Final[tuple[ErrorReply, ...]] = tuple(
    sorted((value for value in list(globals().values()) if isinstance(value, ErrorReply)), key=lambda it: it.code)
)


class GatewayError(Exception):
    """Root of all exceptions of this package; never raised itself."""


class PeerError(GatewayError):
    """The client is to blame."""


class DecodeError(PeerError):
    """Bytes of a client that are not commands.

    `refusal` says what it gets: an error reply to `ref`, or the end of the connection. `before` are the commands
    that stood in the same frame ahead of the fault; they are performed first.
    """

    def __init__(self, refusal: Disconnect | ErrorReply, *, ref: int = 0, before: Sequence[object] = ()) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.ref = ref
        self.before = before


class TokenError(PeerError):
    """A token that is not accepted: `code` 3500 invalid, 109 expired, 100 no keys to check it with right now.

    `reason` may be told to the client; `detail` says what was wrong with the token, for logs and tests.
    """

    def __init__(self, code: int, reason: str, detail: str = "") -> None:
        super().__init__(f"{code} {reason}: {detail}" if detail else f"{code} {reason}")
        self.code = code
        self.reason = reason
        self.detail = detail


class OperatorError(GatewayError):
    """The configuration or the machine is to blame; `str()` is one line that says what to do."""


class EngineFault(GatewayError):  # noqa: N818 - a value handed to `done`; it is seldom raised
    """Redis, or the way to it, is to blame; what was asked may or may not have happened."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind  # a metrics label: down, timeout, lost, refused, busy, oom, readonly or moved
        self.detail = detail
