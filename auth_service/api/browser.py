"""Pages in a browser: their refresh token lives in a cookie that no script reads, and no foreign page can use it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from fastapi import Request, Response

from auth_service.errors import Refused, invalid_token

# A form cannot send this header, and a script of another origin cannot without a preflight, which we answer with no.
MODE_HEADER: Final = "x-requested-with"
MODE: Final = "browser"
CSRF_HEADER: Final = "x-csrf-token"
HEADERS: Final = ("X-Requested-With", "X-CSRF-Token")  # what CORS must let a page send

_REFRESH: Final = "refresh"
_DEVICE: Final = "device"
_VALUE_BYTES: Final = 4096  # beyond that nothing in a cookie is ours


@dataclass(frozen=True, slots=True)
class Page:
    """A page that calls us, and the cookies that came with it."""

    secure: bool  # cookies are for https alone
    cookie: str | None  # the refresh token
    device: str | None  # the device token
    csrf: str  # what the page says the CSRF token is

    def refresh_token(self) -> str:
        """Return the refresh token of the cookie. Raises Refused: 401 without one, 403 if the CSRF token is not its."""
        if self.cookie is None:
            raise invalid_token("there is no refresh cookie")
        if not hmac.compare_digest(csrf_token(self.cookie).encode(), self.csrf.encode()):
            raise Refused(403, "csrf_failed", "the CSRF token does not belong to the refresh cookie")
        return self.cookie

    def keep(self, response: Response, refresh_token: str, seconds: int) -> str:
        """Put a refresh token into its cookie for so many seconds, and return its CSRF token."""
        self._set(response, _REFRESH, refresh_token, seconds)
        return csrf_token(refresh_token)

    def keep_device(self, response: Response, device_token: str, seconds: int) -> None:
        """Put a device token into its cookie; it outlives the session."""
        self._set(response, _DEVICE, device_token, seconds)

    def forget(self, response: Response) -> None:
        """Have the browser drop the refresh cookie."""
        self._set(response, _REFRESH, "", 0)

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """Have the browser drop the refresh cookie, too, if what is done here finds that it is good for nothing."""
        try:
            yield
        except Refused as refused:
            if refused.status == 401:  # noqa: PLR2004 - Unauthorized
                dropped = Response()
                self.forget(dropped)
                refused.headers["Set-Cookie"] = dropped.headers["set-cookie"]
            raise

    def _set(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            _named(name, secure=self.secure),
            value,
            max_age=seconds,
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="strict",
        )


def page_of(request: Request, origins: Sequence[str]) -> Page | None:
    """Return the page that asks; None for a program, which gets no cookie and none of whose cookies count.

    Raises Refused (403) for a page whose origin is neither listed nor our own, and for one that names no origin.
    """
    if request.headers.get(MODE_HEADER, "").lower() != MODE:
        return None
    origin = request.headers.get("origin", "")
    if origin not in (*origins, f"{request.url.scheme}://{request.url.netloc}"):
        raise Refused(403, "origin_denied", "pages of this origin may not call us (AUTH_CORS_ORIGINS)")
    # a proxy may have called us by a loopback name: what the browser says of its page counts, too
    plain = request.url.scheme == "http" and not origin.startswith("https:")
    secure = not (plain and _is_loopback(request.url.hostname or ""))
    return Page(
        secure=secure,
        cookie=_value(request, _named(_REFRESH, secure=secure)),
        device=_value(request, _named(_DEVICE, secure=secure)),
        csrf=request.headers.get(CSRF_HEADER, ""),
    )


def csrf_token(refresh_token: str) -> str:
    """Return what shows that a page was answered by us: a foreign page cannot read our answers."""
    digest = hashlib.sha256(f"csrf:{refresh_token}".encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _value(request: Request, name: str) -> str | None:
    value = request.cookies.get(name, "")
    return value if 0 < len(value) <= _VALUE_BYTES else None


def _named(name: str, *, secure: bool) -> str:
    """Return the cookie's name: `__Host-` makes the browser see to it that no other host or plain page has set it."""
    return f"__Host-{name}" if secure else name


def _is_loopback(host: str) -> bool:
    """Whether only programs of this machine can hear what is said to this host; browsers think so too."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
