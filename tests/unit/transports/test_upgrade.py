from __future__ import annotations

from typing import Any

import pytest

from gateway.transports.upgrade import (
    BAD_BODY,
    BAD_HTTP,
    BAD_KEY,
    BAD_METHOD,
    BAD_VERSION,
    denial,
    fault,
    request_id,
    subprotocols,
    switching,
    websocket_scope,
)
from tests.support.rawsocket import KEY

GOOD = [(b"sec-websocket-key", KEY.encode()), (b"sec-websocket-version", b"13")]
HTTP: dict[str, Any] = {"scheme": "http", "server": None, "client": None, "headers": [], "state": {"node": 1}}


@pytest.mark.parametrize(
    ("method", "version", "headers", "expected"),
    [
        ("GET", "1.1", GOOD, None),
        ("POST", "1.1", GOOD, BAD_METHOD),
        ("GET", "1.0", GOOD, BAD_HTTP),
        ("GET", "1.1", GOOD[:1], BAD_VERSION),
        ("GET", "1.1", [GOOD[0], (b"sec-websocket-version", b"8")], BAD_VERSION),
        ("GET", "1.1", [*GOOD, GOOD[1]], BAD_VERSION),
        ("GET", "1.1", GOOD[1:], BAD_KEY),
        ("GET", "1.1", [*GOOD, GOOD[0]], BAD_KEY),
        ("GET", "1.1", [(b"sec-websocket-key", b"c2hvcnQ="), GOOD[1]], BAD_KEY),
        ("GET", "1.1", [(b"sec-websocket-key", b"not base64 at all"), GOOD[1]], BAD_KEY),
        ("GET", "1.1", [*GOOD, (b"content-length", b"45")], BAD_BODY),
        ("GET", "1.1", [*GOOD, (b"transfer-encoding", b"chunked")], BAD_BODY),
        ("GET", "1.1", [*GOOD, (b"content-length", b"0")], None),
    ],
)
def test_faults(method: str, version: str, headers: list[tuple[bytes, bytes]], expected: bytes | None) -> None:
    """Each thing RFC 6455 4.2.1 asks for has its own refusal, none of them a fault of the server."""
    assert expected == fault(method, version, headers)


def test_the_accept_key_is_that_of_the_rfc() -> None:
    """The example of section 1.3, with a subprotocol and a header of the route."""
    response = switching(GOOD, "chat", [(b"x-node", b"a")])

    assert response.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in response
    assert response.endswith(b"\r\nSec-WebSocket-Protocol: chat\r\nx-node: a\r\n\r\n")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([b""], []),
        ([b" , "], []),
        ([b"chat"], ["chat"]),
        ([b"chat, bearer.x", b"echo"], ["chat", "bearer.x", "echo"]),
    ],
)
def test_subprotocols(values: list[bytes], expected: list[str]) -> None:
    """Lists and repeated headers are one list; an empty header offers nothing."""
    assert expected == subprotocols([(b"sec-websocket-protocol", value) for value in values])


def test_scope() -> None:
    """The target is taken apart and decoded, and the lifespan's state is there."""
    scope = websocket_scope(HTTP, b"/ws/caf%C3%A9?token=t&x=1", "/root")

    assert ("websocket", "ws") == (scope["type"], scope["scheme"])
    assert ("/root/ws/café", b"/root/ws/caf%C3%A9") == (scope["path"], scope["raw_path"])
    assert b"token=t&x=1" == scope["query_string"]
    assert {"node": 1} == scope["state"]
    assert "websocket.http.response" in scope["extensions"]


def test_scope_behind_tls() -> None:
    """Where the proxy speaks TLS the scheme says so; an absolute target is as good as a path."""
    scope = websocket_scope({**HTTP, "scheme": "https"}, b"http://gateway.test/ws", "")

    assert ("wss", "/ws", b"") == (scope["scheme"], scope["path"], scope["query_string"])


@pytest.mark.parametrize(
    ("url", "why"),
    [(b"", "invalid url"), (b"gateway.test:80", "invalid url"), (b"/caf\xe9", "invalid url"), (b"http://a", "no path")],
)
def test_a_target_that_is_no_path(url: bytes, why: str) -> None:
    """It is refused by ValueError and by nothing else."""
    with pytest.raises(ValueError, match=why):
        websocket_scope(HTTP, url, "")


def test_request_id() -> None:
    """A proxy's id is kept if it is harmless; else there is a new one each time."""
    assert "request-42" == request_id([(b"x-request-id", b"request-42")])
    for bad in (b"short", b"x" * 65, b"with space", b"with\x1bescape"):
        assert bad.decode() != request_id([(b"x-request-id", bad)])
    assert request_id([]) != request_id([])


def test_denial() -> None:
    """The response is exactly the route's, framed and final."""
    response = denial(429, [(b"Retry-After", b"7"), (b"content-length", b"2")], b"no")

    assert (
        b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
        == response
    )
    assert denial(799, [], b"").startswith(b"HTTP/1.1 799 \r\nconnection: close\r\ncontent-length: 0\r\n")


def test_headers_cannot_be_split() -> None:
    """A value with a line break raises instead of becoming two headers."""
    with pytest.raises(ValueError, match="line break"):
        denial(200, [(b"x", b"a\r\nSet-Cookie: b")], b"")
    with pytest.raises(ValueError, match="line break"):
        switching(GOOD, "chat\r\nx: y", [])
