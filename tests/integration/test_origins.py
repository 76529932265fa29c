"""Whose page may connect, asked on a bare socket of a whole node; and that no cookie ever stands for a token."""

from __future__ import annotations

import ast
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.fleet import SECRET
from tests.support.newcomers import token
from tests.support.origins import LISTED, REFUSED
from tests.support.rawsocket import CLOSE, TEXT, Head, RawSocket, masked, upgrade
from tests.support.serving import Serving, serving

ROOT = Path(__file__).parent.parent.parent
PATHS = ("/connection/websocket", "/ws", "/ws/room")
GOOD = LISTED[0]
NAMES = (
    "token",
    "access_token",
    "ticket",
    "jwt",
    "session",
    "sid",
    "auth",
    "Authorization",
    "refresh",
    "__Host-refresh",
)
FORBIDDEN_IN_HTTP = set(map(chr, (*range(32), 127))) - {"\t"}


@pytest.fixture(name="node")
async def _node() -> AsyncIterator[Serving]:
    client = {
        "token": {"hmac_secret_key": SECRET},
        "allowed_origins": list(LISTED),
        "stale_close_delay": "2s",
        "connection_rate_limit": 0,
    }
    async with serving(client=client) as it:
        yield it


async def asked(node: Serving, path: str, *headers: bytes) -> Head:
    """Shake hands with these headers; whatever is refused ends the link."""
    client = await RawSocket.connect(node.url)
    head, end = upgrade(path)[:-2], b"\r\n"
    await client.send(head + b"".join(it + end for it in headers) + end)
    answer = await client.head()
    if answer.status == 101:
        client.close()
    else:
        await client.rest()
    return answer


async def counted(node: Serving) -> dict[str, int]:
    """Return how the handshakes ended, by the node's own metrics."""
    text = (await node.http.get(f"{node.internal}/metrics")).text
    (family,) = (it for it in text_string_to_metric_families(text) if it.name == "gateway_handshakes")
    return {it.labels["result"]: int(it.value) for it in family.samples if it.name.endswith("_total") and it.value}


def written(origin: str) -> bytes:
    """Return the header as somebody could send it."""
    try:
        return b"Origin: " + origin.encode("latin-1")
    except UnicodeEncodeError:
        return b"Origin: " + origin.encode()


async def test_every_wrong_origin_is_refused_before_the_upgrade(node: Serving) -> None:
    """Each of at least 80 variants gets 403 on every path and is counted; what HTTP itself forbids gets 400."""
    variants = [it for it in REFUSED if it.strip(" ") not in LISTED]  # HTTP takes away what stands around a value
    assert len(variants) >= 80
    refused = 0
    for number, origin in enumerate(variants):
        head = await asked(node, PATHS[number % len(PATHS)], written(origin))
        broken = not FORBIDDEN_IN_HTTP.isdisjoint(origin)
        assert head.status == (400 if broken else 403), origin
        assert "sec-websocket-accept" not in head.headers
        refused += not broken
    assert {"origin": refused} == {k: v for k, v in (await counted(node)).items() if k in {"origin", "ok"}}


@pytest.mark.parametrize(
    "headers",
    [
        ("Origin: https://evil.io", f"Origin: {GOOD}"),
        (f"Origin: {GOOD}", "Origin: https://evil.io"),
        (f"Origin: {GOOD}", f"Origin: {GOOD}"),
        ("Origin:",),
        ("oRIGIN: https://evil.io",),
        ("Origin: https://evil.io", "Host: evil.io"),
        ("Origin: https://evil.io", "X-Forwarded-Host: evil.io", "X-Forwarded-Proto: https"),
        ("Origin: https://evil.io", "Sec-Fetch-Site: same-origin"),
        ("Origin: https://evil.io", f"Sec-WebSocket-Origin: {GOOD}"),
        ("Origin: https://evil.io", f"Referer: {GOOD}/"),
        ("Origin: https://evil.io", f"Authorization: Bearer {token('alice')}"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
async def test_nothing_else_in_the_head_makes_up_for_a_wrong_origin(
    node: Serving, path: str, headers: tuple[str, ...]
) -> None:
    """Several of them, an empty one, other headers that speak of a good one, a good token: 403."""
    assert (await asked(node, path, *(it.encode() for it in headers))).status == 403
    assert (await counted(node))["origin"] == 1


async def test_right_origins_and_none_may_connect(node: Serving) -> None:
    """Pages that are listed, and programs, on every path."""
    for path in PATHS:
        for origin in (GOOD, "https://a.wild.example.org", "capacitor://localhost", "http://[::1]:3000"):
            assert (await asked(node, path, f"Origin: {origin}".encode())).status == 101, origin
        assert (await asked(node, path)).status == 101


# --- without an origin, and cookies


async def said(link: RawSocket, *messages: object) -> Iterator[tuple[int, object]]:
    """Send messages, then return what comes up to the close: opcode, and code or text."""
    for message in messages:
        await link.send(masked(TEXT, json.dumps(message).encode()))
    heard: list[tuple[int, object]] = []
    while not heard or heard[-1][0] != CLOSE:
        frame = await link.frame()
        heard.append((frame.opcode, frame.code if frame.opcode == CLOSE else frame.payload.decode()))
    link.close()
    return iter(heard)


async def test_a_program_without_origin_is_whom_its_token_names(node: Serving) -> None:
    """By the header, or by the first message; a bad one is nobody."""
    bearer = f"Authorization: Bearer {token('alice')}"
    link = await RawSocket.websocket(node.url, "/ws", bearer)
    assert json.loads((await link.frame()).payload)["user"] == "alice"
    link.close()
    link = await RawSocket.websocket(node.url, "/ws")
    await link.send(masked(TEXT, json.dumps({"type": "auth", "token": token("bob")}).encode()))
    assert json.loads((await link.frame()).payload)["user"] == "bob"
    link.close()
    assert (await asked(node, "/ws", b"Authorization: Bearer nonsense")).status == 401


@pytest.mark.parametrize("origin", ["", f"Origin: {GOOD}"])
async def test_a_cookie_is_no_token(node: Serving, origin: str) -> None:
    """With a good token in cookies of every name one could think of, and nothing else, nobody is anybody."""
    cookies = "; ".join(f"{name}={token('alice')}" for name in NAMES)
    headers = (f"Cookie: {cookies}", *([origin] if origin else []))
    for path, first, code in (
        ("/ws", [], 3502),
        ("/ws", [{"type": "chat", "message": "as alice"}], 3501),
        ("/connection/websocket", [], 3502),
        ("/connection/websocket", [{"id": 1, "connect": {}}], 3501),
    ):
        link = await RawSocket.websocket(node.url, path, *headers)
        assert [(CLOSE, code)] == list(await said(link, *first))
    assert {} == node.made.node.users


def test_the_gateway_reads_no_cookie() -> None:
    """No source file of the gateway names one, but the list of what is taken out of logs."""
    found = []
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [getattr(node, it, None) for it in ("attr", "id", "arg", "value", "name")]
            if any(isinstance(it, str | bytes) and b"cookie" in _lower(it) for it in names):
                found.append(path.name)
    assert ["log.py"] == found


def _lower(text: str | bytes) -> bytes:
    return (text if isinstance(text, bytes) else text.encode(errors="replace")).lower()
