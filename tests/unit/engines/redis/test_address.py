from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest

from gateway.engines.redis.address import Address, parse, parse_all, parse_cluster, parse_sentinel
from gateway.errors import OperatorError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", Address("127.0.0.1", 6379)),
        ("redis://cache", Address("cache", 6379)),
        ("redis://cache:7000/5", Address("cache", 7000, 5)),
        ("redis://:secret@cache", Address("cache", 6379, 0, "", "secret")),
        ("redis://u%40x:p%3A%2F@cache/", Address("cache", 6379, 0, "u@x", "p:/")),
        ("redis://[::1]:7000", Address("::1", 7000)),
    ],
)
def test_what_a_url_says(url: str, expected: Address) -> None:
    """Host, port, database and login are read, percent-encoding undone, defaults filled in."""
    assert expected == parse(url)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://cache:port", "not a Redis URL"),
        ("redis://cache:99999", "not a Redis URL"),
        ("redis:cache", "not a Redis URL"),
        ("redis://a..b", "not a Redis URL"),
        ("redis://:secret", "the port is not a number"),
        ("redis://:se/secret@cache", "%2F"),
        ("redis://:s?ecret=secret@cache", "%2F"),
        ("redis://:secret\uff03@cache", "percent-encode"),
        ("redis://cache/main", "'main'"),
        ("redis://:secret@cache?tls=1", "'tls'"),
        ("redis://cache?ssl_ca_certs=/ca.pem", "rediss://"),
        ("rediss://cache?ssl_ca_certs=/not/there.pem", "ssl_ca_certs=/not/there.pem"),
        ("rediss://cache?ssl_certfile=/not/there.pem", "ssl_certfile=/not/there.pem"),
    ],
)
def test_a_bad_url_is_one_clear_line(url: str, named: str) -> None:
    """The line names the setting and the part that is wrong, never the password."""
    with pytest.raises(OperatorError) as caught:
        parse(url)
    line = str(caught.value)
    assert line.startswith("engine.url")
    assert named in line
    assert "\n" not in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("options", "verify", "hostname"),
    [
        ("", ssl.CERT_REQUIRED, True),
        ("?ssl_check_hostname=false", ssl.CERT_REQUIRED, False),
        ("?ssl_cert_reqs=none", ssl.CERT_NONE, False),
    ],
)
def test_tls_is_checked_unless_told_otherwise(options: str, verify: ssl.VerifyMode, hostname: bool) -> None:
    """The scheme rediss means a certificate that is verified; only explicit options loosen that."""
    context = parse(f"rediss://cache{options}").tls
    assert context is not None
    assert (verify, hostname) == (context.verify_mode, context.check_hostname)


def test_several_urls_are_several_servers() -> None:
    """A comma parts two URLs only where one begins: passwords may hold commas, and each server has its own login."""
    one, two = parse_all("redis://:a,b@one:1/2, redis://u:c@two")
    assert [Address("one", 1, 2, "", "a,b"), Address("two", 6379, 0, "u", "c")] == [one, two]


def test_a_cluster_is_any_of_its_nodes() -> None:
    """All hosts share one login; a port that is not named is that of Redis, IPv6 in brackets."""
    assert [Address("a", 1, 0, "u", "p:"), Address("b", 6379, 0, "u", "p:"), Address("::1", 7, 0, "u", "p:")] == list(
        parse_cluster("redis+cluster://u:p%3A@a:1, b,[::1]:7")
    )


def test_sentinels_have_a_login_of_their_own() -> None:
    """The login before the hosts is for Redis; service and database follow the hosts."""
    read = parse_sentinel("redis+sentinel://u:p@a,b:1/main/5?sentinel_username=s&sentinel_password=q%40")
    assert [Address("a", 26379, 0, "s", "q@"), Address("b", 1, 0, "s", "q@")] == list(read.addresses)
    assert ("main", Address("c", 2, 5, "u", "p")) == (read.service, read.primary.at("c", 2))


def test_tls_holds_for_sentinels_and_nodes() -> None:
    """The scheme of the form rediss+... means TLS everywhere, under the same options."""
    read = parse_sentinel("rediss+sentinel://a,b/main?ssl_check_hostname=false")
    (node,) = parse_cluster("rediss+cluster://a?ssl_check_hostname=false")
    contexts = [it.tls for it in (*read.addresses, read.primary, node)]
    assert [False] * 4 == [context.check_hostname for context in contexts if context is not None]
    assert parse_cluster("redis+cluster://a")[0].tls is None


@pytest.mark.parametrize(
    ("read", "url", "named"),
    [
        (parse_all, "redis://a,redis://a:6379/0", "twice"),
        (parse_all, "redis://:x@a,redis://:secret", "the port is not a number"),
        (parse_cluster, "redis+cluster://a,a:6379", "twice"),
        (parse_cluster, "redis+cluster://a,,b", "a host is missing"),
        (parse_cluster, "redis+cluster://", "a host is missing"),
        (parse_cluster, "redis+cluster://a/1", "no databases"),
        (parse_cluster, "redis+cluster://:secret@a:x", "the port is not a number"),
        (parse_cluster, "redis+cluster://:secret@a?x=1", "'x'"),
        (parse_cluster, "redis+cluster://:s/ecret@secret", "%2F"),
        (parse_cluster, "redis+cluster://:secret@a#b", "expected scheme://"),
        (parse_sentinel, "redis+sentinel://:secret@a,b", "name the service"),
        (parse_sentinel, "redis+sentinel://a/main/five", "'five'"),
        (parse_sentinel, "redis+sentinel://a/main?sentinel_pass=secret", "'sentinel_pass'"),
        (parse_sentinel, "redis+sentinel://a/main?ssl_cert_reqs=none", "rediss"),
    ],
)
def test_a_bad_url_of_several_servers_is_one_clear_line(read: Callable[[str], object], url: str, named: str) -> None:
    """As with one server."""
    with pytest.raises(OperatorError) as caught:
        read(url)
    line = str(caught.value)
    assert line.startswith("engine.url")
    assert named in line
    assert "\n" not in line
    assert "secret" not in line


def test_people_never_see_the_password() -> None:
    """Neither `str` nor `repr` shows it."""
    address = parse("redis://u:secret@[::1]:7000")
    assert "[::1]:7000" == str(address)
    assert "secret" not in repr(address)
