"""The only place where the parts are joined: settings in, ASGI applications out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import inf, nan

from fastapi import APIRouter, FastAPI
from starlette.routing import Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

import gateway
from gateway.api import connect, health, server, web
from gateway.contracts.clock import Clock
from gateway.contracts.codec import Codec
from gateway.contracts.engine import Engine, EngineOptions, EngineSink
from gateway.contracts.transport import Attach
from gateway.draining import DrainRules
from gateway.metrics import Metrics
from gateway.node import Node, NodeOptions
from gateway.resolver import all_codecs, engine_for
from gateway.settings import Settings, namespaces, node_name, policy_for
from gateway.settings.tokens import IssuerSettings
from gateway.tokens import Rules, TokenVerifier, Trust
from gateway.transports import asgi, websocket
from gateway.transports.admission import Admission, TrustedProxies
from gateway.transports.headroom import Headroom, cgroup_memory_limit
from gateway.transports.http import HttpLimits
from gateway.transports.wire import WebSocketLimits
from gateway.types import NodeId
from gateway.users import UserRules


class SystemClock:
    """The time of this machine."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


@dataclass(frozen=True, slots=True)
class Gateway:
    """One node with all its parts; `public.state.gateway` is this object.

    The lifespan of `public` runs the node. `internal` is None unless `http_server.internal_port` is set; it shares
    everything and runs nothing of its own. The server takes admission, proxies and limits from here.
    """

    settings: Settings
    node: Node
    metrics: Metrics
    admission: Admission
    proxies: TrustedProxies
    http_limits: HttpLimits
    websocket_limits: WebSocketLimits
    public: FastAPI
    internal: FastAPI | None


def create_app(settings: Settings) -> FastAPI:
    """Return the ASGI application of one node; two of them in one process share nothing."""
    return create_gateway(settings).public


def create_gateway(settings: Settings) -> Gateway:
    """Join all parts of one node. Raises OperatorError for settings that cannot work."""
    http, web_socket = settings.http_server, settings.websocket
    clock, metrics, codecs = SystemClock(), Metrics(), all_codecs()
    verifier = _verifier(settings, clock, metrics)
    node = _node(settings, codecs, verifier, clock, metrics)
    handshakes = Router(_connect_routes(settings, node, codecs, verifier, metrics))
    open_for_all = [web.routes(settings.web.demo_file)] if settings.web.enabled else []
    operators = _operator_routes(settings, node, clock, metrics)
    _watch(settings, node, verifier, clock, metrics)
    running = partial(_running, settings, node, verifier, clock, metrics)
    split = http.internal_port is not None
    made = Gateway(
        settings=settings,
        node=node,
        metrics=metrics,
        admission=_admission(settings, node),
        proxies=TrustedProxies(http.trusted_proxies),
        http_limits=HttpLimits(head_timeout=http.head_timeout, head_size=http.head_size_limit),
        websocket_limits=WebSocketLimits(
            message_size=web_socket.message_size_limit,
            fragments=web_socket.fragment_limit,
            control_rate=web_socket.control_frame_rate,
            close_timeout=web_socket.close_timeout,
        ),
        public=_app(
            open_for_all if split else [*operators, *open_for_all], handshakes, documented=not split, running=running
        ),
        internal=_app(operators, Router(), documented=True, running=None) if split else None,
    )
    made.public.state.gateway = made
    return made


class Application(FastAPI):
    """Takes what comes most often past FastAPI's layers, which cost ten times what the way to a route does.

    These are handshakes and, by their paths, calls of the server API: middleware that is added does not see them.
    """

    handshakes: Router
    calls: Mapping[str, ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "websocket":
            await self.handshakes(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self.calls:
            await self.calls[scope["path"]](scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _app(
    routers: list[APIRouter],
    handshakes: Router,
    *,
    documented: bool,
    running: Callable[[], AbstractAsyncContextManager[object]] | None,
) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if running is None:
            yield
            return
        async with running():
            yield

    app = Application(
        title="realtime-gateway",
        version=gateway.__version__,
        lifespan=lifespan,
        openapi_url="/openapi.json" if documented else None,  # None: /docs is not there either
    )
    app.handshakes = handshakes
    app.calls = {path: call for router in routers for path, call in server.calls(router).items()}
    for router in routers:
        app.include_router(router)
    return app


def _admission(settings: Settings, node: Node) -> Admission:
    http, client = settings.http_server, settings.client
    return Admission(
        per_address=http.connections_per_ip,
        total=client.connection_limit,
        rate=client.connection_rate_limit,
        headroom=Headroom(memory_limit=_memory_limit(settings)),
        outages=tuple if client.connect_when_engine_down else node.outages,
    )


def _memory_limit(settings: Settings) -> int:
    """Return the bytes that this node may occupy; 0 = no limit."""
    http = settings.http_server
    return http.memory_limit or cgroup_memory_limit() // http.workers


def _verifier(settings: Settings, clock: Clock, metrics: Metrics) -> TokenVerifier:
    token = settings.client.token
    secret, previous = (it.encode() for it in token.secrets)
    first = replace(
        _trust(token),
        hmac_secret=secret,
        previous_hmac_secret=previous,
        previous_until=token.hmac_previous_secret_key_valid_until or inf,
        public_keys=token.public_keys,
    )
    trusted = [first] * token.has_own_key + [_trust(it) for it in token.issuers]
    return TokenVerifier(*trusted, clock=clock, recorder=metrics)


def _trust(issuer: IssuerSettings) -> Trust:
    rules = Rules(
        issuer=issuer.name,
        audience=issuer.audience,
        leeway=issuer.leeway,
        max_age=issuer.max_age,
        user_id_claim=issuer.user_id_claim or "sub",
        user_id_prefix=issuer.user_id_prefix,
        info_claims=issuer.info_claims,
        channels_claim=issuer.channels_claim or "channels",
    )
    return Trust(
        rules=rules,
        jwks_url=issuer.jwks_public_endpoint,
        discover=bool(issuer.oidc_issuer),
        algorithms=frozenset(issuer.algorithms),
    )


def _node(
    settings: Settings, codecs: Mapping[str, Codec], verifier: TokenVerifier, clock: Clock, metrics: Metrics
) -> Node:
    options = NodeOptions(
        name=node_name(settings),
        version=gateway.__version__,
        policies={name: policy_for(settings, name, codec.heartbeat) for name, codec in codecs.items()},
        queue_limit=settings.client.queue_max_size,
        stall_timeout=settings.websocket.stall_timeout,
        close_timeout=settings.websocket.close_timeout,
        users=UserRules(settings.client.user_connection_limit, settings.client.user_connection_limit_closes),
        drain=DrainRules(settings.shutdown.delay, settings.shutdown.window, settings.shutdown.timeout),
    )
    return Node(options=options, verifier=verifier, clock=clock, recorder=metrics)


@asynccontextmanager
async def _running(
    settings: Settings, node: Node, verifier: TokenVerifier, clock: Clock, metrics: Metrics
) -> AsyncIterator[None]:
    url = settings.engine.url
    create = engine_for(url)

    def open_engine(sink: EngineSink, node_id: NodeId) -> AbstractAsyncContextManager[Engine]:
        options = EngineOptions(
            node=node_id,
            recorder=metrics,
            prefix=settings.engine.prefix,
            command_timeout=settings.engine.command_timeout,
            subscribe_timeout=settings.engine.subscribe_timeout,
            epoch_salt=settings.engine.epoch_salt,
        )
        return create(url, sink=sink, clock=clock, options=options)

    async with verifier, node.running(open_engine):
        verifier.judge_after(node.engine.control)
        yield


def _connect_routes(
    settings: Settings, node: Node, codecs: Mapping[str, Codec], verifier: TokenVerifier, metrics: Metrics
) -> list[WebSocketRoute]:
    rules = connect.ConnectRules(
        allowed_origins=settings.client.allowed_origins,
        token_in_query=settings.client.token_in_query,
        anonymous={name: policy.anonymous or policy.insecure for name, policy in node.options.policies.items()},
        plain=settings.chat.enabled,
    )
    connector = connect.Connector(
        node=node, codecs=codecs, rules=rules, verifier=verifier, recorder=metrics, serve=_serve
    )
    return connect.routes(connector)


async def _serve(client: WebSocket, subprotocol: str | None, attach: Attach) -> None:
    """Give the socket away under our own server, else run it over plain ASGI."""
    own = websocket.TAKE_OVER in client.scope.get("extensions", {})
    await (websocket if own else asgi).serve(client, subprotocol=subprotocol, attach=attach)


def _operator_routes(settings: Settings, node: Node, clock: Clock, metrics: Metrics) -> list[APIRouter]:
    api = server.ServerApi(node=node, namespaces=namespaces(settings), clock=clock, recorder=metrics)
    return [
        health.routes(node, metrics.exposition),
        server.routes(api, settings.http_api.key.get_secret_value(), body_limit=settings.http_api.body_size_limit),
    ]


def _watch(settings: Settings, node: Node, verifier: TokenVerifier, clock: Clock, metrics: Metrics) -> None:
    """Let Prometheus see what nobody counts: it is looked up when it is asked for."""
    in_memory = settings.engine.url.startswith("memory:")
    metrics.watch("connections", node.connections_by_state)
    metrics.watch("users", lambda: len(node.users))
    metrics.watch("subscriptions", lambda: node.described().num_subs)
    metrics.watch("channels", lambda: len(node.hub.interests))
    metrics.watch("client_queue_bytes", lambda: sum(it.queued for it in node.connections.values()))
    metrics.watch("client_queue_max_bytes", lambda: max((it.queued for it in node.connections.values()), default=0))
    metrics.watch("redis_up", node.links)
    metrics.watch("draining", lambda: int(node.drain.begun))
    metrics.watch("drain_remaining_connections", lambda: node.drain.remaining)
    metrics.watch("presence_entries", lambda: sum(1 for _ in node.present()))
    metrics.watch("engine_in_memory", lambda: int(in_memory))
    metrics.watch("tasks", lambda: len(asyncio.all_tasks()))
    metrics.watch("timers", lambda: len(node.wheel))
    metrics.watch("revocations_in_force", lambda: verifier.revocations)
    if limit := _memory_limit(settings):
        metrics.watch("memory_limit", lambda: limit)
    metrics.watch("jwks_age", lambda: nan if (age := verifier.jwks_age(clock.monotonic())) is None else age)
