"""Where a foreign OIDC issuer publishes its keys: its own discovery document says so."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import msgspec
import structlog

from gateway.contracts.clock import Clock
from gateway.errors import OperatorError
from gateway.tokens.fetching import FAILURES, fetch

FRESH_SECONDS = 3600.0  # a document older than this is read again before keys are fetched

log = structlog.get_logger(__name__)


class _Document(msgspec.Struct):
    issuer: str
    jwks_uri: str


class Discovery:
    """The address of an issuer's JWKS, by OpenID Connect Discovery 1.0; kept while the document cannot be had.

    Asks for the document only when told to `locate`, so whoever fetches keys one at a time and with pauses asks for
    documents no more often.
    """

    def __init__(self, issuer: str, *, clock: Clock) -> None:
        check_url(issuer, "OIDC issuer")
        self._issuer = issuer
        self._clock = clock
        self._document = document_url(issuer)
        self._found = ""
        self._fresh_until = 0.0

    async def locate(self, http: httpx.AsyncClient) -> str:
        """Return the address of the JWKS. Raises FAILURES if it was never known."""
        if self._found and self._clock.monotonic() < self._fresh_until:
            return self._found
        try:
            found = jwks_address((await fetch(http, self._document)).body, self._issuer)
        except FAILURES as error:
            if not self._found:
                raise
            log.warning("oidc.discovery_failed", issuer=self._issuer, error=type(error).__name__, detail=str(error))
            return self._found
        self._found, self._fresh_until = found, self._clock.monotonic() + FRESH_SECONDS
        return found

    def doubt(self) -> None:
        """Read the document again before the next fetch: there were no keys where it said."""
        self._fresh_until = 0.0


def document_url(issuer: str) -> str:
    """Return where the document stands (section 4: the path is appended, a slash at the end does not count)."""
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def jwks_address(body: bytes, issuer: str) -> str:
    """Read the address from the document. Raises ValueError if it is another issuer's, or the address not safe."""
    try:
        document = msgspec.json.decode(body, type=_Document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise ValueError("not a discovery document") from None
    if document.issuer != issuer:  # section 4.3; a slash more or less is another issuer, in `iss` too
        raise ValueError(f"the discovery document is that of {document.issuer!r}, not of {issuer!r}")
    parts = urlsplit(document.jwks_uri)
    plain = parts.scheme == "http" and urlsplit(issuer).scheme == "http"  # no weaker than the way we asked
    if not (plain or parts.scheme == "https") or not parts.hostname or parts.username is not None:
        raise ValueError(f"jwks_uri is not a safe address: {document.jwks_uri!r}")
    return document.jwks_uri


def check_url(url: str, what: str) -> None:
    """Raise OperatorError if this cannot be asked over HTTP."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise OperatorError(f"the {what} is not an http(s) URL: {url!r}")
