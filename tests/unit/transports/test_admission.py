from __future__ import annotations

import pytest

from gateway.errors import OperatorError
from gateway.transports.admission import (
    DRAINING,
    FULL,
    OUT_OF_ORDER,
    TOO_FAST,
    TOO_MANY,
    Admission,
    Refusal,
    TrustedProxies,
)
from gateway.transports.headroom import Headroom

REFUSALS = [TOO_MANY, FULL, TOO_FAST, DRAINING, OUT_OF_ORDER]


def test_per_address() -> None:
    """Each address has its own count; who leaves makes room."""
    admission = Admission(per_address=2)

    assert [None, None, TOO_MANY] == [admission.admit("10.0.0.1", 0.0) for _ in range(3)]
    assert admission.admit("10.0.0.2", 0.0) is None
    admission.release("10.0.0.1")
    assert admission.admit("10.0.0.1", 0.0) is None
    assert 3 == admission.connections


def test_an_ipv6_host_is_its_network() -> None:
    """Whoever has one IPv6 address has 2^64 of them, so the /64 is what counts."""
    admission = Admission(per_address=1)

    assert admission.admit("2001:db8:1:2::1", 0.0) is None
    assert TOO_MANY is admission.admit("2001:db8:1:2:ffff::9", 0.0)
    assert admission.admit("2001:db8:1:3::1", 0.0) is None
    admission.release("2001:db8:1:2::1")
    assert admission.admit("2001:db8:1:2:ffff::9", 0.0) is None


def test_mapped_ipv4_addresses_are_told_apart() -> None:
    """On a socket for both families IPv4 clients do not share one /64."""
    admission = Admission(per_address=1)

    assert admission.admit("::ffff:10.0.0.1", 0.0) is None
    assert admission.admit("::ffff:10.0.0.2", 0.0) is None
    assert TOO_MANY is admission.admit("::ffff:10.0.0.2", 0.0)


def test_total() -> None:
    """A full node refuses, whoever asks."""
    admission = Admission(total=2)

    assert [None, None, FULL] == [admission.admit(f"10.0.0.{host}", 0.0) for host in range(3)]


def test_rate() -> None:
    """So many a second are let in; an address over its own limit does not use up the others' share."""
    admission = Admission(per_address=1, rate=2.0)

    assert admission.admit("10.0.0.1", 0.0) is None
    assert [TOO_MANY] * 5 == [admission.admit("10.0.0.1", 0.0) for _ in range(5)]
    assert [None, TOO_FAST] == [admission.admit(f"10.0.1.{host}", 0.0) for host in range(2)]
    assert admission.admit("10.0.2.1", 0.5) is None


def test_draining() -> None:
    """A node that goes down lets nobody in."""
    admission = Admission()
    admission.draining = True

    assert DRAINING is admission.admit("10.0.0.1", 0.0)
    assert 0 == admission.connections


def test_an_outage() -> None:
    """While something is away that nobody is let in without, newcomers are refused, and no longer."""
    outages = ["redis: down"]
    admission = Admission(rate=1.0, outages=lambda: outages)

    assert OUT_OF_ORDER is admission.admit("10.0.0.1", 0.0)
    outages.clear()
    assert admission.admit("10.0.0.1", 0.0) is None


def test_files_and_memory() -> None:
    """Where files or memory run short nobody more is let in; who is there is counted as before."""
    resident = 79
    headroom = Headroom(memory_limit=100, resident=lambda: resident, file_limit=lambda: 256)
    admission = Admission(headroom=headroom)

    assert admission.admit("10.0.0.1", 0.0, 191) is None
    assert FULL is admission.admit("10.0.0.1", 0.0, 192)
    assert [None, FULL] == [admission.listen_to(descriptor, 0.0) for descriptor in (223, 224)]
    resident = 81
    assert admission.admit("10.0.0.1", 0.9, 10) is None  # it is looked up once a second
    assert FULL is admission.admit("10.0.0.1", 1.0, 10)
    resident = 79
    assert admission.admit("10.0.0.1", 2.0, 10) is None
    assert 3 == admission.connections


def test_no_limits() -> None:
    """0 means none; where there is no address, as behind a Unix socket, there is no limit per address."""
    assert {None} == {Admission(per_address=0).admit("10.0.0.1", 0.0) for _ in range(300)}
    nameless = Admission(per_address=1)
    assert [None, None] == [nameless.admit("", 0.0) for _ in range(2)]


@pytest.mark.parametrize("refusal", REFUSALS, ids=["address", "full", "rate", "draining", "outage"])
def test_refusals_say_when_to_come_back(refusal: Refusal) -> None:
    """Each is a whole response that ends the connection; in one herd not all are told the same time."""
    assert {refusal.choose() for _ in range(1000)} == set(refusal.responses)
    waits = set()
    for response in refusal.responses:
        head, _, body = response.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        headers = dict(field.split(": ") for field in fields)
        waits.add(int(headers["Retry-After"]))

        assert status.split(" ")[1] == ("429" if refusal is TOO_MANY else "503")
        assert "close" == headers["Connection"]
        assert str(len(body)) == headers["Content-Length"]
    assert len(refusal.responses) == len(waits)
    assert 3 <= len(waits)
    assert 1 <= min(waits)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", [b"198.51.100.1"], "203.0.113.9"),  # not a proxy of ours: what it says is nothing
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"6.6.6.6, 198.51.100.1"], "198.51.100.1"),  # the client's own header comes first
        ("10.0.0.1", [b"6.6.6.6", b"198.51.100.1, 10.9.9.9"], "198.51.100.1"),  # two proxies
        ("192.0.2.7", [b"198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", [b"[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", [b"2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", [b"::ffff:198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"unknown"], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1, garbage"], "10.0.0.1"),
        ("10.0.0.1", [b"10.1.1.1, 10.2.2.2"], "10.1.1.1"),  # all trusted: the first of them
        ("", [b"198.51.100.1"], ""),
    ],
)
def test_trusted_proxies(peer: str, forwarded: list[bytes], client: str) -> None:
    """Of a trusted peer the last hop that is not trusted is the client; nobody else is believed."""
    proxies = TrustedProxies(["10.0.0.0/8", "192.0.2.7"])

    assert client == proxies.client(peer, forwarded)


def test_nobody_is_trusted_by_default() -> None:
    """Without proxies the header means nothing."""
    assert not TrustedProxies().trusts("127.0.0.1")
    assert "127.0.0.1" == TrustedProxies().client("127.0.0.1", [b"198.51.100.1"])


@pytest.mark.parametrize("proxy", ["proxy.internal", "10.0.0.1/8", "10.0.0.300"])
def test_what_is_no_network_is_an_operators_error(proxy: str) -> None:
    """A name, host bits behind the prefix and a bad number are refused with the text in the message."""
    with pytest.raises(OperatorError, match=proxy):
        TrustedProxies([proxy])
