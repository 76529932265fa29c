"""The server API: `POST /api/<method>`, for backends that publish, look and disconnect. As Centrifugo's."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response
from starlette.types import ASGIApp

from gateway import errors
from gateway.answers import answer
from gateway.api import bodies
from gateway.api.bodies import RefusedError, named
from gateway.api.drain import progress, standing
from gateway.api.publishing import Publisher
from gateway.api.revoking import RevokeRequest
from gateway.contracts.clock import Clock
from gateway.contracts.recorder import Recorder
from gateway.errors import EngineFault, ErrorReply
from gateway.node import Node
from gateway.protocol.channels import ChannelOptions, Namespaces
from gateway.protocol.messages import DisconnectClients
from gateway.protocol.values import HistoryQuery
from gateway.types import Channel

JSON: Final = "application/json"
TAG: Final = "server API"
TRANSPORT_STATUS: Final = {100: 500, 102: 404, 104: 404, 107: 400, 108: 400, 112: 416}  # in error mode `transport`


class ServerApi:
    """The methods themselves; each takes its request and returns its result, or raises RefusedError or EngineFault."""

    def __init__(self, *, node: Node, namespaces: Namespaces, clock: Clock, recorder: Recorder) -> None:
        self._node = node
        self._namespaces = namespaces
        self._clock = clock
        self._publisher = Publisher(node=node, namespaces=namespaces, clock=clock, recorder=recorder)

    async def publish(self, request: bodies.PublishRequest) -> bodies.PublishResult:
        """Publish to one channel; answered when Redis has taken it."""
        return await self._publisher.to_one(request.channel, request, request.raw())

    async def broadcast(self, request: bodies.BroadcastRequest) -> bodies.BroadcastResult:
        """Publish to many channels; each has its own result or error."""
        if not request.channels:
            raise RefusedError(errors.BAD_REQUEST.saying("channels are missing"))
        return bodies.BroadcastResult(await self._publisher.to_many(request.channels, request, request.raw()))

    async def presence(self, request: bodies.ChannelRequest) -> bodies.PresenceResult:
        """Tell who is in a channel, on all nodes."""
        channel = self._with_presence(request.channel)
        store = self._node.engine.presence
        if store is None:
            raise RefusedError(errors.NOT_AVAILABLE)
        members = await answer(store.members, channel)
        return bodies.PresenceResult({client: bodies.info_body(info) for client, info in members.items()})

    async def presence_stats(self, request: bodies.ChannelRequest) -> bodies.PresenceStatsResult:
        """Count connections and users in a channel, on all nodes."""
        channel = self._with_presence(request.channel)
        store = self._node.engine.presence
        if store is None:
            raise RefusedError(errors.NOT_AVAILABLE)
        stats = await answer(store.stats, channel)
        return bodies.PresenceStatsResult(stats.num_clients, stats.num_users)

    async def history(self, request: bodies.HistoryRequest) -> bodies.HistoryResult:
        """Read kept publications, from a position or from an end."""
        channel = named(request.channel)
        options = self._options(channel)
        store = self._node.engine.history
        if not options.keeps_history or store is None:
            raise RefusedError(errors.NOT_AVAILABLE)
        since = request.position()
        if request.reverse and since is not None and since.offset == 0:
            raise RefusedError(errors.BAD_REQUEST.saying("reverse needs since.offset above 0"))
        query = HistoryQuery(request.limit, since, request.reverse, options.history_meta_ttl)
        page = await answer(store.read, channel, query)
        if since is not None and since.epoch and since.epoch != page.top.epoch:
            raise RefusedError(errors.UNRECOVERABLE)
        publications = [bodies.publication_body(it) for it in page.publications]
        return bodies.HistoryResult(publications, page.top.epoch, page.top.offset)

    async def disconnect(self, request: bodies.DisconnectRequest) -> bodies.Empty:
        """Close a user's connections on all nodes, or revoke a session; answered when the order is stored."""
        if not (request.user or request.client or request.sid):
            raise RefusedError(errors.BAD_REQUEST.saying("user is missing"))
        if request.session:  # to pass it over would close more than was asked for
            raise RefusedError(errors.NOT_AVAILABLE.saying("session is not supported"))
        if request.sid and not (request.user or request.client or request.whitelist):
            return await self.revoke(RevokeRequest(sid=request.sid, disconnect=request.disconnect))
        closing = (request.disconnect or bodies.Closing()).checked()
        command = DisconnectClients(
            id=str(uuid.uuid4()),
            user=request.user,
            client=request.client,
            session_id=request.sid,
            whitelist=tuple(request.whitelist),
            code=closing.code,
            reason=closing.cut_reason(),
        )
        await answer(self._node.engine.control.send, command)
        return bodies.Empty()

    async def revoke(self, request: RevokeRequest) -> bodies.Empty:
        """Bar a session's, token's, key's or user's tokens on all nodes, and close what they opened; once stored."""
        await answer(self._node.engine.control.send, request.command(self._clock.wall()))
        return bodies.Empty()

    async def info(self, _: bodies.InfoRequest) -> bodies.InfoResult:
        """Tell about all live nodes."""
        nodes = self._node.engine.control.nodes().values()
        return bodies.InfoResult(
            [bodies.NodeBody(**msgspec.structs.asdict(it)) for it in sorted(nodes, key=lambda it: it.name)]
        )

    async def drain(self, request: bodies.DrainRequest) -> bodies.DrainResult | Response:
        """Empty this node, not the others: not ready at once, then no newcomers, then everybody is moved away."""
        self._node.drain.begin()
        return progress(self._node.drain) if request.wait else standing(self._node.drain)

    def _options(self, channel: Channel) -> ChannelOptions:
        options = self._namespaces.options(channel)
        if options is None:
            raise RefusedError(errors.UNKNOWN_CHANNEL)
        return options

    def _with_presence(self, name: str) -> Channel:
        channel = named(name)
        if not self._options(channel).presence:
            raise RefusedError(errors.NOT_AVAILABLE)
        return channel


def failed(error: ErrorReply, request: Request) -> Response:
    """Answer with an error: in the body at status 200, or by status if the caller asked for that."""
    body = bodies.ErrorBody(error.code, error.message)
    if request.headers.get("x-centrifugo-error-mode") == "transport":
        status = TRANSPORT_STATUS.get(error.code, 500)
        return Response(msgspec.json.encode(body), status_code=status, media_type=JSON)
    return Response(msgspec.json.encode({"error": body}), media_type=JSON)


def allowed(request: Request, key: bytes) -> bool:
    """Say whether the call carries the key; the first way that is present counts."""
    presented = request.headers.get("x-api-key")
    if presented is None:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        presented = value if scheme.lower() == "apikey" else request.query_params.get("api_key", "")
    return bool(key) and hmac.compare_digest(presented.encode(), key)


async def body_within(request: Request, limit: int) -> bytes | None:
    """Read the body; None when it is longer than `limit` bytes, of which no more than that is kept."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


async def answered(call: Awaitable[Any], request: Request) -> Response:
    """Answer with what the call returns or raises; a response it made itself goes out as it is."""
    try:
        result = await call
    except RefusedError as refusal:
        return failed(refusal.error, request)
    except EngineFault:
        return failed(errors.INTERNAL, request)
    if isinstance(result, Response):
        return result
    return Response(msgspec.json.encode({"result": result}), media_type=JSON)


def routes(api: ServerApi, key: str, *, body_limit: int = 1 << 20) -> APIRouter:
    """Return the routes, one for each method. Without a key every call is refused; `body_limit` in bytes."""
    router = APIRouter(prefix="/api", tags=[TAG])
    secret = key.encode()

    def add(method: Callable[[Any], Awaitable[Any]], body: type[msgspec.Struct]) -> None:
        decoder = msgspec.json.Decoder(body)

        async def call(request: Request) -> Response:
            if not allowed(request, secret):
                return Response("wrong or missing X-API-Key\n", status_code=401, media_type="text/plain")
            raw = await body_within(request, body_limit)
            if raw is None:
                return Response(f"body over {body_limit} bytes\n", status_code=413, media_type="text/plain")
            try:
                decoded = decoder.decode(raw or b"{}")
            except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
                return Response(f"body: {error}\n", status_code=400, media_type="text/plain")
            return await answered(method(decoded), request)

        (schema,), definitions = msgspec.json.schema_components([body], ref_template="#/components/schemas/{name}")
        name = method.__name__
        router.add_api_route(
            f"/{name}",
            call,
            methods=["POST"],
            name=name,
            description=method.__doc__,
            openapi_extra={"requestBody": {"content": {JSON: {"schema": _inline(schema, definitions)}}}},
        )

    add(api.publish, bodies.PublishRequest)
    add(api.broadcast, bodies.BroadcastRequest)
    add(api.presence, bodies.ChannelRequest)
    add(api.presence_stats, bodies.ChannelRequest)
    add(api.history, bodies.HistoryRequest)
    add(api.disconnect, bodies.DisconnectRequest)
    add(api.revoke, RevokeRequest)
    add(api.info, bodies.InfoRequest)
    add(api.drain, bodies.DrainRequest)
    return router


def calls(router: APIRouter) -> dict[str, ASGIApp]:
    """Return the server API's calls among the routes as plain ASGI, by path."""
    return {
        it.path: request_response(it.endpoint) for it in router.routes if isinstance(it, APIRoute) and TAG in it.tags
    }


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    """Put definitions where they are named: the page of FastAPI knows only its own."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inline(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {key: _inline(value, definitions) for key, value in schema.items()}
    return [_inline(it, definitions) for it in schema] if isinstance(schema, list) else schema
