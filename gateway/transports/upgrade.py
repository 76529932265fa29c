"""The HTTP side of a WebSocket handshake, as bytes and values: what is asked, what is answered."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeAlias
from urllib.parse import unquote
from uuid import uuid4

import httptools
from websockets.utils import accept_key

from gateway.transports.admission import answer

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Scope: TypeAlias = dict[str, Any]

BAD_REQUEST: Final = answer("400 Bad Request", "bad request\n")
BAD_KEY: Final = answer("400 Bad Request", "Sec-WebSocket-Key must be 16 bytes in base64, once\n")
BAD_METHOD: Final = answer("405 Method Not Allowed", "a WebSocket begins with GET\n", "Allow: GET")
BAD_HTTP: Final = answer("400 Bad Request", "a WebSocket needs HTTP/1.1\n")
BAD_BODY: Final = answer("400 Bad Request", "the request for a WebSocket has no body\n")
BAD_VERSION: Final = answer(
    "426 Upgrade Required", "WebSocket version 13 only\n", "Sec-WebSocket-Version: 13", "Upgrade: websocket"
)

_KEY_SIZE: Final = 16
_LINE_BREAK: Final = re.compile(rb"[\r\n\0]")
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{8,64}")


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Return all values of a header, in order; names are in lower case."""
    return [value for key, value in headers if key == name]


def fault(method: str, version: str, headers: Headers) -> bytes | None:
    """Return the response to an upgrade request that RFC 6455 section 4.2.1 forbids, None for a good one."""
    if method != "GET":
        return BAD_METHOD
    if version != "1.1":
        return BAD_HTTP
    if _has_body(headers):
        return BAD_BODY
    if values(headers, b"sec-websocket-version") != [b"13"]:
        return BAD_VERSION
    keys = values(headers, b"sec-websocket-key")
    return None if len(keys) == 1 and _is_key(keys[0]) else BAD_KEY


def websocket_scope(http: Scope, url: bytes, root_path: str) -> Scope:
    """Turn the scope of the request into that of the WebSocket. Raises ValueError for a target that is no path."""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError as error:
        raise ValueError(str(error)) from None
    if not (parsed.path or b"").startswith(b"/"):
        raise ValueError("no path")
    path = parsed.path.decode("ascii")
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss" if http["scheme"] == "https" else "ws",
        "server": http["server"],
        "client": http["client"],
        "root_path": root_path,
        "path": root_path + unquote(path),
        "raw_path": root_path.encode("ascii") + parsed.path,
        "query_string": parsed.query or b"",
        "headers": http["headers"],
        "subprotocols": subprotocols(http["headers"]),
        "state": http["state"],
        "extensions": {"websocket.http.response": {}},
    }


def subprotocols(headers: Headers) -> list[str]:
    """Return what is offered; an empty header offers nothing."""
    offered = b",".join(values(headers, b"sec-websocket-protocol")).decode("latin-1").split(",")
    return [name for name in (item.strip() for item in offered) if name]


def request_id(headers: Headers) -> str:
    """Return the request's id as a proxy gave it, or a new one."""
    given = values(headers, b"x-request-id")
    if given and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode("ascii")
    return uuid4().hex


def switching(headers: Headers, subprotocol: str | None, extra: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the response that accepts."""
    key = values(headers, b"sec-websocket-key")[0].decode("ascii")
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + accept_key(key).encode("ascii"),
    ]
    if subprotocol:
        lines.append(b"Sec-WebSocket-Protocol: " + _clean(subprotocol.encode("latin-1")))
    lines += [_clean(name) + b": " + _clean(value) for name, value in extra]
    return b"\r\n".join((*lines, b"", b""))


def denial(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return the response that refuses, with exactly these headers and what ends the connection."""
    sent = [(_clean(name.lower()), _clean(value)) for name, value in headers]
    names = {name for name, _ in sent}
    sent.append((b"connection", b"close"))
    if b"content-length" not in names:
        sent.append((b"content-length", str(len(body)).encode("ascii")))
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    first = f"HTTP/1.1 {status} {phrase}".encode("ascii")
    return b"\r\n".join((first, *(name + b": " + value for name, value in sent), b"", body))


def _has_body(headers: Headers) -> bool:
    """Whether somebody on the way could take what follows for a body, where we take it for frames."""
    lengths = values(headers, b"content-length")
    return bool(values(headers, b"transfer-encoding")) or any(length != b"0" for length in lengths)


def _is_key(value: bytes) -> bool:
    try:
        return len(b64decode(value, validate=True)) == _KEY_SIZE
    except binascii.Error:
        return False


def _clean(text: bytes) -> bytes:
    if _LINE_BREAK.search(text):
        raise ValueError("a header with a line break")
    return text
