"""The WebSocket routes: who may connect, by which codec, with which token; then the socket is given away."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import JSONResponse, Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from gateway.contracts.codec import Codec
from gateway.contracts.recorder import Recorder
from gateway.contracts.transport import Attach
from gateway.contracts.verifier import Verifier
from gateway.disconnects import INVALID_TOKEN
from gateway.errors import TokenError
from gateway.node import Node
from gateway.protocol.values import Hello, PresentedToken
from gateway.types import Peer

Serve = Callable[[WebSocket, str | None, Attach], Awaitable[None]]

ROOM: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
LOBBY: Final = "lobby"
PLAIN: Final = ("chat", "notifications", "echo")
DEFAULT_PLAIN: Final = "chat"
BEARER: Final = "bearer."
SECRET_PARAMETERS: Final = ("token", "ticket")
ORIGIN: Final = re.compile(  # RFC 6454 section 6.2, and the port written out though it is the scheme's own
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9_][a-z0-9_.-]*|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
LAST_PORT: Final = 65_535
WEB_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ConnectRules:
    """What the routes decide by. Empty `allowed_origins`: only pages of this very host."""

    allowed_origins: Sequence[str] = ()
    token_in_query: bool = True
    anonymous: Mapping[str, bool] | None = None  # by codec name: no token is needed
    plain: bool = True  # serve /ws


class RefusedError(Exception):
    """The handshake ends with an HTTP answer; `result` is its label in the metrics."""

    def __init__(self, response: Response, result: str = "bad_request") -> None:
        super().__init__(result)
        self.response = response
        self.result = result


def refused(status: int, message: str, result: str = "bad_request") -> RefusedError:
    """Make a refusal whose body says why."""
    return RefusedError(JSONResponse({"error": {"code": status, "message": message}}, status_code=status), result)


def unauthorized(reason: str) -> RefusedError:
    """Make the refusal of a token that came in a header."""
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return RefusedError(JSONResponse({"error": {"code": 401, "message": reason}}, 401, headers), "token")


@dataclass(frozen=True, slots=True)
class Connector:
    """Everything the routes work with."""

    node: Node
    codecs: Mapping[str, Codec]
    rules: ConnectRules
    verifier: Verifier
    recorder: Recorder
    serve: Serve

    async def connect(self, websocket: WebSocket, *, plain: bool, room: str | None = None) -> None:
        """Decide, and hand the socket over or refuse it."""
        try:
            check_origin(websocket, self.rules.allowed_origins)
            codec, subprotocol = self._codec(websocket, plain=plain)
            token = self._token(websocket) if plain else None
            if token is not None and token.way == "header":
                await self._check_header(token.value)
        except RefusedError as refusal:
            self.recorder.count("handshakes", refusal.result)
            await websocket.send_denial_response(refusal.response)
            return
        hello = Hello(
            peer=Peer(websocket.client.host if websocket.client else ""),
            room=room,
            query={k: v for k, v in websocket.query_params.items() if k not in SECRET_PARAMETERS},
            token=token,
            anonymous=bool(self.rules.anonymous and self.rules.anonymous.get(codec.name)),
        )
        native_ping = not plain and websocket.query_params.get("cf_ws_frame_ping_pong") == "true"
        await self.serve(
            websocket,
            subprotocol,
            lambda transport: self.node.attach(transport, codec, hello, native_ping=native_ping),
        )

    def _codec(self, websocket: WebSocket, *, plain: bool) -> tuple[Codec, str | None]:
        offered = [it for it in websocket.scope.get("subprotocols", []) if it]
        return self._plain_codec(offered) if plain else self._centrifuge_codec(offered, websocket)

    def _plain_codec(self, offered: Sequence[str]) -> tuple[Codec, str | None]:
        if not offered:
            return self.codecs[DEFAULT_PLAIN], None
        for name in offered:
            if name in PLAIN and name in self.codecs:
                return self.codecs[name], name
        raise refused(
            400, f"no known subprotocol offered; known are {', '.join(PLAIN)} (a bearer.<jwt> goes beside one)"
        )

    def _centrifuge_codec(self, offered: Sequence[str], websocket: WebSocket) -> tuple[Codec, str | None]:
        wanted = {websocket.query_params.get("format"), websocket.query_params.get("cf_protocol")}
        known = {name: codec for codec in self.codecs.values() for name in codec.subprotocols}
        if "protobuf" in wanted:
            offered = ["centrifuge-protobuf", *offered]
        for name in offered:
            if name.startswith("centrifuge-") and name in known:
                return known[name], name
        if offered:
            raise refused(400, "no known subprotocol offered; known is centrifuge-json")
        return known["centrifuge-json"], None

    def _token(self, websocket: WebSocket) -> PresentedToken | None:
        """Find the token; the first way counts, a wrong one is not made good by another."""
        scheme, _, value = websocket.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return PresentedToken(value.strip(), "header")
        for offered in websocket.scope.get("subprotocols", []):
            if offered.startswith(BEARER):
                return PresentedToken(offered.removeprefix(BEARER), "subprotocol")
        if ticket := websocket.query_params.get("ticket"):
            return PresentedToken(ticket, "ticket")
        if token := websocket.query_params.get("token"):
            if not self.rules.token_in_query:
                raise refused(400, "tokens in the query are switched off here (client.token_in_query)", "token")
            return PresentedToken(token, "query")
        return None

    async def _check_header(self, token: str) -> None:
        try:
            identity = await self.verifier.verify(token)
        except TokenError as error:
            if error.code == 100:  # noqa: PLR2004 - no keys right now, see TokenError
                response = JSONResponse({"error": {"code": 503, "message": error.reason}}, 503, {"Retry-After": "5"})
                raise RefusedError(response, "token") from error
            raise unauthorized(error.reason) from error
        if identity.ticket or identity.channel:  # good, but not to connect with in this way
            raise unauthorized(INVALID_TOKEN.reason)


def check_origin(websocket: WebSocket, allowed: Sequence[str]) -> None:
    """Raise RefusedError (403) for a page that may not connect. Programs send no Origin and pass.

    RFC 6455 section 10.2; an origin is compared whole, by scheme, host and port, never by part of its text.
    """
    origins = websocket.headers.getlist("origin")
    if not origins:
        return
    if len(origins) == 1 and origin_allowed(origins[0], allowed, websocket.headers.get("host", "")):
        return
    raise refused(403, "this origin may not connect (client.allowed_origins)", "origin")


def origin_allowed(origin: str, allowed: Sequence[str], host: str) -> bool:
    """Say whether a page of `origin` may connect: it is listed, everything is (`*`), or it is of the same host."""
    if "*" in allowed:
        return True
    found = normal_origin(origin)
    if found is None:
        return False
    if allowed:
        return any(found == normal_origin(it) or matches(found, it) for it in allowed)
    return found[0] in WEB_PORTS and found[1:] == host_and_port(host, found[0])


def normal_origin(origin: str) -> tuple[str, str, int] | None:
    """Split an origin into scheme, host and port (0: of a scheme without ports); None if it is not exactly one.

    No parser of URLs: those forgive what browsers never send, such as tabs within a name.
    """
    parts = ORIGIN.fullmatch(origin.lower()) if origin.isascii() else None
    if parts is None:
        return None
    port = int(parts["port"] or WEB_PORTS.get(parts["scheme"], 0))
    return (parts["scheme"], parts["host"], port) if port <= LAST_PORT else None


def matches(origin: tuple[str, str, int], pattern: str) -> bool:
    """Compare with a pattern `https://*.example.com`: one star, for whole leading labels of the host."""
    scheme, separator, rest = pattern.lower().partition("://*.")
    wanted = normal_origin(f"{scheme}://{rest}") if separator else None
    return (
        wanted is not None and origin[0] == wanted[0] and origin[2] == wanted[2] and origin[1].endswith("." + wanted[1])
    )


def host_and_port(host: str, scheme: str) -> tuple[str, int] | None:
    """Split a Host header; the port is the scheme's own if it names none."""
    normal = normal_origin(f"{scheme}://{host}")
    return None if normal is None else normal[1:]


def routes(connector: Connector) -> list[WebSocketRoute]:
    """Return the WebSocket routes."""

    async def centrifuge(websocket: WebSocket) -> None:
        await connector.connect(websocket, plain=False)

    async def lobby(websocket: WebSocket) -> None:
        await connector.connect(websocket, plain=True, room=LOBBY)

    async def one_room(websocket: WebSocket) -> None:
        room = websocket.path_params["room"]
        if not ROOM.fullmatch(room):
            connector.recorder.count("handshakes", "bad_request")
            await websocket.send_denial_response(Response("no such room\n", status_code=404))
            return
        await connector.connect(websocket, plain=True, room=room)

    plain = [WebSocketRoute("/ws", lobby), WebSocketRoute("/ws/{room}", one_room)]
    return [WebSocketRoute("/connection/websocket", centrifuge), *(plain if connector.rules.plain else ())]
