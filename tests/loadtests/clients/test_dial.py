"""Where clients connect to."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from loadtests.clients.dial import AddressError, Place, look_up, node, trusting


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", ("h", 80, "/connection/websocket", False, "h")),
        ("wss://h/", ("h", 443, "/connection/websocket", True, "h")),
        ("https://h:8443/ws?x=1", ("h", 8443, "/ws?x=1", True, "h:8443")),
        ("ws://[::1]:9", ("::1", 9, "/connection/websocket", False, "[::1]:9")),
    ],
)
def test_urls_are_read(url: str, expected: tuple[str, int, str, bool, str]) -> None:
    """Host, port, path, whether with TLS, and the Host header; the default path is the gateway's."""
    found = node(url)
    assert expected == (found.host, found.port, found.path, found.secure, found.header)


@pytest.mark.parametrize("url", ["h:80", "ftp://h", "http://", "http://h:99999"])
def test_what_is_no_url_is_refused(url: str) -> None:
    """With the words of the one who wrote it."""
    with pytest.raises(AddressError, match="is no target"):
        node(url)


async def test_sources_are_chosen_on_this_machine_alone() -> None:
    """Addresses of 127.0.0.0/8 go nowhere else."""
    (here,) = await look_up(["http://127.0.0.1:80"])
    assert here.loopback
    there = Place(node("http://192.0.2.1"), here.family, ("192.0.2.1", 80))
    assert not there.loopback


async def test_an_unknown_name_is_said() -> None:
    """With the name; this one needs no look into the network."""
    with pytest.raises(AddressError, match=r"'no\.\.where'"):
        await look_up(["http://no..where"])


def test_trust_is_checked_unless_told_not_to(tmp_path: Path) -> None:
    """A file without a certificate is an error, and not no check."""
    assert trusting("", insecure=False).verify_mode == ssl.CERT_REQUIRED
    assert trusting("", insecure=True).verify_mode == ssl.CERT_NONE
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(OSError, match="X509"):
        trusting(str(tmp_path / "ca.pem"), insecure=False)
