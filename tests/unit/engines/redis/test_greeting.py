from __future__ import annotations

import socket
import ssl

import pytest

from gateway.engines.redis.address import Address
from gateway.engines.redis.greeting import hello, plainly
from gateway.errors import EngineFault


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), "cannot connect to h:1 (connection refused)"),
        (OSError("Multiple exceptions: a, b"), "cannot connect to h:1 (multiple exceptions: a, b)"),
        (TimeoutError(), "cannot connect to h:1 (no answer within 3 s)"),
        (TimeoutError(110, "Connection timed out"), "cannot connect to h:1 (connection timed out)"),
        (socket.gaierror(-2, "Name or service not known"), "cannot connect to h:1 (name or service not known)"),
        (ssl.SSLError(1, "[SSL] wrong version number"), "cannot connect to h:1 (TLS: [ssl] wrong version number)"),
        (EngineFault("refused", "WRONGPASS no"), "h:1 refused us (WRONGPASS no)"),
        (EngineFault("readonly", "is a replica"), "h:1 refused us (is a replica)"),
        (EngineFault("lost", "closed by the server"), "h:1 hung up on us (closed by the server)"),
    ],
)
def test_what_went_wrong_is_said_plainly(error: OSError | EngineFault, expected: str) -> None:
    """One line names the server and the cause, in words of the operating system or the server."""
    assert expected == plainly(error, "h:1", 3.0)


@pytest.mark.parametrize(
    ("address", "login"),
    [
        (Address("h", 1), ()),
        (Address("h", 1, password="p"), ("AUTH", "default", "p")),
        (Address("h", 1, username="u", password="p"), ("AUTH", "u", "p")),
    ],
)
def test_the_login_is_part_of_the_greeting(address: Address, login: tuple[str, ...]) -> None:
    """A password alone is the default user's; without one nothing is sent."""
    assert ("HELLO", 3, *login, "SETNAME", "gateway-command") == hello(address, "command")
