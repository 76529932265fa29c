"""What can go wrong, split by who is to blame."""

from __future__ import annotations

from collections.abc import Mapping


class AuthError(Exception):
    """Root of all exceptions of this package; never raised itself."""


class OperatorError(AuthError):
    """The configuration or the machine is to blame; `str()` is one line that says what to do."""


class Refused(AuthError):  # noqa: N818 - an answer, not an accident
    """A request is refused: HTTP status, a code for programs, a message for people."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def bad_request(message: str) -> Refused:
    """The request makes no sense to us."""
    return Refused(400, "bad_request", message)


def invalid_credentials() -> Refused:
    """Wrong name or wrong password: which of the two, we do not say."""
    return Refused(401, "invalid_credentials", "wrong username or password")


def invalid_token(message: str = "the token is not valid") -> Refused:
    """A bearer or refresh token that is not, or no longer, good."""
    return Refused(401, "invalid_token", message, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def busy() -> Refused:
    """More work is waiting than can be done in a useful time."""
    return Refused(503, "busy", "too many requests at once, try again", {"Retry-After": "1"})


def too_many_attempts(seconds: int) -> Refused:
    """Passwords are tried too often; nothing is said of whether there is such a user."""
    message = f"too many attempts, try again in {seconds} s"
    return Refused(429, "too_many_attempts", message, {"Retry-After": str(seconds)})
