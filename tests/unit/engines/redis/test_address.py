from __future__ import annotations

import ssl

import pytest

from gateway.engines.redis.address import Address, parse
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


def test_people_never_see_the_password() -> None:
    """Neither `str` nor `repr` shows it."""
    address = parse("redis://u:secret@[::1]:7000")
    assert "[::1]:7000" == str(address)
    assert "secret" not in repr(address)
