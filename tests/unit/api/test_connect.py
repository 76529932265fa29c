from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.errors import TokenError
from gateway.types import Identity, UserId
from tests.support.app import App, handshake, running_app, status

SDK = "/connection/websocket"


@pytest.fixture(name="app")
async def _app() -> AsyncIterator[App]:
    async with running_app(chat={"echo_anonymous": True}) as app:
        yield app


def answered(sent: Any) -> Any:
    """Return what an accepted handshake says of the subprotocol, else the status."""
    return sent[0].get("subprotocol") if status(sent) == 101 else status(sent)


@pytest.mark.parametrize(
    ("offered", "query", "answer"),
    [
        ((), "", "centrifuge-json"),
        (("",), "", "centrifuge-json"),
        (("centrifuge-json",), "", "centrifuge-json"),
        (("other", "centrifuge-json"), "", "centrifuge-json"),
        (("other",), "", 400),
        (("chat",), "", 400),
        (("centrifuge-protobuf",), "", 400),
        ((), "format=protobuf", 400),
        ((), "cf_protocol=protobuf", 400),
        ((), "format=json", "centrifuge-json"),
    ],
)
async def test_subprotocols_of_sdks(app: App, offered: tuple[str, ...], query: str, answer: Any) -> None:
    """JSON by default; what we do not speak is refused instead of misread."""
    sent = await handshake(app, SDK, offered=offered, query=query)
    accepted = None if answer == "centrifuge-json" and not any(offered) else answer
    assert accepted == answered(sent)


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        ((), None),
        (("",), None),
        (("chat",), "chat"),
        (("notifications",), "notifications"),
        (("echo",), "echo"),
        (("other", "echo", "chat"), "echo"),
        (("chat", "bearer.x"), "chat"),
        (("bearer.x",), 400),
        (("centrifuge-json",), 400),
        (("other",), 400),
    ],
)
async def test_subprotocols_of_plain_clients(app: App, offered: tuple[str, ...], answer: Any) -> None:
    """Chat by default; the first known one that is offered; a token is none."""
    assert answer == answered(await handshake(app, "/ws", offered=offered))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/ws", 101),
        ("/ws/lobby", 101),
        ("/ws/" + "r" * 64, 101),
        ("/ws/A.b-c_9", 101),
        ("/ws/" + "r" * 65, 404),
        ("/ws/a b", 404),
        ("/ws/ä", 404),
        ("/ws/lobby\n", 404),
        ("/ws/#alice", 404),
    ],
)
async def test_rooms(app: App, path: str, expected: int) -> None:
    """A room is one to 64 letters, digits, dots, dashes and underscores."""
    assert expected == status(await handshake(app, path))


async def test_plain_protocols_can_be_switched_off() -> None:
    """Without chat there is no /ws at all."""
    async with running_app(chat={"enabled": False}) as app:
        sent = await handshake(app, "/ws")
        assert {"type": "websocket.close", "code": 1000, "reason": ""} == sent[0]
        assert 101 == status(await handshake(app, SDK))


class Verifier:
    """Knows one token."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def verify(self, token: str) -> Identity:
        """Look it up."""
        self.asked.append(token)
        if token == "good":
            return Identity(UserId("alice"))
        if token == "nokeys":
            raise TokenError(100, "no keys")
        raise TokenError(3500, "invalid token")


@pytest.mark.parametrize(
    ("token", "expected", "header"),
    [
        ("good", 101, None),
        ("bad", 401, (b"www-authenticate", b'Bearer error="invalid_token"')),
        ("", 401, (b"www-authenticate", b'Bearer error="invalid_token"')),
        ("nokeys", 503, (b"retry-after", b"5")),
    ],
)
async def test_a_token_in_a_header_is_checked_before_the_handshake(
    monkeypatch: pytest.MonkeyPatch, token: str, expected: int, header: tuple[bytes, bytes] | None
) -> None:
    """A program that sends a header can read a status: 401 for a bad token, 503 while there are no keys."""
    verifier = Verifier()
    async with running_app() as app:
        monkeypatch.setattr("gateway.tokens.TokenVerifier.verify", lambda _, it: verifier.verify(it))
        sent = await handshake(app, "/ws", headers=[("authorization", f"Bearer {token}")])
        assert expected == status(sent)
        assert [token.strip()] == verifier.asked[:1]
        assert header is None or header in sent[0]["headers"]
        labels = (await app.http.get("/metrics")).text
        assert ('gateway_handshakes_total{result="token"} 1.0' in labels) is (expected != 101)


@pytest.mark.parametrize(
    ("headers", "offered", "query", "presented"),
    [
        ([("authorization", "bearer  h ")], (), "", ("h", "header")),
        ([("authorization", "Bearer h")], ("chat", "bearer.s"), "token=q", ("h", "header")),
        ([("authorization", "Basic h")], ("chat", "bearer.s"), "token=q", ("s", "subprotocol")),
        ([], ("chat", "bearer.s"), "ticket=t", ("s", "subprotocol")),
        ([], (), "ticket=t&token=q", ("t", "ticket")),
        ([], (), "token=q&a=b", ("q", "query")),
        ([], (), "token=", None),
        ([], (), "", None),
    ],
)
async def test_the_first_way_to_present_a_token_counts(
    monkeypatch: pytest.MonkeyPatch,
    headers: list[tuple[str, str]],
    offered: tuple[str, ...],
    query: str,
    presented: tuple[str, str] | None,
) -> None:
    """Header, subprotocol, ticket, query, in this order; secrets are not among the query that codecs see."""
    hellos: list[Any] = []

    async def verify(_self: object, token: str) -> Identity:
        return Identity(UserId(token))

    async with running_app() as app:
        monkeypatch.setattr("gateway.tokens.TokenVerifier.verify", verify)
        attach = app.node.attach

        def noting(transport: Any, codec: Any, hello: Any, **more: Any) -> Any:
            hellos.append(hello)
            return attach(transport, codec, hello, **more)

        monkeypatch.setattr(app.node, "attach", noting)
        assert 101 == status(await handshake(app, "/ws/room", headers=headers, offered=offered, query=query))
    [hello] = hellos
    assert presented == (hello.token and (hello.token.value, hello.token.way))
    assert "room" == hello.room
    assert not {"token", "ticket"} & set(hello.query)
    assert ("a" in hello.query) is ("a=b" in query)


async def test_tokens_in_the_query_can_be_switched_off() -> None:
    """Where addresses are logged by somebody else, a token does not belong there; tickets may."""
    async with running_app(client={"insecure": True, "token_in_query": False}) as app:
        assert 400 == status(await handshake(app, "/ws", query="token=q"))
        assert 101 == status(await handshake(app, "/ws", query="ticket=t"))


async def test_who_is_let_in_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """`anonymous` is said per protocol: echo may be open while the others are not."""
    seen: dict[str, bool] = {}
    async with running_app(client={"token": {"hmac_secret_key": "k" * 32}}, chat={"echo_anonymous": True}) as app:
        attach = app.node.attach

        def noting(transport: Any, codec: Any, hello: Any, **more: Any) -> Any:
            seen[codec.name] = hello.anonymous
            return attach(transport, codec, hello, **more)

        monkeypatch.setattr(app.node, "attach", noting)
        for offered in (("chat",), ("echo",)):
            await handshake(app, "/ws", offered=offered)
        await handshake(app, SDK)
    assert {"chat": False, "echo": True, "centrifuge_json": False} == seen


@pytest.mark.parametrize(("query", "native"), [("", False), ("cf_ws_frame_ping_pong=true", True)])
async def test_sdks_may_ask_for_websocket_pings(
    monkeypatch: pytest.MonkeyPatch, app: App, query: str, native: bool
) -> None:
    """A query parameter of the Centrifuge protocol."""
    asked: list[bool] = []
    attach = app.node.attach

    def noting(transport: Any, codec: Any, hello: Any, *, native_ping: bool) -> Any:
        asked.append(native_ping)
        return attach(transport, codec, hello, native_ping=native_ping)

    monkeypatch.setattr(app.node, "attach", noting)
    await handshake(app, SDK, query=query)
    assert [native] == asked
