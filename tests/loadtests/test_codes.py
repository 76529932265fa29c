from __future__ import annotations

import pytest

from loadtests.clients.codes import final, reason
from loadtests.clients.link import HandshakeError
from loadtests.scenarios.contract import RefusedError


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1006, False),
        (3499, False),
        (3500, True),
        (3999, True),
        (4000, False),
        (4499, False),
        (4500, True),
        (5000, False),
    ],
)
def test_codes_that_say_stay_away(code: int, expected: bool) -> None:
    """Two ranges are final, as the official SDKs have them."""
    assert expected == final(code)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (HandshakeError(503), "503"),
        (HandshakeError(0, "no HTTP"), "no answer"),
        (RefusedError(103, "permission denied"), "103"),
        (RefusedError(0, "the connection ended"), "hung up"),
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(), "no connection"),
    ],
)
def test_why_a_client_could_not_come(error: OSError | HandshakeError | RefusedError, expected: str) -> None:
    """A reader of a report sees what the server said, or what it did not."""
    assert expected == reason(error)
