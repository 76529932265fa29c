from __future__ import annotations

import pytest

from auth_service.commands.health import ask
from auth_service.errors import OperatorError
from tests.support.answering import answering
from tests.support.ports import free_port


def status(line: str) -> bytes:
    """Make the answer of a service."""
    return f"HTTP/1.1 {line}\r\nconnection: close\r\n\r\n".encode()


@pytest.mark.parametrize(("live", "path"), [(False, b"ready"), (True, b"live")])
def test_a_service_is_asked(live: bool, path: bytes) -> None:
    """For its readiness, unless life is enough."""
    with answering(status("200 OK")) as (url, asked):
        ask(url, live=live)
    assert [b"GET /health/" + path + b" HTTP/1.1"] == asked


@pytest.mark.parametrize(
    ("line", "says"), [("503 Service Unavailable", "is not ready: status 503"), ("nonsense", "does not answer")]
)
def test_one_that_is_not_ready_is_told(line: str, says: str) -> None:
    """In one line that begins with its URL."""
    with answering(status(line)) as (url, _), pytest.raises(OperatorError, match=says) as told:
        ask(url, live=False)
    assert str(told.value).startswith(url)


def test_nobody_there_is_told() -> None:
    """A service that is not there is not ready."""
    with pytest.raises(OperatorError, match="does not answer"):
        ask(f"http://127.0.0.1:{free_port()}", live=True)


@pytest.mark.parametrize("url", ["localhost:8001", "http://", "http://x:y", "ftp://x"])
def test_an_url_that_is_none_is_told(url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(OperatorError, match="--url"):
        ask(url, live=False)
