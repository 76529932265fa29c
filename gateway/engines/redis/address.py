"""What `engine.url` says about Redis servers: one, several in a row, sentinels, the nodes of a cluster."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.connection import parse_url

from gateway.errors import OperatorError

DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS: Final = (*_FILES, "ssl_cert_reqs", "ssl_check_hostname")
_PARTS: Final = ("host", "port", "db", "username", "password", "connection_class")


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

    def at(self, host: str, port: int) -> Address:
        """Return another place with the same login."""
        return replace(self, host=host, port=port)


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Whom to ask for the primary of a service, and how to log in there; the place of `primary` means nothing."""

    addresses: Sequence[Address]
    service: str
    primary: Address


def parse(url: str) -> Address:
    """Read `redis[s]://[user:password@]host[:port][/db][?ssl_...]`.

    Raises OperatorError: one line that names the part of the URL that is wrong, never the password.
    """
    _must_be_encoded(url)
    try:
        parts = parse_url(url)  # type: ignore[no-untyped-call]  # redis-py leaves this one untyped
        path = urlsplit(url).path.strip("/")
        parts.get("host", "").encode("idna")  # what the resolver will do
    except ValueError as error:
        raise OperatorError(f"engine.url is not a Redis URL: {_plainly(str(error))}") from None
    if path and not path.isdecimal():
        raise OperatorError(f"engine.url: the database must be a number, as in redis://host:6379/0, not {path!r}")
    options = {name: value for name, value in parts.items() if name not in _PARTS}
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise OperatorError(f"engine.url: unknown option {unknown[0]!r}; known are {', '.join(_OPTIONS)}")
    secure = urlsplit(url).scheme == "rediss"
    if options and not secure:
        raise OperatorError(f"engine.url: option {min(options)!r} needs TLS: rediss:// or rediss+...")
    return Address(
        host=parts.get("host") or "127.0.0.1",
        port=parts.get("port") or DEFAULT_PORT,
        db=parts.get("db", 0),
        username=parts.get("username") or "",
        password=parts.get("password") or "",
        tls=_context(options) if secure else None,
    )


def parse_all(urls: str) -> Sequence[Address]:
    """Read one URL, or several in a row with commas between them. Raises OperatorError."""
    # Split where a comma is followed by another URL: a password may hold commas of its own.
    return _once([parse(url.strip()) for url in re.split(r",(?=\s*[a-z+]+://)", urls)])


def parse_cluster(url: str) -> Sequence[Address]:
    """Read `redis[s]+cluster://[user:password@]host[:port],host[:port]...[?ssl_...]`. Raises OperatorError."""
    several = _several(url)
    if several.path:
        raise OperatorError("engine.url: a cluster has no databases and no services; write nothing after the hosts")
    return _once(_at_each(several, several.query, DEFAULT_PORT))


def parse_sentinel(url: str) -> Sentinels:
    """Read `redis[s]+sentinel://[user:password@]host[:port],host[:port].../service[/db][?...]`. Raises OperatorError.

    That login is for Redis; the one for the sentinels stands in `sentinel_username` and `sentinel_password`. TLS is
    used for both, with the same options.
    """
    several = _several(url)
    service, _, db = several.path.partition("/")
    if not service:
        raise OperatorError("engine.url: name the service, as in redis+sentinel://host:26379/mymaster")
    login = {name.removeprefix("sentinel_"): value for name, value in several.query if name in _SENTINEL_LOGIN}
    rest = [(name, value) for name, value in several.query if name not in _SENTINEL_LOGIN]
    places = _at_each(several, rest, SENTINEL_PORT)
    sentinels = [replace(it, username=login.get("username", ""), password=login.get("password", "")) for it in places]
    return Sentinels(_once(sentinels), service, parse(several.one("primary", rest, db)))


# --- inside

_SENTINEL_LOGIN: Final = ("sentinel_username", "sentinel_password")
_SEVERAL: Final = re.compile(r"(rediss?)\+\w+://([^/?#]*@)?([^/?#@]*)/?([^?#]*)(?:\?([^#]*))?")

_Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Several:
    """The parts of a URL with several hosts."""

    scheme: str
    login: str
    hosts: Sequence[str]
    path: str
    query: _Query

    def one(self, host: str, query: _Query, path: str = "") -> str:
        """Return the URL of one host."""
        options = f"?{urlencode(query)}" if query else ""
        return f"{self.scheme}://{self.login}{host}/{path}{options}"


def _several(url: str) -> _Several:
    _must_be_encoded(url)
    matched = _SEVERAL.fullmatch(url)
    if matched is None:
        raise OperatorError("engine.url: expected scheme://[user:password@]host:port,host:port")
    scheme, login, hosts, path, query = matched.groups("")
    names = [host.strip() for host in hosts.split(",")]
    if not all(names):
        raise OperatorError("engine.url: a host is missing, as in scheme://host:port,host:port")
    return _Several(scheme, login, names, path.strip("/"), parse_qsl(query, keep_blank_values=True))


def _at_each(several: _Several, query: _Query, port: int) -> Sequence[Address]:
    """Return the address of each host; `port` is for those that name none."""
    named = [host if re.search(r":\d*$", host.rpartition("]")[2]) else f"{host}:{port}" for host in several.hosts]
    return [parse(several.one(host, query)) for host in named]


def _once(addresses: Sequence[Address]) -> Sequence[Address]:
    if len({(it.host, it.port, it.db) for it in addresses}) < len(addresses):
        raise OperatorError("engine.url: the same server stands there twice")
    return addresses


def _must_be_encoded(url: str) -> None:
    """Refuse a login that ends too early for its reader: what follows would be shown as something else."""
    authority, rest = re.fullmatch(r"(?:[^:/?#]*://)?([^/?#]*)(.*)", url, re.DOTALL).groups()  # type: ignore[union-attr]  # it matches any text
    if "@" in rest.partition("?")[0] or ("@" in rest and "@" not in authority):
        raise OperatorError("engine.url: write / ? # @ in user and password as %2F %3F %23 %40")


def _plainly(error: str) -> str:
    """Return what the standard library says of a URL, without the parts of it that may be the password."""
    if (
        "could not be cast" in error
    ):  # it names the port; in redis://:secret, which lacks its host, that is the password
        return "the port is not a number"
    if error.startswith("netloc"):  # it shows everything before the path
        return "percent-encode what is not ASCII"
    return error


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
