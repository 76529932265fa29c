"""Who is let in before any ASGI code runs: by address, number, rate, files and memory left; proxies."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from gateway.errors import OperatorError
from gateway.protocol.limits import TokenBucket
from gateway.transports.headroom import Headroom

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_HOST_PREFIX: Final = 64  # of IPv6: what one customer is given; whoever has one address has them all


def answer(status: str, text: str, *headers: str) -> bytes:
    """Build a whole HTTP response that ends its connection."""
    lines = (f"HTTP/1.1 {status}", *headers, "Content-Type: text/plain; charset=utf-8")
    return "\r\n".join((*lines, f"Content-Length: {len(text)}", "Connection: close", "", text)).encode()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a handshake goes no further: `label` of the counter `handshakes`, and whole HTTP responses.

    The responses differ in Retry-After only: a herd that was refused in one second must not come back in one.
    """

    label: str
    responses: tuple[bytes, ...]

    def choose(self) -> bytes:
        """Return one of the responses."""
        return random.choice(self.responses)  # noqa: S311 - spreads clients, keeps no secret


def refusal(label: str, status: str, text: str, retry_after: range) -> Refusal:
    """Build the responses, one for each number of seconds."""
    return Refusal(label, tuple(answer(status, text, f"Retry-After: {seconds}") for seconds in retry_after))


_UNAVAILABLE: Final = "503 Service Unavailable"
TOO_MANY: Final = refusal(
    "limit_ip", "429 Too Many Requests", "too many connections from this address\n", range(10, 21)
)
FULL: Final = refusal("capacity", _UNAVAILABLE, "no room, try again\n", range(5, 16))
TOO_FAST: Final = refusal("capacity", _UNAVAILABLE, "too busy, try again\n", range(1, 9))
DRAINING: Final = refusal("draining", _UNAVAILABLE, "going down, try again\n", range(1, 4))
OUT_OF_ORDER: Final = refusal("unavailable", _UNAVAILABLE, "out of order, try again\n", range(2, 11))


class TrustedProxies:
    """The addresses whose `X-Forwarded-*` headers are believed."""

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        """Take exact addresses and CIDR networks. Raises OperatorError for anything else."""
        self._networks: list[Network] = []
        for proxy in proxies:
            try:
                self._networks.append(ip_network(proxy))
            except ValueError as error:
                raise OperatorError(f"not an IP address or network among the trusted proxies: {error}") from None

    def trusts(self, address: str) -> bool:
        """Whether this is one of them."""
        if not self._networks:
            return False
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client(self, address: str, forwarded: Sequence[bytes]) -> str:
        """Return the client's address: of a peer that is trusted, the last hop that is not.

        `forwarded` are the values of `X-Forwarded-For` in their order. What a trusted proxy did not write is not
        looked at, and what is no address is not believed.
        """
        if not forwarded or not self.trusts(address):
            return address
        for hop in reversed(b",".join(forwarded).decode("latin-1").split(",")):
            parsed = _parse(_without_port(hop.strip()))
            if parsed is None:
                return address
            address = str(parsed)
            if not self.trusts(address):
                return address
        return address


class Admission:
    """Counts who is there and refuses who is too many. One per node; all limits 0 = none.

    `outages` names what nobody is let in without; empty = all is there.
    """

    def __init__(
        self,
        *,
        per_address: int = 200,
        total: int = 0,
        rate: float = 0.0,
        headroom: Headroom | None = None,
        outages: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.draining = False  # nobody is let in any more
        self.drained = False  # everybody was asked to leave; who is still there is told what they were
        self._per_address = per_address
        self._total = total
        self._rate = rate
        self._headroom = headroom or Headroom()
        self._outages = outages
        self._bucket: TokenBucket | None = None
        self._counts: dict[str, int] = {}
        self._open = 0

    @property
    def connections(self) -> int:
        """How many are admitted and not gone yet."""
        return self._open

    def listen_to(self, descriptor: int, now: float) -> Refusal | None:
        """Say why not even a request is read from a new socket of this number, or None."""
        return None if self._headroom.requests_fit(descriptor, now) else FULL

    def admit(self, address: str, now: float, descriptor: int = -1) -> Refusal | None:
        """Count one in, or say why not; `now` in seconds. Whoever is admitted must be released."""
        host = _host(address)
        count = self._counts.get(host, 0)
        refused = self._closed() or self._crowded(count if address else -1, now, descriptor)
        if refused is None and self._rate and not self._in_time(now):
            refused = TOO_FAST
        if refused is None:
            self._counts[host] = count + 1
            self._open += 1
        return refused

    def release(self, address: str) -> None:
        """Count one out."""
        host = _host(address)
        left = self._counts[host] - 1
        if left:
            self._counts[host] = left
        else:
            del self._counts[host]
        self._open -= 1

    def _closed(self) -> Refusal | None:
        """Say why nobody at all is let in."""
        if self.draining:
            return DRAINING
        return OUT_OF_ORDER if self._outages() else None

    def _crowded(self, count: int, now: float, descriptor: int) -> Refusal | None:
        """Say what there is no room for; `count` are here from the same address, -1 = it has none."""
        if 0 < self._per_address <= count:
            return TOO_MANY
        if 0 < self._total <= self._open:
            return FULL
        fits = self._headroom.upgrades_fit(descriptor, now) and self._headroom.memory_fits(now)
        return None if fits else FULL

    def _in_time(self, now: float) -> bool:
        if self._bucket is None:
            self._bucket = TokenBucket(rate=self._rate, burst=self._rate, now=now)
        return self._bucket.take(now)


def _host(address: str) -> str:
    """Return what the limit per address counts by: the address, or the network of an IPv6 host."""
    if ":" not in address:
        return address
    parsed = _parse(address)
    if not isinstance(parsed, IPv6Address):
        return address
    return str(IPv6Network((parsed, _HOST_PREFIX), strict=False).network_address)


def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
