from __future__ import annotations

import json
import socket
from contextlib import ExitStack

import pytest

from gateway.asking import ask
from gateway.errors import OperatorError
from tests.support.answering import answering
from tests.support.ports import free_port


def status(line: str, body: bytes = b"{}") -> bytes:
    """Make the answer of a node."""
    return f"HTTP/1.1 {line}\r\nconnection: close\r\n\r\n".encode() + body


def test_who_is_ready_is_well() -> None:
    """All of them are asked for their readiness."""
    with answering(status("200 OK")) as (one, asked_one), answering(status("200 OK")) as (other, asked_other):
        ask([one, f"{other}/under/a/path/"], live=False, timeout=5.0)
    assert [b"GET /health/ready HTTP/1.1"] == asked_one
    assert [b"GET /under/a/path/health/ready HTTP/1.1"] == asked_other


def test_one_may_ask_for_life_alone() -> None:
    """A node that drains lives."""
    with answering(status("200 OK")) as (url, asked):
        ask([url], live=True, timeout=5.0)
    assert [b"GET /health/live HTTP/1.1"] == asked


@pytest.mark.parametrize(
    ("line", "body", "says"),
    [
        (
            "503 Service Unavailable",
            json.dumps({"faults": ["draining", "redis"]}).encode(),
            "is not ready: draining, r",
        ),
        ("503 Service Unavailable", b"<html>", "is not ready: status 503"),
        ("503 Service Unavailable", b"[]", "is not ready: status 503"),
        ("503 Service Unavailable", b"{}", "is not ready: status 503"),
        ("404 Not Found", b"", "http_server.internal_port"),
        ("nonsense", b"", "does not answer"),
    ],
)
def test_who_is_not_well_is_told_with_the_reason(line: str, body: bytes, says: str) -> None:
    """One line, with what the node itself says is wrong."""
    with answering(status(line, body)) as (url, _), pytest.raises(OperatorError, match=says) as told:
        ask([url], live=False, timeout=5.0)
    assert str(told.value).startswith(url)
    assert 1 == len(str(told.value).splitlines())


def test_one_that_is_not_well_hides_no_other() -> None:
    """Each has its line; one that is well has none."""
    with ExitStack() as stack:
        bad, _ = stack.enter_context(answering(status("503 Service Unavailable")))
        good, _ = stack.enter_context(answering(status("200 OK")))
        worse, _ = stack.enter_context(answering(status("404 Not Found")))
        with pytest.raises(OperatorError) as told:
            ask([bad, good, worse], live=False, timeout=5.0)
    assert [bad, worse] == [it.split()[0] for it in str(told.value).splitlines()]


def test_silence_is_not_health() -> None:
    """Who takes the connection and says nothing, as a loop that hangs, is given up in time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(OperatorError, match="does not answer: timed out"):
            ask([url], live=True, timeout=0.2)
    with pytest.raises(OperatorError, match="does not answer"):
        ask([f"http://127.0.0.1:{free_port()}"], live=True, timeout=5.0)


def test_an_url_that_is_none_is_told() -> None:
    """Before anything is asked."""
    with pytest.raises(OperatorError, match="--url"):
        ask(["localhost:9000"], live=False, timeout=1.0)
