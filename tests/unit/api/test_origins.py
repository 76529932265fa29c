from __future__ import annotations

import pytest

from gateway.api.connect import origin_allowed
from tests.support.app import handshake, running_app, status
from tests.support.origins import LISTED, REFUSED


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
        "capacitor://localhost",
        "http://[::1]:3000",
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
        ("https://app.example.com", "user@app.example.com", False),
        ("https://app.example.com", " app.example.com", False),
        ("https://app.example.com", "app.example.com/", False),
        ("javascript://app.example.com", "app.example.com", False),
        ("chrome-extension://app.example.com", "app.example.com", False),
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
