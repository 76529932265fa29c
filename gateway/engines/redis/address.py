"""What `engine.url` says about one Redis server."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from redis.connection import parse_url

from gateway.errors import OperatorError

DEFAULT_PORT: Final = 6379
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS: Final = (*_FILES, "ssl_cert_reqs", "ssl_check_hostname")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and how to log in; the password is kept out of `repr`."""

    host: str
    port: int
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        """Return `host:port` for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse(url: str) -> Address:
    """Read `redis[s]://[user:password@]host[:port][/db][?ssl_...]`.

    Raises OperatorError: one line that names the part of the URL that is wrong, never the password.
    """
    try:
        parts = parse_url(url)  # type: ignore[no-untyped-call]  # redis-py leaves this one untyped
        path = urlsplit(url).path.strip("/")
        parts.get("host", "").encode("idna")  # what the resolver will do
    except ValueError as error:
        raise OperatorError(f"engine.url is not a Redis URL: {error}") from error
    if path and not path.isdecimal():
        raise OperatorError(f"engine.url: the database must be a number, as in redis://host:6379/0, not {path!r}")
    options = {name: value for name, value in parts.items() if name not in _PARTS}
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise OperatorError(f"engine.url: unknown option {unknown[0]!r}; known are {', '.join(_OPTIONS)}")
    secure = urlsplit(url).scheme == "rediss"
    if options and not secure:
        raise OperatorError(f"engine.url: option {min(options)!r} needs the scheme rediss://")
    return Address(
        host=parts.get("host") or "127.0.0.1",
        port=parts.get("port") or DEFAULT_PORT,
        db=parts.get("db", 0),
        username=parts.get("username") or "",
        password=parts.get("password") or "",
        tls=_context(options) if secure else None,
    )


_PARTS: Final = ("host", "port", "db", "username", "password", "connection_class")


def _context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Return the TLS settings; the names are redis-py's."""
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(f"{name}={options[name]}" for name in _FILES if name in options)
        raise OperatorError(f"engine.url: cannot read the certificates ({named}): {error}") from error
    unchecked = options.get("ssl_cert_reqs") == "none"
    if unchecked or options.get("ssl_check_hostname") is False:
        context.check_hostname = False
    if unchecked:
        context.verify_mode = ssl.CERT_NONE
    return context
