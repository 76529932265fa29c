from __future__ import annotations

import pytest

from gateway.api.connect import origin_allowed
from tests.support.app import handshake, running_app, status

LISTED = ("https://app.example.com", "http://localhost:3000", "https://*.wild.example.org")

REFUSED = [
    "https://app.example.com.evil.io",  # ours as the beginning
    "https://evil.io/https://app.example.com",
    "https://evil.io?https://app.example.com",
    "https://evil.io#https://app.example.com",
    "https://evilapp.example.com",
    "https://xapp.example.com",
    "https://example.com",  # the parent
    "https://sub.app.example.com",  # a child
    "http://app.example.com",  # the other scheme
    "wss://app.example.com",
    "ftp://app.example.com",
    "https://app.example.com:8443",  # another port
    "https://app.example.com:80",
    "https://app.example.com:0",
    "http://localhost",
    "http://localhost:3001",
    "https://localhost:3000",
    "http://127.0.0.1:3000",
    "https://user@app.example.com",  # user info
    "https://app.example.com@evil.io",
    "https://app.example.com:443@evil.io",
    "https://@app.example.com",
    "https://app.example.com\\@evil.io",
    "https://app.example.com%2eevil.io",
    "https://app.example.com.",  # a name of its own to browsers
    "https://app.example.com/",  # no origin has a path
    "https://app.example.com/path",
    "https://app.example.com:port",
    "https://app.example.com:99999",
    "https://[::1",
    "https://[::1]",
    "https:app.example.com",
    "//app.example.com",
    "app.example.com",
    "https://",
    "https://:443",
    "null",
    "",
    " ",
    "*",
    "https://*",
    "https://*.wild.example.org",
    "file://",
    "data:text/html,x",
    "chrome-extension://abcdef",
    "javascript://app.example.com",
    "https://app.example.com https://app.example.com",
    "https://app.example.com,https://evil.io",
    "https://wild.example.org",  # the pattern wants a label more
    "https://evilwild.example.org",
    "https://.wild.example.org",
    "https://a.wild.example.org.evil.io",
    "http://a.wild.example.org",
    "https://a.wild.example.org:8443",
    "https://xn--pp-fka.example.com",  # looks alike
    "https://äpp.example.com",
]


@pytest.mark.parametrize("origin", REFUSED)
def test_what_is_not_listed_is_refused(origin: str) -> None:
    """Scheme, host and port are compared whole; no part of the text is enough."""
    assert not origin_allowed(origin, LISTED, "app.example.com")


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "https://app.example.com:443",
        "HTTPS://APP.example.COM",
        " https://app.example.com ",
        "http://localhost:3000",
        "https://a.wild.example.org",
        "https://a.b.wild.example.org",
    ],
)
def test_what_is_listed_is_allowed(origin: str) -> None:
    """Case and a default port that is written out make no difference; a star stands for whole labels."""
    assert origin_allowed(origin, LISTED, "other.example.com")


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("https://app.example.com", "app.example.com", True),
        ("http://app.example.com", "app.example.com", True),  # behind a proxy that ends TLS we see no scheme
        ("https://app.example.com", "app.example.com:443", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://APP.example.com", "app.EXAMPLE.com", True),
        ("http://127.0.0.1:8001", "127.0.0.1:8000", False),
        ("http://localhost:8000", "127.0.0.1:8000", False),
        ("https://app.example.com", "app.example.com:8443", False),
        ("https://app.example.com", "app.example.com.evil.io", False),
        ("https://evil.io", "app.example.com", False),
        ("https://evil.io", "", False),
        ("null", "", False),
        ("null", "null", False),
        ("https://app.example.com", "app.example.com:port", False),
    ],
)
def test_without_a_list_only_pages_of_this_very_host_may_connect(origin: str, host: str, allowed: bool) -> None:
    """The default needs no configuration and lets no other page in."""
    assert allowed is origin_allowed(origin, (), host)


def test_a_star_allows_every_page() -> None:
    """For those who want that, `null` of a sandboxed page included."""
    assert origin_allowed("https://evil.io", ("*",), "app.example.com")
    assert origin_allowed("null", ("https://x.example.com", "*"), "app.example.com")


@pytest.mark.parametrize("pattern", ["https://*", "*.example.com", "https://*.", "://*.example.com", "https://a.*.com"])
def test_a_pattern_that_means_nothing_allows_nothing(pattern: str) -> None:
    """One star, for leading labels, behind a scheme."""
    for origin in ("https://a.example.com", "https://a.b.com", "https://x"):
        assert not origin_allowed(origin, (pattern,), "other")


async def test_the_handshake_refuses_with_403_and_counts_it() -> None:
    """A page of another host gets 403 before anything is accepted; a program without origin passes."""
    async with running_app(client={"insecure": True, "allowed_origins": list(LISTED)}) as app:
        path = "/connection/websocket"
        assert 101 == status(await handshake(app, path))
        assert 101 == status(await handshake(app, path, headers=[("origin", "https://app.example.com")]))
        refused = await handshake(app, path, headers=[("origin", "https://evil.io")])
        assert 403 == status(refused)
        twice = [("origin", "https://app.example.com")] * 2
        assert 403 == status(await handshake(app, path, headers=twice))
        assert 403 == status(await handshake(app, "/ws", headers=[("origin", "https://evil.io")]))
        assert 'gateway_handshakes_total{result="origin"} 3.0' in (await app.http.get("/metrics")).text
