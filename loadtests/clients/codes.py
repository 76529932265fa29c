"""What close codes and errors tell a client to do; a client of the kit obeys them as SDKs do."""

from __future__ import annotations

from typing import Final

from loadtests.clients.link import HandshakeError
from loadtests.scenarios.contract import RefusedError

INSUFFICIENT: Final = 3010  # the server knows that we may have missed something
TEMPORARY: Final = frozenset({0, 100, 111})  # errors that invite another try


def final(code: int) -> bool:
    """Whether this close code tells a client not to come back."""
    return 3500 <= code < 4000 or 4500 <= code < 5000


def reason(error: OSError | HandshakeError | RefusedError) -> str:
    """Return what a client that could not come is counted as: a status, the code of an error, or a word."""
    if isinstance(error, HandshakeError):
        return str(error.status) if error.status else "no answer"
    if isinstance(error, RefusedError):
        return str(error.code) if error.code else "hung up"
    return "timeout" if isinstance(error, TimeoutError) else "no connection"
